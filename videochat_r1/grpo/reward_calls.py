"""Reward functions as TRL calls them, with what TRL has no place for: rollouts that could not be scored, and judging that
begins before TRL asks for it."""

import asyncio
import functools
import inspect
import logging
import math
import reprlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from concurrent.futures import Future
from typing import Any, NamedTuple

import torch

from videochat_r1.rewards import Judged, RewardFunction, Unscored

logger = logging.getLogger(__name__)

# Shares of fewer rollouts say little: a single failure in the first group would be an eighth.
_MIN_UNSCORED_TO_STOP = 8
_WINDOW = 512
# TRL sums squares of rewards in float32, which end at 3e38.
_LARGEST_REWARD = 1e18


class Outcome(NamedTuple):
    """What became of a rollout's scoring.

    Args:
        judged: whether a reward that can fail applied to it.
        reason: why it is unscored; None if it is scored.
        stop: whether training should stop, because the source of a reward is gone.
        verdicts: what its rewards rest on, see `Judged`; None where none says so.
    """

    judged: bool
    reason: str | None
    stop: bool
    verdicts: Mapping[str, Any] | None = None


class Early(NamedTuple):
    """Rewards that are being computed: of which completions, of which rows of these, and their values once they are known."""

    completions: list[str]
    rows: Sequence[int]
    values: Future[Any]


class RewardCalls:
    """Wraps reward functions. TRL turns both None and NaN into NaN; these wrappers see the difference before.

    A value that is no number which TRL can compute with leaves its rollout unscored, under the reward's name: one odd
    completion is no reason to end a run, and too many of them end it on all ranks together (`UnscoredRollouts`).

    Args:
        functions: reward functions, `async` or not; reward models are left as they are.
    """

    def __init__(self, functions: Sequence[RewardFunction]) -> None:
        self._plain = list(functions)
        self.functions: list[RewardFunction] = [self._wrapped(place) for place in range(len(functions))]
        self._unscored: dict[int, Unscored] = {}
        self._judged: set[int] = set()
        self._verdicts: dict[int, dict[str, Any]] = {}
        self._failing = {place for place, function in enumerate(functions) if is_async(function)}
        self._early: dict[int, Early] = {}

    def begin(
        self,
        loop: asyncio.AbstractEventLoop,
        completions: list[str],
        rows: Sequence[int],
        arguments: Mapping[str, Any],
    ) -> None:
        """Start the `async` rewards of these completions in a running event loop.

        TRL asks for rewards after the log-probabilities of old policy and reference; a judge can work meanwhile.

        Args:
            loop: that runs.
            completions: of all rows that TRL will ask for.
            rows: of them, those that were drawn: a judge is asked of nothing else.
            arguments: beside the completions, of the drawn rows.
        """
        drawn = [completions[row] for row in rows]
        for place, function in enumerate(self._plain):
            if is_async(function):
                call = function(completions=drawn, **arguments) if rows else _no_rewards()
                self._early[place] = Early(completions, rows, asyncio.run_coroutine_threadsafe(call, loop))

    def take(self, num_rows: int) -> list[Outcome]:
        """What became of each row of the last call, which is forgotten."""
        outcomes = []
        for row in range(num_rows):
            unscored = self._unscored.get(row)
            reason, stop = (None, False) if unscored is None else (unscored.reason, unscored.stop)
            outcomes.append(Outcome(row in self._judged, reason, stop, self._verdicts.get(row)))
        self._unscored, self._judged, self._verdicts, self._early = {}, set(), {}, {}
        return outcomes

    def _wrapped(self, place: int) -> RewardFunction:
        function = self._plain[place]
        if isinstance(function, torch.nn.Module):
            return function
        if not is_async(function):
            return _named(
                function,
                lambda completions, **arguments: self._noted(
                    place, function(completions=completions, **arguments), len(completions)
                ),
            )

        async def judged(completions: list[str], **arguments: Any) -> list[float | None]:
            early = self._early.get(place)
            if early is not None and early.completions == completions:
                return self._noted(place, await asyncio.wrap_future(early.values), len(completions), early.rows)
            if early is not None:
                early.values.cancel()
            return self._noted(place, await function(completions=completions, **arguments), len(completions))

        return _named(function, judged)

    def _noted(self, place: int, values: Any, num_rows: int, rows: Sequence[int] | None = None) -> list[float | None]:
        """What a reward has returned for those `rows` of `num_rows` completions, or for all, as numbers, None, and NaN for what is
        unscored."""
        asked = range(num_rows) if rows is None else rows
        noted: list[float | None] = [None] * num_rows
        for row, value in zip(asked, read_rewards(values, self.functions[place].__name__, len(asked)), strict=True):
            noted[row] = value
        for row, value in enumerate(noted):
            if isinstance(value, Judged):
                self._verdicts.setdefault(row, {}).update(value.verdicts)
        failed = {row for row, value in enumerate(noted) if isinstance(value, Unscored)}
        self._unscored.update((row, noted[row]) for row in failed)  # type: ignore[misc]
        if failed:
            # From now on its failures are counted among all that it is asked.
            self._failing.add(place)
        if place in self._failing:
            self._judged.update(row for row, value in enumerate(noted) if value is not None)
        return noted


def read_rewards(values: Any, name: str, num_rows: int) -> list[float | None]:
    """What the reward `name` has returned for `num_rows` completions, as numbers, None, and `Unscored` for what is neither."""
    # A set has no order and a mapping's keys are no values.
    is_list = isinstance(values, Iterable) and not isinstance(values, str | Set | Mapping)
    try:
        given = list(values) if is_list else None
    except TypeError:  # a tensor or array without dimensions
        given = None
    if given is None or len(given) != num_rows:
        what = reprlib.repr(values) if given is None else f"{len(given)} values"
        given = [Unscored(f"reward {name} returned {what} for {num_rows} completions")] * num_rows
    return [_number(value, name) for value in given]


def _number(value: Any, name: str) -> float | None:
    """A reward as a float; `Unscored` with the reason for what cannot be one."""
    if value is None or isinstance(value, Unscored):
        return value
    number = None
    if not isinstance(value, str | bytes | bytearray):
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        except (TypeError, ValueError, RuntimeError):  # the last two of arrays and tensors that hold several numbers
            pass
    if number is None:
        return Unscored(f"reward {name} gave {reprlib.repr(value)} of type {type(value).__name__}, not a number")
    if math.isfinite(number) and abs(number) <= _LARGEST_REWARD:
        return value if isinstance(value, Judged) else number
    return Unscored(f"reward {name} gave {number:g}" + ", too large to train on" * math.isfinite(number))


class UnscoredRollouts:
    """Counts rollouts that could not be scored; the same numbers on every rank.

    Args:
        max_share: training stops above this share of the last rollouts that a judge was asked about.
    """

    def __init__(self, max_share: float) -> None:
        self.max_share = max_share
        self.total = 0
        self._recent: deque[bool] = deque(maxlen=_WINDOW)

    def count(self, outcomes: Sequence[Outcome], *, is_main_process: bool) -> str | None:
        """Add the outcomes of all ranks; why training has to stop, or None."""
        reasons = Counter(outcome.reason for outcome in outcomes if outcome.reason is not None)
        judged = [outcome.reason is not None for outcome in outcomes if outcome.judged]
        self._recent.extend(judged)
        self.total += sum(judged)
        if reasons and is_main_process:
            listed = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
            logger.warning("%d of %d rollouts are unscored: %s", sum(judged), len(judged), listed)
        gone = next((outcome.reason for outcome in outcomes if outcome.stop), None)
        if gone is not None:
            return gone
        unscored = sum(self._recent)
        if unscored >= _MIN_UNSCORED_TO_STOP and unscored > self.max_share * len(self._recent):
            return (
                f"{unscored} of the last {len(self._recent)} judged rollouts are unscored, more than max_unscored_share="
                f"{self.max_share}; the last for: {'; '.join(str(reason) for reason, _ in reasons.most_common(3))}"
            )
        return None


def lone_share(rewards: torch.Tensor, num_generations: int) -> float:
    """Share of the groups in which fewer than two rollouts are scored; rewards are (B, functions), NaN where there is none."""
    scored = ~rewards.isnan().all(dim=1).view(-1, num_generations)
    return (scored.sum(dim=1) < 2).float().mean().item()


def is_async(function: RewardFunction) -> bool:
    """Whether a reward is a coroutine, as TRL tells it."""
    while isinstance(function, functools.partial):
        function = function.func
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


async def _no_rewards() -> list[float | None]:
    """Of no rows."""
    return []


def _named(function: RewardFunction, wrapper: Callable[..., Any]) -> RewardFunction:
    """The wrapper under the name that logs show."""
    inner = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    wrapper.__name__ = getattr(inner, "__name__", type(inner).__name__)
    return wrapper
