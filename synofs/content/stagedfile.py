"""One unsent file.

A `StagedFile` holds what was written to one file since it was last the same as on the NAS. For a new or truncated
file that is everything. For an edit of a file on the NAS it is the written ranges, and the rest is fetched when a
reader or the upload needs it: changing a few bytes of a big file costs no download until then.

While an upload reads the data file it is *frozen*: the first write then continues on a copy (`_thaw`), so what is
uploaded is exactly what was there when it started, and the writer does not wait for the network.

State changes in trio's thread only; threads are handed file descriptors and values, never the object. `_changing` is
held while a change of the content takes more than one step (a large write, a truncation, thaw, fetched bytes); a
small write happens at once if the lock is free. `_sealing` is held while the content is made durable, and while it is
cut; it is taken after `_changing`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from synofs.content import rangelog
from synofs.content.attempt import Attempt, Sent, attempt_columns
from synofs.content.digest import md5_of
from synofs.content.errors import StagedFileClosed
from synofs.content.headstart import HeadStart
from synofs.content.journal import Row, base_columns
from synofs.content.quicklock import QuickLock
from synofs.content.ranges import RangeSet
from synofs.content.stagingdisk import Label, StagingDisk, close_all, write_at
from synofs.remote import Fingerprint

_INLINE_WRITE_BYTES = 64 * 1024  # a write to the page cache of this size takes less time than the hop to a thread
_LONG_SYNC_BYTES = 4 * 1024 * 1024  # with more than this to write out, fsync would hold up other files' close
_PIECE_BYTES = 4 * 1024 * 1024

FetchBase = Callable[[int, int], Awaitable[bytes | memoryview]]  # (offset, length) of the base version


@dataclass(frozen=True, slots=True)
class Frozen:
    """The bytes of a staged file as they were at one moment, for an upload."""

    source: BinaryIO
    size: int
    mtime_ns: int
    generation: int
    data_name: str


class StagedFile:
    def __init__(
        self, disk: StagingDisk, row: Row, fd: int, log_fd: int | None = None, *, name_synced: bool = False
    ) -> None:
        self._disk = disk
        self.id = row.id
        self.path = row.path
        self.data_name = row.data
        self.base = row.base
        self.base_md5 = row.base_md5
        self.attempt: Attempt | None = None  # not in the journal before that is needed: see `_prepare`
        self.mtime_ns = row.mtime_ns  # set by utimens
        self.written_ns = int(row.created * 1e9)
        self.complete = row.complete
        self.size = os.fstat(fd).st_size
        self.base_limit = 0 if row.complete or row.base is None else row.base.size
        self.present = RangeSet()
        self.generation = 0  # raised by each change
        self.sent_generation = 0  # the NAS has this one; 0: nothing was sent
        self._torn_generation = -1  # a write failed in this one, and may have left some of its bytes
        self.begun_generation = -1  # as open(2) has left it: new or cut to nothing
        self.frozen = False  # an upload reads the data file
        self.unsaved = False  # the journal does not know of `base`, or of what `attempt` has sent
        self.unlinked = False  # nobody will send it; its bytes end with the last handle
        self.reserved_bytes = 0  # of the budget
        self.head: HeadStart | None = None
        self.is_appended_only = self.size == 0  # written from its beginning to its end, so far
        self._thawed = False  # the bytes that an upload reads lie in an older data file
        self._older: dict[str, int] = {}  # such files, with their bytes, that could not be removed yet
        self._sealed_generation = -1
        self._is_sealed = row.mtime_ns is not None  # at some time: the row tells size and time
        self._sealed_size = row.size  # a shorter data file is damaged
        self._unsynced_bytes = 0
        self._name_synced = name_synced
        self._data_fd = fd  # -1: at rest, or ended
        self._log_fd = -1 if log_fd is None else log_fd
        self._has_log = log_fd is not None
        self._cut_is_logged = True
        self._ended = False
        self._changing = QuickLock()
        self._sealing = QuickLock()

    @property
    def effective_mtime_ns(self) -> int:
        """Whole seconds: the NAS keeps no more, and a time that changes at upload makes git and make look again."""
        moment = self.mtime_ns if self.mtime_ns is not None else self.written_ns
        return moment // 10**9 * 10**9

    @property
    def fingerprint(self) -> Fingerprint:
        return Fingerprint(self.size, self.effective_mtime_ns)

    @property
    def to_be_sent(self) -> bool:
        """The NAS does not have the present content, and shall."""
        return not self.unlinked and self.sent_generation != self.generation

    @property
    def is_as_sent(self) -> bool:
        """The data file has exactly what the NAS was sent."""
        return 0 < self.sent_generation == self.generation != self._torn_generation

    def begun(self) -> None:
        """open(2) has made or emptied it. That is a change, and no reason to send it before anything is written."""
        self.generation += 1
        self.begun_generation = self.generation

    @property
    def closed(self) -> bool:
        return self._ended

    # ----- the files on the disk ----------------------------------------------------------------------------------

    @property
    def _fd(self) -> int:
        """Of the data file, opened when it is needed. Raises `StagedFileClosed`."""
        if self._data_fd < 0:
            self._need_open()
            self._data_fd = self._disk.open_data(self.data_name)
        return self._data_fd

    @property
    def _log(self) -> int | None:
        """Of the range log, if there is one."""
        if self._log_fd < 0 and self._has_log:
            self._need_open()
            self._log_fd = self._disk.open_log(self.data_name, create=False)
        return self._log_fd if self._has_log else None

    def rest(self) -> None:
        """Nobody has it open: keep no descriptors for a file that waits for its upload. They come back by need."""
        if not (self.unlinked or self._changing.locked() or self._sealing.locked()):
            close_all(self._take_descriptors())

    def _take_descriptors(self) -> list[int]:
        given = [fd for fd in (self._data_fd, self._log_fd) if fd >= 0]
        self._data_fd = self._log_fd = -1
        return given

    def _need_open(self) -> None:
        if self._ended:
            raise StagedFileClosed(self.path)

    # ----- reading ----------------------------------------------------------------------------------------------

    async def read(self, offset: int, length: int, fetch_base: FetchBase) -> bytes | memoryview:
        """Bytes of the file as it is now; parts that are only on the NAS come through `fetch_base`.

        Raises `StagedFileClosed` if the file was sent (or given up) meanwhile.
        """
        end = min(offset + length, self.size)
        if offset >= end:
            return b""
        self._need_open()
        gaps = self._missing(offset, end)
        if not gaps:
            return os.pread(self._fd, end - offset, offset)
        buffer = bytearray(end - offset)
        for gap_start, gap_end in gaps:
            data = await fetch_base(gap_start, gap_end - gap_start)
            buffer[gap_start - offset : gap_end - offset] = data
        self._need_open()
        # Our own bytes last: a write or a truncation may have come while the base was fetched.
        end = min(end, self.size)
        if offset >= end:
            return b""
        local = os.pread(self._fd, end - offset, offset)
        position = offset
        for gap_start, gap_end in [*self._missing(offset, end), (end, end)]:
            buffer[position - offset : gap_start - offset] = local[position - offset : gap_start - offset]
            position = gap_end
        return memoryview(buffer)[: end - offset]

    def _missing(self, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are only on the NAS."""
        return [] if self.complete else self.present.gaps(start, min(end, self.base_limit, self.size))

    # ----- changing ---------------------------------------------------------------------------------------------

    def takes_at_once(self, length: int) -> bool:
        """Will a write of so many bytes be done between two awaits?"""
        return length <= _INLINE_WRITE_BYTES and not self._needs_preparation and not self._changing.locked()

    async def write(self, offset: int | None, data: bytes | memoryview) -> None:
        """Write at `offset`, or append (None). Raises `LocalDiskFull`, `OSError`, `StagedFileClosed`."""
        if self.takes_at_once(len(data)):
            self._write_now(offset, data)
            return
        async with self._changing:
            await self._prepare()
            if len(data) <= _INLINE_WRITE_BYTES:
                self._write_now(offset, data)
            else:
                await self._write_in_thread(offset, data)

    def _write_now(self, offset: int | None, data: bytes | memoryview) -> None:
        start = self._before_write(offset, len(data))
        try:
            write_at(self._fd, start, data)
            self._note(start, start + len(data))
        except BaseException:
            self._undo_growth()
            raise
        self._after_write(start, start + len(data))

    async def _write_in_thread(self, offset: int | None, data: bytes | memoryview) -> None:
        start = self._before_write(offset, len(data))
        try:
            await self._disk.run_bulk(write_at, self._fd, start, data)
            self._note(start, start + len(data))
        except BaseException:
            self._undo_growth()
            raise
        self._after_write(start, start + len(data))

    def _before_write(self, offset: int | None, length: int) -> int:
        self._need_open()
        start = self.size if offset is None else offset
        if start != self.size:
            self._leave_order(start)
        self._reserve(start + length, length)
        return start

    def _after_write(self, start: int, end: int) -> None:
        self.size = max(self.size, end)
        self._unsynced_bytes += end - start
        self._changed()

    def _leave_order(self, start: int) -> None:
        """It is about to change elsewhere than at its end."""
        self.is_appended_only = False
        if self.head is not None and start < self.head.end:
            self._void_head()

    def _void_head(self) -> None:
        if self.head is not None:
            self.head.void()
            self.head = None

    def take_head(self) -> HeadStart | None:
        """The upload goes on from there. To be called right after `freeze`: later changes do not concern it."""
        head, self.head = self.head, None
        self.is_appended_only = False
        return head

    def _reserve(self, size: int, write_bytes: int) -> None:
        self._log_cut()
        grow = max(0, size - self.reserved_bytes)
        self._disk.budget.reserve(grow, write_bytes)
        self.reserved_bytes += grow

    def _undo_growth(self) -> None:
        """A write failed half-way: no stray bytes behind the end, and no reservation for them."""
        self._torn_generation = self.generation
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self.size)
        self._release_beyond(self.size)

    def _release_beyond(self, size: int) -> None:
        self._disk.budget.give_back(max(0, self.reserved_bytes - size))
        self.reserved_bytes = min(self.reserved_bytes, size)

    def _note(self, start: int, end: int) -> None:
        """These bytes are ours. If the range log does not take that, they are not: a crash would lose them."""
        if self.complete or not self._missing(start, end):
            return
        if self._log is not None:
            rangelog.append_written(self._log, start, end)
        self.present.add(start, end)

    async def truncate(self, size: int) -> None:
        """Cut or extend. Raises `LocalDiskFull`, `OSError`, `StagedFileClosed`."""
        async with self._changing:
            await self._prepare()
            self._need_open()
            self._leave_order(size)
            if size >= self.size:
                self._reserve(size, 0)
                os.ftruncate(self._fd, size)
                self.size = size
                self._changed()
            else:
                async with self._sealing:
                    await self._cut(size)
                self._changed()
                self._log_cut()

    async def _cut(self, size: int) -> None:
        if size < self._sealed_size and not self.unlinked:
            # The row first: after a crash, a data file that is shorter than it says counts as damaged.
            await self._disk.run(lambda: self._disk.journal.update(self.id, size=size))
            self._sealed_size = size
            self.relabel()
        os.ftruncate(self._fd, size)
        self.size = size
        self._release_beyond(size)
        self.present.clip(size)
        if not self.complete and size < self.base_limit:
            self.base_limit = size
            self._cut_is_logged = False

    def _log_cut(self) -> None:
        """The range log has to know how far the file was cut, before that grows again. Raises `OSError`."""
        if not self._cut_is_logged:
            if self._log is not None:
                rangelog.append_truncated(self._log, self.base_limit)
            self._cut_is_logged = True

    async def set_mtime(self, mtime_ns: int) -> None:
        self.mtime_ns = mtime_ns
        self.generation += 1

    def _changed(self) -> None:
        self.generation += 1
        self.written_ns = time.time_ns()
        # A time set by utimens holds until the content changes again (POSIX: write marks mtime for update).
        self.mtime_ns = None

    # ----- before a change ----------------------------------------------------------------------------------------

    @property
    def _needs_preparation(self) -> bool:
        return self.frozen or self.unsaved or self._is_doubtful

    @property
    def _is_doubtful(self) -> bool:
        """Nobody knows whether the present content has arrived."""
        return self.attempt is not None and self.attempt.is_present and not self._thawed

    async def _prepare(self) -> None:
        """The content is about to change (`_changing` is held). What an upload reads, or has perhaps delivered, is
        kept, or at least its checksum: as long as the content is the same, the next mount can tell by that alone
        whether it had arrived."""
        if self._is_doubtful and not self.frozen:
            await self._remember_attempt(self._fd, self.size)
        if self.unsaved:
            await self.save()
        if self.frozen:
            await self._thaw()

    async def _thaw(self) -> None:
        """Go on with a copy; the upload keeps reading the old data file, which `unfreeze` removes."""
        disk = self._disk
        await disk.keep_promises()  # which of two data files counts is for the row to say
        disk.budget.reserve(self.size, self.size)
        try:
            name = disk.new_data_name(self.id)
            fd = await disk.run_bulk(disk.copy, self._fd, name, self._label())
            try:
                await disk.run(lambda: disk.journal.update(self.id, data=name))
            except BaseException:
                os.close(fd)
                disk.remove(name)
                raise
        except BaseException:
            disk.budget.give_back(self.size)
            raise
        disk.label(disk.data_path(self.data_name), Label(""))  # it is not to be adopted beside its copy
        close_all(self._take_descriptors())
        self._data_fd = fd
        self.data_name = name
        self.frozen = False
        self._thawed = True
        self._name_synced = True

    async def _remember_attempt(self, fd: int, size: int) -> None:
        """These bytes were sent, and are about to go."""
        assert self.attempt is not None
        self.attempt = self.attempt.with_sent(Sent(size, await self._disk.run_bulk(md5_of, fd, size)))
        self.unsaved = True

    def _label(self) -> Label:
        """With time and size as of a seal; before the first one the data file's own tell, unless a time was given."""
        mtime_ns = self.effective_mtime_ns if self._is_sealed else self.mtime_ns
        return Label(self.path, self.base, mtime_ns, self.complete, self._sealed_size)

    # ----- completing -----------------------------------------------------------------------------------------------

    async def fetch_missing(self, fetch_base: FetchBase) -> None:
        """Make the file complete: fetch every part that is only on the NAS."""
        while not self.complete:
            self._need_open()
            gaps = self._missing(0, self.size)
            if not gaps:
                async with self._changing:
                    if not self._missing(0, self.size) and not self.complete:
                        await self._mark_complete()
                continue
            start, end = gaps[0]
            data = memoryview(await fetch_base(start, min(end - start, _PIECE_BYTES)))
            async with self._changing:
                self._need_open()
                # Only what nobody has written, or cut off, meanwhile.
                for gap_start, gap_end in self._missing(start, start + len(data)):
                    write_at(self._fd, gap_start, data[gap_start - start : gap_end - start])
                    self._note(gap_start, gap_end)

    async def _mark_complete(self) -> None:
        if not self.unlinked:
            await self._disk.run_bulk(os.fsync, self._fd)
            await self._disk.run(lambda: self._disk.journal.update(self.id, complete=1))
        self.complete = True
        if not self.unlinked:
            self.relabel()
            await self._disk.run(self._disk.remove_log, self.data_name)
        self._has_log = False
        if self._log_fd >= 0:
            os.close(self._log_fd)
            self._log_fd = -1

    # ----- durability -----------------------------------------------------------------------------------------------

    async def seal(self) -> None:
        """Data, range log and journal row are on the local disk when this returns."""
        async with self._sealing:
            if self._sealed_generation == self.generation or self.unlinked or self.closed:
                return
            generation, size, unsynced = self.generation, self.size, self._unsynced_bytes
            known = self.base, self.attempt
            label_tells_all = self._label_tells_all
            self._is_sealed = True
            # A thaw may close the file meanwhile; its copy is made durable by itself.
            fds = [os.dup(fd) for fd in (self._fd, self._log) if fd is not None]
            log_bytes = os.fstat(fds[1]).st_size if len(fds) > 1 else 0
            try:
                label = self._label()._replace(size=size)
                is_labelled = self._disk.label(fds[0], label)
                if unsynced > _LONG_SYNC_BYTES:
                    await self._disk.run_bulk(os.fsync, fds[0])
                if label_tells_all and is_labelled:
                    await self._disk.run_short(self._sync, fds)
                    self._disk.amend(self.id, size=size, mtime_ns=label.mtime_ns)
                else:
                    await self._disk.run(self._seal, fds, size, log_bytes, label, self.columns())
            finally:
                for fd in fds:
                    os.close(fd)
            self._unsynced_bytes -= unsynced
            self._name_synced = True
            self._saved(*known)
            self._sealed_size = size
            self._sealed_generation = generation

    def columns(self) -> dict[str, object]:
        """What the journal says of where it belongs."""
        return {"path": self.path, **base_columns(self.base, self.base_md5), **attempt_columns(self.attempt)}

    @property
    def _label_tells_all(self) -> bool:
        """The label becomes durable with the data. As long as it says all that the row would, and the row nothing else
        (it was never sealed), the journal need not wait for the disk, too: one flush less."""
        as_begun = not (self._is_sealed or self.unsaved) and self.attempt is None
        return as_begun and self.complete and self.base_md5 is None

    def _seal(self, fds: list[int], size: int, log_bytes: int, label: Label, columns: dict[str, object]) -> None:
        self._sync(fds)
        self._save_seal(size, log_bytes, label, columns)

    def _sync(self, fds: list[int]) -> None:
        for fd in fds:
            os.fsync(fd)
        if not self._name_synced:
            self._disk.sync_names()

    def _save_seal(self, size: int, log_bytes: int, label: Label, columns: dict[str, object]) -> None:
        self._disk.journal.update(self.id, size=size, log_bytes=log_bytes, mtime_ns=label.mtime_ns, **columns)

    # ----- for the upload ---------------------------------------------------------------------------------------

    async def freeze(self) -> Frozen:
        """The bytes as they are now, to be read by one upload. `unfreeze` must follow."""
        async with self._changing:
            self._need_open()
            source = self.open_source()
            self.frozen = True
            return Frozen(source, self.size, self.effective_mtime_ns, self.generation, self.data_name)

    def open_source(self) -> BinaryIO:
        """The data file for an upload, with a position of its own."""
        fd = os.open(self._disk.data_path(self.data_name), os.O_RDONLY | os.O_CLOEXEC)
        return os.fdopen(fd, "rb", buffering=0)

    async def unfreeze(self, frozen: Frozen) -> None:
        """The upload has ended, well or not."""
        async with self._changing:
            try:
                if self.data_name == frozen.data_name:
                    self.frozen = False
                    return
                # The file went on with a copy. These bytes tell the next mount what is on the NAS: before they go, the
                # journal has to know that they arrived, or, if nobody knows it, their checksum.
                self._older[frozen.data_name] = frozen.size
                if self.attempt is not None and self.attempt.is_present:
                    await self._remember_attempt(frozen.source.fileno(), frozen.size)
                if self.unsaved:
                    await self.save()
                # Not in the journal's thread: whatever becomes of a transaction there.
                await self._disk.run_bulk(self._disk.remove, *self.take_older())
            finally:
                self._thawed = False
                frozen.source.close()

    async def note_attempt(self, path: str) -> None:
        """Remember that an upload of the present content to `path` begins. The journal need not know if that is the
        file's own path: after a crash nobody takes it for certain that nothing has arrived there."""
        if self.attempt is None or self.attempt.path != path:
            self.attempt = Attempt(path)
            if path != self.path:
                self.unsaved = True
                await self.save()
        self.attempt = self.attempt._replace(is_present=True)

    def placed(self, base: Fingerprint, md5: str | None) -> None:
        """The upload has arrived: from now on the edit starts from this version on the NAS. `save` unless this is the
        end of the staged file."""
        self.base, self.base_md5, self.attempt = base, md5, None
        self.unsaved = True

    async def save(self) -> None:
        """Before the content changes again, the journal has to know what it started from, and what was sent."""
        if self.unsaved:
            known, columns = (self.base, self.attempt), self.columns()
            await self._disk.run(lambda: self._disk.journal.update(self.id, **columns))
            self._saved(*known)
            self.relabel()

    def _saved(self, base: Fingerprint | None, attempt: Attempt | None) -> None:
        """The journal has these, which may be older ones by now."""
        if (self.base, self.attempt) == (base, attempt):
            self.unsaved = False

    def take_older(self) -> list[str]:
        """Data files of before a copy, which the caller removes."""
        older, self._older = self._older, {}
        self._disk.budget.give_back(sum(older.values()))
        return list(older)

    def inherit(self, base: Fingerprint | None, md5: str | None, attempt: Attempt | None) -> None:
        """It replaces another file: what was known of that one's version on the NAS holds for this one now. The caller
        writes `columns()` into the journal."""
        self.base, self.base_md5, self.attempt = base, md5, attempt

    async def attempt_with_md5(self) -> Attempt | None:
        """The upload whose end is not known, and what it sent."""
        async with self._changing:
            if self.attempt is not None and self.attempt.is_present:
                await self._remember_attempt(self._fd, self.size)
            return self.attempt

    def relabel(self) -> None:
        """Path or base have changed: the data file itself shall say so, too."""
        if not self.closed:
            self._disk.label(self._disk.data_path(self.data_name), self._label())

    # ----- the end ----------------------------------------------------------------------------------------------------

    def abandon(self) -> None:
        """The journal is about to forget it: if the crash comes right then, the data file shall not be adopted."""
        if not self.closed:
            for name in (self.data_name, *self._older):
                self._disk.label(self._disk.data_path(name), Label(""))

    def end(self) -> bool:
        """Let go of the data file at once; False if it is just being changed."""
        if self._changing.locked() or self._sealing.locked():
            return False
        self._ended = True
        self._void_head()
        close_all(self._take_descriptors())
        return True

    async def close(self) -> None:
        """Let go of the data file, after any change that is under way."""
        async with self._changing, self._sealing:
            self._ended = True
            self._void_head()
            # The end of a large file that has no name takes its time.
            await self._disk.run_bulk(close_all, self._take_descriptors())

    def close_at_once(self) -> None:
        """The same where nobody else has it: recovery failed, or its beginning."""
        self._ended = True
        self._void_head()
        close_all(self._take_descriptors())
