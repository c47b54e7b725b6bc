"""`videochat-r1 sft --config recipe.yaml [--flag value ...]`: supervised fine-tuning on gold answers."""

from collections.abc import Sequence

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.training.start import start_training_process, stopping_all_ranks


def main(argv: Sequence[str]) -> int:
    """Train; under torchrun, as one of its processes."""
    with stopping_all_ranks():
        start_training_process(argv)
        with loading("torch, transformers and TRL"):
            from videochat_r1.commands.print_config import asked_to_tell
            from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
            from videochat_r1.sft import VideoSFTConfig, run_sft

        sections = {"model": ModelArguments, "data": DataArguments, "training": VideoSFTConfig}
        purpose = "Supervised fine-tuning on the tasks' gold answers."
        if (told := asked_to_tell("sft", purpose, sections, argv)) is not None:
            print(told)
            return 0
        show_library_logs()
        model_args, data_args, args = parse_recipe(list(sections.values()), argv)
        folder = run_sft(model_args, data_args, args)
    if args.process_index == 0:
        print(f"trained model: {folder}")
    return 0
