"""The model as lmms-eval sees it, against the part of lmms-eval's interface that it uses, written out here."""

import importlib
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.video_files import write_video
from videochat_r1.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Instance:
    """lmms_eval.api.instance.Instance of a generate_until request: what the model reads of it."""

    args: tuple[Any, ...]


@pytest.fixture(scope="module")
def adapter() -> Iterator[ModuleType]:
    """The adapter's module; with lmms-eval's own base class where it is installed, else with a stand-in."""
    added: list[str] = []
    if importlib.util.find_spec("lmms_eval") is None:
        names = (
            "lmms_eval",
            "lmms_eval.api",
            "lmms_eval.api.model",
            "lmms_eval.models",
            "lmms_eval.models.registry_v2",
        )
        for name in names:
            sys.modules[name] = ModuleType(name)
            added.append(name)

        class Lmms:
            def __init__(self) -> None:
                self._rank, self._world_size, self.task_dict = 0, 1, {}

            @property
            def rank(self) -> int:
                return self._rank

        @dataclass(frozen=True)
        class ModelManifest:
            model_id: str
            simple_class_path: str | None = None

        sys.modules["lmms_eval.api.model"].lmms = Lmms
        sys.modules["lmms_eval.models.registry_v2"].ModelManifest = ModelManifest
    yield importlib.import_module("videochat_r1.evaluation.running.lmms_eval_model")
    for name in [*added, "videochat_r1.evaluation.running.lmms_eval_model"]:
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from videochat_r1.modeling.tiny import build_tiny

    folder = tmp_path_factory.mktemp("lmms")
    build_tiny(folder / "model", hidden=64, layers=2, vision_hidden=32)
    for name in ("a", "b"):
        write_video(folder / f"{name}.mp4", num_frames=20, fps=10)
    return folder


def make(adapter: ModuleType, world: Path, **options: Any) -> Any:
    sized = {"min_pixels": 784, "max_pixels": 3136, "dtype": "float32", "device": "cpu"}
    model = adapter.VideoChatR1(**{"pretrained": str(world / "model"), "batch_size": 2, **sized, **options})
    documents = [str(world / "a.mp4"), str(world / "b.mp4"), str(world / "gone.mp4")]
    model.task_dict = {"task": {"test": documents}}
    return model


def request(document: int, text: str = "What is it?", **options: Any) -> Instance:
    return Instance((text, {"max_new_tokens": 6, **options}, lambda path: [path], document, "task", "test"))


def test_the_entry_point_names_the_class(adapter: ModuleType) -> None:
    manifest = adapter.manifest()
    module, _, name = manifest.simple_class_path.rpartition(".")
    assert manifest.model_id == "videochat_r1"
    assert getattr(importlib.import_module(module), name) is adapter.VideoChatR1
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]["lmms_eval.models"]
    assert declared == {"videochat_r1": f"{adapter.__name__}:manifest"}


@pytest.mark.parametrize("family", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_one_text_per_request_in_order(adapter: ModuleType, world: Path, family: str) -> None:
    from videochat_r1.modeling.tiny import build_tiny

    build_tiny(world / family, hidden=64, layers=2, vision_hidden=32, family=family)
    model = make(adapter, world, pretrained=str(world / family))
    apart = [model.generate_until([request(document)])[0] for document in (0, 1)]
    mixed = [request(1), request(2), request(0), request(0, do_sample=True, temperature=1.0)]
    texts = model.generate_until(mixed)
    assert [texts[0], texts[2]] == [apart[1], apart[0]] and texts[1] == "" and len(texts) == 4
    assert model.device.type == "cpu" and model.batch_size == 2


def test_an_answer_form_is_asked_for_and_read(adapter: ModuleType, world: Path) -> None:
    model = make(adapter, world, answer_form="thinking")
    seen: list[str] = []
    build = model._answerer.builder.from_frames

    def keep(frames: Any, text: str) -> Any:
        seen.append(text)
        return build(frames, text)

    assert (
        model._answerer.builder.thinking and not make(adapter, world, answer_form="answer")._answerer.builder.thinking
    )
    model._answerer.builder.from_frames = keep
    model.generate_until([request(0, "<image> Which? A or B")])
    assert "Which? A or B\nFirst reason between <think>" in seen[0] and "<image>" not in seen[0]
    assert model._read("<think>A or B</think><answer> B </answer>", []) == "B"
    assert model._read("no tags. stop here", [" stop"]) == "no tags."
    assert make(adapter, world)._read("<answer>B</answer>", []) == "<answer>B</answer>"
    with pytest.raises(ConfigError, match="none, answer, thinking"):
        make(adapter, world, answer_form="cot")


def test_decoding_is_greedy_unless_asked_otherwise(adapter: ModuleType, world: Path) -> None:
    base = make(adapter, world)._answerer.sampling
    greedy, stops = adapter.decoding(base, {"temperature": 0, "top_p": 0.9, "until": ["\n\n", "###"], "num_beams": 1})
    assert greedy.temperature == 0.0 and greedy.top_p == 1.0 and stops == ["###"]
    assert adapter.decoding(base, {"do_sample": False, "temperature": 0.7})[0].temperature == 0.0
    sampled, _ = adapter.decoding(base, {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "max_new_tokens": 5})
    assert (sampled.temperature, sampled.top_p, sampled.max_new_tokens) == (0.7, 0.9, 5)
    assert sampled.suppressed_token_ids == base.suppressed_token_ids


def test_other_than_one_video_is_refused(adapter: ModuleType) -> None:
    assert adapter.only_video(["v.mp4"], "t") == "v.mp4"
    for visuals in (["a.mp4", "b.mp4"], [object()], [], None):
        with pytest.raises(ConfigError, match="one video file each"):
            adapter.only_video(visuals, "t")
