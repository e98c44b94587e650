"""Listings on the local disk: what a directory held when it was last seen, for times when the NAS is away.

A cache like the one of the bytes: it may lose anything, and what goes wrong in it is answered as "not known". Written
behind the caller's back in one thread, in batches; only the newest of each directory counts.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import trio

from synofs.content.private import claim_file
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

Stored = tuple[bytes, bool, int, int, int, int, int]  # a RemoteEntry, its name in bytes


class ListingStore:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._thread = trio.CapacityLimiter(1)
        self._waiting: dict[str, Sequence[RemoteEntry] | None] = {}  # None: to be forgotten
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
        """What is known of a directory is not true any more. Not to be left out, however much waits."""
        self._waiting[path] = None
        self._work.set()

    async def find(self, path: str) -> list[RemoteEntry] | None:
        """What the directory held when it was last seen."""
        if path in self._waiting:
            waiting = self._waiting[path]
            return list(waiting) if waiting is not None else None
        return await self._guarded(lambda: self._find(path), None)

    async def close(self) -> None:
        await self._write_waiting()
        await self._guarded(self._close, None)

    async def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        if waiting:
            await self._guarded(lambda: self._write(waiting), None)

    async def _guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        try:
            return await trio.to_thread.run_sync(work, limiter=self._thread)
        except Exception as error:  # it may lose anything, and must not end the mount
            log.info("the stored listings in %s cannot be used: %s", self._path, error)
            return otherwise

    # ----- in the thread ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError:
            for suffix in ("", "-wal", "-shm"):
                self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        claim_file(self._path)
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _find(self, path: str) -> list[RemoteEntry] | None:
        if self._db is None:
            return None
        row = self._db.execute("SELECT entries FROM listings WHERE path = ?", [_key(path)]).fetchone()
        if row is None:
            return None
        return [_entry(stored) for stored in msgspec.msgpack.decode(row[0], type=list[Stored])]

    def _write(self, waiting: dict[str, Sequence[RemoteEntry] | None]) -> None:
        if self._db is None:
            return
        now = time.time()
        rows = [
            (_key(path), msgspec.msgpack.encode([_stored(entry) for entry in entries]), now)
            for path, entries in waiting.items()
            if entries is not None
        ]
        forgotten = [(_key(path),) for path, entries in waiting.items() if entries is None]
        self._db.execute("BEGIN")
        self._db.executemany("DELETE FROM listings WHERE path = ?", forgotten)
        self._db.executemany("INSERT OR REPLACE INTO listings VALUES (?, ?, ?)", rows)
        self._db.execute(
            "DELETE FROM listings WHERE path IN (SELECT path FROM listings ORDER BY seen_at DESC LIMIT -1 OFFSET ?)",
            [MAX_DIRECTORIES],
        )
        self._db.execute("COMMIT")


def _key(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _stored(entry: RemoteEntry) -> Stored:
    name, is_dir, size, mtime_ns, atime_ns, ctime_ns, rights = entry
    return name.encode("utf-8", "surrogateescape"), is_dir, size, mtime_ns, atime_ns, ctime_ns, int(rights)


def _entry(stored: Stored) -> RemoteEntry:
    name, is_dir, size, mtime_ns, atime_ns, ctime_ns, rights = stored
    text = name.decode("utf-8", "surrogateescape")
    return RemoteEntry(text, is_dir, size, mtime_ns, atime_ns, ctime_ns, Rights(rights))
