"""ActivityNet Captions as temporal grounding: `train.json`, `val_1.json`, `val_2.json`, or the released copies of them."""

from collections.abc import Iterator

from videochat_r1.datasets.annotation_files import read_json
from videochat_r1.datasets.base import Corpus, Request, VideoFinder
from videochat_r1.datasets.moments import read_moments
from videochat_r1.sample import Sample


class ActivityNet(Corpus):
    """Videos are `v_<id>.mp4`, `.mkv` or `.webm`, whichever the videos folder holds. The paper evaluates on `val_2`."""

    name = "activitynet"
    tasks = ("temporal_grounding",)

    def parse(self, request: Request) -> Iterator[Sample]:
        """One sample per sentence; ids are `<video>_<number of the sentence within the video>`."""
        value = read_json(request.annotations)
        yield from read_moments(value, request.annotations, self.name, VideoFinder(request.videos))
