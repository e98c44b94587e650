"""Clean bytes of remote files on the local disk: a cache that survives remounts and may fail at any time.

    blocks/index.db     which stretch of which version of which file is where (SQLite)
    blocks/data/XX/ID   one sparse file for each cached version, named by a random id

Nothing is scanned at the start: the index says what is there, and a file's stretches are looked up when the file is
read for the first time. Each stretch carries a checksum, so a torn or damaged one is a miss. The index is written
after the data and without waiting for the disk (`synchronous=OFF`): after a power cut it may name what is not there,
and then the checksum says so.

The cache never fails a read: what goes wrong here is logged once and answered as a miss. All of it runs in one
thread; bytes are written behind the reader, through a queue that drops when it is full.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar
from zlib import crc32

import trio

from synofs.content.errors import ContentError
from synofs.content.private import claim_dir, claim_file
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL, -- as bytes: SQLite's text takes no names that are not UTF-8
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    used_at REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS files_by_version ON files (path, size, mtime_ns);
CREATE INDEX IF NOT EXISTS files_by_use ON files (used_at);
CREATE TABLE IF NOT EXISTS stretches (
    file TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (file, start)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class DiskCacheOptions:
    max_bytes: int = 10 * 1024**3
    floor_bytes: int = 1024**3  # free space that is left to everybody else
    queue_bytes: int = 64 * 1024**2  # waiting to be written; more is dropped
    commit_seconds: float = 1.0


class Stretch(NamedTuple):
    """Bytes [start, start + length) of a cached file."""

    start: int
    length: int
    checksum: int


class CachedFile:
    """What the cache has of one version of one file."""

    __slots__ = ("id", "stretches")

    def __init__(self, file_id: str, stretches: list[Stretch]) -> None:
        self.id = file_id
        self.stretches = stretches  # sorted, disjoint


class _Item(NamedTuple):
    number: int
    path: str
    version: Fingerprint
    start: int
    data: memoryview


class DiskCache:
    def __init__(self, folder: Path, options: DiskCacheOptions) -> None:
        self._folder = folder
        self._options = options
        self._db: sqlite3.Connection | None = None
        self._thread = trio.CapacityLimiter(1)
        self._send, self._receive = trio.open_memory_channel[_Item | None](10_000)  # None: only look at `_void`
        self._void: list[str] = []  # paths to be forgotten before anything else is done
        self._queued_bytes = 0
        self._forgotten: dict[str, int] = {}  # path -> items queued before this number are void
        self._item_count = 0
        self._broken = False
        self.bytes_used = 0

    # ----- asking -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._guarded(self._open, None)

    async def find(self, path: str, version: Fingerprint) -> CachedFile | None:
        """What is here of that version; older versions of the path are dropped."""
        return await self._guarded(self._after_forgetting(lambda: self._find(path, version)), None)

    async def read(self, file: CachedFile, stretch: Stretch) -> memoryview | None:
        """The bytes, or None if they are not what was written."""
        data = await self._guarded(lambda: self._read(file, stretch), None)
        if data is None:
            file.stretches = [other for other in file.stretches if other != stretch]
        return data

    def add(self, path: str, version: Fingerprint, start: int, data: memoryview) -> None:
        """Write these bytes behind the caller's back, or drop them if the disk does not keep up."""
        if self._broken or self._queued_bytes + len(data) > self._options.queue_bytes:
            return
        with contextlib.suppress(trio.WouldBlock):
            self._item_count += 1
            self._send.send_nowait(_Item(self._item_count, path, version, start, data))
            self._queued_bytes += len(data)

    def forget(self, path: str) -> None:
        """What is cached of this path, and below it, is void, and so is what waits to be written of it. Takes effect
        at once; the disk follows behind the caller's back."""
        self._forgotten[path] = self._item_count
        self._void.append(path)
        with contextlib.suppress(trio.WouldBlock):
            self._send.send_nowait(None)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is added, until cancelled; what is queued then is lost to the cache."""
        await self.open()
        task_status.started()
        while True:
            batch = [await self._receive.receive()]
            with contextlib.suppress(trio.WouldBlock):
                while len(batch) < 64:
                    batch.append(self._receive.receive_nowait())
            await self._write_behind(batch)
            if self._receive.statistics().current_buffer_used == 0:
                self._forgotten.clear()

    async def _write_behind(self, batch: list[_Item | None]) -> None:
        items = [item for item in batch if item is not None]
        valid = [item for item in items if item.number > self._forgotten_since(item.path)]
        if valid or self._void:
            await self._guarded(self._after_forgetting(lambda: self._write(valid)), None)
        self._queued_bytes -= sum(len(item.data) for item in items)

    def _after_forgetting(self, work: Callable[[], _T]) -> Callable[[], _T]:
        void, self._void = self._void, []

        def both() -> _T:
            for path in void:
                self._forget(path)
            return work()

        return both

    def _forgotten_since(self, path: str) -> int:
        """The last item that was queued when this path, or a folder above it, was forgotten."""
        if not self._forgotten:
            return 0
        above = [path]
        while "/" in above[-1]:
            above.append(above[-1].rpartition("/")[0])
        return max(self._forgotten.get(folder, 0) for folder in above)

    async def close(self) -> None:
        await self._guarded(self._after_forgetting(self._close), None)

    async def _guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        if self._broken:
            return otherwise
        try:
            return await trio.to_thread.run_sync(work, limiter=self._thread)
        except (OSError, sqlite3.Error, ContentError) as error:
            self._broken = True
            log.warning("the disk cache in %s is switched off: %s", self._folder, error)
            return otherwise
        except Exception:  # a read that could do without the cache must not fail because of it
            self._broken = True
            log.exception("the disk cache in %s failed in a way nobody foresaw and is switched off", self._folder)
            return otherwise

    # ----- in the thread ------------------------------------------------------------------------------------------

    def _open(self) -> None:
        for folder in (self._folder, self._folder / "data"):
            claim_dir(folder)
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError:
            log.info("the index of the disk cache is damaged; the cache begins anew")
            for name in os.listdir(self._folder):
                if name.startswith("index.db"):
                    (self._folder / name).unlink()
            self._db = self._connect()
        self.bytes_used = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()[0]

    def _connect(self) -> sqlite3.Connection:
        path = self._folder / "index.db"
        claim_file(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA foreign_keys=ON")
            db.executescript(_SCHEMA)
        except BaseException:
            db.close()
            raise
        return db

    @property
    def _index(self) -> sqlite3.Connection:
        assert self._db is not None, "the cache is not open"
        return self._db

    def _close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def _find(self, path: str, version: Fingerprint) -> CachedFile | None:
        found = self._index.execute("SELECT id, size, mtime_ns FROM files WHERE path = ?", [_as_bytes(path)]).fetchall()
        current = None
        for file_id, *known in found:
            if Fingerprint(*known) == version:
                current = file_id
            else:
                self._drop(file_id)
        if current is None:
            return None
        self._index.execute("UPDATE files SET used_at = ? WHERE id = ?", [time.time(), current])
        rows = self._index.execute(
            "SELECT start, length, checksum FROM stretches WHERE file = ? ORDER BY start", [current]
        )
        return CachedFile(current, [Stretch(*row) for row in rows])

    def _read(self, file: CachedFile, stretch: Stretch) -> memoryview | None:
        buffer = bytearray(stretch.length)
        try:
            with open(self._data_path(file.id), "rb", buffering=0) as data:
                data.seek(stretch.start)
                count = data.readinto(buffer)
        except FileNotFoundError:
            count = 0
        if count != stretch.length or crc32(buffer) != stretch.checksum:
            log.info("a damaged piece of the disk cache is left out")
            self._index.execute("DELETE FROM stretches WHERE file = ? AND start = ?", [file.id, stretch.start])
            return None
        return memoryview(buffer)

    def _write(self, batch: list[_Item]) -> None:
        self._make_room(sum(len(item.data) for item in batch))
        free = os.statvfs(self._folder)
        if free.f_bavail * free.f_frsize < self._options.floor_bytes:
            return
        self._index.execute("BEGIN")
        try:
            for item in batch:
                self._write_one(item.path, item.version, item.start, item.data)
        finally:
            self._index.execute("COMMIT")

    def _write_one(self, path: str, version: Fingerprint, start: int, data: memoryview) -> None:
        file_id = self._id_of(path, version)
        end = start + len(data)
        overlap = self._index.execute(
            "SELECT 1 FROM stretches WHERE file = ? AND start < ? AND start + length > ?", [file_id, end, start]
        ).fetchone()
        if overlap is not None:
            return
        place = self._data_path(file_id)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, data, start)
        finally:
            os.close(fd)
        self._index.execute("INSERT INTO stretches VALUES (?, ?, ?, ?)", [file_id, start, len(data), crc32(data)])
        self._index.execute("UPDATE files SET bytes = bytes + ? WHERE id = ?", [len(data), file_id])
        self.bytes_used += len(data)

    def _id_of(self, path: str, version: Fingerprint) -> str:
        known = self._index.execute(
            "SELECT id FROM files WHERE path = ? AND size = ? AND mtime_ns = ?", [_as_bytes(path), *version]
        ).fetchone()
        if known is not None:
            return str(known[0])
        file_id = uuid.uuid4().hex
        self._index.execute(
            "INSERT INTO files VALUES (?, ?, ?, ?, 0, ?)", [file_id, _as_bytes(path), *version, time.time()]
        )
        return file_id

    def _make_room(self, wanted_bytes: int) -> None:
        """Drop the least recently used files until `wanted_bytes` more fit."""
        while self.bytes_used + wanted_bytes > self._options.max_bytes:
            oldest = self._index.execute("SELECT id FROM files ORDER BY used_at LIMIT 1").fetchone()
            if oldest is None:
                return
            self._drop(oldest[0])

    def _forget(self, path: str) -> None:
        raw = _as_bytes(path)
        below = (raw + b"/", raw + b"0")  # "0" is the byte after the slash
        query = "SELECT id FROM files WHERE path = ? OR (path > ? AND path < ?)"
        for (file_id,) in self._index.execute(query, [raw, *below]).fetchall():
            self._drop(file_id)

    def _drop(self, file_id: str) -> None:
        row = self._index.execute("SELECT bytes FROM files WHERE id = ?", [file_id]).fetchone()
        self._index.execute("DELETE FROM files WHERE id = ?", [file_id])
        self.bytes_used -= row[0] if row is not None else 0
        with contextlib.suppress(FileNotFoundError):
            self._data_path(file_id).unlink()

    def _data_path(self, file_id: str) -> Path:
        return self._folder / "data" / file_id[:2] / file_id


def _as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
