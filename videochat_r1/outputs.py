"""Files written for the user: each whole or not at all, and nothing replaced or removed that was not written here before."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from videochat_r1.errors import ConfigError, DataError, first_ten
from videochat_r1.text import load_json


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file that appears whole or not at all, whatever interrupts the writing.

    Raises:
        DataError: the folder cannot be written to, or the disk is full.
    """
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def refuse_to_replace(paths: Iterable[Path], mend: str) -> None:
    """See, before any work, that none of the files to be written is there.

    Args:
        paths: of the files.
        mend: what to do instead of replacing them, for the message.

    Raises:
        ConfigError: naming those that are there.
    """
    there = [str(path) for path in paths if os.path.lexists(path)]
    if there:
        raise ConfigError(f"these files are there already and would be replaced: {first_ten(there)}; {mend}")


class OwnedFolder:
    """A folder of which a run owns some entries, as its stamp says, and all else is somebody else's.

    The stamp is written before anything else is. It names the entries, and once a run has ended every file in them: one
    that came later is somebody else's too.

    Args:
        path: made by `claim` if missing.
        what: made it, such as "quickstart"; the stamp is `<what>.json`.
        names: of the entries that a run may write.
    """

    def __init__(self, path: Path, what: str, names: Sequence[str]) -> None:
        self.path = path
        self._what = what
        self._names = tuple(names)
        self._stamp = path / f"{what}.json"

    def claim(self) -> bool:
        """Make the entries this run's; returns whether they were an earlier run's.

        Raises:
            ConfigError: see `refuse_foreign`.
            DataError: the folder cannot be written to.
        """
        self.refuse_foreign()
        again = self._stamp.is_file()
        self._write_stamp(None)
        return again

    def refuse_foreign(self) -> None:
        """Raises ConfigError, naming them, if files under the entries' names are not known to be of an earlier run."""
        foreign = self._foreign()
        if foreign:
            raise ConfigError(
                f"{self.path} holds files that no {self._what} has written, under names that this one needs: "
                f"{first_ten(foreign)}. Move them away, or name another --output"
            )

    def remove(self, names: Iterable[str]) -> None:
        """Remove entries that were claimed.

        Raises:
            DataError: the folder cannot be written to.
        """
        for name in names:
            path = self.path / name
            assert name in self._names, name
            try:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            except OSError as error:
                raise DataError(f"{path} cannot be removed: {error.strerror}") from error

    def release(self) -> None:
        """Write down what the run has made; whatever comes later is not its own."""
        self._write_stamp([file for name in self._names for file in self._files(name)])

    def _foreign(self) -> list[str]:
        """What lies under the names and is not known to be a run's."""
        there = [name for name in self._names if os.path.lexists(self.path / name)]
        stamp = self._read_stamp()
        if stamp is None:
            # A stamp that is somebody else's must not be replaced either.
            return [self._stamp.name, *there] if os.path.lexists(self._stamp) else there
        if stamp["files"] is None:
            return [name for name in there if name not in stamp["names"] or (self.path / name).is_symlink()]
        known = set(stamp["files"])
        return [file for name in there for file in self._files(name) if file not in known]

    def _files(self, name: str) -> list[str]:
        """The files of an entry, relative to the folder; links count as files and are not followed."""
        path = self.path / name
        if not path.is_dir() or path.is_symlink():
            return [name] if os.path.lexists(path) else []
        found: list[Path] = []
        for folder, folders, files in os.walk(path):
            found += [Path(folder) / file for file in files]
            found += [Path(folder) / inner for inner in folders if (Path(folder) / inner).is_symlink()]
        return sorted(str(file.relative_to(self.path)) for file in found)

    def _read_stamp(self) -> dict[str, list[str]] | None:
        try:
            value = load_json(self._stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        known = isinstance(value, dict) and value.get("made_by") == f"videochat-r1 {self._what}"
        return value if known and {"names", "files"} <= value.keys() else None

    def _write_stamp(self, files: list[str] | None) -> None:
        stamp = {"made_by": f"videochat-r1 {self._what}", "names": self._names, "files": files}
        write_lines(self._stamp, [json.dumps(stamp, indent=1, ensure_ascii=False)])
