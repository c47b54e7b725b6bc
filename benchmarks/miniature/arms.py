"""The trainings of the miniature, each made and asked once: what is done lies in the output folder, and is not done again."""

import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from episodes.asking import Condition, evaluate
from kept import once
from miniature.corpora import Sizes, read_sort, write_corpora
from miniature.judges import caption_scores

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.grpo.rollout_file import ROLLOUTS
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.quickstart.training import Workshop
from videochat_r1.second_look.options import ClueOptions
from videochat_r1.video.cache import FrameCache

RECIPES = Path(__file__).resolve().parent
START = "start"
PER_UPDATE = 16
"""Questions of an update, of SFT as of GRPO."""
ASKED = {
    "grounding": ("eval", "grounding"),
    "shifted": ("shifted", "grounding"),
    "thinking": ("eval", "thinking"),
    "shifted thinking": ("shifted", "thinking"),
    "clues": ("eval", "clues"),
    "letters": ("eval", "letters"),
    "tracking": ("eval", "tracking"),
    "captions": ("eval", "captions"),
    "general": ("eval", "general"),
    "long": ("long", "clues"),
    "long, clip": ("long", "clues"),
    "long, clip in place": ("long", "clues"),
}
"""What a model may be asked -> the split and the sort of its samples."""
LOOKS = {
    "long": Condition(None),
    "long, clip": Condition(ClueOptions(1.0, 2.0, time="relative", padding=0.5)),
    "long, clip in place": Condition(ClueOptions(1.0, 2.0, time="absolute", padding=0.5)),
}
"""Asked about coarse videos, at half the frame rate of all trainings; then about the clip of the clue at the rate of these, played
from 0 or at its times in the video."""
_BATCH = 64


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to train from the start.

    Args:
        method: `sft` or `grpo`.
        sorts: what it is trained on, equally often.
        epochs: over those samples.
        flags: of the recipe, besides.
    """

    method: str
    sorts: tuple[str, ...]
    epochs: int = 1
    flags: Mapping[str, str] | None = None


def _judged(judge: str) -> dict[str, str]:
    return {"rewards": f"[{{name: format, weight: 1.0}}, {{name: 'miniature.judges:{judge}', weight: 1.0}}]"}


ARMS: Mapping[str, Arm] = {
    "sft-grounding": Arm("sft", ("grounding",)),
    "grpo-grounding": Arm("grpo", ("grounding",)),
    "sft-grounding-fast": Arm("sft", ("grounding",), flags={"learning_rate": "1e-3"}),
    "sft-grounding-3": Arm("sft", ("grounding",), epochs=3),
    "grpo-grounding-3": Arm("grpo", ("grounding",), epochs=3),
    "grpo-clues": Arm("grpo", ("clues",)),
    "sft-clues": Arm("sft", ("clues",)),
    "grpo-letters": Arm("grpo", ("letters",)),
    "grpo-tracking": Arm("grpo", ("tracking",)),
    "grpo-joint": Arm("grpo", ("grounding", "clues", "tracking")),
    "grpo-thinking": Arm(
        "grpo", ("grounding",), flags={"thinking": "true", "prompts.temporal_grounding": "Think. When? {query}"}
    ),
    "grpo-captions-careful": Arm("grpo", ("captions",), flags=_judged("careful")),
    "grpo-captions-hasty": Arm("grpo", ("captions",), flags=_judged("hasty")),
}


class Bench:
    """Trains arms and asks them; every result is made once.

    Args:
        output: folder of corpora, models and results.
        sizes: of the corpora.
        start_updates: of the start's training.
        rates: learning rate of `sft` and `grpo`.
    """

    def __init__(self, output: Path, sizes: Sizes, start_updates: int, rates: Mapping[str, float]) -> None:
        self._output, self._sizes, self._start_updates, self._rates = output, sizes, start_updates, rates
        self._cache = FrameCache(memory_bytes=1 << 30)

    def prepare(self) -> None:
        """The corpora and the start."""
        write_corpora(self._output / "data", self._sizes)
        once(self._result(START, 0, "training"), self._train_start)

    def train(self, arm: str, seed: int) -> dict[str, Any]:
        """Updates and seconds of an arm, which is trained if it is not yet."""
        found: dict[str, Any] = once(self._result(arm, seed, "training"), lambda: self._train(arm, seed))
        return found

    def ask(self, arm: str, seed: int, asked: str) -> dict[str, list[float]]:
        """Metric -> one value for each question, of a trained arm."""
        found: dict[str, list[float]] = once(
            self._result(arm, seed, asked), lambda: self._ask(self._folder(arm, seed), asked, f"{arm} {seed}: {asked}")
        )
        return found

    def found(self, arm: str, seed: int, asked: str) -> Any:
        """What is kept of an arm; None where there is nothing yet."""
        file = self._result(arm, seed, asked)
        return read_json(file) if file.is_file() else None

    def _result(self, arm: str, seed: int, what: str) -> Path:
        return self._output / "parts" / f"{arm}-{seed}" / f"{what}.json"

    def _folder(self, arm: str, seed: int) -> Path:
        return self._output / "checkpoints" / f"{arm}-{seed}"

    def _train_start(self) -> dict[str, Any]:
        workshop = self._workshop(0, sft={"max_steps": str(self._start_updates)})
        begin = time.process_time()
        run = workshop.train_sft(START, workshop.options.shipped_start, self._folder(START, 0))
        return {"updates": run.num_steps, "seconds": run.seconds, "cpu_seconds": time.process_time() - begin}

    def _train(self, name: str, seed: int) -> dict[str, Any]:
        arm, folder = ARMS[name], self._folder(name, seed)
        # Rollouts of a training that was interrupted are added to otherwise.
        shutil.rmtree(folder, ignore_errors=True)
        mixture = [{"manifest": f"train_{sort}.jsonl", "videos": "."} for sort in arm.sorts]
        updates = arm.epochs * len(arm.sorts) * self._sizes.train // PER_UPDATE
        flags = {
            "mixture": json.dumps(mixture),
            "max_steps": str(max(1, updates)),
            "learning_rate": str(self._rates[arm.method]),
            **(arm.flags or {}),
        }
        begin = time.process_time()
        if arm.method == "sft":
            run = self._workshop(seed, sft=flags).train_sft("sft", self._folder(START, 0), folder)
        else:
            run = self._workshop(seed, grpo=flags).train_grpo(self._folder(START, 0), folder)
            (folder / ROLLOUTS).replace(self._result(name, seed, "training").parent / ROLLOUTS)
        return {"updates": run.num_steps, "seconds": run.seconds, "cpu_seconds": time.process_time() - begin}

    def _workshop(
        self, seed: int, *, grpo: Mapping[str, str] | None = None, sft: Mapping[str, str] | None = None
    ) -> Workshop:
        grpo_flags, sft_flags = (
            tuple(word for name, value in (flags or {}).items() for word in (f"--{name}", value))
            for flags in (grpo, sft)
        )
        options = QuickstartOptions(
            output=self._output, recipes=RECIPES, seed=seed, grpo_flags=grpo_flags, sft_flags=sft_flags
        )
        return Workshop(options, self._cache)

    # --- questions --------------------------------------------------------------------------------------------------

    def _ask(self, model: Path, asked: str, description: str) -> dict[str, list[float]]:
        samples = read_sort(self._output / "data", *ASKED[asked])
        if asked in LOOKS:
            asked_about = [replace(sample, extra={"kind": asked}) for sample in samples]
            looks = evaluate(model, asked_about, LOOKS[asked], description, batch_size=_BATCH)
            return {"accuracy": [row["accuracy"] for row in looks]}
        rows = self._workshop(0).answer(model, samples, description=description)
        scores = [row["scores"] for row in rows]
        if asked == "captions":
            pairs = zip(rows, samples, strict=True)
            scores = [caption_scores(row["parsed"], sample.target.events) for row, sample in pairs]
        return {metric: [round(float(score[metric]), 4) for score in scores] for metric in scores[0]}
