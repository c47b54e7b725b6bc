"""`videochat-r1 sft --config recipe.yaml [--flag value ...]`: supervised fine-tuning on gold answers."""

from collections.abc import Sequence

from videochat_r1.commands.logs import loading, show_library_logs
from videochat_r1.commands.recipe_help import asks_for_help, recipe_help
from videochat_r1.training.start import start_training_process, stopping_all_ranks


def main(argv: Sequence[str]) -> int:
    """Train; under torchrun, as one of its processes."""
    with stopping_all_ranks():
        start_training_process(argv)
        with loading("torch, transformers and TRL"):
            from videochat_r1.commands.print_config import FLAG, printed_config
            from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe
            from videochat_r1.sft import VideoSFTConfig, run_sft

        if asks_for_help(argv):
            sections = {"model": ModelArguments, "data": DataArguments, "training": VideoSFTConfig}
            print(recipe_help("sft", "Supervised fine-tuning on the tasks' gold answers.", sections, argv))
            return 0
        options = [ModelArguments, DataArguments, VideoSFTConfig]
        if FLAG in argv:
            print(printed_config(options, argv))
            return 0
        show_library_logs()
        model_args, data_args, args = parse_recipe(options, argv)
        folder = run_sft(model_args, data_args, args)
    if args.process_index == 0:
        print(f"trained model: {folder}")
    return 0
