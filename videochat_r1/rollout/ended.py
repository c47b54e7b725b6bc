"""Why a rollout ended: one reason, from the sampler to files, metrics and tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum


class Ended(StrEnum):
    """Why a rollout ended, as files and metrics name it; `stop` and `length` are the `finish_reason` of vLLM and OpenAI."""

    STOP = "stop"
    """An ending token was drawn."""
    LENGTH = "length"
    """The length limit cut it off."""
    VIDEO_ERROR = "video_error"
    """It never began: the video cannot be used."""
    PROMPT_ERROR = "prompt_error"
    """It never began: the sample makes no prompt that can be used."""
    UNSCORED = "unscored"
    """There is a completion, but a reward could not be found out."""

    @property
    def drawn(self) -> bool:
        """Whether there is a completion."""
        return self not in (Ended.VIDEO_ERROR, Ended.PROMPT_ERROR)

    @property
    def scored(self) -> bool:
        """Whether it has rewards, which its group's mean and deviation are made of."""
        return self in (Ended.STOP, Ended.LENGTH)


def ended_shares(reasons: Sequence[str]) -> dict[str, float]:
    """The share of every reason, zeros included; `reasons` are values of `Ended`, at least one."""
    counts = Counter(reasons)
    return {reason.value: counts[reason] / len(reasons) for reason in Ended}


def shares_in_words(shares: Mapping[str, float]) -> str:
    """`stop 95.2 %, length 4.8 %`: those that there are."""
    return ", ".join(f"{reason} {100 * share:.1f} %" for reason, share in shares.items() if share)
