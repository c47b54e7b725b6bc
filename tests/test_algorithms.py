"""docs/algorithms.md: the lines of every algorithm give what its paper says, and a loss that is the paper's formula."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.tiny_runs import make_trainer
from videochat_r1.grpo.config import VideoGRPOConfig
from videochat_r1.grpo.rows import weigh_rows
from videochat_r1.recipe import DataArguments, ModelArguments, parse_recipe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "algorithms.md"
SECTIONS = {
    part.split("\n", 1)[0]: part
    for part in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    if "```yaml" in part
}
# Of each, the paper's number and values; what is not named is the joint recipe's.
PAPERS: dict[str, tuple[str, dict[str, Any]]] = {
    "DAPO": (
        "2503.14476",
        {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0, "mask_truncated_completions": True},
    ),
    "Clip-higher": ("2503.14476", {"epsilon": 0.2, "epsilon_high": 0.28, "loss_type": "grpo"}),
    "Dr. GRPO": ("2503.20783", {"loss_type": "dr_grpo", "scale_rewards": "none", "beta": 0.0}),
    "GSPO": (
        "2507.18071",
        {
            "importance_sampling_level": "sequence",
            "epsilon": 3e-4,
            "epsilon_high": 4e-4,
            "beta": 0.0,
            "loss_type": "grpo",
        },
    ),
    "CISPO": ("2506.13585", {"loss_type": "cispo", "epsilon_high": 5.0, "beta": 0.0}),
    "SAPO": ("2511.20347", {"loss_type": "sapo", "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05}),
    "Entropy masking": ("2506.01939", {"top_entropy_quantile": 0.2}),
    "Overlong filtering": ("2503.14476", {"mask_truncated_completions": True}),
    "Task EMA": ("2512.03043", {"scale_rewards": "task_ema", "task_ema": {"decay": 0.99, "guard": 1e-3}}),
    "T-GRPO": ("2503.21776", {}),
    "Truth as a rollout": ("2509.18056", {"truth_as_rollout": True}),
}
# The joint recipe's, where a page's lines leave them.
JOINT = {
    **{"loss_type": "grpo", "scale_rewards": "group", "beta": 0.04, "epsilon": 0.2, "epsilon_high": None},
    **{"importance_sampling_level": "token", "top_entropy_quantile": 1.0, "mask_truncated_completions": False},
    **{"task_ema": None, "temporal_contrast": None, "truth_as_rollout": False},
}


def lines_of(name: str) -> str:
    return re.search(r"```yaml\n(.*?)```", SECTIONS[name], re.DOTALL).group(1)  # type: ignore[union-attr]


def resolved(name: str, folder: Path) -> VideoGRPOConfig:
    """The lines of the page below the joint recipe, an update being one pass as it is on eight processes."""
    recipe = folder / "recipe.yaml"
    recipe.write_text(f"extends: joint\n{lines_of(name)}")
    arguments = ["--config", str(recipe), "--use_cpu", "true", "--deepspeed", "", "--prompts_per_step", "1"]
    return parse_recipe([ModelArguments, DataArguments, VideoGRPOConfig], arguments)[2]


def test_every_algorithm_of_the_page_has_its_paper() -> None:
    assert SECTIONS.keys() == PAPERS.keys()
    linked = re.findall(r"^\| \[(.*?)\]\(#", PAGE.read_text(), re.MULTILINE)
    assert linked == list(SECTIONS), "the table lists them in their order"


@pytest.mark.parametrize("name", PAPERS)
def test_the_lines_give_what_the_paper_says(name: str, tmp_path: Path) -> None:
    number, values = PAPERS[name]
    assert f"arXiv {number}" in SECTIONS[name].split("\n")[2]
    config = resolved(name, tmp_path)
    stated = yaml.safe_load(lines_of(name))
    assert {key: getattr(config, key) for key in values} == values
    left = {key: value for key, value in JOINT.items() if key not in stated}
    assert {key: getattr(config, key) for key in left} == left


def test_lines_that_only_act_in_several_updates_give_them(tmp_path: Path) -> None:
    for name in ("DAPO", "Clip-higher", "GSPO", "CISPO", "SAPO"):
        config = resolved(name, tmp_path)
        updates = config.num_iterations * config.steps_per_generation // config.gradient_accumulation_steps
        assert updates == (4 if name == "GSPO" else 2), name


def test_the_bonus_of_t_grpo_is_the_papers(tmp_path: Path) -> None:
    [bonus] = resolved("T-GRPO", tmp_path).bonuses()
    assert (bonus.bonus, bonus.factor, bonus.compare, bonus.shuffled_generations) == (0.3, 1.0, "share", 4)


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Of every algorithm, before there is a trainer: its accelerator would not outlive them."""
    folder = tmp_path_factory.mktemp("recipes")
    return {name: resolved(name, folder) for name in PAPERS}


@pytest.fixture(scope="module")
def trainer(tmp_path_factory, configs):
    """One whose updates are of two micro-batches, of two groups of four rows each."""
    folder = tmp_path_factory.mktemp("algorithms")
    made = make_trainer(folder, per_device_train_batch_size=8, prompts_per_step=4, beta=0.0)
    made.current_gradient_accumulation_steps = 2
    made.model.train()
    return made


def rows(trainer: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """A generation batch of 16 rows with ratios on both sides of every edge, one group left out and one row cut off; and
    log-probabilities and entropies of its tokens."""
    draw = torch.Generator().manual_seed(3)
    lengths = torch.randint(2, 7, (16,), generator=draw)
    mask = (torch.arange(6) < lengths.unsqueeze(1)).long()
    valid = torch.ones(16, dtype=torch.bool)
    valid[4:8] = False
    mask[4:8] = 0
    mask[9] = 0  # cut off, and masked for it
    old = -torch.rand((16, 6), generator=draw) - 0.1
    logps = old + 0.8 * (torch.rand((16, 6), generator=draw) - 0.5)
    advantages = torch.randn(16, generator=draw) * valid
    batch = {
        "prompt_ids": torch.zeros((16, 1), dtype=torch.long),
        "prompt_mask": torch.ones((16, 1), dtype=torch.long),
        "completion_ids": torch.ones((16, 6), dtype=torch.long),
        "completion_mask": mask,
        "old_per_token_logps": old * mask,
        "advantages": advantages,
        "row_valid": valid,
    }
    return batch, logps * mask, torch.rand((16, 6), generator=draw)


def by_hand(
    o: Any,
    batch: dict[str, torch.Tensor],
    logps: torch.Tensor,
    entropies: torch.Tensor,
    reference: torch.Tensor | None = None,
) -> torch.Tensor:
    """The loss of an update of two micro-batches, token by token, as the paper has it: rows that were left out are not there at
    all. With the log-probabilities of a `reference` it has a KL term, weighed by the ratio."""
    total = torch.zeros(())
    valid, mask = batch["row_valid"], batch["completion_mask"].bool()
    num_rows, num_tokens, size = int(valid.sum()), int(mask.sum()), len(mask) // 2
    for part in (slice(0, size), slice(size, 2 * size)):
        cut = torch.quantile(entropies[part][mask[part]], 1 - o.top_entropy_quantile)
        total = total - o.entropy_coef * entropies[part][mask[part]].mean() / 2
        for row in [row for row in range(part.start, part.stop) if valid[row] and mask[row].any()]:
            tokens = mask[row].nonzero().flatten().tolist()
            logs = [logps[row, t] - batch["old_per_token_logps"][row, t] for t in tokens]
            whole = sum(logs)
            if o.importance_sampling_level == "sequence":
                logs = [whole / len(logs)] * len(logs)  # type: ignore[list-item]
            a, each = batch["advantages"][row], []
            for t, log in zip(tokens, logs, strict=True):
                ratio = torch.exp(log)
                high = o.epsilon if o.epsilon_high is None else o.epsilon_high
                if o.loss_type == "cispo":
                    loss = -ratio.clamp(max=high).detach() * a * logps[row, t]
                elif o.loss_type == "sapo":
                    heat = o.sapo_temperature_pos if a > 0 else o.sapo_temperature_neg
                    loss = -4 / heat * torch.sigmoid(heat * (ratio - 1)) * a
                elif o.loss_type == "vespo":
                    power, steep = (2.0, 3.0) if a >= 0 else (3.0, 2.0)
                    weight = torch.exp(steep + power * whole - steep * torch.exp(whole))  # type: ignore[arg-type]
                    loss = -weight.detach() * a * logps[row, t]
                else:
                    loss = -torch.min(ratio * a, ratio.clamp(1 - o.epsilon, 1 + high) * a)
                loss = loss if o.top_entropy_quantile == 1.0 or entropies[row, t] >= cut else loss * 0.0
                if reference is not None:
                    apart = reference[row, t] - logps[row, t]
                    loss = loss + o.beta * (torch.exp(apart) - apart - 1) * ratio
                each.append(loss)
            if o.loss_type in ("dapo", "cispo", "vespo"):
                total = total + sum(each) / num_tokens
            elif o.loss_type == "bnpo":
                total = total + sum(each) / mask[part].sum() / 2
            elif o.loss_type == "dr_grpo":
                total = total + sum(each) / (num_rows * 6)
            else:
                total = total + sum(each) / (1 if o.loss_type == "luspo" else len(each)) / num_rows
    return total


@pytest.mark.parametrize("name", [name for name in PAPERS if name not in ("T-GRPO", "Task EMA", "Truth as a rollout")])
def test_an_update_minimises_the_papers_loss_over_the_rows_that_count(name: str, configs, trainer, monkeypatch) -> None:
    """Task EMA, T-GRPO and the truth change advantages alone, which their own tests look at."""
    o = configs[name]
    batch, values, entropies = rows(trainer)
    logps = values.clone().requires_grad_()
    for attribute in ("loss_type", "importance_sampling_level", "top_entropy_quantile"):
        monkeypatch.setattr(trainer, attribute, getattr(o, attribute))
    monkeypatch.setattr(trainer, "epsilon_low", o.epsilon)
    monkeypatch.setattr(trainer, "epsilon_high", o.epsilon if o.epsilon_high is None else o.epsilon_high)
    for attribute in ("sapo_temperature_pos", "sapo_temperature_neg"):
        monkeypatch.setattr(trainer.args, attribute, getattr(o, attribute))
    monkeypatch.setattr(trainer, "_compare_with_sampler", lambda inputs: None)
    weigh_rows(batch, o.loss_type, 2, lambda counts: counts)
    loss = torch.zeros(())
    for part in (slice(0, 8), slice(8, 16)):
        given = {key: value[part] if value.dim() else value for key, value in batch.items()}
        given |= {"row_prompts": [None] * 8, "row_features": None}
        found = (logps[part], entropies[part], None)
        monkeypatch.setattr(trainer, "_get_per_token_logps_and_entropies", lambda *_, found=found, **__: found)
        loss = loss + trainer._compute_loss(trainer.model, given)
    expected = by_hand(o, batch, logps, entropies)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*(torch.autograd.grad(each, logps)[0] for each in (loss, expected)))
