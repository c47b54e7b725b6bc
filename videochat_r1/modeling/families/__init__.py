"""The table of model families: adding one is a file in this folder and a line here, or a class of one's own named
`package.module:Family`."""

from transformers import PretrainedConfig

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

__all__ = ["DEFAULT_FAMILY", "FAMILIES", "Family", "family_of", "published_config", "published_names"]


def family_of(config: PretrainedConfig) -> Family:
    """The family whose `model_type` a config has, shipped or named from outside in this process.

    Raises:
        ConfigError: there is none.
    """
    for family in FAMILIES.loaded:
        if family.model_type == config.model_type:
            return family
    known = ", ".join(sorted(family.model_type for family in FAMILIES.loaded))
    raise ConfigError(
        f"there is no model family for {shown(str(config.model_type))!r}; known are {known}. docs/adding_a_family.md says how "
        "to add one: model_family: package.module:Family"
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
