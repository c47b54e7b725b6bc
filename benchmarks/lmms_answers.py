"""lmms-eval's `qwen2_5_vl` on the questions of `eval_speed.py`: run by it, with the Python of lmms-eval's environment.

Its chat form is asked, which hands frames' times to the processor; weights are made fp32, and what cannot be drawn is the same.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import Instance
from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL


def main() -> None:
    """Print one JSON object."""
    asked = json.loads((Path(sys.argv[1]) / "questions.json").read_text())
    found = [measure(asked, size) for size in asked["batches"]]
    print(json.dumps(min(found, key=lambda each: each["seconds"]) | {"tried": [each["seconds"] for each in found]}))


def measure(asked: dict[str, Any], size: int) -> dict[str, Any]:
    """Seconds and answers at a batch size."""
    lengths: list[tuple[int, int]] = []
    lm = Qwen2_5_VL(
        asked["model"], device="cpu", device_map="cpu", batch_size=size, fps=2.0,
        min_pixels=asked["pixels"], max_pixels=asked["pixels"], max_num_frames=asked["frames"],
    )  # fmt: skip
    lm.model.float()
    names = ("<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
    tokens = {lm.tokenizer.convert_tokens_to_ids(name) for name in names} | {lm.tokenizer.eos_token_id}
    lm.model.generation_config.suppress_tokens = sorted(token for token in tokens if token is not None)
    generate = lm.model.generate

    def counted(**inputs: Any) -> Any:
        out = generate(**inputs)
        prompt = inputs["attention_mask"].sum(1).tolist()
        lengths.extend((length, out.shape[1] - inputs["input_ids"].shape[1]) for length in prompt)
        return out

    lm.model.generate = counted
    lm.task_dict["speed"] = {"test": asked["asked"]}
    requests = [
        Instance(
            request_type="generate_until",
            arguments=(each["text"], messages_of, {"max_new_tokens": asked["new_tokens"]}, index, "speed", "test"),
            idx=0,
            metadata={"task": "speed", "doc_id": index, "repeats": 1},
        )
        for index, each in enumerate(asked["asked"])
    ]
    lm.generate_until(requests[: asked["warm_up"]])
    lengths.clear()
    begin = time.perf_counter()
    answers = lm.generate_until(requests[asked["warm_up"] :])
    return {
        "seconds": time.perf_counter() - begin,
        "batch": size,
        "answers": [answer.text for answer in answers],
        "prompt_tokens": sorted({prompt for prompt, _ in lengths}),
        "new_tokens": sorted({new for _, new in lengths}),
    }


def messages_of(question: dict[str, str]) -> list[dict[str, Any]]:
    """A question as lmms-eval's tasks write it."""
    content = [{"type": "video", "url": question["video"]}, {"type": "text", "text": question["text"]}]
    return [{"role": "user", "content": content}]


if __name__ == "__main__":
    main()
