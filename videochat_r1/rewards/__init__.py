"""The table of reward modules, and the way from a recipe's `{name, options}` to a function.

A reward function has TRL's signature, `(completions, **columns) -> list[float | None]`. The columns, one entry per completion,
are `task`, `target` (public JSON form), `thinking`, `sample_id`, `query`, and TRL's own. None means that the reward does
not apply to that completion's task, `Unscored` that it does but could not be found out, a `Judged` number says what it rests on. An `async def` runs beside other
work of the step. A user's own function is named `package.module:function`.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.named import Table
from videochat_r1.options import nearest
from videochat_r1.rewards import accuracy as accuracy_module
from videochat_r1.rewards import format as format_module
from videochat_r1.rewards import iou as iou_module
from videochat_r1.rewards import recall as recall_module
from videochat_r1.rewards.values import Judged, Unscored

RewardFunction = Callable[..., Any]
"""Returns `list[float | None]`; of an `async def`, a coroutine of one."""

REWARDS: Table[RewardFunction] = Table(
    "reward",
    {
        "format": format_module.format,
        "iou": iou_module.iou,
        "accuracy": accuracy_module.accuracy,
        "recall": recall_module.recall,
    },
    fits=callable,
)


def make_reward(name: str, /, **options: Any) -> RewardFunction:
    """`REWARDS[name]` with the options of the recipe fixed; its `__name__` is the function's.

    Raises:
        ConfigError: there is no such reward, or an option that the function does not name with a default.
    """
    function = REWARDS[name]
    known = option_names(function)
    for option in options:
        if option not in known:
            raise ConfigError(
                f"reward {name!r} has no option {option!r}{nearest(option, known) if known else '; it has none'}"
            )
    if not options:
        return function
    return functools.update_wrapper(functools.partial(function, **options), function)


def option_names(function: RewardFunction) -> list[str]:
    """A reward's options: its keyword-only parameters with a default; columns have none."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is not each.empty]


__all__ = ["REWARDS", "Judged", "RewardFunction", "Unscored", "make_reward", "option_names"]
