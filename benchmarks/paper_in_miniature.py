"""The paper's claims with a tiny model and synthetic videos: which of them hold at this size, with intervals.

    python benchmarks/paper_in_miniature.py [--output outputs/miniature] [--parts a b c d e f g] [--seeds 3] [--json]

A tiny Qwen2.5-VL, the quickstart's, learns the forms of all answers in a short supervised training. From this start it is
trained in the ways that the paper compares, with equal samples (an epoch is the same questions for each), and asked about
videos that it has not seen, in domain and out of domain: `benchmarks/miniature/corpora.py` says what these are, and
`claims.py` what is compared with what. Parts: a GRPO against SFT, b one epoch or three, c one task or three, d answers with
and without clues, e thinking, f two judges, g clue-perception.

Every training and every answer is made once and kept in the output folder: the same command goes on where it was interrupted,
and parts share what they have in common. Tables and pictures are of what is there; `--show` makes nothing new.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from videochat_r1.training.start import keep_vllm_out

keep_vllm_out()

from miniature.arms import START, Bench  # noqa: E402
from miniature.claims import PARTS, Asked, numbers  # noqa: E402
from miniature.corpora import Sizes  # noqa: E402
from miniature.page import findings, picture, table  # noqa: E402

from videochat_r1.outputs import write_lines  # noqa: E402


class Report:
    """What a bench has found so far.

    Args:
        bench: to look in.
        seeds: to look for.
    """

    def __init__(self, bench: Bench, seeds: int) -> None:
        self._bench, self._seeds = bench, seeds

    def values(self, number: Asked) -> list[list[float]]:
        """A row of each seed that is done; that of the start for each seed."""
        seeds = seeds_of(number.arm, self._seeds)
        of_seeds = [self._bench.found(number.arm, seed, number.asked) for seed in seeds]
        return [found[number.metric] for found in of_seeds if found is not None] * (self._seeds // len(seeds))

    def cost(self, part: str) -> dict[str, Any]:
        """Arm -> updates and, of each seed, seconds of its training: of the clock, and of this process on a core."""
        costs: dict[str, Any] = {}
        for arm in dict.fromkeys(number.arm for number in numbers(part)):
            done = [self._bench.found(arm, seed, "training") for seed in seeds_of(arm, self._seeds)]
            if made := [found for found in done if found is not None]:
                costs[arm] = {key: [round(found[key]) for found in made] for key in made[0]}
        return costs

    def as_json(self, part: str) -> dict[str, Any]:
        """Claims with their differences and verdicts, and the cost."""
        claims = {
            f"{claim.says} ({claim.after.asked})": None
            if finding is None
            else {"gain": [finding.mean, finding.low, finding.high], "seeds": finding.seeds, "verdict": finding.verdict}
            for claim, finding in findings(part, self.values)
        }
        return {"title": PARTS[part].title, "claims": claims, "cost": self.cost(part)}

    def as_text(self, part: str) -> str:
        """Markdown."""
        costs = "; ".join(
            f"{arm} {made['updates'][0]} updates in {_listed(made['seconds'])} s ({_listed(made['cpu_seconds'])})"
            for arm, made in self.cost(part).items()
        )
        note = "Seconds of each seed's training, in brackets those that it had a core: "
        return f"## {PARTS[part].title}\n\n{table(part, self.values)}\n\n{note}{costs}.\n"


def _listed(values: list[int]) -> str:
    return ", ".join(map(str, values))


def seeds_of(arm: str, seeds: int) -> range:
    """The start is one."""
    return range(1 if arm == START else seeds)


def run(bench: Bench, parts: list[str], seeds: int) -> None:
    """Make what the parts need and is not there."""
    bench.prepare()
    for part in parts:
        for seed in range(seeds):
            for number in numbers(part):
                if seed in seeds_of(number.arm, seeds):
                    if number.arm != START:
                        bench.train(number.arm, seed)
                    bench.ask(number.arm, seed, number.asked)


def main() -> None:
    """Do what is not done yet, and print what is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("outputs/miniature"))
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--start-videos", type=int, default=600, help="of each kind, for the start's training")
    parser.add_argument(
        "--train-videos", type=int, default=800, help="of each kind: an epoch has as many questions of a task"
    )
    parser.add_argument("--eval-videos", type=int, default=400, help="held-out videos of each kind")
    parser.add_argument("--start-updates", type=int, default=200)
    parser.add_argument("--sft-rate", type=float, default=3e-4, help="learning rate of SFT")
    parser.add_argument("--grpo-rate", type=float, default=3e-4, help="learning rate of GRPO")
    parser.add_argument("--show", action="store_true", help="make nothing, print what is there")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of the tables")
    arguments = parser.parse_args()
    sizes = Sizes(arguments.start_videos, arguments.train_videos, arguments.eval_videos)
    rates = {"sft": arguments.sft_rate, "grpo": arguments.grpo_rate}
    bench = Bench(arguments.output, sizes, arguments.start_updates, rates)
    if not arguments.show:
        run(bench, arguments.parts, arguments.seeds)
    report = Report(bench, arguments.seeds)
    for part in arguments.parts:
        write_lines(arguments.output / f"miniature_{part}.svg", [picture(part, report.values).rstrip()])
    summary = {part: report.as_json(part) for part in arguments.parts}
    print(json.dumps(summary) if arguments.json else "\n".join(map(report.as_text, arguments.parts)))


if __name__ == "__main__":
    main()
