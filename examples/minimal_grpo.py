"""GRPO on video, all of it, from top to bottom.

    videochat-r1 data synthesize --output outputs/example/data
    python examples/minimal_grpo.py --data outputs/example/data/train.jsonl

A model answers each question about a video G times. Rules score the answers against the annotation; what an answer scored
above the mean of its group is its advantage; one step makes every token of a good answer likelier and of a bad one
less likely, held near the model that training began with. `videochat_r1.grpo.trainer` does the same, and besides it
whatever a long run on many GPUs needs: reading ahead, several processes, ZeRO-3, LoRA, vLLM, checkpoints, logs.

Letters: G answers of a group, C the most tokens of an answer.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, ProcessorMixin
from trl.trainer.utils import add_fused_lm_head

from videochat_r1.datasets.manifest import read_manifest
from videochat_r1.grpo.shared_prefix import completion_logps, install_shared_prefix
from videochat_r1.modeling.inputs import PromptInputs
from videochat_r1.modeling.load import eos_token_ids, load_config, load_model, load_processor, vision_token_ids
from videochat_r1.modeling.prompts import PromptBuilder
from videochat_r1.rewards import make_reward
from videochat_r1.rollout.base import Rollout, SamplingSettings
from videochat_r1.rollout.transformers_engine import TransformersEngine
from videochat_r1.sample import Sample
from videochat_r1.tasks import TASKS
from videochat_r1.video.frames import VideoBudget

G = 8
BETA = 0.04  # weight of the distance to the reference model
REWARDS = [make_reward(name) for name in ("format", "iou", "accuracy")]

# As in configs/quickstart/grpo.yaml, whose supervised start --model is by default.
BUDGET = VideoBudget(fps=2.0, max_frames=64, total_pixels=50176, min_pixels=784, max_pixels=784, isolation="none")
PROMPTS = {
    "temporal_grounding": "When? {query}",
    "tracking": "Track {query} from {box}",
    "grounded_qa": "{query}\n{options}",
}


def prepare(model: PreTrainedModel) -> PreTrainedModel:
    """Teach the model to score packed rows: a prompt with its video once, then its G answers."""
    install_shared_prefix(model)
    add_fused_lm_head(model, outputs=("log_probs",))
    return model


def sampling(model: PreTrainedModel, processor: ProcessorMixin, max_new_tokens: int = 64) -> SamplingSettings:
    """Answers are drawn as the model is, and never hold a token that stands for pixels."""
    return SamplingSettings(
        max_new_tokens=max_new_tokens,
        eos_token_ids=eos_token_ids(model, processor),
        suppressed_token_ids=vision_token_ids(processor),
    )


def score(sample: Sample, answers: Sequence[str]) -> torch.Tensor:
    """(G,) The sum of the rewards that apply to the sample's task; each is a function of text and annotation."""
    columns = {
        "task": [sample.task] * len(answers),
        "target": [TASKS[sample.task].target_to_json(sample.target)] * len(answers),
        "thinking": [False] * len(answers),
        "sample_id": [sample.id] * len(answers),
    }
    return sum(torch.tensor([value or 0.0 for value in reward(answers, **columns)]) for reward in REWARDS)


def advantages_of(rewards: torch.Tensor) -> torch.Tensor:
    """(G,) How many standard deviations above its group's mean each answer is; zeros where all are equally good."""
    return (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def loss_of(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    prompt: PromptInputs,
    rollouts: Sequence[Rollout],
    advantages: torch.Tensor,
) -> torch.Tensor:
    """The loss of one group: the mean over its answers of the mean over their tokens."""
    length = max(len(rollout.completion_ids) for rollout in rollouts)
    ids, mask = torch.zeros(len(rollouts), length, dtype=torch.long), torch.zeros(len(rollouts), length)
    for row, rollout in enumerate(rollouts):
        ids[row, : len(rollout.completion_ids)] = torch.tensor(rollout.completion_ids)
        mask[row, : len(rollout.completion_ids)] = 1

    def logps(of: PreTrainedModel) -> torch.Tensor:
        """(G, C). The same prompt object in every row: its video is encoded and attended to once."""
        values, _ = completion_logps(
            of, [prompt] * len(rollouts), ids, mask.long(), share_prompt=True, compute_entropy=False, pad_token_id=0
        )
        return values

    policy = logps(model)
    with torch.no_grad():
        base = logps(reference)
    # 1 in value, as the answers were drawn from this very model; its gradient is that of the log-probability.
    ratio = torch.exp(policy - policy.detach())
    # An estimate of KL(policy, reference) that is never negative and has little variance.
    distance = torch.exp(base - policy) - (base - policy) - 1
    per_token = -ratio * advantages.unsqueeze(1) + BETA * distance
    return ((per_token * mask).sum(1) / mask.sum(1)).mean()


def step(
    model: PreTrainedModel,
    reference: PreTrainedModel,
    builder: PromptBuilder,
    settings: SamplingSettings,
    samples: Sequence[Sample],
    noise_seeds: Sequence[Sequence[int]],
) -> list[float]:
    """Leave the gradients of one update in the model, and return the mean reward of each group."""
    tokenizer = builder.processor.tokenizer
    prompts = [builder.build(sample) for sample in samples]
    with torch.no_grad():
        engine = TransformersEngine(model, tokenizer.pad_token_id)
        groups = engine.generate(prompts, num_generations=G, settings=settings, noise_seeds=noise_seeds)
    means = []
    for sample, prompt, rollouts in zip(samples, prompts, groups, strict=True):
        texts = [tokenizer.decode(rollout.completion_ids, skip_special_tokens=True) for rollout in rollouts]
        answers = [prompt.judged(text) for text in texts]
        rewards = score(sample, answers)
        loss = loss_of(model, reference, prompt, rollouts, advantages_of(rewards))
        (loss / len(samples)).backward()
        means.append(rewards.mean().item())
    return means


def main() -> None:
    """Train, and print the mean reward of every update."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="data/quickstart/sft", help="folder of a Qwen2.5-VL")
    parser.add_argument("--data", type=Path, required=True, help="JSONL of samples, their videos beside it")
    parser.add_argument("--updates", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=8, help="of an update")
    parser.add_argument("--learning-rate", type=float, default=1e-4)
    parser.add_argument("--output", type=Path, default=Path("outputs/example/model"))
    options = parser.parse_args()

    processor = load_processor(options.model)
    model, reference = (prepare(load_model(options.model, dtype=torch.float32)) for _ in range(2))
    builder = PromptBuilder(processor, load_config(options.model), BUDGET, layout="text_first", templates=PROMPTS)
    settings = sampling(model, processor)
    samples = [sample for sample in read_manifest(options.data, options.data.parent) if sample.task in PROMPTS]
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.learning_rate, weight_decay=0.0)
    chance = torch.Generator().manual_seed(0)
    for update in range(options.updates):
        chosen = [samples[i] for i in torch.randint(len(samples), (options.prompts,), generator=chance).tolist()]
        seeds = torch.randint(2**62, (options.prompts, G), generator=chance).tolist()
        rewards = step(model, reference, builder, settings, chosen, seeds)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        print(f"update {update + 1:3}  reward {sum(rewards) / len(rewards):.3f}", flush=True)
    model.save_pretrained(options.output)
    processor.save_pretrained(options.output)


if __name__ == "__main__":
    main()
