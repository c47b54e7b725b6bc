"""Corpora as samples: loaders, checks, training manifests and mixtures. Nothing here imports torch."""

from videochat_r1.datasets.activitynet import ActivityNet
from videochat_r1.datasets.base import Corpus
from videochat_r1.datasets.captions import Captions, CaReBench
from videochat_r1.datasets.charades_sta import CharadesSTA
from videochat_r1.datasets.got10k import GOT10k
from videochat_r1.datasets.nextgqa import NExTGQA
from videochat_r1.datasets.video_r1 import VideoR1
from videochat_r1.datasets.vidtab import VidTABQuality
from videochat_r1.named import Table

ALIASES = {
    "charades": "charades_sta",
    "activitynet_captions": "activitynet",
    "next_gqa": "nextgqa",
    "got_10k": "got10k",
    "vidtab": "vidtab_quality",
    "fiber_1k": "carebench",
    "fiber": "carebench",
    "fiber1k": "carebench",
}
"""Other spellings that papers and folders use."""

CORPORA: Table[Corpus] = Table(
    "dataset",
    {
        corpus.name: corpus
        for corpus in (
            CharadesSTA(),
            ActivityNet(),
            NExTGQA(),
            GOT10k(),
            VidTABQuality(),
            CaReBench(),
            Captions(),
            VideoR1(),
        )
    },
    fits=lambda entry: isinstance(entry, Corpus),
    aliases=ALIASES,
)
"""Corpus name -> its reader."""
