"""`videochat-r1 data`: check annotations, videos and pictures, write training manifests, choose samples by how well a model does,
list ids, write a synthetic corpus."""

import argparse
import collections
import json
import os
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from videochat_r1.datasets import CORPORA
from videochat_r1.datasets.base import Corpus, Request, with_root
from videochat_r1.datasets.check import check_samples, missing_files, undecodable
from videochat_r1.datasets.manifest import prepare, sidecar
from videochat_r1.datasets.problems import Problem
from videochat_r1.datasets.synthetic import CORPORA as SYNTHETIC
from videochat_r1.datasets.synthetic import write_corpus
from videochat_r1.errors import DataError, VideoError, counted
from videochat_r1.evaluation.benchmarks import BENCHMARKS, Source, benchmark_ids
from videochat_r1.evaluation.benchmarks.base import ALL
from videochat_r1.sample import Media, Pictures, Sample
from videochat_r1.selection.conditions import STATISTICS, Condition
from videochat_r1.selection.select import Request as SelectionRequest
from videochat_r1.selection.select import select
from videochat_r1.video.decode import SamplingRequest
from videochat_r1.video.probe import durations, probe
from videochat_r1.video.process import decode_in_process, read_in_process

EPILOG = """examples:
  videochat-r1 data check --dataset charades_sta --annotations charades_sta_train.txt --durations Charades_v1_train.csv
  videochat-r1 data prepare --dataset nextgqa --annotations nextgqa/val.csv --videos videos --output nextgqa_val.jsonl
  videochat-r1 data select --from outputs/grpo/joint --keep "reward.std 0.05:" --keep "iou 0.1:0.9" --output taught.jsonl
docs/data.md says where each corpus comes from and what the kinds of problems mean."""


def main(argv: Sequence[str]) -> int:
    """Run one subcommand; returns the exit code. Problems found by `check` are a report, not a failure."""
    arguments = parser().parse_args(argv)
    return int(arguments.run(arguments))


def parser() -> argparse.ArgumentParser:
    """The arguments of all subcommands."""
    top = argparse.ArgumentParser(
        prog="videochat-r1 data", description=__doc__, epilog=EPILOG, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = top.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="count samples and report problems by kind")
    _add_source(check)
    check.add_argument("--json", action="store_true", help="print only one JSON object")
    check.add_argument("--examples", type=int, default=3, help="examples shown per kind (default 3)")
    _add_decoding(check, default=True)
    check.set_defaults(run=_check)

    prepare_ = commands.add_parser("prepare", help="write a training manifest with mended targets")
    _add_source(prepare_)
    prepare_.add_argument("--output", type=Path, required=True, help="manifest to write, FILE.jsonl")
    _add_overwrite(prepare_)
    _add_decoding(prepare_, default=False)
    prepare_.set_defaults(run=_prepare)

    chosen = commands.add_parser(
        "select", help="write a manifest of the samples that a model answers neither too well nor too badly"
    )
    chosen.add_argument(
        "--from",
        dest="sources",
        type=Path,
        nargs="+",
        required=True,
        metavar="PATH",
        help="folders of GRPO runs or of scored benchmarks, or their logs; answers of several count together",
    )
    chosen.add_argument(
        "--keep",
        action="append",
        nargs="+",
        required=True,
        metavar="CONDITION",
        help="[TASK:]METRIC[.STATISTIC] LOW:HIGH; several have to hold together.\nMETRIC: a reward, reward (their weighted sum), "
        f"or a metric as reports name it.\nSTATISTIC over the answers to a sample: {', '.join(STATISTICS)} (default: mean).",
    )
    chosen.add_argument(
        "--max", type=_count, help="at most so many samples, of each task equally many as far as they go"
    )
    chosen.add_argument(
        "--by-video", action="store_true", help="keep or leave out all questions about a video, by their mean"
    )
    chosen.add_argument("--seed", type=int, default=0, help="draws those of --max (default 0)")
    chosen.add_argument(
        "--videos",
        type=Path,
        help="folder that the manifest's paths start from (default: the one that holds all files)",
    )
    chosen.add_argument("--output", type=Path, required=True, help="manifest to write, FILE.jsonl")
    _add_overwrite(chosen)
    chosen.set_defaults(run=_select)

    ids = commands.add_parser("ids", help="print a benchmark's sample ids, one a line, in file order")
    _add_source(ids, "--benchmark", "--dataset", known=BENCHMARKS)
    ids.add_argument("--subset", default=ALL, help="part of the benchmark, e.g. videomme's short (default: all)")
    ids.set_defaults(run=_ids)

    synthesize = commands.add_parser("synthesize", help="write a synthetic corpus: videos with known truth")
    synthesize.add_argument(
        "--kind",
        choices=SYNTHETIC,
        default=next(iter(SYNTHETIC)),
        help="grounding, tracking and grounded QA (grounding, the default), or questions that only the order of frames answers",
    )
    synthesize.add_argument("--output", type=Path, required=True, help="folder to write videos and manifests to")
    _add_overwrite(synthesize)
    synthesize.add_argument("--num-train", type=int, default=256, help="training videos of each kind (default 256)")
    synthesize.add_argument("--num-eval", type=int, default=64, help="held-out videos of each kind (default 64)")
    synthesize.add_argument(
        "--num-eval-longer", type=int, default=0, help="held-out videos of each kind that last longer"
    )
    synthesize.add_argument("--seed", type=int, default=0, help="draws every scene (default 0)")
    synthesize.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="videos written at once")
    synthesize.set_defaults(run=_synthesize)
    return top


def _add_source(command: argparse.ArgumentParser, *names: str, known: Iterable[str] = CORPORA) -> None:
    command.add_argument(
        *(names or ("--dataset",)), dest="dataset", required=True, metavar="NAME", help=", ".join(known)
    )
    command.add_argument("--annotations", type=Path, required=True, help="file or folder, official or released format")
    command.add_argument(
        "--videos", type=Path, help="folder that the annotations' paths of videos and pictures start from"
    )
    command.add_argument("--task", help="one of the dataset's tasks (default: its first)")
    command.add_argument("--durations", type=Path, help="CSV with columns id, length, for formats without durations")


def _add_overwrite(command: argparse.ArgumentParser) -> None:
    command.add_argument("--overwrite", action="store_true", help="replace files that are there (default: refuse to)")


def _add_decoding(command: argparse.ArgumentParser, *, default: bool) -> None:
    command.add_argument(
        "--decode",
        action=argparse.BooleanOptionalAction,
        default=default,
        help=f"decode the start of every video, and every picture, that is there, with --videos (default: {'yes' if default else 'no'})",
    )
    command.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="videos opened at once")
    command.add_argument("--timeout", type=_seconds, default=60.0, help="seconds that a video may take (default 60)")


def _count(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return count


def _seconds(text: str) -> float:
    seconds = float(text)
    if not seconds > 0.0:
        raise argparse.ArgumentTypeError(f"expected more than 0 seconds, got {text}")
    return seconds


def _request(arguments: argparse.Namespace) -> tuple[Corpus, Request]:
    """The corpus and what to read of it; a video that nobody knows the duration of does not stop the reading."""
    corpus = CORPORA[arguments.dataset]
    request = corpus.request(
        arguments.annotations,
        arguments.videos,
        task=arguments.task,
        durations=arguments.durations,
        probe_durations=partial(durations, workers=arguments.workers, timeout_seconds=arguments.timeout),
        allow_unknown_durations=True,
    )
    return corpus, request


def _check(arguments: argparse.Namespace) -> int:
    corpus, request = _request(arguments)
    root = corpus.videos_root(request.annotations, request.videos)
    samples = [with_root(sample, root) for sample in corpus.relative(request)]
    report = check_samples(
        samples,
        corpus.name,
        look_for_files=root is not None,
        probe=partial(_why_undecodable, timeout=arguments.timeout) if arguments.decode else None,
        workers=arguments.workers,
        progress=True,
    )
    print(json.dumps(report.to_json()) if arguments.json else report.to_text(arguments.examples))
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    corpus, request = _request(arguments)
    unusable = None
    if corpus.videos_root(request.annotations, request.videos) is not None:
        unusable = partial(_unusable, decode=arguments.decode, workers=arguments.workers, timeout=arguments.timeout)
    meta = prepare(corpus, request, arguments.output, unusable=unusable, overwrite=arguments.overwrite)
    published, videos = counted(meta["num_published"], "sample"), counted(meta["num_videos"], "video")
    pictures = f", {counted(meta['num_pictures'], 'picture')}" if "num_pictures" in meta else ""
    print(f"{arguments.output}: {meta['num_samples']:,} of {published}, {videos}{pictures}")
    for what in ("dropped", "clipped", "spans_dropped"):
        for kind, count in meta[what].items():
            print(f"  {count:>7,}  {what.replace('_', ' ')}: {kind}")
    print(f"what was changed: {sidecar(arguments.output, 'changes.jsonl')}")
    return 0


def _select(arguments: argparse.Namespace) -> int:
    names = ("sources", "output", "by_video", "seed", "videos", "overwrite")
    given = {name: getattr(arguments, name) for name in names}
    request = SelectionRequest(
        conditions=[each for words in arguments.keep for each in _conditions(words)], limit=arguments.max, **given
    )
    selection = select(request, progress=True)
    print(selection.to_text())
    if not (total := sum(selection.kept.values())):
        raise DataError(
            f"no sample is kept, and {arguments.output} was not written: the ranges above say what there is to keep"
        )
    print(f"{arguments.output}: {counted(total, 'sample')}. In a recipe:")
    print(f"mixture:\n  - manifest: {arguments.output.resolve()}\n    videos: {selection.videos}")
    return 0


def _conditions(given: Sequence[str]) -> list[Condition]:
    """Those of one `--keep`, a name and its bounds each, whether a shell has left the two together or not."""
    words = " ".join(given).split()
    return [Condition.parse(" ".join(words[place : place + 2])) for place in range(0, len(words), 2)]


def _ids(arguments: argparse.Namespace) -> int:
    source = Source(
        arguments.annotations,
        arguments.videos,
        task=arguments.task,
        subset=arguments.subset,
        durations=arguments.durations,
    )
    print("\n".join(benchmark_ids(arguments.dataset, source)))
    return 0


def _synthesize(arguments: argparse.Namespace) -> int:
    counts = write_corpus(
        arguments.output,
        corpus=arguments.kind,
        num_train=arguments.num_train,
        num_eval=arguments.num_eval,
        num_eval_longer=arguments.num_eval_longer,
        seed=arguments.seed,
        workers=arguments.workers,
        overwrite=arguments.overwrite,
    )
    for name, count in counts.items():
        print(f"{arguments.output / name}.jsonl: {counted(count, 'sample')}")
    return 0


def _unusable(samples: Sequence[Sample], *, decode: bool, workers: int, timeout: float) -> list[Problem]:
    """Those samples whose video or pictures are missing or, if asked for, cannot be decoded."""
    missing = missing_files(samples)
    if not decode:
        return missing
    absent = {problem.sample_id for problem in missing}
    present = [sample for sample in samples if sample.id not in absent]
    why = partial(_why_undecodable, timeout=timeout)
    return missing + undecodable(present, why, workers=workers, progress=True)


def _why_undecodable(media: Media, timeout: float) -> str | None:
    """The reason, or None for a video whose index and first frame, or whose list of frames or pictures, can be read."""
    try:
        if isinstance(media, Pictures):
            for path in media.paths:
                read_in_process(path, timeout)
        elif media.path is not None:
            probe(media, timeout_seconds=timeout)
        else:
            _, images = decode_in_process(SamplingRequest(media, times=media.frame_times), timeout)
            collections.deque(images, maxlen=0)
    except VideoError as error:
        return str(error)
    return None
