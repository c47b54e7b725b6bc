"""The README.md of a trained model: what it is made of, how, how well it did in training, and how to ask it."""

import re
import shlex
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import yaml
from transformers import Trainer

from videochat_r1.datasets.mixture import EntrySummary
from videochat_r1.modeling.families import family_of
from videochat_r1.modeling.load import load_config
from videochat_r1.provenance import git_commit, package_versions
from videochat_r1.recipe import DataArguments, ModelArguments

METHODS = {"grpo": "GRPO", "sft": "supervised fine-tuning"}

# Means over the last updates say more than the last update.
_LAST_LOGGED = 10
_METRICS = re.compile(r"reward|loss|kl|\w+/(reward|rewards/\w+/mean|parse_rate)")

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")

# Options of the trainer that say how the model came about, in the card's order.
_RECIPE = (
    "prompts_per_step", "samples_per_step", "num_generations", "learning_rate", "lr_scheduler_type", "warmup_steps",
    "loss_type", "beta", "epsilon", "epsilon_high", "scale_rewards", "num_iterations", "temperature",
    "max_completion_length", "rewards", "weight_decay", "max_grad_norm", "bf16", "seed",
)  # fmt: skip

_ASK_FLAGS = {"backend": "--video-backend", "timeout_seconds": "--video-timeout"}
_NOT_OF_ASK = ("isolation",)


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What is known of a run before it begins.

    Args:
        method: a key of `METHODS`.
        model: what was trained.
        data: how videos are read and asked about.
        corpora: the samples by corpus.
    """

    method: str
    model: ModelArguments
    data: DataArguments
    corpora: Sequence[EntrySummary]

    def write(self, folder: Path, trainer: Trainer) -> None:
        """Write `folder/README.md`. An adapter is told by its files."""
        is_adapter = (folder / "adapter_config.json").is_file()
        base = self.model.model_name_or_path
        sections = [
            f"# {Path(base).name}, {METHODS[self.method]} on video",
            f"{_code(base)} trained on video with {METHODS[self.method]}: {trainer.state.global_step} updates. Made with "
            "videochat_r1; `resolved_config.yaml` holds all options and `environment.json` what it ran on.",
            "## Data",
            _table(["corpus", "samples per epoch", "by task"], [_corpus(summary) for summary in self.corpora]),
            "## Training",
            _table(["option", "value"], self._recipe(trainer.args)),
            *_result(trainer.state.log_history),
            "## Use",
            self._usage(folder, is_adapter),
            "## Versions",
            _table(["package", "version"], [*package_versions().items(), ("commit", git_commit() or "unknown")]),
            "## Licence",
            f"The weights are made from {_code(base)}, so its licence holds for them too. The corpora have terms of their own.",
        ]
        text = f"---\n{self._front_matter(is_adapter)}---\n\n" + "\n\n".join(sections) + "\n"
        (folder / "README.md").write_text(text, encoding="utf-8", errors="backslashreplace")

    def _front_matter(self, is_adapter: bool) -> str:
        """What model hubs read; a base model only where it is a name there."""
        base = self.model.model_name_or_path
        on_hub = _HUB_NAME.fullmatch(base) and not Path(base).exists()
        tasks = sorted({task for summary in self.corpora for task in summary.tasks})
        values = {
            "library_name": "peft" if is_adapter else "transformers",
            "pipeline_tag": "video-text-to-text",
            **({"base_model": base} if on_hub else {}),
            "tags": ["videochat-r1", self.method, "video", *(task.replace("_", "-") for task in tasks)],
        }
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)

    def _recipe(self, args: Any) -> list[tuple[str, Any]]:
        """Options and their values, without those that the trainer does not have."""
        weights = "adapters" if self.model.lora else "all"
        frozen = ", vision tower frozen" if self.model.freeze_vision_tower else ""
        rows = [
            ("trained weights", weights + frozen),
            *((f"lora.{k}", v) for k, v in _mapping(self.model.lora).items()),
        ]
        rows += [(name, _short(value)) for name in _RECIPE if (value := getattr(args, name, None)) is not None]
        rows += [("thinking", self.data.thinking), ("prompt_layout", self.data.prompt_layout)]
        rows += [("box_format", self.data.box_format)]
        budgets = {"video": self.data.video, "picture": self.data.picture}
        return rows + [(f"{kind}.{name}", value) for kind in budgets for name, value in _mapping(budgets[kind]).items()]

    def _usage(self, folder: Path, is_adapter: bool) -> str:
        """Commands that see videos as training did."""
        base = self.model.model_name_or_path
        weights = ["--model", base, "--adapter", str(folder)] if is_adapter else ["--model", str(folder)]
        if self.model.model_family is not None:
            weights += ["--model-family", self.model.model_family]
        video = {key: value for key, value in _mapping(self.data.video).items() if key not in _NOT_OF_ASK}
        seen = [
            part
            for key, value in video.items()
            for part in (_ASK_FLAGS.get(key, f"--{key.replace('_', '-')}"), str(value))
        ]
        for key, value in _mapping(self.data.picture).items():
            seen += [f"--picture-{key.replace('_', '-')}", str(value)]
        if self.data.thinking:
            seen += ["--thinking", "true"]
        if self.data.prompt_layout != "video_first":
            seen += ["--prompt-layout", self.data.prompt_layout]
        ask = (
            shlex.join(["videochat-r1", "ask", *weights, "--video", "clip.mp4", *seen])
            + ' "What happens in the video?"'
        )
        model_class = family_of(load_config(base)).model_class
        name = model_class.__name__
        module = model_class.__module__
        source = "transformers" if module.startswith("transformers.") else module
        imports = f"from transformers import AutoProcessor\nfrom {source} import {name}\n"
        load = f'model = {name}.from_pretrained("{base if is_adapter else folder}", dtype="auto")\n'
        if is_adapter:
            imports = "from peft import PeftModel\n" + imports
            load += f'model = PeftModel.from_pretrained(model, "{folder}")\n'
        return f'```bash\n{ask}\n```\n\n```python\n{imports}\n{load}processor = AutoProcessor.from_pretrained("{folder}")\n```'


def _short(value: Any) -> Any:
    """An option's value; of rewards their names and weights."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, list) and all(isinstance(entry, Mapping) for entry in value):
        return ", ".join(f"{entry['name']} x {entry.get('weight', 1.0):g}" for entry in value)
    return value


def _result(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The section about the metrics of training; none where nothing was logged."""
    last = [entry for entry in history if "loss" in entry][-_LAST_LOGGED:]
    names = sorted({name for entry in last for name in entry if _METRICS.fullmatch(name)})
    means = [(name, f"{statistics.fmean(entry[name] for entry in last if name in entry):.4f}") for name in names]
    if not means:
        return []
    note = f"Means over the last {len(last)} logged updates, of what was drawn in training: no held-out evaluation."
    return ["## At the end of training", note, _table(["metric", "mean"], means)]


def _corpus(summary: EntrySummary) -> tuple[str, str, str]:
    tasks = ", ".join(f"{task} {count:,}" for task, count in summary.tasks.items())
    return summary.label, f"{summary.per_epoch:,}", tasks


def _table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in line) + " |" for line in lines)


def _cell(value: Any) -> str:
    """Text that stays within its cell."""
    return " ".join(str(value).split()).replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text.replace('`', ' ')}`"


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value or {})
