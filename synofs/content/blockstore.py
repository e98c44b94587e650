"""Stretches of files on the local disk, and the index that says which is where. Blocking; used in one thread.

    index.db     which stretch of which version of which file is where (SQLite)
    data/XX/ID   one sparse file for each cached version, named by a random id
    incoming/    hard links to whole files that were written here and sent, until they are taken into data/
    unclean      is there while a mount uses the folder, and after one that was killed

The index is written after the data and without waiting for the disk (`synchronous=OFF`): after a power cut it may name
what is not there. The checksum of a stretch covers what it is of (path, version, place) and not its bytes alone, so
that neither wrong bytes nor an index that names a wrong place are ever believed. An index that cannot be used is made
anew. What then belongs to nobody, or was written by a mount that was killed before it was named, is removed by and by
(`sweep`); after an orderly end nothing is scanned.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from synofs.content.damage import POSSIBLE, Damaged, is_damage
from synofs.content.private import claim_dir, claim_file
from synofs.remote import Fingerprint

try:
    from zlib_ng.zlib_ng import crc32
except ImportError:  # a machine that it has no wheels for
    from zlib import crc32

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SCHEMA_NUMBER = 2
_SCHEMA = f"""
CREATE TABLE files (
    id TEXT PRIMARY KEY,
    path BLOB NOT NULL, -- as bytes: SQLite's text takes no names that are not UTF-8
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    bytes INTEGER NOT NULL, -- what its stretches take on the disk
    used_at REAL NOT NULL
) STRICT;
CREATE UNIQUE INDEX files_by_version ON files (path, size, mtime_ns);
CREATE INDEX files_by_use ON files (used_at);
CREATE TABLE stretches (
    file TEXT NOT NULL REFERENCES files (id) ON DELETE CASCADE,
    start INTEGER NOT NULL,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (file, start)
) STRICT, WITHOUT ROWID;
PRAGMA user_version = {_SCHEMA_NUMBER};
"""
_DISK_BLOCK_BYTES = 4096
_WHOLE_STRETCH_BYTES = 1024**2  # of a file that comes as a whole
_MOST_TOGETHER = 512  # pieces that are written with one call; the kernel takes 1,024
_DIRECT_BYTES = 1024**2  # a run that is as large goes to the disk from where it lies
_MAX_STRETCH_BYTES = 16 * 1024**2  # no piece is as large; a damaged index may say anything


class Stretch(NamedTuple):
    """Bytes [start, start + length) of a cached file."""

    start: int
    length: int
    checksum: int


class CachedFile:
    """What the cache has of one version of one file."""

    __slots__ = ("id", "key", "stretches")

    def __init__(self, file_id: str, key: bytes, stretches: list[Stretch]) -> None:
        self.id = file_id
        self.key = key  # path and version
        self.stretches = stretches  # sorted, disjoint


class Piece(NamedTuple):
    """To be kept: bytes of a version of a file from `start` on."""

    path: str
    version: Fingerprint
    start: int
    data: memoryview

    @property
    def end(self) -> int:
        return self.start + len(self.data)


class Whole(NamedTuple):
    """To be kept: a version of a file that is on this disk. Its name in `incoming`, `link`, goes in any case."""

    path: str
    version: Fingerprint
    link: Path


class BlockStore:
    """Raises `OSError`, `sqlite3.Error` and `CacheDirUnsafe` where the disk or the folder cannot be used."""

    def __init__(self, folder: Path, max_bytes: int, floor_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._floor_bytes = floor_bytes
        self._db: sqlite3.Connection | None = None
        self.bytes_used = 0
        self.needs_sweep = False
        self._to_sweep: list[Path] | None = None

    # ----- life -------------------------------------------------------------------------------------------------

    def open(self) -> None:
        for folder in (self._folder, self._folder / "data", self.incoming):
            claim_dir(folder)
        for name in os.listdir(self.incoming):
            (self.incoming / name).unlink()
        self.needs_sweep = self._unclean.exists()
        claim_file(self._unclean)
        try:
            self._connect()
        except POSSIBLE as exc:
            self._begin_anew(exc)

    def close(self) -> None:
        if self._db is not None:
            self._disconnect()
            if not self.needs_sweep:
                self._unclean.unlink(missing_ok=True)

    def whole(self, work: Callable[[], _T], otherwise: _T) -> _T:
        """`work`; or `otherwise`, and an index made anew, if it turns out to be damaged."""
        try:
            return work()
        except POSSIBLE as exc:
            self._begin_anew(exc)
            return otherwise

    def count(self) -> None:
        """Learn how much is here, before anything is written. Takes a moment for half a million files, so that it is no
        part of `open`, which a mount waits for."""
        self.bytes_used = self._index.execute("SELECT coalesce(sum(bytes), 0) FROM files").fetchone()[0]

    def sweep_some(self) -> bool:
        """Remove data files that nothing names, of some folders more. Returns whether there is more to do."""
        if self._to_sweep is None:
            self._to_sweep = [folder for folder in (self._folder / "data").iterdir() if folder.is_dir()]
        if self._to_sweep:
            folder = self._to_sweep.pop()
            query = "SELECT id FROM files WHERE id >= ? AND id < ?"
            named = {row[0] for row in self._index.execute(query, [folder.name, folder.name + "~"])}
            for name in os.listdir(folder):
                if name not in named:
                    with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                        (folder / name).unlink()
        self.needs_sweep = bool(self._to_sweep)
        return self.needs_sweep

    def _begin_anew(self, why: Exception) -> None:
        if not is_damage(why):
            raise why
        log.info("the index of the disk cache cannot be used (%s); the cache begins anew", why)
        if self._db is not None:
            self._disconnect()
        for name in os.listdir(self._folder):
            if name.startswith("index.db"):
                (self._folder / name).unlink()
        self.needs_sweep, self._to_sweep = True, None
        self.bytes_used = 0
        self._connect()

    def _connect(self) -> None:
        path = self._folder / "index.db"
        is_new = not path.exists()
        claim_file(path)
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=OFF")
            db.execute("PRAGMA foreign_keys=ON")
            if is_new:
                db.executescript(_SCHEMA)
                self.needs_sweep = self.needs_sweep or any((self._folder / "data").iterdir())
            if (number := db.execute("PRAGMA user_version").fetchone()[0]) != _SCHEMA_NUMBER:
                raise Damaged(f"it is of another release, number {number}")
        except BaseException:
            db.close()
            raise
        self._db = db

    def _disconnect(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(*POSSIBLE):  # damaged, and then of no more use
                db.close()

    @property
    def _index(self) -> sqlite3.Connection:
        assert self._db is not None, "the cache is not open"
        return self._db

    @property
    def incoming(self) -> Path:
        return self._folder / "incoming"

    @property
    def _unclean(self) -> Path:
        return self._folder / "unclean"

    # ----- reading ----------------------------------------------------------------------------------------------

    def find(self, path: str, version: Fingerprint) -> CachedFile | None:
        """What is here of that version; other versions of the path are dropped."""
        found = self._index.execute("SELECT id, size, mtime_ns FROM files WHERE path = ?", [_as_bytes(path)]).fetchall()
        current = None
        for file_id, *known in found:
            if not isinstance(file_id, str):
                raise Damaged("an id that is none")
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
        return CachedFile(current, _key(path, version), list(_disjoint(version.size, map(Stretch._make, rows))))

    def read(self, file: CachedFile, stretch: Stretch) -> memoryview | None:
        """The bytes, or None if they are not what was written."""
        buffer = bytearray(stretch.length)
        try:
            with open(self._data_path(file.id), "rb", buffering=0) as data:
                data.seek(stretch.start)
                count = data.readinto(buffer)
        except OSError:
            count = 0
        if count == stretch.length and _checksum(file.key, stretch.start, buffer) == stretch.checksum:
            return memoryview(buffer)
        log.info("a damaged piece of the disk cache is left out")
        known = "DELETE FROM stretches WHERE file = ? AND start = ?"
        if self._index.execute(known, [file.id, stretch.start]).rowcount:
            self._account(file.id, -_room(stretch.length))
        return None

    # ----- writing ----------------------------------------------------------------------------------------------

    def write(self, pieces: Sequence[Piece | Whole], *, direct: bool = False) -> None:
        """`direct`: large runs go past the page cache. The copy into it takes a processor longer than the network
        takes to bring the bytes (1.7 s for 1 GiB, 0.06 s without), and pushes other programs' files out; but it takes
        more at once than a slow disk."""
        try:
            self._write(pieces, direct)
        finally:
            for piece in pieces:
                if isinstance(piece, Whole):
                    self.discard(piece)

    @staticmethod
    def discard(whole: Whole) -> None:
        """It is not wanted any more, or was taken over."""
        whole.link.unlink(missing_ok=True)

    def _write(self, pieces: Sequence[Piece | Whole], direct: bool) -> None:
        if self._is_disk_full():
            return
        self._index.execute("BEGIN")
        try:
            for part in _runs(pieces):
                if isinstance(part, Whole):
                    if self._make_room(_room(part.version.size)):
                        self._take_over(part)
                elif self._make_room(sum(_room(len(piece.data)) for piece in part)):
                    self._write_run(part, direct)
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                self._index.execute("ROLLBACK")
            self.needs_sweep = True
            raise
        self._index.execute("COMMIT")

    def _write_run(self, run: list[Piece], direct: bool) -> None:
        """Few steps for many bytes: with each of them the thread lets go of the interpreter, and while a download is
        under way it waits milliseconds to have it back."""
        path, version, start, _ = run[0]
        file_id = self._id_of(path, version)
        if self._overlaps(file_id, start, run[-1].end):
            if len(run) > 1:
                for piece in run:
                    self._write_run([piece], direct)
            return
        place = self._data_path(file_id)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        data = [piece.data for piece in run]
        if not (direct and _is_for_the_disk(run) and _write_direct(place, data, start)):
            with _opened(place) as fd:
                _write_all(fd, data, start)
        key = _key(path, version)
        rows = [(file_id, piece.start, len(piece.data), _checksum(key, piece.start, piece.data)) for piece in run]
        self._index.executemany("INSERT INTO stretches VALUES (?, ?, ?, ?)", rows)
        self._account(file_id, sum(_room(len(piece.data)) for piece in run))

    def _overlaps(self, file_id: str, start: int, end: int) -> bool:
        query = "SELECT 1 FROM stretches WHERE file = ? AND start < ? AND start + length > ? LIMIT 1"
        return self._index.execute(query, [file_id, end, start]).fetchone() is not None

    def _take_over(self, whole: Whole) -> None:
        file_id = self._id_of(whole.path, whole.version)
        if self._index.execute("SELECT 1 FROM stretches WHERE file = ? LIMIT 1", [file_id]).fetchone() is not None:
            return
        key, size = _key(whole.path, whole.version), whole.version.size
        stretches = []
        with open(whole.link, "rb", buffering=0) as data:
            if os.fstat(data.fileno()).st_size != size:
                return
            for start in range(0, size, _WHOLE_STRETCH_BYTES):
                part = data.read(min(_WHOLE_STRETCH_BYTES, size - start))
                stretches.append((file_id, start, len(part), _checksum(key, start, part)))
        place = self._data_path(file_id)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        whole.link.rename(place)
        self._index.executemany("INSERT INTO stretches VALUES (?, ?, ?, ?)", stretches)
        self._account(file_id, _room(size))

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

    def _account(self, file_id: str, more_bytes: int) -> None:
        self._index.execute("UPDATE files SET bytes = bytes + ? WHERE id = ?", [more_bytes, file_id])
        self.bytes_used += more_bytes

    def _make_room(self, wanted_bytes: int) -> bool:
        """Drop the least recently used files until `wanted_bytes` more fit. False: they never do."""
        while self.bytes_used + wanted_bytes > self._max_bytes:
            if not self._drop_oldest():  # whatever was counted
                self.bytes_used = 0
                return wanted_bytes <= self._max_bytes
        return True

    def give_way(self) -> None:
        """Others need the disk, unsent files before all: drop the least recently used files until they have room."""
        while self._is_disk_full() and self._drop_oldest():
            pass

    def _is_disk_full(self) -> bool:
        disk = os.statvfs(self._folder)
        return disk.f_bavail * disk.f_frsize < self._floor_bytes

    def _drop_oldest(self) -> bool:
        oldest = self._index.execute("SELECT id FROM files ORDER BY used_at LIMIT 1").fetchone()
        if oldest is not None:
            self._drop(oldest[0])
        return oldest is not None

    def forget(self, path: str) -> None:
        """What is cached of this path, and below it, is void."""
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


def _runs(pieces: Sequence[Piece | Whole]) -> Iterator[list[Piece] | Whole]:
    """Pieces of a file that follow each other come together."""
    run: list[Piece] = []
    for piece in pieces:
        if run and not (len(run) < _MOST_TOGETHER and piece[:3] == (*run[-1][:2], run[-1].end)):
            yield run
            run = []
        if isinstance(piece, Piece):
            run.append(piece)
        else:
            yield piece
    if run:
        yield run


def _is_for_the_disk(run: Sequence[Piece]) -> bool:
    """Large, and in whole blocks."""
    whole = all(piece.start % _DISK_BLOCK_BYTES == len(piece.data) % _DISK_BLOCK_BYTES == 0 for piece in run)
    return whole and run[-1].end - run[0].start >= _DIRECT_BYTES


@contextlib.contextmanager
def _opened(place: Path, flags: int = 0) -> Iterator[int]:
    fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def _write_direct(place: Path, data: Sequence[memoryview], start: int) -> bool:
    """False: this filesystem cannot, or not with memory that lies so (open(2), `O_DIRECT`)."""
    try:
        with _opened(place, os.O_DIRECT) as fd:
            _write_all(fd, data, start)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _write_all(fd: int, data: Sequence[memoryview], start: int) -> None:
    """A disk that is almost full takes a part, and says why at the next try."""
    if os.pwritev(fd, data, start) < sum(map(len, data)):
        for part in data:
            if os.pwrite(fd, part, start) < len(part):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            start += len(part)


def _as_bytes(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _key(path: str, version: Fingerprint) -> bytes:
    return b"%s\0%d\0%d" % (_as_bytes(path), *version)


def _checksum(key: bytes, start: int, data: bytes | bytearray | memoryview) -> int:
    return crc32(data, crc32(b"%s\0%d" % (key, start)))


def _room(length: int) -> int:
    """What so many bytes take on the disk."""
    return -(-length // _DISK_BLOCK_BYTES) * _DISK_BLOCK_BYTES


def _disjoint(size: int, stretches: Iterator[Stretch]) -> Iterator[Stretch]:
    """Those that can be true, whatever the index says."""
    end = 0
    for stretch in stretches:
        if not all(isinstance(number, int) for number in stretch) or stretch.length > _MAX_STRETCH_BYTES:
            continue
        if end <= stretch.start < stretch.start + stretch.length <= size:
            yield stretch
            end = stretch.start + stretch.length
