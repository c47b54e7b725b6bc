"""Model inputs of one prompt: the one object that rollout, policy, old policy, reference and evaluation all take."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from videochat_r1.modeling.literal_text import readable
from videochat_r1.parsing.box_units import BoxUnits
from videochat_r1.video.probe import VideoInfo

MediumKind = Literal["video", "image"]


@dataclass(frozen=True, slots=True, eq=False)
class Medium:
    """A video or a picture of a prompt. N patches, merge_size ** 2 of which are one token.

    Args:
        kind: which placeholder stands for its tokens.
        patches: (N, patch values) float.
        grid: temporal, vertical and horizontal patches; a picture is one temporal step.
        merge_size: patches of a token's side.
        frame_seconds: of a video, the time of each of its own frames: one that is repeated to fill the last step has none.
        sample_fps: of a video, frames per second of its grid.
        source: of a video, what it was before sampling and resizing; None where that is not known.
    """

    kind: MediumKind
    patches: torch.Tensor
    grid: tuple[int, int, int]
    merge_size: int
    frame_seconds: tuple[float, ...] = ()
    sample_fps: float | None = None
    source: VideoInfo | None = None
    _digest: str = field(default="", init=False, repr=False)

    @property
    def digest(self) -> str:
        """Equal where the pixels are. Read from the patches once, in the best case where they were made; copies know it."""
        if not self._digest:
            # Of other patches (`dataclasses.replace`) it is made anew.
            object.__setattr__(self, "_digest", _digest_of(self.patches, self.grid))
        return self._digest

    def elsewhere(self, patches: torch.Tensor) -> "Medium":
        """The same pixels, in a copy on another device."""
        moved = replace(self, patches=patches)
        object.__setattr__(moved, "_digest", self.digest)
        return moved

    def remade(self, patches: torch.Tensor, how: str) -> "Medium":
        """Other pixels that follow from these by what `how` says, so that they need not be read to be told apart."""
        other = replace(self, patches=patches)
        object.__setattr__(other, "_digest", hashlib.sha256(f"{self.digest} {how}".encode()).hexdigest())
        return other

    @property
    def steps(self) -> int:
        """Temporal steps, each of the frames of one patch."""
        return self.grid[0]

    @property
    def rows(self) -> int:
        """Of tokens."""
        return self.grid[1] // self.merge_size

    @property
    def columns(self) -> int:
        """Of tokens."""
        return self.grid[2] // self.merge_size

    @property
    def num_tokens(self) -> int:
        """Placeholders in the prompt."""
        return self.steps * self.rows * self.columns

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """Time of the first frame of each temporal step; none of a picture."""
        return self.frame_seconds[:: self._frames_per_step]

    @property
    def mean_seconds(self) -> tuple[float, ...]:
        """Mean time of the first and the last frame of each temporal step; a repeated frame has the time of its original."""
        size, times = self._frames_per_step, self.frame_seconds
        return tuple((times[i] + times[min(i + size, len(times)) - 1]) / 2 for i in range(0, len(times), size))

    @property
    def _frames_per_step(self) -> int:
        return -(-len(self.frame_seconds) // self.steps) or 1


@dataclass(frozen=True, slots=True, eq=False)
class PromptInputs:
    """A prompt with what it shows, ready for the model. P prompt tokens.

    Args:
        input_ids: (P,) long, placeholders expanded to one per token of a medium.
        position_ids: (3, P) long, M-RoPE positions (time, height, width) from the true timestamps.
        media: what it shows, in order: one video, or one or several pictures.
        rendered: the prompt as marked text (`LiteralText`), placeholders not expanded, to be built again for other frames.
        opened: its end, if that belongs to the answer: `<think>` and a line break where the chat template opens the thought.
        box_units: that it asks for boxes in; None for fractions.
        spans: [begin, end) of the tokens from the first to the last placeholder of each medium (`placeholder_spans`).
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    media: tuple[Medium, ...]
    rendered: str
    opened: str = ""
    box_units: BoxUnits | None = None
    spans: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if len(self.spans) != len(self.media):
            raise ValueError(f"{len(self.spans)} spans for {len(self.media)} media: see placeholder_spans")

    def completion(self, sampled: str) -> str:
        """The whole completion whose rest was sampled."""
        return self.opened + sampled

    def judged(self, sampled: str) -> str:
        """The whole completion as tasks, rewards and logs read it, boxes in fractions."""
        whole = self.completion(sampled)
        return whole if self.box_units is None else self.box_units.read(whole)

    def remaining(self, answer: str) -> str:
        """What the model has to write for a task's `answer` to be judged: inverse of `judged`, up to rounding and white space."""
        rest = answer.removeprefix(self.opened.rstrip())
        return rest if self.box_units is None else self.box_units.write(rest)

    @property
    def text(self) -> str:
        """The prompt as a person would read it, for logs."""
        return readable(self.rendered)

    @property
    def num_tokens(self) -> int:
        """P."""
        return int(self.input_ids.shape[0])

    @property
    def pixels(self) -> tuple[str, ...]:
        """Equal where the same is shown."""
        return tuple(medium.digest for medium in self.media)

    @property
    def next_position(self) -> int:
        """Position, on all three axes, of the first completion token: 1 + the maximum over all axes."""
        return int(self.position_ids.max()) + 1

    def to(self, device: torch.device | str) -> "PromptInputs":
        """See `on_device`."""
        return on_device([self], device)[0]


def placeholder_spans(is_placeholder: torch.Tensor, media: Iterable[Medium]) -> tuple[tuple[int, int], ...]:
    """`PromptInputs.spans` of a prompt with these media, from (P,) bool."""
    places = is_placeholder.nonzero().flatten().split([medium.num_tokens for medium in media])
    return tuple((int(of_one[0]), int(of_one[-1]) + 1) for of_one in places)


def on_device(prompts: Sequence[PromptInputs], device: torch.device | str) -> list[PromptInputs]:
    """The same prompts with their pixels on another device, one copy for all that show the same. Ids and positions stay where
    they are: on the host, which compares prompts and lays rows out.

    Copies to the host are waited for, because what takes them reads them at once.
    """
    non_blocking = torch.device(device).type != "cpu"
    copies: dict[str, torch.Tensor] = {}

    def move(medium: Medium) -> Medium:
        if medium.digest not in copies:
            copies[medium.digest] = medium.patches.to(device, non_blocking=non_blocking)
        return medium.elsewhere(copies[medium.digest])

    return [replace(prompt, media=tuple(map(move, prompt.media))) for prompt in prompts]


def _digest_of(patches: torch.Tensor, grid: tuple[int, int, int]) -> str:
    values = patches.detach().cpu().contiguous()
    digest = hashlib.sha256(repr((grid, values.dtype)).encode())
    digest.update(values.view(torch.uint8).numpy().data)
    return digest.hexdigest()
