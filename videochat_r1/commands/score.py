"""`videochat-r1 score`: rewards of given completions, JSONL in and out, without a model."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from videochat_r1.judge import Judge, read_judge_config
from videochat_r1.rewards.accuracy import RULES
from videochat_r1.scoring import score_rows
from videochat_r1.tasks import TASKS

_EPILOG = """\
An input row is {"id", "completion", "thinking": true|false, "target": {...}}, with a target of
  temporal_grounding   {"span": [start, end], "duration": seconds}
  tracking             {"boxes": [[x0, y0, x1, y1], ...]}
  multi_choice_qa      {"options": [...], "answer": "C"}
  grounded_qa          {"options": [...], "answer": "C", "spans": [[start, end], ...], "duration": seconds}
  quality_assessment   {"choices": [...], "answer": "..."}
  numerical_qa         {"answer": "12.50"}
  free_form_qa         {"answer": "..."}
  text_recognition     {"answer": "..."}
  regression           {"answer": 3.2}
  captioning           {"caption": "...", "events": ["...", ...]}; the events may be left out; needs --judge
An output row is {"id", "rewards": {name: value in [0, 1]}, "parsed": the answer as read, or null};
a reward that a judge could not tell is null, with the reason under "unscored".
A malformed row ends the run with exit code 2 and the number of its line; the rows before it are written.
"""


def main(argv: Sequence[str]) -> int:
    """Score standard input to standard output; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="videochat-r1 score",
        description="Score completions: videochat-r1 score --task TASK < rows.jsonl > scores.jsonl",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--task", required=True, help=f"one of {', '.join(TASKS)}")
    parser.add_argument(
        "--score-given-box",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="whether tracking counts the first box, which the prompt shows (default: yes, as in the paper)",
    )
    parser.add_argument(
        "--accuracy-rule",
        choices=RULES,
        default=RULES[0],
        help="the task's own accuracy (default), or that of Video-R1's release with its faults",
    )
    parser.add_argument(
        "--judge", type=Path, metavar="YAML", help="judge of captions: a file with base_url and model, or a recipe"
    )
    arguments = parser.parse_args(argv)
    options = {"iou": {"score_given_box": arguments.score_given_box}, "accuracy": {"rule": arguments.accuracy_rule}}
    judge = None if arguments.judge is None else Judge(read_judge_config(arguments.judge))
    for row in score_rows(sys.stdin.buffer, arguments.task, reward_options=options, judge=judge):
        print(json.dumps(row))
    return 0
