"""Listings on the local disk: what a directory held when it was last seen, for times when the NAS is away.

A cache like the one of the bytes: it may lose anything, and what goes wrong in it is answered as "not known". Written
behind the caller's back in one thread, in batches; only the newest of each directory counts.

What is not true any more must not come back after a crash, however much the thread has to do. So it is marked at once
in a file beside the database, which survives the end of the process (not a loss of power, no more than what is written
here does). `open` obeys the marks; they are wiped when the database has caught up with all of them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from synofs.content.damage import POSSIBLE, is_damage
from synofs.content.private import claim_file
from synofs.content.spacenote import SpaceNote
from synofs.remote import RemoteEntry, Rights

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS listings (
    path BLOB PRIMARY KEY,       -- bytes: names need not be UTF-8
    entries BLOB NOT NULL,
    seen_at REAL NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS listings_by_time ON listings (seen_at);
"""
MAX_ENTRIES = 20_000  # of one directory
MAX_DIRECTORIES = 100_000
_QUEUE = 1_000
_FOLDER, _TREE = b"f", b"t"  # what a mark is about: a folder's own listing, or also those of all folders below it

Stored = tuple[bytes, bool, int, int, int, int, int]  # a RemoteEntry, its name in bytes


class ListingStore:
    def __init__(self, path: Path) -> None:
        self._path = path
        self.space = SpaceNote(path.with_name("space"))
        self._db: sqlite3.Connection | None = None
        self._thread = trio.CapacityLimiter(1)
        self._waiting: dict[str, Sequence[RemoteEntry] | None] = {}  # None: to be forgotten
        self._trees: set[str] = set()  # to be forgotten with all below, before what waits is written
        self._marks: int | None = None  # the file of marks
        self._begun_anew = False
        self._work = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is kept, until cancelled; what waits then is written by `close`."""
        await self._open_once()
        task_status.started()
        while True:
            await self._work.wait()
            self._work = trio.Event()
            await self._write_waiting()

    async def _open_once(self) -> None:
        if self._db is None:
            await self._guarded(self._open, None)

    async def knows(self, path: str) -> bool:
        """Was this directory seen before? May be asked before `run`."""
        await self._open_once()
        return await self.find(path) is not None

    def keep(self, path: str, entries: Sequence[RemoteEntry]) -> None:
        """Remember a directory, behind the caller's back."""
        if len(entries) <= MAX_ENTRIES and (path in self._waiting or len(self._waiting) < _QUEUE):
            self._waiting[path] = entries
            self._work.set()

    def forget(self, path: str) -> None:
        """What is known of a directory is not true any more, from now on and after a crash."""
        self._mark(_FOLDER, path)
        self._waiting[path] = None
        self._work.set()

    def forget_tree(self, path: str) -> None:
        """The same of a directory that was moved here or away, and of all below it."""
        self._mark(_TREE, path)
        for other in [other for other in self._waiting if _is_below(other, path)]:
            del self._waiting[other]
        self._trees.add(path)
        self._work.set()

    async def find(self, path: str) -> list[RemoteEntry] | None:
        """What the directory held when it was last seen."""
        if path in self._waiting:
            waiting = self._waiting[path]
            return list(waiting) if waiting is not None else None
        if any(_is_below(path, tree) for tree in self._trees):
            return None
        return await self._guarded(lambda: self._find(path), None)

    async def close(self) -> None:
        await self._write_waiting()
        await self._guarded(self._close, None)

    async def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        trees, self._trees = self._trees, set()
        if self._db is None or not (waiting or trees):
            return
        with trio.CancelScope(shield=True):  # what was taken from what waits must not get lost
            written = await self._guarded(lambda: self._write(waiting, trees), False)
        if not written:
            self._trees |= trees  # next time, together with what comes until then
            for path, entries in waiting.items():
                if entries is None:
                    self._waiting.setdefault(path, None)
        elif not self._waiting and not self._trees and self._marks is not None:
            os.ftruncate(self._marks, 0)

    def _mark(self, kind: bytes, path: str) -> None:
        if self._marks is None:
            return
        try:
            os.write(self._marks, b"\0" + kind + _key(path) + b"\0")
        except OSError as error:  # a full disk: better nothing known at the next mount than something wrong
            log.info("the stored listings in %s are dropped: %s", self._path, error)
            self._remove()

    async def _guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._thread)
        except Exception as error:  # it may lose anything, and must not end the mount
            log.info("the stored listings in %s cannot be used: %s", self._path, error)
            if is_damage(error) and not self._begun_anew:
                error.__traceback__ = None  # its frames hold cursors, and a database with cursors stays open
                await self._guarded(self._begin_anew, None)
            return otherwise

    # ----- in the thread ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        marks = self._path.with_name(self._path.name + "-marks")
        if self._marks is None:
            claim_file(marks)
            self._marks = os.open(marks, os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            self._db = self._connect(marks.read_bytes())
        except POSSIBLE:
            self._begin_anew()
        os.ftruncate(self._marks, 0)

    def _begin_anew(self) -> None:
        """It would be as damaged at the next mount. (Once is damage, twice is something else.)"""
        self._begun_anew = True
        if self._db is not None:
            self._db.close()
            self._db = None
        self._remove()
        self._db = self._connect(b"")

    def _remove(self) -> None:
        """Whoever has the database open goes on with what has no name any more."""
        for suffix in ("-wal", "-shm", ""):
            with contextlib.suppress(OSError):
                self._path.with_name(self._path.name + suffix).unlink()

    def _obey(self, db: sqlite3.Connection, marks: bytes) -> None:
        """Forget what an earlier run had no time to forget."""
        paths: dict[bytes, set[bytes]] = {_FOLDER: set(), _TREE: set()}
        for mark in marks.split(b"\0"):
            paths.get(mark[:1], set()).add(mark[1:])
        db.execute("BEGIN")
        self._delete(db, paths[_FOLDER], paths[_TREE])
        db.execute("COMMIT")

    @staticmethod
    def _delete(db: sqlite3.Connection, folders: Iterable[bytes], trees: Iterable[bytes]) -> None:
        db.executemany("DELETE FROM listings WHERE path = ?", [(path,) for path in folders])
        db.executemany(  # "0" comes after "/"
            "DELETE FROM listings WHERE path = ? OR path > ? AND path < ?",
            [(path, path + b"/", path + b"0") for path in trees],
        )

    def _connect(self, marks: bytes) -> sqlite3.Connection:
        claim_file(self._path)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.executescript(_SCHEMA)
            self._obey(db, marks)
        except BaseException:
            db.close()
            raise
        return db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None
        if self._marks is not None:
            os.close(self._marks)
            self._marks = None

    def _find(self, path: str) -> list[RemoteEntry] | None:
        if self._db is None:
            return None
        row = self._db.execute("SELECT entries FROM listings WHERE path = ?", [_key(path)]).fetchone()
        if row is None:
            return None
        return [_entry(stored) for stored in msgspec.msgpack.decode(row[0], type=list[Stored])]

    def _write(self, waiting: dict[str, Sequence[RemoteEntry] | None], trees: set[str]) -> bool:
        """Returns True once it is written."""
        assert self._db is not None
        now = time.time()
        rows = [
            (_key(path), msgspec.msgpack.encode([_stored(entry) for entry in entries]), now)
            for path, entries in waiting.items()
            if entries is not None
        ]
        forgotten = [_key(path) for path, entries in waiting.items() if entries is None]
        db = self._db
        db.execute("BEGIN")
        try:
            self._delete(db, forgotten, map(_key, trees))
            db.executemany("INSERT OR REPLACE INTO listings VALUES (?, ?, ?)", rows)
            db.execute(
                "DELETE FROM listings WHERE path IN "
                "(SELECT path FROM listings ORDER BY seen_at DESC LIMIT -1 OFFSET ?)",
                [MAX_DIRECTORIES],
            )
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        return True


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _stored(entry: RemoteEntry) -> Stored:
    name, is_dir, size, mtime_ns, atime_ns, ctime_ns, rights = entry
    return name.encode("utf-8", "surrogateescape"), is_dir, size, mtime_ns, atime_ns, ctime_ns, int(rights)


def _entry(stored: Stored) -> RemoteEntry:
    name, is_dir, size, mtime_ns, atime_ns, ctime_ns, rights = stored
    text = name.decode("utf-8", "surrogateescape")
    return RemoteEntry(text, is_dir, size, mtime_ns, atime_ns, ctime_ns, Rights(rights))
