"""What the further looks of a recipe's rollouts show at most."""

from videochat_r1.doctor.flops import VideoGrid
from videochat_r1.doctor.memory import ModelShape
from videochat_r1.doctor.recipe import PROMPT_TEXT_TOKENS, Recipe
from videochat_r1.geometry import Span
from videochat_r1.second_look.view import Look, plan_look
from videochat_r1.video.probe import VideoInfo
from videochat_r1.video.sampling import TEMPORAL_PATCH


def further_looks(recipe: Recipe, video: VideoGrid, shape: ModelShape) -> list[VideoGrid]:
    """Of each further look that a rollout may take the largest there can be: clues that are the whole video, which has frames as many
    and as large as the boosts ask for. Empty where rollouts have one look.

    Args:
        recipe: resolved.
        video: of the first prompt.
        shape: of the model.
    """
    options = recipe.args.several_looks() if recipe.kind == "grpo" else None
    if options is None or not video.steps:
        return []
    side, budget = shape.token_side, recipe.data.budget().sized(shape.token_side)
    times = video.time_tokens // video.steps
    most = options.max_tokens or budget.total_pixels // side**2
    room = recipe.data.max_prompt_length

    def max_tokens(steps: int) -> int:
        return most if room is None else max(1, min(most, room - PROMPT_TEXT_TOKENS - steps * times))

    # Whatever the video's length: a pair of frames a second.
    size, whole = (video.columns * side, video.rows * side), (Span(0.0, float(video.steps)),)
    rate = float(TEMPORAL_PATCH)
    first = Look((), options.clue_time, TEMPORAL_PATCH * video.steps, rate, rate, size, video.tokens)
    grids = []
    for number in range(1, options.looks):
        boost, fps = options.resolution_boost**number, rate * options.fps_boost**number
        width, height = (round(pixels * boost) for pixels in size)
        source = VideoInfo(whole[0].end, round(whole[0].end * fps), fps, width, height)
        look = plan_look(
            whole, first, source, budget, options.clues, number=number, max_tokens=max_tokens, factor=side
        ).look
        steps = look.num_frames // TEMPORAL_PATCH
        grids.append(VideoGrid(steps, look.frame_size[1] // side, look.frame_size[0] // side, steps * times))
    return grids
