"""What the doctor found: facts by section, and every problem with its mend."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from videochat_r1.errors import counted


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that would stop a run or spoil it.

    Args:
        what: what is wrong, with the values seen.
        mend: what to do about it.
    """

    what: str
    mend: str


@dataclass(slots=True)
class Section:
    """One area of the examination.

    Args:
        name: machine, model, data, ...
        facts: name -> value, printed in this order.
        problems: what has to be mended.
        notes: what is worth knowing and needs no mend.
    """

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def problem(self, what: str, mend: str) -> None:
        """Add a problem."""
        self.problems.append(Problem(what, mend))


def to_json(sections: Sequence[Section]) -> dict[str, Any]:
    """`{"ok": bool, "problems": [{"section", "what", "mend"}], "sections": {name: {"facts", "notes"}}}`."""
    return {
        "ok": not any(section.problems for section in sections),
        "problems": [
            {"section": section.name, "what": problem.what, "mend": problem.mend}
            for section in sections
            for problem in section.problems
        ],
        "sections": {section.name: {"facts": section.facts, "notes": section.notes} for section in sections},
    }


def to_text(sections: Sequence[Section]) -> str:
    """The same for people; the problems come last, where they are seen."""
    lines: list[str] = []
    for section in sections:
        count = f"  ({counted(len(section.problems), 'problem')})" if section.problems else ""
        lines.append(f"{section.name}{count}")
        lines += _fact_lines(section.facts, "  ")
        lines += [f"  note: {note}" for note in section.notes]
    problems = [(section.name, problem) for section in sections for problem in section.problems]
    lines.append(f"\n{counted(len(problems), 'problem')}" if problems else "\nno problems")
    for name, problem in problems:
        lines.append(f"  {name}: {problem.what}")
        lines.append(f"    mend: {problem.mend}")
    return "\n".join(lines)


def _fact_lines(facts: Mapping[str, Any], indent: str) -> list[str]:
    width = max(map(len, facts), default=0)
    lines = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            lines.append(f"{indent}{name}")
            lines += _fact_lines(value, indent + "  ")
        else:
            text = f"{value:,}" if isinstance(value, int) else ", ".join(value) if isinstance(value, list) else value
            lines.append(f"{indent}{name:<{width}}  {text}")
    return lines
