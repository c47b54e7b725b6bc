"""`videochat-r1 grpo --config recipe.yaml [--flag value ...]`: GRPO fine-tuning."""

from collections.abc import Sequence

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.training.start import start_training_process, stopping_all_ranks


def main(argv: Sequence[str]) -> int:
    """Train; under torchrun, as one of its processes."""
    with stopping_all_ranks():
        start_training_process(argv)
        with loading("torch, transformers and TRL"):
            from videochat_r1.commands.print_config import asked_to_tell
            from videochat_r1.grpo.config import VideoGRPOConfig
            from videochat_r1.grpo.run import run_grpo
            from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe

        sections = {"model": ModelArguments, "data": DataArguments, "GRPO": VideoGRPOConfig}
        purpose = "GRPO fine-tuning: groups of answers, scored by rules, from the model that is trained."
        if (told := asked_to_tell("grpo", purpose, sections, argv)) is not None:
            print(told)
            return 0
        show_library_logs()
        model_args, data_args, args = parse_recipe(list(sections.values()), argv)
        folder = run_grpo(model_args, data_args, args)
    if args.process_index == 0:
        print(f"trained model: {folder}")
    return 0
