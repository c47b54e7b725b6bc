"""`videochat-r1 quickstart`: train a tiny model on synthetic videos and show what it learned."""

import argparse
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.training.start import keep_vllm_out

EPILOG = """writes to the output folder:
  summary.json    metrics of blind answers, SFT start and GRPO, with intervals, and the seconds of every stage
  report.html     the same with reward curves and example videos; opens offline
  rewards.svg     the reward curves alone
  rollouts.jsonl  every completion of the training with its rewards
  samples/        every held-out answer
  checkpoints/    the trained models, for transformers' from_pretrained
  data/           the synthetic videos
  begun.json      options and code of the run: an interrupted one goes on if the same are there when it is started again
  quickstart.json the list of these; what is not on it is neither replaced nor removed"""


def main(argv: Sequence[str]) -> int:
    """Run it; the table goes to stdout."""
    arguments = parser().parse_args(argv)
    # One progress bar per stage is enough.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    keep_vllm_out()
    with loading("torch, transformers and TRL"):
        from transformers.utils.logging import disable_progress_bar

        from videochat_r1.modeling.families import DEFAULT_FAMILY
        from videochat_r1.quickstart.options import QuickstartOptions
        from videochat_r1.quickstart.run import Quickstart
        from videochat_r1.quickstart.summary import table

    disable_progress_bar()
    show_library_logs()
    options = QuickstartOptions(
        output=arguments.output,
        family=arguments.family or DEFAULT_FAMILY,
        from_scratch=arguments.from_scratch,
        compare=arguments.compare,
        seed=arguments.seed,
        num_train=arguments.num_train,
        num_eval=arguments.num_eval,
        grpo_flags=tuple(arguments.grpo),
        sft_flags=tuple(arguments.sft),
        start=arguments.start,
        overwrite=arguments.overwrite,
    )
    summary = Quickstart(options).run()
    print(f"\n{table(summary['tasks'])}")
    if "longer_videos" in summary:
        print(f"\nvideos longer than any in training\n{table(summary['longer_videos'])}")
    print(f"\n{summary['seconds']['total']:.0f} s in all. Open {arguments.output / 'report.html'}")
    print(f"Every answer of the training, over its video: videochat-r1 view {shlex.quote(str(arguments.output))}")
    talk = ["videochat-r1", "chat", "--model", str(options.checkpoints / "grpo"), "--videos", str(options.data)]
    print(f"Questions of your own about its videos: {shlex.join(talk)}")
    return 0


def parser() -> argparse.ArgumentParser:
    """The arguments."""
    result = argparse.ArgumentParser(
        prog="videochat-r1 quickstart",
        description=__doc__,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    result.add_argument("--output", type=Path, default=Path("outputs/quickstart"), help="default: %(default)s")
    result.add_argument("--family", help="of the tiny model, e.g. qwen3_vl (default: that of the paper)")
    result.add_argument("--overwrite", action="store_true", help="replace a finished run (default: refuse to)")
    result.add_argument("--from-scratch", action="store_true", help="train the SFT start too, not only GRPO")
    result.add_argument(
        "--compare",
        action="store_true",
        help="also continue SFT for GRPO's wall-clock time, and ask about longer videos",
    )
    result.add_argument("--seed", type=int, default=0, help="of training (default 0)")
    result.add_argument("--num-train", type=int, default=2000, help="training videos of each kind (default 2000)")
    result.add_argument("--num-eval", type=int, default=512, help="held-out samples of each task (default 512)")
    result.add_argument("--start", type=Path, help="model to begin GRPO with, instead of the shipped one")
    for name in ("grpo", "sft"):
        result.add_argument(
            f"--{name}",
            type=shlex.split,
            default=[],
            metavar="FLAGS",
            help=f'overrides of the {name.upper()} recipe in configs/quickstart, e.g. --{name}="--learning_rate 1e-4"',
        )
    return result
