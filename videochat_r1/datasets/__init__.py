"""Corpora as samples: loaders, checks, training manifests and mixtures. Nothing here imports torch."""

import difflib

from videochat_r1.datasets.activitynet import ActivityNet
from videochat_r1.datasets.base import Corpus
from videochat_r1.datasets.captions import Captions, CaReBench
from videochat_r1.datasets.charades_sta import CharadesSTA
from videochat_r1.datasets.got10k import GOT10k
from videochat_r1.datasets.nextgqa import NExTGQA
from videochat_r1.datasets.vidtab import VidTABQuality
from videochat_r1.errors import ConfigError

CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (CharadesSTA(), ActivityNet(), NExTGQA(), GOT10k(), VidTABQuality(), CaReBench(), Captions())
}
"""Corpus name -> its reader."""

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


def get_corpus(name: str) -> Corpus:
    """The corpus of that name, whatever the case and with `-` for `_`.

    Raises:
        ConfigError: no such corpus, naming the nearest.
    """
    known = name.strip().lower().replace("-", "_")
    known = ALIASES.get(known, known)
    if known in CORPORA:
        return CORPORA[known]
    close = difflib.get_close_matches(known, [*CORPORA, *ALIASES], n=1)
    hint = f"; did you mean {ALIASES.get(close[0], close[0])!r}?" if close else "."
    raise ConfigError(f"unknown dataset {name!r}{hint} Known: {', '.join(CORPORA)}")
