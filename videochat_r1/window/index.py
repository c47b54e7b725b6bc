"""What can be asked about the groups of a log without reading it again: an index beside the file, added to as the file grows.

The log may have gigabytes; the index holds a short row for each of its groups, with the place of the line, and sums for each
update. It is an SQLite file, so that neither is ever whole in memory.
"""

import hashlib
import json
import logging
import sqlite3
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videochat_r1.grpo.tally import ALL_EQUAL, CUT_OFF, READ, REWARD, UNSCORED, WHOLE_VIDEO, Sum, spread, tally
from videochat_r1.window.query import ORDERS, Query

logger = logging.getLogger(__name__)

ReadLine = Callable[[bytes], Mapping[str, Any] | None]
"""The group on a line of a log; None for a damaged one."""

_VERSION = 2
_APPLICATION = 0x56435231
"""Tells an index from other files: it is no run's result and may be replaced."""
_CHUNK = 4 << 20
_TABLES = """
create table if not exists facts (name text primary key, value text);
create table if not exists groups (number integer primary key, start integer, length integer, step integer, task text, source text,
    sample text, size integer, mean real, spread real, unread integer, cut integer, whole integer, equal integer, unscored integer);
create table if not exists sums (task text, name text, step integer, total real, count integer, primary key (task, name, step))
    without rowid;
create index if not exists by_sample on groups (sample, step);
create index if not exists by_step on groups (step);
create table if not exists seen (name text, value text, primary key (name, value)) without rowid;
"""
_ROW = (
    "number",
    "step",
    "task",
    "source",
    "sample",
    "size",
    "mean",
    "spread",
    "unread",
    "cut",
    "whole",
    "equal",
    "unscored",
)


class Index:
    """Of one log. Any thread may ask; one at a time reads on.

    Args:
        log: the file; one that is not there yet is empty.
        read: what a line holds.
    """

    def __init__(self, log: Path, read: ReadLine) -> None:
        self.log = log
        self._read = read
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._connection = self._open()
        self.size = 0
        """Bytes of the log when it was looked at last."""

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    # --- reading on ---------------------------------------------------------------------------------------------------

    def read_on(self) -> Iterator[int]:
        """Takes in what the log has more than the index, and yields the bytes known after every piece.

        A log that was replaced, as a resumed run does, is read from its start.
        """
        with self._reading:
            if not self.log.is_file():
                return  # not begun, or moved away; what was known of it stays
            self.size = self.log.stat().st_size
            if not self._is_of_this_log():
                with self._changing() as connection:
                    for table in ("facts", "groups", "sums", "seen"):
                        connection.execute(f"delete from {table}")
            while (known := self.known) < self.size:
                with self.log.open("rb") as file:
                    file.seek(known)
                    lines = file.readlines(_CHUNK)
                if lines and not lines[-1].endswith(b"\n"):
                    lines.pop()  # still being written
                if not lines:
                    return
                self._add(known, lines)
                yield self.known

    @property
    def known(self) -> int:
        """Bytes of the log that the index knows."""
        return int(self._fact("known") or 0)

    def _is_of_this_log(self) -> bool:
        """Whether the line that was read last still stands where it stood."""
        start, length, mark = (self._fact(name) for name in ("last_start", "last_length", "last_mark"))
        if start is None or length is None:
            return self.known <= self.size
        if self.known > self.size:
            return False
        with self.log.open("rb") as file:
            file.seek(int(start))
            return _mark(file.read(int(length))) == mark

    def _add(self, start: int, lines: Sequence[bytes]) -> None:
        rows: list[tuple[Any, ...]] = []
        sums: dict[tuple[str, str, int], list[float]] = defaultdict(lambda: [0.0, 0])
        damaged = int(self._fact("damaged") or 0)
        place = start
        for line in lines:
            group = self._read(line)
            if group is None:
                damaged += bool(line.strip())
            else:
                counted = tally(group)
                rows.append((place, len(line), *_summary(group, counted)))
                for name, one in counted.items():
                    entry = sums[str(group["task"]), name, group["step"]]
                    entry[0] += one.total
                    entry[1] += one.count
            place += len(line)
        last = lines[-1]
        facts = {"known": place, "damaged": damaged, "last_start": place - len(last), "last_length": len(last)}
        with self._changing() as connection:
            [(known,)] = connection.execute("select coalesce(max(value), 0) from facts where name = 'known'").fetchall()
            if int(known) != start:
                return  # another process has added them meanwhile
            connection.executemany(
                "insert into groups (start, length, step, task, source, sample, size, mean, spread, unread, cut, whole, equal, "
                "unscored) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                rows,
            )
            seen = {pair for _, _, _, task, source, *_ in rows for pair in (("task", task), ("source", source))}
            connection.executemany("insert or ignore into seen values (?, ?)", seen)
            connection.executemany(
                "insert into sums (task, name, step, total, count) values (?, ?, ?, ?, ?) on conflict do update set "
                "total = total + excluded.total, count = count + excluded.count",
                [(*key, *values) for key, values in sums.items()],
            )
            stated = {**facts, "last_mark": _mark(last)}
            connection.executemany(
                "insert or replace into facts values (?, ?)", [(name, str(value)) for name, value in stated.items()]
            )

    # --- asking -------------------------------------------------------------------------------------------------------

    def count(self, query: Query | None = None) -> int:
        """How many groups there are."""
        where, values = (query or Query()).condition()
        return int(self._ask(f"select count(*) from groups where {where}", values)[0][0])

    def rows(self, query: Query, first: int, limit: int) -> list[dict[str, Any]]:
        """A part of a list: of each group its `number`, from 1 in the log's order, and what it is in short."""
        where, values = query.condition()
        found = self._ask(
            f"select {', '.join(_ROW)} from groups where {where} order by {ORDERS[query.order]} limit ? offset ?",
            [*values, limit, first],
        )
        return [dict(zip(_ROW, row, strict=True)) for row in found]

    def rows_of(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """The rows of the groups of these numbers, in order of their numbers."""
        marks = ", ".join("?" * len(numbers))
        found = self._ask(f"select {', '.join(_ROW)} from groups where number in ({marks}) order by number", numbers)
        return [dict(zip(_ROW, row, strict=True)) for row in found]

    def neighbours(self, number: int, query: Query) -> dict[str, int | None]:
        """The `previous` and `next` group of a list in the log's order, and the first of the update before and after."""
        where, values = query.condition()

        def first(condition: str, order: str) -> int | None:
            sql = f"select number from groups where ({where}) and {condition} order by {order} limit 1"
            found = self._ask(sql, [*values, number])
            return found[0][0] if found else None

        step = "(select step from groups where number = ?)"
        return {
            "previous": first("number < ?", "number desc"),
            "next": first("number > ?", "number"),
            "previous_step": first(f"step < {step}", "step desc, number"),
            "next_step": first(f"step > {step}", "step, number"),
        }

    def numbers(self, query: Query) -> list[int]:
        """The numbers of the groups of a list, in its order."""
        where, values = query.condition()
        return [
            row[0]
            for row in self._ask(f"select number from groups where {where} order by {ORDERS[query.order]}", values)
        ]

    def line(self, number: int) -> bytes | None:
        """The line of a group; None for a number that none has, and where the log is gone."""
        found = self._ask("select start, length from groups where number = ?", [number])
        if not found or not self.log.is_file():
            return None
        [(start, length)] = found
        with self.log.open("rb") as file:
            file.seek(start)
            return file.read(length)

    def group(self, number: int) -> Mapping[str, Any] | None:
        """A group as its line has it; None for a number that none has, and where the log was replaced meanwhile."""
        line = self.line(number)
        return None if line is None else self._read(line)

    def search(self, query: Query, text: str, after: int, limit: int, seconds: float) -> tuple[list[int], int]:
        """Groups of later numbers whose line holds a text, whatever its case, in the log's order; and the number it came to.

        Args:
            query: which groups are looked at.
            text: anywhere in the line: in a question, a completion, a name.
            after: where the search goes on.
            limit: most groups to find.
            seconds: when it ends, so that a page can show what there is.
        """
        needle = json.dumps(text, ensure_ascii=False)[1:-1].lower()
        until, found = time.monotonic() + seconds, []
        where, values = query.condition()
        sql = f"select number, start, length from groups where ({where}) and number > ? order by number limit 500"
        with self.log.open("rb") as file:
            while places := self._ask(sql, [*values, after]):
                for after, start, length in places:
                    file.seek(start)
                    if needle in file.read(length).decode("utf-8", "replace").lower():
                        found.append(after)
                    if len(found) == limit or time.monotonic() > until:
                        return found, after
        return found, max(after, self.count())

    def distinct(self, column: str) -> list[Any]:
        """The values of `task` or `source`, in order."""
        assert column in ("task", "source"), column
        return [row[0] for row in self._ask("select value from seen where name = ? order by value", [column])]

    def updates(self) -> tuple[int, int] | None:
        """The first and the last update; None before there is a group."""
        # Asked for both at once, an index is of no use.
        first, last = (self._ask(f"select {end}(step) from groups", [])[0][0] for end in ("min", "max"))
        return None if first is None else (first, last)

    def means(self, until: int | None = None) -> dict[str, tuple[float, int, str]]:
        """Sample -> (mean reward, number, task) of its last group, or its last one not after an update; unscored ones are left out."""
        sql = (
            "select sample, mean, max(number), task from groups where mean is not null and (? is null or step <= ?) "
            "group by sample, task"
        )
        return {row[0]: (row[1], row[2], row[3]) for row in self._ask(sql, [until, until])}

    def values(self, bins: int) -> list[int]:
        """How many groups have a mean reward in each of so many equal parts of [0, 1]; those outside count in the nearest."""
        counts = [0] * bins
        sql = "select max(0, min(? - 1, cast(mean * ? as integer))), count(*) from groups where mean is not null group by 1"
        for place, count in self._ask(sql, [bins, bins]):
            counts[place] = count
        return counts

    def curves(self, most: int) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """Task -> name -> (update, mean) in order; of more than `most` updates those of a few together, see `tally`."""
        first, last = self.updates() or (0, 0)
        width = max(1, -(-(last - first + 1) // most))
        found: dict[str, dict[str, list[tuple[int, float]]]] = defaultdict(lambda: defaultdict(list))
        sql = (
            "select task, name, max(step), sum(total) / sum(count) from sums group by task, name, (step - ?) / ? "
            "order by task, name, 3"
        )
        for task, name, step, mean in self._ask(sql, [first, width]):
            found[task][name].append((step, mean))
        return {task: dict(columns) for task, columns in found.items()}

    def latest(self, task: str, updates: int) -> list[dict[str, Sum]]:
        """The sums of a task's last updates, oldest first."""
        found: dict[int, dict[str, Sum]] = {}
        sql = (
            "select step, name, total, count from sums where task = ? and step in "
            "(select distinct step from sums where task = ? and name = ? order by step desc limit ?) order by step"
        )
        for step, name, total, count in self._ask(sql, [task, task, READ, updates]):
            found.setdefault(step, {})[name] = Sum(total, count)
        return list(found.values())

    def spreads(self, most: int) -> list[tuple[int, int, str, float, float | None]]:
        """(update, number, task, spread, mean reward) of groups for a map of them, of evenly chosen updates if there are more than `most`."""
        count = max(self.count(), 1)
        every = -(-count // most)
        return self._ask(
            "select step, number, task, spread, mean from groups where step % ? = (select min(step) from groups) % ? order by step, "
            "task, number",
            [every, every],
        )

    def damaged(self) -> int:
        """Lines that held no group."""
        return int(self._fact("damaged") or 0)

    # --- the file -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        path = self.log.with_suffix(".index")
        try:
            if not self.log.is_file():
                raise sqlite3.DatabaseError("there is no log yet")
            if path.exists() and not _is_own(path):
                raise sqlite3.DatabaseError(f"{path} is a file of somebody else's")
            return _connect(path)
        except sqlite3.DatabaseError as error:
            logger.info("the index of %s is kept until the end only: %s", self.log.name, error)
        self._temporary = tempfile.TemporaryDirectory(prefix="videochat_r1-index-")
        return _connect(Path(self._temporary.name) / path.name)

    def _ask(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self._lock:
            return self._connection.execute(sql, values).fetchall()

    def _fact(self, name: str) -> str | None:
        found = self._ask("select value from facts where name = ?", [name])
        return found[0][0] if found else None

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        """All of what is done within, or nothing."""
        with self._lock, self._connection:
            self._connection.execute("begin immediate")
            yield self._connection


def _is_own(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(72)
    return head.startswith(b"SQLite format 3\0") and head[68:72] == _APPLICATION.to_bytes(4, "big")


def _connect(path: Path) -> sqlite3.Connection:
    """An index without groups where there is none, or one of another version. Raises sqlite3.DatabaseError."""
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30.0, isolation_level=None)
    # What is lost with the power is read again.
    connection.execute("pragma synchronous = off")
    if connection.execute("pragma user_version").fetchone() != (_VERSION,):
        for (table,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall():
            connection.execute(f"drop table {table}")
    connection.executescript(f"pragma application_id = {_APPLICATION}; pragma user_version = {_VERSION}; {_TABLES}")
    return connection


def _mark(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()[:16]


def _summary(group: Mapping[str, Any], counted: Mapping[str, Sum]) -> tuple[Any, ...]:
    """What the row of a group holds beside the place of its line."""
    rollouts = group["rollouts"]
    read = counted.get(READ, Sum(0, 0))
    reward = counted.get(REWARD)
    return (
        group["step"],
        str(group["task"]),
        str(group.get("source") or ""),
        str(group["sample_id"]),
        len(rollouts),
        None if reward is None else reward.total / reward.count,
        spread(group),
        read.count - int(read.total),
        *(int(counted[name].total) if name in counted else 0 for name in (CUT_OFF, WHOLE_VIDEO, ALL_EQUAL, UNSCORED)),
    )
