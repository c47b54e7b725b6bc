"""A report in one HTML file: page, sections, tables and examples; its pictures come from `evaluation.reports.drawing`.

Nothing is loaded from outside and nothing runs, so a report opens anywhere and offline. Every text is escaped: what a model
wrote cannot become markup.
"""

from collections.abc import Container, Mapping, Sequence
from functools import cache
from importlib.resources import files

from videochat_r1.evaluation.reports.drawing import escaped


@cache
def look() -> str:
    """The style sheet that reports and the window share."""
    return files(__package__).joinpath("look.css").read_text(encoding="utf-8")


def page(title: str, subtitle: str, sections: Sequence[str]) -> str:
    """The whole file."""
    body = "\n".join(sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escaped(title)}</title><style>{look()}</style></head>\n<body>\n"
        f'<h1>{escaped(title)}</h1>\n<p class="soft">{escaped(subtitle)}</p>\n{body}\n</body></html>\n'
    )


def section(heading: str, body: str, note: str = "") -> str:
    """A heading, perhaps a sentence, and markup made by the functions below."""
    return f"<h2>{escaped(heading)}</h2>\n" + (f"<p>{escaped(note)}</p>\n" if note else "") + body


def paragraph(text: str, *, soft: bool = False) -> str:
    """A paragraph of text."""
    return f'<p class="soft">{escaped(text)}</p>' if soft else f"<p>{escaped(text)}</p>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    text_columns: Container[int] = (0,),
    strong: Sequence[int] = (),
) -> str:
    """A table whose `text_columns` are left-aligned and, but for the first column, wrapped; `strong` rows stand out."""

    def cells(tag: str, row: Sequence[str]) -> str:
        return "".join(
            f"<{tag}{' class=text' if index in text_columns else ''}>{escaped(cell)}</{tag}>"
            for index, cell in enumerate(row)
        )

    body = "".join(
        f"<tr{' class=strong' if index in strong else ''}>{cells('td', row)}</tr>\n" for index, row in enumerate(rows)
    )
    return (
        f'<div class="scroll"><table><thead><tr>{cells("th", header)}</tr></thead>\n<tbody>{body}</tbody></table></div>'
    )


def cards(values: Sequence[tuple[str, str, str]]) -> str:
    """Panels of (label, large value, what it means)."""
    return (
        '<div class="grid">'
        + "".join(
            f'<div class="card"><div class="soft">{escaped(label)}</div><div class="value">{escaped(value)}</div>'
            f'<div class="soft">{escaped(meaning)}</div></div>'
            for label, value, meaning in values
        )
        + "</div>"
    )


def grid(items: Sequence[str]) -> str:
    """Pieces side by side where there is room."""
    return '<div class="grid">' + "".join(f"<div>{item}</div>" for item in items) + "</div>"


def example(caption: str, details: Mapping[str, str], pictures: Sequence[str]) -> str:
    """One sample: a caption, named texts (what models wrote), and its pictures."""
    lines = "".join(
        f'<div><span class="soft">{escaped(k)}:</span> <code>{escaped(v)}</code></div>' for k, v in details.items()
    )
    return f'<div class="example"><p><strong>{escaped(caption)}</strong></p>{"".join(pictures)}{lines}</div>'
