"""Answers of the judge on disk: shared by processes, kept over restarts, bounded in size."""

import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path

from videochat_r1.errors import JudgeError

_FILE = "answers.sqlite3"
_LOCK_SECONDS = 30.0
# A hit is noted at most this often, so that reading seldom means writing.
_NOTE_USE_SECONDS = 3600
# A full cache is emptied this far, so that not every further answer has to make room for itself.
_KEEP_SHARE = 0.9
# Of SQLite's files with pages of the default size: bytes of a long row that stay in its page, and that go to each further one.
_PAGE_BYTES, _OVERFLOW_BYTES = 4096, 4092
_LEAST_IN_PLACE, _MOST_IN_PLACE = 489, 1002
_HEADER_BYTES = 12

_INSERT = "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?)"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS answers (
    key BLOB PRIMARY KEY, answer TEXT NOT NULL, size INTEGER NOT NULL, used INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS answers_by_use ON answers (used);
CREATE TABLE IF NOT EXISTS total (one INTEGER PRIMARY KEY CHECK (one = 1), size INTEGER NOT NULL);
INSERT OR IGNORE INTO total VALUES (1, 0);
CREATE TRIGGER IF NOT EXISTS added AFTER INSERT ON answers BEGIN UPDATE total SET size = size + new.size; END;
CREATE TRIGGER IF NOT EXISTS removed AFTER DELETE ON answers BEGIN UPDATE total SET size = size - old.size; END;
"""


class JudgeCache:
    """Text by key, in one SQLite file of a folder.

    Any number of processes, on several machines where the file system has working locks, may use the folder at once; each
    with an object of its own, in one thread. The file is written without waiting for the disk: a killed process loses
    nothing, a power failure may lose the file, which then is an error that says so.

    Args:
        folder: made if missing.
        megabytes: size that the file is kept under, by `stored_bytes`; an answer that is larger alone is not kept.

    Raises:
        JudgeError: the folder cannot be written, or the file is no cache.
    """

    def __init__(self, folder: str | Path, megabytes: float = 512.0) -> None:
        self.path = Path(folder) / _FILE
        self._max_bytes = int(megabytes * 1e6)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            # Not WAL: its shared memory does not work on network file systems.
            self._connection.execute("PRAGMA journal_mode = TRUNCATE")
            self._connection.execute("PRAGMA synchronous = OFF")
            self._connection.execute("BEGIN IMMEDIATE")
            for statement in _statements(_SCHEMA):
                self._connection.execute(statement)
            self._connection.execute("COMMIT")
        except (OSError, sqlite3.Error) as error:
            raise self._problem(error) from error

    def get(self, key: bytes) -> str | None:
        """The answer kept under a key; None if there is none."""
        try:
            row = self._connection.execute("SELECT answer, used FROM answers WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            now = int(time.time())
            if now - row[1] > _NOTE_USE_SECONDS:
                self._connection.execute("UPDATE answers SET used = ? WHERE key = ?", (now, key))
        except sqlite3.Error as error:
            raise self._problem(error) from error
        return str(row[0])

    def put(self, key: bytes, answer: str) -> str:
        """Keep an answer; one that is already there stays. Returns the one that is kept, so that all processes go by it."""
        return self.put_all({key: answer})[key]

    def put_all(self, answers: Mapping[bytes, str]) -> dict[bytes, str]:
        """As `put`, for several answers in one go, which takes hardly longer than for one."""
        now = int(time.time())
        rows = [(key, answer, stored_bytes(key, answer), now) for key, answer in answers.items()]
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                kept = {row[0]: self._put(row) for row in rows}
            finally:
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._problem(error) from error
        return kept

    def drop(self, key: bytes) -> None:
        """Forget the answer kept under a key."""
        try:
            self._connection.execute("DELETE FROM answers WHERE key = ?", (key,))
        except sqlite3.Error as error:
            raise self._problem(error) from error

    def size(self) -> int:
        """Bytes of all answers, by `stored_bytes`."""
        return int(self._connection.execute("SELECT size FROM total").fetchone()[0])

    def __len__(self) -> int:
        return int(self._connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0])

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _put(self, row: tuple[bytes, str, int, int]) -> str:
        key, answer, size, _ = row
        if size > self._max_bytes:
            return answer
        # Before, so that the file never grows beyond its size.
        self._make_room(size)
        new = self._connection.execute(_INSERT, row).rowcount
        return answer if new else self.get(key) or answer

    def _make_room(self, wanted: int) -> None:
        """Delete the longest unused answers if that many bytes more would be too many."""
        size = self.size() + wanted
        if size <= self._max_bytes:
            return
        excess = size - int(_KEEP_SHARE * self._max_bytes)
        oldest: list[tuple[bytes]] = []
        for key, size in self._connection.execute("SELECT key, size FROM answers ORDER BY used, key"):
            if excess <= 0:
                break
            oldest.append((key,))
            excess -= size
        self._connection.executemany("DELETE FROM answers WHERE key = ?", oldest)

    def _problem(self, error: Exception) -> JudgeError:
        return JudgeError(
            f"the judge's cache {self.path} cannot be used ({error}). Delete it if it is damaged, name another folder with "
            "judge.cache_dir, or train without one: judge.cache_dir: null"
        )


def stored_bytes(key: bytes, answer: str) -> int:
    """What an answer takes in the file: its row, key and header in the index, in pages that random keys leave a third empty.

    Of a long row SQLite puts all but the beginning into pages of its own ("Cell Payload Overflow Pages" of its file format).
    """
    header = len(key) + _HEADER_BYTES
    row = len(answer.encode()) + header
    pages = 0
    if row > _MOST_IN_PLACE:
        left = _LEAST_IN_PLACE + (row - _LEAST_IN_PLACE) % _OVERFLOW_BYTES
        in_place = left if left <= _MOST_IN_PLACE else _LEAST_IN_PLACE
        row, pages = in_place, -(-(row - in_place) // _OVERFLOW_BYTES)
    return (row + header) * 3 // 2 + pages * _PAGE_BYTES


def _statements(script: str) -> list[str]:
    """The statements of a script; `executescript` would commit between them."""
    statements, current = [], ""
    for line in script.strip().splitlines(keepends=True):
        current += line
        if sqlite3.complete_statement(current):
            statements.append(current)
            current = ""
    return statements
