"""Unsent files on the local disk.

A `StagedFile` holds what was written to one file since it was last the same as on the NAS. For a new or truncated
file that is everything. For an edit of a file on the NAS it is the written ranges, and the rest is fetched when a
reader or the upload needs it: changing a few bytes of a big file costs no download until then.

Crash safety, in the order of steps:

1. the data file is created and its path written into an extended attribute, so that it can be adopted without a
   journal;
2. the journal row is committed; only then is the first write acknowledged;
3. a write to an incomplete file is followed by a record in its range log (`<data>.ranges`), so that recovery knows
   which bytes are ours; a torn record at the end belongs to a write that was not acknowledged;
4. `seal` (close, fsync) makes data, range log and row durable.

While an upload reads the data file it is frozen: the first write then continues on a copy (`_thaw`), so what is
uploaded is exactly what was there when it started, and the writer does not wait for the network.

All disk work that may block (fsync, SQLite, copies, large writes) goes to one thread, in order.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
import struct
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import BinaryIO, TypeVar
from zlib import crc32

import trio

from synofs.content.budget import BudgetOptions, DiskBudget
from synofs.content.cachedir import CacheDir
from synofs.content.errors import StagedFileDamaged
from synofs.content.journal import Journal, Row
from synofs.content.ranges import RangeSet
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_RECORD = struct.Struct("<QQL")  # offset, length (or _TRUNCATE), checksum
_TRUNCATE = 2**64 - 1
_PATH_ATTRIBUTE = "user.synofs.path"
_INLINE_WRITE_BYTES = 64 * 1024  # a write to the page cache of this size takes less time than the hop to a thread

FetchBase = Callable[[int, int], Awaitable[bytes | memoryview]]  # (offset, length) of the base version


class StagedFile:
    """One unsent file. Everything but `read`, `write`, `truncate`, `fetch_missing` and `seal` is plain data."""

    def __init__(self, area: StagingArea, row: Row, fd: int) -> None:
        self._area = area
        self.id = row.id
        self.path = row.path
        self.data_name = row.data
        self.base = row.base
        self.attempted = row.attempted
        self.mtime_ns = row.mtime_ns  # set by utimens
        self.written_ns = int(row.created * 1e9)
        self.complete = row.complete
        self.size = os.fstat(fd).st_size
        self.base_limit = 0 if row.complete or row.base is None else row.base.size
        self.present = RangeSet()
        self.generation = 0  # raised by each change
        self.sent_generation = 0  # the NAS has this one
        self.sealed_generation = -1
        self.frozen = False  # an upload reads the data file
        self.unlinked = False
        self._fd = fd
        self._log_fd: int | None = None
        self._writing = 0  # writes under way in threads
        self._quiet = trio.Event()  # set and replaced when `_writing` falls to 0
        self._busy = trio.Lock()  # changes to the data file as a whole: thaw, fetch, seal

    @property
    def effective_mtime_ns(self) -> int:
        """Whole seconds: the NAS keeps no more, and a time that changes at upload makes git and make look again."""
        moment = self.mtime_ns if self.mtime_ns is not None else self.written_ns
        return moment // 10**9 * 10**9

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.effective_mtime_ns)

    # ----- reading ----------------------------------------------------------------------------------------------

    async def read(self, offset: int, length: int, fetch_base: FetchBase) -> bytes | memoryview:
        """Bytes of the file as it is now; parts that are only on the NAS come through `fetch_base`."""
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        gaps = [] if self.complete else self.present.gaps(offset, min(end, self.base_limit))
        if not gaps:
            return os.pread(self._fd, end - offset, offset)
        buffer = bytearray(end - offset)
        for gap_start, gap_end in gaps:
            data = await fetch_base(gap_start, gap_end - gap_start)
            buffer[gap_start - offset : gap_end - offset] = data
        # Written ranges last: a write may have landed while the base was fetched.
        end = min(end, self.size)
        local = os.pread(self._fd, end - offset, offset)
        for start, stop in [(0, len(local))] if self.complete else self._ours(offset, end):
            buffer[start:stop] = local[start:stop]
        return memoryview(buffer)[: end - offset]

    def _ours(self, offset: int, end: int) -> list[tuple[int, int]]:
        ours: list[tuple[int, int]] = []
        position = offset
        for gap_start, gap_end in [*self.present.gaps(offset, min(end, self.base_limit)), (end, end)]:
            if gap_start > position:
                ours.append((position - offset, gap_start - offset))
            position = max(position, gap_end)
        return ours

    # ----- changing ---------------------------------------------------------------------------------------------

    async def write(self, offset: int, data: bytes | memoryview) -> None:
        """Raises `LocalDiskFull`, `OSError`."""
        await self._make_writable()
        end = offset + len(data)
        grow = max(0, end - self.size)
        self._area.budget.reserve(grow)
        try:
            if len(data) <= _INLINE_WRITE_BYTES:
                self._pwrite(offset, data)
            else:
                await self._pwrite_in_thread(offset, data)
        except BaseException:
            self._area.budget.give_back(grow)
            raise
        self.size = max(self.size, end)
        self._note(offset, end)
        self._changed()

    async def _pwrite_in_thread(self, offset: int, data: bytes | memoryview) -> None:
        self._writing += 1
        try:
            await trio.to_thread.run_sync(self._pwrite, offset, data, limiter=self._area.write_thread)
        finally:
            self._writing -= 1
            if self._writing == 0:
                self._quiet.set()
                self._quiet = trio.Event()

    def _pwrite(self, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        while view:
            count = os.pwrite(self._fd, view, offset)
            view = view[count:]
            offset += count

    def _note(self, start: int, end: int) -> None:
        if self.complete:
            return
        self.present.add(start, end)
        if self._log_fd is not None:
            _append(self._log_fd, start, end - start)

    async def truncate(self, size: int) -> None:
        """Raises `LocalDiskFull`, `OSError`."""
        await self._make_writable()
        if size > self.size:
            self._area.budget.reserve(size - self.size)
        os.ftruncate(self._fd, size)
        if size < self.size:
            self._area.budget.give_back(self.size - size)
            self.present.clip(size)
            if not self.complete and size < self.base_limit:
                self.base_limit = size
                if self._log_fd is not None:
                    _append(self._log_fd, size, _TRUNCATE)
        self.size = size
        self._changed()

    async def set_mtime(self, mtime_ns: int) -> None:
        self.mtime_ns = mtime_ns
        self.generation += 1

    def _changed(self) -> None:
        self.generation += 1
        self.written_ns = time.time_ns()
        # A time set by utimens holds until the content changes again (POSIX: write marks mtime for update).
        self.mtime_ns = None

    async def _make_writable(self) -> None:
        if self.frozen:
            async with self._busy:
                if self.frozen:
                    await self._area.run(self._thaw)

    def _thaw(self) -> None:
        """Go on with a copy; the upload keeps reading the old data file, which it removes when it is done."""
        name = self._area.new_data_name(self.id)
        fd = self._area.create_data(name, self.path)
        try:
            _copy(self._fd, fd)
            os.fsync(fd)
            self._area.journal.update(self.id, data=name)
        except BaseException:
            os.close(fd)
            self._area.remove_data(name)
            raise
        os.close(self._fd)
        self._fd, self.data_name = fd, name
        self.frozen = False

    async def fetch_missing(self, fetch_base: FetchBase, piece_bytes: int = 4 * 1024 * 1024) -> None:
        """Make the file complete: fetch every part that is only on the NAS."""
        while not self.complete:
            gaps = self.present.gaps(0, min(self.base_limit, self.size))
            if not gaps:
                async with self._busy:
                    if not self.present.gaps(0, min(self.base_limit, self.size)):
                        await self._area.run(self._mark_complete)
                continue
            start, end = gaps[0]
            data = memoryview(await fetch_base(start, min(end - start, piece_bytes)))
            # Only what nobody has written meanwhile.
            for gap_start, gap_end in self.present.gaps(start, min(start + len(data), self.base_limit, self.size)):
                self._pwrite(gap_start, data[gap_start - start : gap_end - start])
                self._note(gap_start, gap_end)

    def _mark_complete(self) -> None:
        os.fsync(self._fd)
        self._area.journal.update(self.id, complete=1)
        self.complete = True
        self._close_log()

    def _close_log(self) -> None:
        if self._log_fd is not None:
            os.close(self._log_fd)
            self._log_fd = None
            self._area.remove_data(self.data_name + ".ranges")

    async def seal(self) -> None:
        """Data, range log and journal row are on the local disk when this returns."""
        if self.sealed_generation == self.generation:
            return
        async with self._busy:
            generation = self.generation
            await self._area.run(self._seal)
            self.sealed_generation = generation

    def _seal(self) -> None:
        os.fsync(self._fd)
        if self._log_fd is not None:
            os.fsync(self._log_fd)
        if self.sealed_generation < 0:
            self._area.sync_directory()
        self._area.journal.update(
            self.id, size=self.size, mtime_ns=self.effective_mtime_ns, path=self.path, base_size=_size(self.base),
            base_mtime_ns=_mtime(self.base),
        )  # fmt: skip

    # ----- for the upload ---------------------------------------------------------------------------------------

    async def freeze(self) -> BinaryIO:
        """A file object over the bytes as they are now. The caller closes it and calls `unfreeze`."""
        while self._writing:
            await self._quiet.wait()
        self.frozen = True
        return os.fdopen(os.open(self._area.data_path(self.data_name), os.O_RDONLY | os.O_CLOEXEC), "rb", buffering=0)

    async def unfreeze(self, data_name: str) -> None:
        if self.data_name == data_name:
            self.frozen = False
        else:
            await self._area.run(self._area.remove_data, data_name)

    async def note_attempt(self, path: str | None) -> None:
        """Remember that an upload to `path` begins (None: its end is known)."""
        if self.attempted != path:
            self.attempted = path
            await self._area.run(lambda: self._area.journal.update(self.id, attempted=path))

    async def rebase(self, base: Fingerprint | None) -> None:
        """From now on the edit starts from this version on the NAS."""
        self.base = base
        await self._area.run(
            lambda: self._area.journal.update(self.id, base_size=_size(base), base_mtime_ns=_mtime(base))
        )

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._log_fd is not None:
            os.close(self._log_fd)
            self._log_fd = None


class StagingArea:
    """All unsent files of a mount, and the only user of the journal."""

    def __init__(self, cache_dir: CacheDir, budget: BudgetOptions) -> None:
        self._dir = cache_dir
        self.journal = Journal(cache_dir.journal)
        self.budget = DiskBudget(cache_dir.staging, budget)
        self.write_thread = trio.CapacityLimiter(4)
        self._thread = trio.CapacityLimiter(1)
        self.files: dict[str, StagedFile] = {}
        self.refused: dict[str, Row] = {}

    @property
    def folder(self) -> Path:
        """The cache folder that this area is a part of."""
        return self._dir.root

    async def run(self, work: Callable[..., _T], *args: object) -> _T:
        """Run blocking disk work, one at a time and in order. Never abandoned."""
        return await trio.to_thread.run_sync(work, *args, limiter=self._thread)

    async def open(self) -> list[StagedFile]:
        """Open the journal and recover what an earlier run left. The files are to be listed and uploaded."""
        return await self.run(self._open)

    async def stage(self, path: str, base: Fingerprint | None, *, empty: bool) -> StagedFile:
        """Begin an unsent file. `empty`: nothing of the base is kept (new, or truncated)."""
        file_id = uuid.uuid4().hex
        row = Row(
            id=file_id,
            path=path,
            data=self.new_data_name(file_id),
            size=0,
            mtime_ns=None,
            base_size=_size(base),
            base_mtime_ns=_mtime(base),
            complete=empty or base is None or base.size == 0,
            attempted=None,
            refused=None,
            created=time.time(),
        )
        self.budget.reserve(0 if row.complete else row.base_size or 0)
        try:
            staged = await self.run(self._create, row)
        except BaseException:
            self.budget.give_back(0 if row.complete else row.base_size or 0)
            raise
        self.files[file_id] = staged
        return staged

    async def done(self, staged: StagedFile) -> None:
        """The NAS has it (or nobody wants it any more): forget row and bytes."""
        self.files.pop(staged.id, None)
        self.budget.give_back(staged.size)
        await self.run(self._remove, staged)

    async def refuse(self, staged: StagedFile, reason: str) -> str:
        """The NAS refused it for good: keep the bytes in the recovery folder. Returns where."""
        self.files.pop(staged.id, None)
        self.budget.give_back(staged.size)
        return await self.run(self._refuse, staged, reason)

    async def moved(self, staged_files: list[StagedFile]) -> None:
        """Paths of these files have changed."""
        paths = [(staged.id, staged.path) for staged in staged_files]
        if paths:
            await self.run(self.journal.move_paths, paths)

    async def close(self) -> None:
        await self.run(self._close)

    def data_path(self, name: str) -> str:
        return str(self._dir.staging / name)

    @staticmethod
    def new_data_name(file_id: str) -> str:
        return f"{file_id}.{time.time_ns():x}"

    # ----- blocking, in the thread --------------------------------------------------------------------------------

    def create_data(self, name: str, path: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.data_path(name), flags, 0o600)
        with contextlib.suppress(OSError):  # some filesystems have no user attributes; the journal has the path
            os.setxattr(fd, _PATH_ATTRIBUTE, path.encode("utf-8", "surrogateescape"))
        return fd

    def sync_directory(self) -> None:
        """Make the names of new staged files durable."""
        fd = os.open(self._dir.staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove_data(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.data_path(name))

    def _create(self, row: Row) -> StagedFile:
        fd = self.create_data(row.data, row.path)
        try:
            if not row.complete:
                os.ftruncate(fd, row.base_size or 0)
            staged = StagedFile(self, row, fd)
            if not row.complete:
                staged._log_fd = self._open_log(row.data)
                staged.size = row.base_size or 0
            self.journal.insert(row)
        except BaseException:
            os.close(fd)
            self.remove_data(row.data)
            raise
        return staged

    def _open_log(self, data_name: str) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.data_path(data_name + ".ranges"), flags, 0o600)

    def _remove(self, staged: StagedFile) -> None:
        # The row first: bytes without a row are adopted, a row without bytes would be a loss to report.
        self.journal.delete(staged.id)
        staged.close()
        self.remove_data(staged.data_name)
        self.remove_data(staged.data_name + ".ranges")

    def _refuse(self, staged: StagedFile, reason: str) -> str:
        name = os.path.basename(staged.path) or staged.id
        kept = self._dir.recovery / name
        number = 1
        while kept.exists():
            number += 1
            kept = self._dir.recovery / f"{number}-{name}"[:255]
        os.rename(self.data_path(staged.data_name), kept)
        self.journal.update(staged.id, refused=reason, data=kept.name, size=staged.size)
        staged.close()
        self.remove_data(staged.data_name + ".ranges")
        self.refused[staged.id] = next(row for row in self.journal.rows() if row.id == staged.id)
        return str(kept)

    def _close(self) -> None:
        for staged in self.files.values():
            staged.close()
        self.journal.close()

    # ----- recovery -----------------------------------------------------------------------------------------------

    def _open(self) -> list[StagedFile]:
        self.journal.open()
        known: set[str] = set()
        for row in self.journal.rows():
            if row.refused is not None:
                self.refused[row.id] = row
                continue
            known.add(row.data)
            try:
                self._recover(row)
            except FileNotFoundError:
                log.warning("%s: its staged file is missing from the cache folder; nothing is left to send", row.path)
                self.journal.delete(row.id)
            except StagedFileDamaged as error:
                log.warning("%s: %s", row.path, error)
        for name in sorted(os.listdir(self._dir.staging)):
            if not name.endswith(".ranges") and name not in known:
                self._adopt(name, known)
        return sorted(self.files.values(), key=lambda staged: staged.written_ns)

    def _recover(self, row: Row) -> StagedFile:
        fd = os.open(self.data_path(row.data), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        staged = StagedFile(self, row, fd)
        if staged.size < row.size:
            kept = self._refuse(staged, f"its staged file has {staged.size} of {row.size} bytes left")
            raise StagedFileDamaged(f"the local disk lost a part of this unsent file; what is left is in {kept}")
        if not row.complete:
            self._replay(staged)
        self.budget.dirty_bytes += staged.size
        self.files[staged.id] = staged
        return staged

    def _replay(self, staged: StagedFile) -> None:
        """Learn from the range log which bytes are ours."""
        log_fd = self._open_log(staged.data_name)
        records = os.pread(log_fd, os.fstat(log_fd).st_size, 0)
        valid = 0
        while valid + _RECORD.size <= len(records):
            offset, length, checksum = _RECORD.unpack_from(records, valid)
            if checksum != _checksum(offset, length):
                break
            valid += _RECORD.size
            if length == _TRUNCATE:
                staged.present.clip(offset)
                staged.base_limit = min(staged.base_limit, offset)
            else:
                staged.present.add(offset, offset + length)
        os.ftruncate(log_fd, valid)
        staged._log_fd = log_fd

    def _adopt(self, name: str, known: set[str]) -> None:
        """A staged file without a row. A copy that was not finished (its row names an older one) is removed; any
        other holds bytes that nobody else has."""
        file_id = name.partition(".")[0]
        path = self.data_path(name)
        if any(other.partition(".")[0] == file_id for other in known):
            self.remove_data(name)
            self.remove_data(name + ".ranges")
            return
        try:
            where = os.getxattr(path, _PATH_ATTRIBUTE).decode("utf-8", "surrogateescape")
        except OSError as error:
            if error.errno not in (errno.ENODATA, errno.ENOTSUP):
                raise
            where = ""
        found = os.stat(path)
        whole = not os.path.exists(path + ".ranges")
        row = Row(
            id=file_id, path=where or "/" + name, data=name, size=found.st_size, mtime_ns=None, base_size=None,
            base_mtime_ns=None, complete=True, attempted=None, refused=None, created=found.st_mtime,
        )  # fmt: skip
        self.journal.insert(row)
        staged = self._recover(row)
        if where and whole:
            log.warning("%s: an unsent file without a journal entry was found and is sent now", where)
            return
        self.files.pop(staged.id)
        self.budget.give_back(staged.size)
        kept = self._refuse(staged, "its journal entry is lost")
        log.warning("an unsent file whose journal entry is lost was kept as %s", kept)


def _copy(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    position = 0
    os.ftruncate(target, size)
    while position < size:
        try:
            count = os.copy_file_range(source, target, size - position, position, position)
        except OSError:
            with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as writer:
                reader.seek(position)
                writer.seek(position)
                shutil.copyfileobj(reader, writer, 1024 * 1024)
            return
        if count == 0:
            return
        position += count


def _append(fd: int, offset: int, length: int) -> None:
    os.write(fd, _RECORD.pack(offset, length, _checksum(offset, length)))


def _checksum(offset: int, length: int) -> int:
    return crc32(struct.pack("<QQ", offset, length))


def _size(base: Fingerprint | None) -> int | None:
    return base.size if base is not None else None


def _mtime(base: Fingerprint | None) -> int | None:
    return base.mtime_ns if base is not None else None
