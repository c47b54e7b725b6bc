"""What each look of a rollout is paid: the rewards that TRL makes its advantages of, group by group."""

import math
import statistics
from collections.abc import Sequence

import torch

from videochat_r1.grpo.rollout_log import Drawn
from videochat_r1.grpo.second_look import SecondLook


def credited(
    rewards: torch.Tensor, drawn: Sequence[Drawn], names: Sequence[str], options: SecondLook, num_generations: int
) -> torch.Tensor:
    """The rewards of all rows as `SecondLook` says they are paid.

    With answer rewards a of a rollout's last look, clue rewards c and all others o of each look of its own, look k of K is paid
    o + c + share * a, and look K, the last there can be, o + a. In the group of a look that some of the G rollouts have, those
    that have ended before are represented by their last look, so that the advantage of the look is how much better it came out
    than the G rollouts on average.

    Args:
        rewards: (rows, functions), NaN for none; rows prompt by prompt, each look by look.
        drawn: one per row.
        names: of the functions.
        options: of the recipe.
        num_generations: G.
    """
    size, looks = num_generations, options.looks
    is_clue = torch.tensor([name in options.credit.clue for name in names], device=rewards.device)
    is_answer = torch.tensor([name in options.credit.answer for name in names], device=rewards.device)
    paid = torch.full_like(rewards, math.nan)
    for begin in range(0, len(drawn), looks * size):
        if not any(one.saw for one in drawn[begin : begin + size]):
            paid[begin : begin + size] = rewards[begin : begin + size]
            continue
        groups = [range(first, first + size) for first in range(begin, begin + looks * size, size)]
        taken = [any(drawn[row].is_drawn for row in group) for group in groups]
        for rows in zip(*groups, strict=True):
            own = [row for row in rows if drawn[row].is_drawn]
            if not own or not all(drawn[row].is_scored for row in own):
                continue
            answer = rewards[own[-1]]
            if len(own) == 1 and options.fallback == "nothing" and drawn[own[0]].look_problem is None:
                answer = answer * 0.0
            for k in (k for k in range(looks) if taken[k]):
                last = k == looks - 1
                share = 1.0 if last else options.credit.share
                paid[rows[k]] = torch.where(is_answer, answer * share, rewards[own[min(k, len(own) - 1)]])
                if last:
                    paid[rows[k], is_clue] = math.nan
    return paid


def absent_share(drawn: Sequence[Drawn], num_generations: int) -> float:
    """Share of the groups of rows that are a look which nobody has taken."""
    groups = range(0, len(drawn), num_generations)
    return statistics.fmean(all(one.ended is None for one in drawn[i : i + num_generations]) for i in groups)


def look_metrics(drawn: Sequence[Drawn], rewards: torch.Tensor, names: Sequence[str]) -> dict[str, float]:
    """Of the rollouts that may look again, by look K from 1: `looks/K/share` of them that have it, and of these
    `looks/K/rewards/{name}/mean`, as measured on the look's own completion, and `looks/K/completions/mean_length`;
    `looks/unreadable` counts answers whose clues could not be read. Arguments as of `credited`.
    """
    by_look: dict[int, list[int]] = {}
    for row, one in enumerate(drawn):
        if one.saw and one.is_drawn:
            by_look.setdefault(one.columns["look"], []).append(row)
    metrics: dict[str, float] = {}
    for look, rows in sorted(by_look.items()):
        where = f"looks/{look + 1}"
        metrics[f"{where}/share"] = len(rows) / len(by_look[0])
        metrics[f"{where}/completions/mean_length"] = statistics.fmean(drawn[row].num_tokens for row in rows)
        for column, name in enumerate(names):
            values = rewards[rows, column]
            if not values.isnan().all():
                metrics[f"{where}/rewards/{name}/mean"] = values.nanmean().item()
    if by_look:
        metrics["looks/unreadable"] = float(sum(one.look_problem is not None for one in drawn))
    return metrics
