"""The folder of one training run: whose it is, whether the run is over, where it goes on, and one process at a time.

`run.json` says that this project has begun a run there, and once it is over with how many updates and settings. What
lies in the folder without having been written by a run of this project is neither changed nor removed.
"""

import errno
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError
from transformers import Trainer, TrainingArguments

from videochat_r1.errors import ConfigError, VideoChatR1Error, counted, first_ten
from videochat_r1.file_lock import locked
from videochat_r1.provenance import RESOLVED_CONFIG
from videochat_r1.training import checkpoint
from videochat_r1.training.damage import missing_part, sound_checkpoint
from videochat_r1.training.metrics_file import METRICS
from videochat_r1.training.record import save_run_record
from videochat_r1.training.settings import refuse_changes

logger = logging.getLogger(__name__)

_T = TypeVar("_T")

RECORD = "run.json"
LOCK = "run.lock"

_LOGS = ("rollouts.jsonl", METRICS, RESOLVED_CONFIG, "environment.json", "README.md")
_MODEL = (
    *(
        "*.safetensors",
        "*.safetensors.index.json",
        "*.bin",
        "config.json",
        "generation_config.json",
        "adapter_config.json",
    ),
    *("tokenizer*", "*processor*.json", "chat_template*", "trainer_state.json", "merged"),
)
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
# What torch and safetensors say of a write that failed.
_WRITE_FAILED = ("PytorchStreamWriter", "inline_container", "I/O error", "No space left on device")


@contextmanager
def run_folder(args: TrainingArguments) -> Iterator["RunFolder"]:
    """The folder of this run, locked; every rank enters.

    Raises:
        ConfigError: it cannot be written, another process trains in it, or it holds what this project did not write. Also
            from within: writing there failed.
        KeyboardInterrupt: with how to go on.
    """
    folder = RunFolder(args)
    with ExitStack() as held:
        try:
            _main_process_decides(args, lambda: folder.enter(held))
            yield folder
        except KeyboardInterrupt:
            raise KeyboardInterrupt(folder.how_to_go_on()) from None
        except VideoChatR1Error:
            raise
        except (OSError, RuntimeError, SafetensorError) as error:
            problem = _writing_problem(error, folder.path)
            if problem is None:
                raise
            raise ConfigError(f"{problem}; then {folder.how_to_go_on()}") from error


class RunFolder:
    """See `run_folder`.

    Attributes:
        resume_from: the checkpoint to go on from, None to begin.
        finished: the final model's folder if there is nothing left to do.
        settings, settings_changed: of this run, and whether they are insisted on against the checkpoint's.
    """

    def __init__(self, args: TrainingArguments) -> None:
        self._args = args
        self.path = Path(str(args.output_dir))
        self.resume_from: Path | None = None
        self.finished: Path | None = None
        self.settings: Mapping[str, Any] = {}
        self.settings_changed = False

    def enter(self, held: ExitStack) -> None:
        """Lock the folder and see that it can be written and holds nothing of others. On the main process."""
        self.path.mkdir(parents=True, exist_ok=True)
        mend = "wait for it or end it, or choose another output_dir"
        held.enter_context(locked(self.path / LOCK, what=f"the run in {self.path}", mend=mend))
        self._refuse_foreign()
        checkpoint.remove_incomplete(self.path)

    def begin(self, settings: Mapping[str, Any], *, insist: bool) -> None:
        """Decide where the run goes on, alike on every rank.

        Args:
            settings: what numbers depend on, of this rank; the main process's are kept.
            insist: go on with them where they differ from the former, if that can be exact.

        Raises:
            ConfigError: a damaged checkpoint, or one that was made with other settings; nothing is written then.
        """
        self.settings = settings
        decided = _main_process_decides(self._args, lambda: self._decide(insist))
        self.resume_from, self.finished, self.settings_changed = decided

    def record(self, **resolved: Any) -> None:
        """Mark the run as begun, and keep its options as `save_run_record` does. On the main process."""
        if (known := self._read()) is None or "final" in known:
            self._write({} if known is None else {"final": {}})
        save_run_record(self.path, **resolved)

    def train(self, trainer: Any) -> None:
        """Run the trainer from where the run goes on; afterwards the final model may be saved into the folder."""
        trainer.settings, trainer.settings_changed = self.settings, self.settings_changed
        trainer.train(resume_from_checkpoint=None if self.resume_from is None else str(self.resume_from))
        if self._args.process_index == 0:
            self._write({"final": {}})

    def finish(self, trainer: Trainer, model: Path) -> None:
        """State that the run is over and its model, in the folder or one inside, complete."""
        if self._args.process_index == 0:
            files = [path for part in {self.path, model} for path in part.glob("*.safetensors*")]
            sizes = {str(path.relative_to(self.path)): path.stat().st_size for path in sorted(files)}
            final = {"updates": trainer.state.global_step, "files": sizes, "settings": self.settings}
            self._write({"final": {**final, "merged": model != self.path}})

    def how_to_go_on(self) -> str:
        """What the same command does next."""
        newest = checkpoint.last_checkpoint(self.path) if self.path.is_dir() else None
        return f"the same command goes on from {newest.name}" if newest else "the same command begins anew"

    def _decide(self, insist: bool) -> tuple[Path | None, Path | None, bool]:
        final = self._final()
        updates = final.get("updates")
        if updates is not None:
            where = f"the finished run of {counted(updates, 'update')} in {self.path}"
            if not refuse_changes(final["settings"], self.settings, where=where, insist=insist):
                wants_merged = bool(self.settings.get("merge_lora") and self.settings.get("lora"))
                problem = missing_part(self.path, final["files"])
                if problem is None and (final["merged"] or not wants_merged):
                    logger.info("%s holds a finished run of %s; nothing to do", self.path, counted(updates, "update"))
                    return None, self.path / "merged" if wants_merged else self.path, False
                newest = checkpoint.last_checkpoint(self.path)
                if newest is None or checkpoint.step(newest) != updates:
                    raise ConfigError(
                        f"the final model in {self.path} is not whole ({problem or 'merged: missing'}) and there is no "
                        f"checkpoint-{updates} to write it from: choose another output_dir to train anew"
                    )
                logger.warning("the final model is written again from %s (%s)", newest.name, problem or "merged")
        named = self._args.resume_from_checkpoint
        by_name = isinstance(named, str) and named.lower() not in ("true", "auto")
        folder = Path(str(named)) if by_name else checkpoint.last_checkpoint(self.path)
        if folder is None:
            if updates is not None:
                raise ConfigError(f"{self.path} holds no checkpoint to go on from: choose another output_dir")
            return None, None, False
        mark = checkpoint.read_mark(sound_checkpoint(folder))
        if not mark.get("optimizer"):
            raise ConfigError(
                f"{folder} was saved with save_only_model: without the optimiser's states no run can go on from it. Start "
                "one from it in another output_dir: --model_name_or_path names it"
            )
        waiting = any("generation_buffer" in name for name in mark["files"])
        changed = refuse_changes(
            mark["settings"], self.settings, where=str(folder), insist=insist, mid_generation=waiting
        )
        logger.info("resuming from %s", folder)
        return folder, None, changed

    def _refuse_foreign(self) -> None:
        """Raise if the folder holds what a run would overwrite and has not written."""
        record = self._read()
        patterns = (*_MODEL, *_LOGS) if record is None else _MODEL if "final" not in record else ()
        # A checkpoint of this project may have been copied, to go on from it elsewhere.
        found = [path.name for pattern in patterns for path in self.path.glob(pattern)]
        foreign = [*(path.name for path in checkpoint.foreign_checkpoints(self.path)), *sorted(set(found))]
        if foreign:
            raise ConfigError(
                f"{self.path} holds what no run of this project has written there: {first_ten(foreign)}. Choose another "
                "output_dir, or move them elsewhere"
            )

    def _final(self) -> dict[str, Any]:
        record = self._read() or {}
        return dict(record.get("final") or {})

    def _read(self) -> dict[str, Any] | None:
        path = self.path / RECORD
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_bytes())
        except ValueError as error:
            record = error
        if not isinstance(record, dict):
            raise ConfigError(f"{path} is damaged; one that holds {{}} lets the run go on from its last checkpoint")
        return record

    def _write(self, record: Mapping[str, Any]) -> None:
        unfinished = self.path / f".{RECORD}.tmp"
        unfinished.write_text(json.dumps(record, indent=2) + "\n")
        unfinished.replace(self.path / RECORD)


def _main_process_decides(args: TrainingArguments, decide: Callable[[], _T]) -> _T:
    """What `decide` returns on the main process, on all; what it raises there ends all, with one message."""
    outcome: list[Any] = [None, False]
    failure: VideoChatR1Error | OSError | None = None
    if args.process_index == 0:
        try:
            outcome = [decide(), False]
        except (VideoChatR1Error, OSError) as error:
            failure, outcome = error, [None, True]
    broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    if outcome[1]:
        raise SystemExit(2)
    value: _T = outcome[0]
    return value


def _writing_problem(error: Exception, folder: Path) -> str | None:
    """What kept this process from writing into the folder, with the mend; None for other errors."""
    named = getattr(error, "filename", None)
    inside = named is not None and folder.resolve() in (Path(named).resolve(), *Path(named).resolve().parents)
    number = getattr(error, "errno", None)
    if isinstance(error, OSError) and number not in _DISK:
        if not inside or not isinstance(error, PermissionError | FileExistsError | NotADirectoryError):
            return None
        return f"output_dir {folder} cannot be written: {error.strerror} ({named}); choose another or mend it"
    if not isinstance(error, OSError) and not any(text in str(error) for text in _WRITE_FAILED):
        return None
    where = folder if named is None or inside else Path(named)
    existing = next(path for path in (where, *where.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    reason = error.strerror if isinstance(error, OSError) else "the disk is full, or not to be written"
    return f"{where} cannot be written: {reason} ({free / 1e6:,.1f} MB free); make room"
