"""`videochat-r1 grpo --config recipe.yaml [--flag value ...]`: GRPO fine-tuning."""

from collections.abc import Sequence

from videochat_r1.commands.logs import show_library_logs
from videochat_r1.training.start import start_training_process, stopping_all_ranks


def main(argv: Sequence[str]) -> int:
    """Train; under torchrun, as one of its processes."""
    with stopping_all_ranks():
        start_training_process(argv)
        from videochat_r1.grpo.config import VideoGRPOConfig
        from videochat_r1.grpo.run import run_grpo
        from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe

        show_library_logs()
        model_args, data_args, args = parse_recipe([ModelArguments, DataArguments, VideoGRPOConfig], argv)
        folder = run_grpo(model_args, data_args, args)
    if args.process_index == 0:
        print(f"trained model: {folder}")
    return 0
