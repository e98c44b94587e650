"""The part of the local disk that unsent files live on: their data files, the journal, the budget, and the threads
that touch them.

Next to each data file lies what is needed to adopt it should the journal be lost: an extended attribute that names
the path and the version that it started from, and for an edit its range log (`<data>.ranges`).

Everything that may block goes to a thread: journal and names to one thread, in order; long work (copies, large
writes, checksums) to a few others, so that it holds up nobody else's close; making new files durable to a few more.
What waits for the one thread at the same time goes there together and into one transaction: one fsync of the journal
for all of it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

import trio

from synofs import threads
from synofs.content.budget import BudgetOptions, DiskBudget
from synofs.content.cachedir import CacheDir
from synofs.content.journal import Journal, Row
from synofs.content.quicklock import QuickLock
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_ATTRIBUTE = "user.synofs"
_LOG_SUFFIX = ".ranges"
_BULK_THREADS = 4
_SHORT_THREADS = 4
_GATHER_SECONDS = 0.25  # so long rows of new files are gathered: each transaction takes longer than its rows


class Label(NamedTuple):
    """What a data file says of itself."""

    path: str  # "": nobody wants its bytes any more
    base: Fingerprint | None = None
    mtime_ns: int | None = None
    complete: bool = True
    size: int = 0  # at the last seal: a data file that is shorter is damaged

    def encoded(self) -> bytes:
        base = f"{self.base.size} {self.base.mtime_ns}" if self.base is not None else ""
        mtime = "" if self.mtime_ns is None else str(self.mtime_ns)
        parts = "whole" if self.complete else "parts"
        if self.size:
            parts += f" {self.size}"
        return f"{parts}\n{base}\n{mtime}\n".encode() + self.path.encode("utf-8", "surrogateescape")

    @classmethod
    def decoded(cls, raw: bytes) -> Label:
        """Raises `ValueError`."""
        parts, base, mtime, path = raw.split(b"\n", 3)
        base_size, _, base_mtime = base.partition(b" ")
        parts, _, size = parts.partition(b" ")
        return cls(
            path.decode("utf-8", "surrogateescape"),
            Fingerprint(int(base_size), int(base_mtime)) if base else None,
            int(mtime) if mtime else None,
            parts == b"whole",
            int(size or 0),
        )


def _nothing() -> None:
    pass


class _Job(Generic[_T]):
    """Work for the one thread, and how it ended."""

    __slots__ = ("after", "args", "awaited", "durable", "ended", "error", "instead", "result", "work")

    def __init__(
        self,
        work: Callable[..., _T],
        args: tuple[object, ...],
        after: Callable[[], None],
        *,
        awaited: bool,
        durable: bool = True,
        instead: Callable[[], None] = _nothing,
    ) -> None:
        self.work = work
        self.args = args
        self.awaited = awaited
        self.durable = durable
        self.instead = instead  # what follows when it failed
        self.after = after  # what follows when the work is durable
        self.ended = False
        self.result: _T | None = None
        self.error: Exception | None = None

    def outcome(self) -> _T:
        if self.error is not None:
            raise self.error
        return self.result  # type: ignore[return-value]  # what the work returned


class StagingDisk:
    def __init__(self, cache_dir: CacheDir, budget: BudgetOptions) -> None:
        self._dir = cache_dir
        self.staging = cache_dir.staging
        self._data_prefix = f"{cache_dir.staging}/"
        self.journal = Journal(cache_dir.journal)
        self.budget = DiskBudget(cache_dir.staging, budget)
        self._jobs: list[_Job[Any]] = []  # waiting, in order
        self._thread = trio.CapacityLimiter(1)
        self._turn = QuickLock()  # held by whoever takes the waiting jobs to the thread
        self._left = trio.Event()  # set when there are jobs that nobody waits for
        self._owes = trio.Event()  # set when rows were promised
        self._bulk = trio.CapacityLimiter(_BULK_THREADS)
        self._short = trio.CapacityLimiter(_SHORT_THREADS)

    async def run(
        self,
        work: Callable[..., _T],
        *args: object,
        durable: bool = True,
        after: Callable[[], None] = _nothing,
        instead: Callable[[], None] = _nothing,
    ) -> _T:
        """Run short disk work in order, together with what waits at the same time. What it wrote into the journal is
        durable on return, and before `after` is called; `instead` if it failed, or was done and cannot be made durable.
        Without `durable` it survives the end of this process, and a loss of power once something later is durable.
        Cancelled only before it has begun."""
        job = _Job(work, args, after, awaited=True, durable=durable, instead=instead)
        self._jobs.append(job)
        try:
            async with self._turn:
                if not job.ended:
                    await self._run_waiting()
        except trio.Cancelled:
            if job in self._jobs:
                self._jobs.remove(job)
                raise
            with trio.CancelScope(shield=True):
                async with self._turn:
                    pass
        return job.outcome()

    async def run_quickly(
        self,
        work: Callable[..., _T],
        *args: object,
        after: Callable[[], None] = _nothing,
        instead: Callable[[], None] = _nothing,
    ) -> _T:
        """The same for work that waits for no disk, and need not be durable on return. Done at once, if the journal is
        free."""
        if self._is_busy:
            return await self.run(work, *args, durable=False, after=after, instead=instead)
        job = _Job(work, args, after, awaited=True, durable=False, instead=instead)
        self._run_all([job])
        return job.outcome()

    def later(
        self,
        work: Callable[..., None],
        *args: object,
        durable: bool = True,
        after: Callable[[], None] = _nothing,
        instead: Callable[[], None] = _nothing,
    ) -> None:
        """Run short disk work in order, some time soon, and `after` when it is durable. A failure is logged, and
        `instead` is run."""
        self._jobs.append(_Job(work, args, after, awaited=False, durable=durable, instead=instead))
        self._left.set()

    def promise(self, row: Row) -> None:
        """Write the row of a labelled file some time soon, with those of others."""
        self.journal.promise(row)
        self._owes.set()

    def amend(self, file_id: str, **columns: object) -> None:
        """Change a row some time soon: in memory, as long as it was not written yet."""
        if self._is_busy or not self.journal.amend(file_id, **columns):
            self.later(lambda: self.journal.update(file_id, **columns), durable=False)

    async def keep_promises(self) -> None:
        """Return when the journal has all rows of files that were begun before: nobody looks at labels then."""
        while self.journal.owes:
            await self.run_quickly(self.journal.keep_promises)

    @property
    def _is_busy(self) -> bool:
        return bool(self._jobs) or self._turn.locked()

    async def serve(self) -> None:
        """Do what was put off, until cancelled; then what is left of it."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._serve_jobs)
            nursery.start_soon(self._serve_promises)

    async def _serve_jobs(self) -> None:
        try:
            while True:
                await self._left.wait()
                self._left = trio.Event()
                await self.flush()
        finally:
            with trio.CancelScope(shield=True):
                await self.flush()

    async def _serve_promises(self) -> None:
        try:
            while True:
                await self._owes.wait()
                await trio.sleep(_GATHER_SECONDS)
                self._owes = trio.Event()
                self.later(self.journal.keep_promises, durable=False)
        finally:
            self.later(self.journal.keep_promises)
            with trio.CancelScope(shield=True):
                await self.flush()

    async def flush(self) -> None:
        """Return when all is done that was put off before."""
        if self._is_busy:
            async with self._turn:
                await self._run_waiting()

    async def alone(self, work: Callable[[], _T]) -> _T:
        """Run what begins and ends transactions itself: opening and closing the journal."""
        async with self._turn:
            await self._run_waiting()
            return await self._in_thread(work)

    async def _run_waiting(self) -> None:
        jobs, self._jobs = self._jobs, []
        if jobs:
            with trio.CancelScope(shield=True):  # they are not only the caller's
                await self._in_thread(self._run_all, jobs)

    async def _in_thread(self, work: Callable[..., _T], *args: object) -> _T:
        return await threads.run_sync(work, *args, limiter=self._thread)

    def _run_all(self, jobs: list[_Job[Any]]) -> None:
        try:
            with self.journal.together(durable=any(job.durable for job in jobs)):
                if len(jobs) == 1:
                    self._run_alone(jobs[0])
                else:
                    self._run_each(jobs)
        except Exception as error:
            for job in jobs:
                job.error = job.error or error
        for job in jobs:
            job.ended = True
            if job.error is None:
                try:
                    job.after()
                except Exception as error:
                    job.error = error
            if job.error is not None:
                self._failed(job)

    @staticmethod
    def _failed(job: _Job[Any]) -> None:
        if not job.awaited:
            log.warning("the cache folder could not be tidied: %s", job.error)
        try:
            job.instead()
        except OSError as error:
            log.warning("the cache folder could not be tidied: %s", error)

    def _run_alone(self, job: _Job[Any]) -> None:
        """If it fails, the transaction is taken back."""
        job.result = job.work(*job.args)
        self.journal.check_together()

    def _run_each(self, jobs: list[_Job[Any]]) -> None:
        """If one fails, the others' work stays."""
        for job in jobs:
            try:
                with self.journal.all_or_nothing():
                    job.result = job.work(*job.args)
            except Exception as error:
                job.error = error
            self.journal.check_together()

    async def run_bulk(self, work: Callable[..., _T], *args: object) -> _T:
        """Run long disk work beside other such. Never abandoned."""
        return await threads.run_sync(work, *args, limiter=self._bulk)

    async def run_short(self, work: Callable[..., _T], *args: object) -> _T:
        """Run short disk work that needs no order beside other such: long work holds it up as little as the journal
        does. Never abandoned."""
        return await threads.run_sync(work, *args, limiter=self._short)

    # ----- names, not blocking ------------------------------------------------------------------------------------

    @property
    def client_id(self) -> str:
        return self._dir.client_id

    @property
    def recovery(self) -> Path:
        return self._dir.recovery

    def data_path(self, name: str) -> str:
        return self._data_prefix + name

    def log_path(self, name: str) -> str:
        return self.data_path(name + _LOG_SUFFIX)

    @staticmethod
    def new_data_name(file_id: str) -> str:
        return f"{file_id}.{time.time_ns():x}"

    @staticmethod
    def file_id(data_name: str) -> str:
        return data_name.partition(".")[0]

    def sweep(self) -> list[str]:
        """The names of all data files, a file's oldest first; range logs whose data file has gone are removed."""
        names = set(os.listdir(self._dir.staging))
        for name in [name for name in names if name.endswith(_LOG_SUFFIX)]:
            names.discard(name)
            if name.removesuffix(_LOG_SUFFIX) not in names:
                self.remove_log(name.removesuffix(_LOG_SUFFIX))
        return sorted(names)

    # ----- data files, blocking ------------------------------------------------------------------------------------

    def create(self, name: str) -> int:
        """A data file without a label: while nothing has been written it is nobody's."""
        return os.open(self.data_path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def open_data(self, name: str) -> int:
        return os.open(self.data_path(name), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)

    def open_log(self, name: str, *, create: bool) -> int:
        """Raises `FileNotFoundError` unless it may be created."""
        flags = os.O_RDWR | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        return os.open(self.log_path(name), flags | (os.O_CREAT if create else 0), 0o600)

    def copy(self, source_fd: int, name: str, label: Label) -> int:
        """A durable copy of a data file under another name."""
        fd = self.create(name)
        try:
            _copy(source_fd, fd)
            self.label(fd, label)
            os.fsync(fd)
            self.sync_names()
        except BaseException:
            os.close(fd)
            self.remove(name)
            raise
        return fd

    @staticmethod
    def label(file: int | str, label: Label) -> bool:
        """False: some filesystems have no user attributes. The journal has it all."""
        try:
            os.setxattr(file, _ATTRIBUTE, label.encoded())
        except OSError:
            return False
        return True

    @staticmethod
    def label_of(path: str) -> Label | None:
        try:
            return Label.decoded(os.getxattr(path, _ATTRIBUTE, follow_symlinks=False))
        except (OSError, ValueError):
            return None

    def sync_names(self) -> None:
        """Make the names of new data files durable."""
        fd = os.open(self._dir.staging, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def remove(self, *names: str) -> None:
        for name in names:
            for path in (self.data_path(name), self.log_path(name)):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)

    def remove_log(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.log_path(name))

    def keep(self, name: str, wanted_name: str) -> str:
        """Move a data file (and its range log) into the recovery folder, under a name that people can read. Returns
        the name that it got."""
        kept = _free_name(self._dir.recovery, wanted_name)
        os.rename(self.data_path(name), self._dir.recovery / kept)
        with contextlib.suppress(FileNotFoundError):
            os.rename(self.log_path(name), self._dir.recovery / (kept + _LOG_SUFFIX))
        return kept


def _free_name(folder: Path, wanted: str) -> str:
    raw = os.fsencode(wanted)
    number = 1
    while True:
        mark = b"" if number == 1 else b"%d-" % number
        name = os.fsdecode(mark + raw[: 255 - len(_LOG_SUFFIX) - len(mark)])
        if not os.path.lexists(folder / name):
            return name
        number += 1


def _copy(source: int, target: int) -> None:
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    position = 0
    while position < size:
        try:
            count = os.copy_file_range(source, target, size - position, position, position)
        except OSError:
            _copy_by_hand(source, target, position)
            return
        if count == 0:
            return
        position += count


def _copy_by_hand(source: int, target: int, position: int) -> None:
    with open(source, "rb", closefd=False) as reader, open(target, "wb", closefd=False) as writer:
        reader.seek(position)
        writer.seek(position)
        shutil.copyfileobj(reader, writer, 1024 * 1024)


def close_all(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def write_at(fd: int, offset: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count
