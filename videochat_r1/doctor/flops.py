"""Floating-point operations of the parts of a GRPO step; a multiplication and an addition are two.

Letters: L layers of hidden size H, A width of queries, K width of keys (and of values), I width of the MLP, V vocabulary;
G completions of C tokens after a prompt of P tokens. The vision tower has l layers of width h and MLP width i over n patches,
m of which (4) make one of P's tokens.

Of one token in one decoder layer, the products with weights cost w = 2 (2 H A + 2 H K + 3 H I), of which 4 H K make its key
and value. Every (query, key) pair costs 4 A. The head costs 2 H V for each scored token.

A prompt alone has P^2/2 pairs, repeated prompts G (P + C)^2 / 2, a shared one P^2/2 + G (P C + C^2/2); there the last layer
computes nothing but keys and values for the prompt.
"""

from dataclasses import dataclass

from videochat_r1.modeling.sizes import DecoderSizes, TowerSizes


@dataclass(frozen=True, slots=True)
class VideoGrid:
    """A video in tokens: pairs of frames (0 for no video), rows and columns of a frame, and the text that says its times."""

    steps: int
    rows: int
    columns: int
    time_tokens: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that the vision tower makes."""
        return self.steps * self.rows * self.columns

    @property
    def prompt_tokens(self) -> int:
        """Tokens of the prompt."""
        return self.tokens + self.time_tokens


def vision_forward(tower: TowerSizes, video: VideoGrid) -> float:
    """One video through the tower. A patch attends to the patches of its frame pair, or of its window in it."""
    m, h = tower.patches_per_token, tower.hidden
    patches = m * video.tokens
    products = tower.patch_values * h + tower.layers * (4 * h**2 + tower.mlp_products * h * tower.intermediate)
    merger = (m * h) ** 2 + m * h * tower.out_hidden
    frame = m * video.rows * video.columns
    window = m * _mean_window(video.rows, tower.window) * _mean_window(video.columns, tower.window)
    pairs = patches * (tower.full_layers * frame + (tower.layers - tower.full_layers) * window)
    return 2.0 * (patches * products + video.tokens * tower.mergers * merger) + 4.0 * h * pairs


def _mean_window(size: int, window: int) -> float:
    """Mean length of the window that a place on an axis lies in; the last window may be cut off."""
    if window == 0 or size == 0:
        return float(size)
    whole, rest = divmod(size, window)
    return (whole * window**2 + rest**2) / size


def prefill(decoder: DecoderSizes, prompt: float) -> float:
    """A prompt of `prompt` tokens whose last layer computes nothing but keys and values."""
    full = prompt * decoder.per_token + 2.0 * decoder.query_width * prompt**2
    return (decoder.layers - 1) * full + 4.0 * decoder.hidden * decoder.key_width * prompt


def prefill_repeated(decoder: DecoderSizes, prompt: float, completions: int) -> float:
    """The prompt once for each completion, every layer whole, and the logits of its last token."""
    full = prompt * decoder.per_token + 2.0 * decoder.query_width * prompt**2
    return completions * (decoder.layers * full + 2.0 * decoder.hidden * decoder.vocabulary)


def decode(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """`length` tokens of each completion, one after the other, over the keys of the prompt and their own."""
    pairs = completions * (prompt * length + length**2 / 2)
    per_token = decoder.layers * decoder.per_token + 2.0 * decoder.hidden * decoder.vocabulary
    return completions * length * per_token + 4.0 * decoder.layers * decoder.query_width * pairs


def logps_shared(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """Log-probabilities of a group by one forward over `[prompt | completion 1 | ... | completion G]`."""
    return prefill(decoder, prompt) + decode(decoder, prompt, completions, length)


def logps_repeated(decoder: DecoderSizes, prompt: float, completions: int, length: float) -> float:
    """The same with the prompt before every completion."""
    tokens = prompt + length
    layer = tokens * decoder.per_token + 2.0 * decoder.query_width * tokens**2
    return completions * (decoder.layers * layer + 2.0 * decoder.hidden * decoder.vocabulary * length)
