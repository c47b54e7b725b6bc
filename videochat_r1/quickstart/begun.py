"""What a quickstart was begun with: one that was interrupted goes on if it is started with the same again."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from videochat_r1.options import untyped
from videochat_r1.provenance import git_commit, package_versions, setting_changes
from videochat_r1.quickstart.options import QuickstartOptions
from videochat_r1.recipe_file import read_recipe

RECIPES = ("sft_questions", "sft_joint", "grpo")

# Where a run's files go, and whether there may be any, does not change what they hold.
_FREE = ("output", "overwrite")


def begun_with(options: QuickstartOptions) -> dict[str, Any]:
    """Options, recipes and code that decide the numbers of a run, as JSON."""
    values = {key: value for key, value in dataclasses.asdict(options).items() if key not in _FREE}
    values["recipes"] = {name: untyped(read_recipe(options.recipe(name), "quickstart").values) for name in RECIPES}
    values |= {"versions": package_versions(), "git_commit": git_commit()}
    return dict(json.loads(json.dumps(values, default=str)))


def why_anew(before: Mapping[str, Any] | None, now: Mapping[str, Any]) -> str | None:
    """Why a run does not go on with what an unfinished one has left; None if it does.

    Args:
        before: what that one was begun with; None if it does not say so.
        now: this one.
    """
    if before is None:
        return "it does not say what it was begun with"
    changes = setting_changes(before, now, list(dict.fromkeys([*before, *now])))
    return f"it was begun with other options or code ({'; '.join(changes.values())})" if changes else None
