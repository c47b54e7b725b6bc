"""What a trainer writes of its model: the model, and nothing that others would take for this project's word."""

from pathlib import Path
from typing import Any

from transformers.trainer import TRAINING_ARGS_NAME

from videochat_r1.modeling.saving import follow_umask


class SavesPlainFolders:
    """Put before the trainer class among the bases. Overrides, with their reasons:

    * `save_model`: transformers adds its arguments as a pickle, which nobody should have to open (`resolved_config.yaml` has
      them all), peft a model card of blanks; safetensors writes for the owner alone.
    * `create_model_card`: TRL's knows neither base model nor data, and shows how to call a text model.
    """

    def save_model(self: Any, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Called on all ranks together, by transformers for a checkpoint."""
        super().save_model(output_dir, _internal_call)  # type: ignore[misc]
        folder = Path(output_dir or self.args.output_dir)
        if self.args.should_save:
            (folder / TRAINING_ARGS_NAME).unlink(missing_ok=True)
            if _internal_call:
                (folder / "README.md").unlink(missing_ok=True)
            follow_umask(folder)

    def create_model_card(self: Any, *args: Any, **options: Any) -> None:
        """Nothing; the card of a run is written with its final model."""
