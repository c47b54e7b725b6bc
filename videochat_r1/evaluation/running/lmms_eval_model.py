"""This project's checkpoints as a model of lmms-eval (`--model videochat_r1`), with the frames and positions of training.

lmms-eval brings the prompts and the metrics of its tasks; here are only video, model and decoding. Imported by lmms-eval
alone, through the entry point `lmms_eval.models` (`manifest`).
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lmms_eval.api.model import lmms

from videochat_r1.errors import ConfigError, DataError, VideoError
from videochat_r1.evaluation.answering.answerer import Answerer, pick_device
from videochat_r1.evaluation.answering.options import RunOptions
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.parsing import answer_text
from videochat_r1.progress import progress_bar, write_line
from videochat_r1.rollout.base import SamplingSettings
from videochat_r1.sample import Video
from videochat_r1.video.frames import VideoBudget

ANSWER_FORMS = {
    "none": "",
    "answer": "\nWrite your final answer between <answer> and </answer>, and nothing else.",
    "thinking": "\nFirst reason between <think> and </think>. Then write your final answer between <answer> and </answer>.",
}
"""Name -> what is put behind the task's prompt. With a form, the text inside the tags is what the task reads."""


def manifest() -> Any:
    """What lmms-eval's registry asks the entry point for."""
    from lmms_eval.models.registry_v2 import ModelManifest

    return ModelManifest(model_id="videochat_r1", simple_class_path=f"{__name__}.VideoChatR1")


class VideoChatR1(lmms):  # type: ignore[misc]
    """Answers questions about one video each.

    Args:
        pretrained: model folder or hub name.
        answer_form: key of `ANSWER_FORMS`; checkpoints of this project were trained with `answer` or `thinking`.
        batch_size: prompts answered together.
        device: as lmms-eval names it; None for this process's GPU, else the CPU.
        model_family: None for the known one of the folder's `model_type`; this and the next four as in `RunOptions`.
        adapter: LoRA folder, or None.
        dtype: see there.
        engine: see there.
        attn_implementation: see there.
        fps: this and the rest as in `VideoBudget`.
        max_batch_size: lmms-eval passes it; not used.

    Raises:
        ConfigError: an unknown answer form, or a model that cannot be loaded.
    """

    def __init__(
        self,
        pretrained: str,
        answer_form: str = "none",
        batch_size: int | str = 1,
        device: str | None = None,
        model_family: str | None = None,
        adapter: str | None = None,
        dtype: str | None = None,
        engine: str = "transformers",
        attn_implementation: str = "sdpa",
        fps: float = 2.0,
        min_frames: int = 4,
        max_frames: int = 768,
        total_pixels: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        max_batch_size: int | None = None,
    ) -> None:
        super().__init__()
        if answer_form not in ANSWER_FORMS:
            raise ConfigError(f"answer_form is {answer_form!r}; expected one of {', '.join(ANSWER_FORMS)}")
        self._form = answer_form
        self.batch_size_per_gpu = int(batch_size)
        self._rank = int(os.environ.get("RANK", "0"))
        self._world_size = int(os.environ.get("WORLD_SIZE", "1"))
        # Under torchrun every process takes its own GPU, whatever `--device cuda` says.
        self._device = pick_device(None if device in (None, "cuda") else device)
        video = VideoBudget(
            fps=fps,
            min_frames=min_frames,
            max_frames=max_frames,
            total_pixels=total_pixels,
            min_pixels=min_pixels,
            max_pixels=max_pixels,
        )
        options = RunOptions(
            model=pretrained,
            model_family=model_family,
            adapter=adapter,
            engine=engine,
            dtype=dtype,
            attn_implementation=attn_implementation,
            thinking=answer_form == "thinking",
            video=video,
            batch_size=self.batch_size_per_gpu,
        )
        self._answerer = Answerer(options, self._device)

    @property
    def device(self) -> Any:
        """Where the model is."""
        return self._device

    @property
    def batch_size(self) -> int:
        """Prompts answered together."""
        return self.batch_size_per_gpu

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """One text per request, in their order; empty for a video that cannot be read.

        Raises:
            ConfigError: a request about anything but one video file.
        """
        texts: list[str] = []
        size = self.batch_size_per_gpu
        with progress_bar(total=len(requests), desc="videochat_r1", unit="sample", disable=self.rank != 0) as bar:
            for begin in range(0, len(requests), size):
                batch = requests[begin : begin + size]
                texts += self._answer(batch, first=begin)
                bar.update(len(batch))
        return texts

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """Not offered: the tasks of the paper generate."""
        raise NotImplementedError("videochat_r1 answers generate_until tasks only")

    def generate_until_multi_round(self, requests: Sequence[Any]) -> list[str]:
        """Not offered."""
        raise NotImplementedError("videochat_r1 answers single questions only")

    def _answer(self, requests: Sequence[Any], first: int) -> list[str]:
        """The texts of one batch; requests with different decoding are answered apart."""
        texts = [""] * len(requests)
        ready: dict[SamplingSettings, list[tuple[int, PromptInputs]]] = {}
        untils: list[list[str]] = []
        for place, request in enumerate(requests):
            context, options, doc_to_visual, doc_id, task, split = request.args
            sampling, until = decoding(self._answerer.sampling, options)
            untils.append(until)
            video = only_video(doc_to_visual(self.task_dict[task][split][doc_id]), task)
            inputs = self._prompt(video, context)
            if inputs is not None:
                ready.setdefault(sampling, []).append((place, inputs))
        for sampling, group in ready.items():
            names = [str(first + place) for place, _ in group]
            rollouts = self._answerer.complete([inputs for _, inputs in group], sampling, names)
            for (place, inputs), rollout in zip(group, rollouts, strict=True):
                texts[place] = self._read(self._answerer.text(inputs, rollout, sampling), untils[place])
        return texts

    def _prompt(self, video: str, context: str) -> PromptInputs | None:
        builder = self._answerer.builder
        text = builder.render_text(context.replace("<image>", "").strip() + ANSWER_FORMS[self._form])
        try:
            return builder.from_frames(builder.frames(Video(path=video)), text)
        except (VideoError, DataError) as error:
            write_line(f"{video}: {error}")
            return None

    def _read(self, completion: str, until: Sequence[str]) -> str:
        """The answer that the task's metric reads."""
        inside = answer_text(completion) if self._form != "none" else None
        text = completion if inside is None else inside
        for end in until:
            text = text.split(end)[0]
        return text.strip()


def decoding(base: SamplingSettings, options: dict[str, Any]) -> tuple[SamplingSettings, list[str]]:
    """Sampling settings and stop texts of a request: greedy unless it asks for samples.

    A blank line is no stop text: answers with a thought have some.
    """
    temperature = float(options.get("temperature") or 0.0) if options.get("do_sample", True) else 0.0
    sampling = replace(
        base,
        max_new_tokens=int(options.get("max_new_tokens") or base.max_new_tokens),
        temperature=temperature,
        top_p=float(options.get("top_p") or 1.0) if temperature > 0.0 else 1.0,
    )
    until = options.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    return sampling, [stop for stop in stops if stop and stop != "\n\n"]


def only_video(visuals: Any, task: str) -> str:
    """The path of a request's one video file.

    Raises:
        ConfigError: it has none, several, or images.
    """
    if isinstance(visuals, list | tuple) and len(visuals) == 1 and isinstance(visuals[0], str):
        return visuals[0]
    shown = (
        [type(visual).__name__ for visual in visuals] if isinstance(visuals, list | tuple) else type(visuals).__name__
    )
    raise ConfigError(f"lmms-eval task {task} shows {shown}; videochat_r1 answers questions about one video file each")
