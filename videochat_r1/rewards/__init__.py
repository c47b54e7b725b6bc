"""The table of reward modules, and the way from a recipe's `{name, options}` to a function.

A reward function has TRL's signature, `(completions, **columns) -> list[float | None]`. The columns, one entry per completion,
are `task`, `target` (public JSON form), `thinking`, `sample_id`, `query`, and TRL's own. None means that the reward does
not apply to that completion's task, `Unscored` that it does but could not be found out. An `async def` runs beside other
work of the step. A user's own function is named `package.module:function`.
"""

import functools
import importlib
import inspect
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from videochat_r1.errors import ConfigError
from videochat_r1.rewards import accuracy as accuracy_module
from videochat_r1.rewards import format as format_module
from videochat_r1.rewards import iou as iou_module
from videochat_r1.rewards import recall as recall_module
from videochat_r1.rewards.unscored import Unscored

RewardFunction = Callable[..., Any]
"""Returns `list[float | None]`; of an `async def`, a coroutine of one."""

REWARDS: dict[str, RewardFunction] = {
    "format": format_module.format,
    "iou": iou_module.iou,
    "accuracy": accuracy_module.accuracy,
    "recall": recall_module.recall,
}


def load_reward(name: str) -> RewardFunction:
    """The reward function called `name` in `REWARDS`, or the one at `package.module:function`.

    A module is looked for where Python looks, and last in the working directory.

    Raises:
        ConfigError: there is no such reward, module or function.
    """
    if name in REWARDS:
        return REWARDS[name]
    module_name, colon, attribute = str(name).partition(":")
    if not colon or not module_name or not attribute:
        near = get_close_matches(str(name), REWARDS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ConfigError(
            f"unknown reward {name!r}{hint} Name one of {', '.join(REWARDS)}, or your own as package.module:function."
        )
    function = getattr(_import_module(module_name, name), attribute, None)
    if not callable(function):
        raise ConfigError(f"reward {name!r}: module {module_name} has no function {attribute!r}")
    return function  # type: ignore[no-any-return]


def make_reward(name: str, /, **options: Any) -> RewardFunction:
    """`load_reward(name)` with the options of the recipe fixed; its `__name__` is the function's.

    Raises:
        ConfigError: as `load_reward`, or an option that the function does not name with a default.
    """
    function = load_reward(name)
    known = option_names(function)
    for option in options:
        if option not in known:
            near = get_close_matches(option, known, n=1)
            raise ConfigError(
                f"reward {name!r} has no option {option!r}{f'; did you mean {near[0]}?' if near else ''} "
                f"Its options: {', '.join(known) or 'none'}."
            )
    if not options:
        return function
    return functools.update_wrapper(functools.partial(function, **options), function)


def option_names(function: RewardFunction) -> list[str]:
    """A reward's options: its keyword-only parameters with a default; columns have none."""
    parameters = inspect.signature(function).parameters.values()
    return [each.name for each in parameters if each.kind is each.KEYWORD_ONLY and each.default is not each.empty]


def _import_module(module_name: str, reward_name: str) -> Any:
    working_directory = str(Path.cwd())
    if not {working_directory, ""} & set(sys.path):
        sys.path.append(working_directory)
    try:
        return importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"reward {reward_name!r}: module {module_name} cannot be imported ({error}); "
            "it must be installed, or lie in the folder that the run was started from"
        ) from error


__all__ = ["REWARDS", "RewardFunction", "Unscored", "load_reward", "make_reward", "option_names"]
