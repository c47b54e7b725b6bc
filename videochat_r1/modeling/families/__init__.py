"""The table of model families: adding one is a file in this folder and a line here, or a class of one's own named
`package.module:Family`."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig

from videochat_r1.errors import ConfigError, shown
from videochat_r1.modeling.families.base import Family
from videochat_r1.modeling.families.qwen2_5_vl import Qwen25VL
from videochat_r1.modeling.families.qwen2_vl import Qwen2VL
from videochat_r1.modeling.families.qwen3_vl import Qwen3VL
from videochat_r1.named import Table

FAMILIES: Table[Family] = Table(
    "model family",
    {family.model_type: family for family in (Qwen2VL(), Qwen25VL(), Qwen3VL())},
    fits=lambda entry: isinstance(entry, Family),
)

DEFAULT_FAMILY = Qwen25VL.model_type
"""The paper's."""

__all__ = [
    "DEFAULT_FAMILY", "FAMILIES", "Family", "family_named", "family_of", "family_of_type", "published_config",
    "published_names",
]  # fmt: skip

_REASONS = {
    "qwen3_vl_moe": "Mixtures of experts are left out: their experts are one stacked parameter, which adapters would pass over "
    "without a word, and estimates would count all of them as used. ",
}
"""Why a `model_type` that looks like one of the families is none."""


def family_named(name: str) -> Family:
    """The family of a name. One from outside is then known to `family_of`, and its config to transformers' Auto classes.

    Raises:
        ConfigError: there is none, or its config is of another `model_type`.
    """
    family = FAMILIES[name]
    if name in FAMILIES.shipped:
        return family
    config: Any = family.model_class.config_class
    if config.model_type != family.model_type:
        raise ConfigError(
            f"model family {name}: its model_type is {family.model_type!r}, but that of {config.__name__} is "
            f"{config.model_type!r}"
        )
    AutoConfig.register(family.model_type, config, exist_ok=True)
    return family


def family_of(config: PretrainedConfig) -> Family:
    """See `family_of_type`, of a config's."""
    return family_of_type(config.model_type)


def family_of_type(model_type: Any) -> Family:
    """The family with a `model_type`, as config.json says it, shipped or named from outside in this process; the one named
    last counts.

    Raises:
        ConfigError: there is none.
    """
    for family in reversed(FAMILIES.loaded):
        if family.model_type == model_type:
            return family
    known = ", ".join(sorted({family.model_type for family in FAMILIES.loaded}))
    raise ConfigError(
        f"there is no model family for {shown(str(model_type))!r}; known are {known}. "
        f"{_REASONS.get(str(model_type), '')}docs/adding_a_family.md says how to add one: model_family: "
        "package.module:Family"
    )


def published_names() -> tuple[str, ...]:
    """Names of the checkpoints whose sizes are known; a checkpoint's own may go on after one of them (`-Instruct`)."""
    return tuple(name for family in FAMILIES.loaded for name in family.published)


def published_config(name: str) -> PretrainedConfig | None:
    """The config of a checkpoint by its name, folder or hub name; None for one that is not known."""
    last = name.rstrip("/").rpartition("/")[2]
    for family in FAMILIES.loaded:
        for known in family.published:
            if last == known or last.startswith(f"{known}-"):
                return family.published_config(known)
    return None
