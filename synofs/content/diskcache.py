"""Clean bytes of remote files on the local disk: a cache that survives remounts and may fail at any time.

The cache never fails a read: what goes wrong here is logged once and answered as a miss. All of it runs in one
thread (`blockstore.py` says what lies on the disk); bytes are written behind the reader, through a queue. What is
faster than the disk waits for it a little (`keep_pace`), so that what was read is here afterwards; a disk that takes
longer, or hangs, is not waited for, and what comes while the queue is full is dropped.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import trio

from synofs.content.allowance import Allowance
from synofs.content.blockstore import BlockStore, CachedFile, Piece, Stretch, Whole
from synofs.content.errors import ContentError
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

_T = TypeVar("_T")
_SWEEP_PAUSE_SECONDS = 0.05  # some 15 s for the whole cache
_LOOK_SECONDS = 5.0  # between two looks at the free space
_BATCH_BYTES = 8 * 1024**2  # are written together; who asks for something meanwhile waits for no more than that
_BATCH_SECONDS = 0.5  # a disk that takes longer is not waited for until nothing is left to be written
_WAITING_PART = 0.05  # of the time, in the long run


@dataclass(frozen=True, slots=True)
class DiskCacheOptions:
    max_bytes: int = 10 * 1024**3
    floor_bytes: int = 1024**3  # free space that is left to everybody else
    pace_bytes: int = 64 * 1024**2  # waiting to be written: downloads wait, ...
    wait_seconds: float = 2.0  # ... so long at once
    queue_bytes: int = 128 * 1024**2  # more is dropped; most of it is in the cache in memory, too
    end_seconds: float = 2.0  # the end of a mount goes on writing for so long
    max_whole_bytes: int = 256 * 1024**2  # of a file that was written here: what a checksum is not dear for


class _Item(NamedTuple):
    number: int
    piece: Piece | Whole


class DiskCache:
    def __init__(self, folder: Path, options: DiskCacheOptions) -> None:
        self._folder = folder
        self._options = options
        self._store = BlockStore(folder, options.max_bytes, options.floor_bytes)
        self._thread = trio.CapacityLimiter(1)
        self._send, self._receive = trio.open_memory_channel[_Item | None](10_000)  # None: only look at `_void`
        self._void: list[str] = []  # paths to be forgotten before anything else is done
        self._queued_bytes = 0
        self._written = trio.Event()  # set and replaced whenever something was
        self._is_slow = False
        self._allowance = Allowance(options.wait_seconds, _WAITING_PART)
        self._forgotten: dict[str, int] = {}  # path -> items queued before this number are void
        self._item_count = 0
        self._broken = False

    @property
    def bytes_used(self) -> int:
        """What is cached takes so much of the disk."""
        return self._store.bytes_used

    # ----- asking -----------------------------------------------------------------------------------------------

    async def open(self) -> None:
        await self._guarded(self._store.open, None)

    async def find(self, path: str, version: Fingerprint) -> CachedFile | None:
        """What is here of that version; older versions of the path are dropped."""
        with trio.CancelScope(shield=bool(self._void)):  # what this call takes on to forget is forgotten
            return await self._guarded(self._after_forgetting(lambda: self._store.find(path, version)), None)
        raise AssertionError("nothing cancels this scope")

    async def read(self, file: CachedFile, stretch: Stretch) -> memoryview | None:
        """The bytes, or None if they are not what was written."""
        data = await self._guarded(lambda: self._store.read(file, stretch), None)
        if data is None:
            file.stretches = [other for other in file.stretches if other != stretch]
        return data

    def add(self, path: str, version: Fingerprint, start: int, data: memoryview) -> None:
        """Write these bytes behind the caller's back, or drop them if the disk does not keep up."""
        if self._broken or self._queued_bytes + len(data) > self._options.queue_bytes:
            return
        with contextlib.suppress(trio.WouldBlock):
            self._item_count += 1
            self._send.send_nowait(_Item(self._item_count, Piece(path, version, start, data)))
            self._queued_bytes += len(data)

    async def keep_pace(self) -> None:
        """Hold a download back while much waits to be written, if the disk gets on with it; for no more than
        `wait_seconds` at once and a twentieth of the time."""
        while self._queued_bytes > self._options.pace_bytes and not self._is_slow and not self._broken:
            began = trio.current_time()
            if (allowed := self._allowance.seconds) <= 0:
                return
            with trio.move_on_after(min(allowed, _BATCH_SECONDS)) as limit:
                await self._written.wait()
            self._allowance.spend(trio.current_time() - began)
            self._is_slow = limit.cancelled_caught

    def take_over(self, path: str, version: Fingerprint, data: str) -> None:
        """This whole file on the same disk, which nobody will change any more, has the bytes of that version: keep it
        under a name of the cache's own. Not for big files, nor where a file can have only one name."""
        if self._broken or not 0 < version.size <= self._options.max_whole_bytes:
            return
        link = self._store.incoming / uuid.uuid4().hex
        try:
            os.link(data, link, follow_symlinks=False)
        except OSError as error:
            log.debug("what was written here is not kept: %s", error)
            return
        self._item_count += 1
        whole = Whole(path, version, link)
        try:
            self._send.send_nowait(_Item(self._item_count, whole))
        except trio.WouldBlock:
            self._store.discard(whole)

    def forget(self, path: str) -> None:
        """What is cached of this path, and below it, is void, and so is what waits to be written of it. Takes effect
        at once; the disk follows behind the caller's back."""
        self._forgotten[path] = self._item_count
        self._void.append(path)
        with contextlib.suppress(trio.WouldBlock):
            self._send.send_nowait(None)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write what is added, until cancelled; `close` comes after it."""
        await self.open()
        task_status.started()
        await self._guarded(self._store.count, None)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._sweep)
            nursery.start_soon(self._give_way)
            await self._write_for_ever()

    async def _sweep(self) -> None:
        """Remove what belongs to nobody, after a mount that was killed or a damage."""
        more = self._store.needs_sweep
        while more:
            await trio.sleep(_SWEEP_PAUSE_SECONDS)
            more = await self._guarded(self._store.sweep_some, False)

    async def _give_way(self) -> None:
        while not self._broken:
            await self._guarded(self._store.give_way, None)
            await trio.sleep(_LOOK_SECONDS)

    async def _write_for_ever(self) -> None:
        while True:
            await self._write_behind([await self._receive.receive(), *self._waiting()])
            if self._receive.statistics().current_buffer_used == 0:
                self._forgotten.clear()
                self._is_slow = False

    def _waiting(self) -> Iterator[_Item | None]:
        """Of what is queued as much as is well written together."""
        total_bytes = 0
        with contextlib.suppress(trio.WouldBlock):
            while total_bytes < _BATCH_BYTES:
                yield (item := self._receive.receive_nowait())
                total_bytes += _bytes_of(item)

    async def _write_behind(self, batch: list[_Item | None]) -> None:
        items = [item for item in batch if item is not None]
        valid = [item.piece for item in items if item.number > self._forgotten_since(item.piece.path)]
        kept = set(map(id, valid)) if not self._broken else set()
        for item in items:
            if isinstance(item.piece, Whole) and id(item.piece) not in kept:
                self._store.discard(item.piece)
        if valid or self._void:
            with trio.CancelScope(shield=True):  # what was taken out of the queue is written, also at the end
                keeps_up = self._queued_bytes <= self._options.pace_bytes // 2
                work = self._after_forgetting(partial(self._store.write, valid, direct=keeps_up))
                await self._guarded(work, None)
        self._queued_bytes -= sum(len(item.piece.data) for item in items if isinstance(item.piece, Piece))
        self._written.set()
        self._written = trio.Event()

    def _after_forgetting(self, work: Callable[[], _T]) -> Callable[[], _T]:
        void, self._void = self._void, []

        def both() -> _T:
            for path in void:
                self._store.forget(path)
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
        """What was written here is kept, however late that was; what was only read as far as that takes no more than
        `end_seconds`."""
        until = trio.current_time() + self._options.end_seconds
        while batch := list(self._waiting()):
            if trio.current_time() > until:
                batch = [item for item in batch if item is not None and isinstance(item.piece, Whole)]
            await self._write_behind(batch)
        await self._guarded(self._after_forgetting(self._store.close), None)

    async def _guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        if self._broken:
            return otherwise
        try:
            return await trio.to_thread.run_sync(self._store.whole, work, otherwise, limiter=self._thread)
        except (OSError, sqlite3.Error, ContentError) as error:
            self._broken = True
            log.warning("the disk cache in %s is switched off: %s", self._folder, error)
            return otherwise
        except Exception:  # a read that could do without the cache must not fail because of it
            self._broken = True
            log.exception("the disk cache in %s failed in a way nobody foresaw and is switched off", self._folder)
            return otherwise


def _bytes_of(item: _Item | None) -> int:
    if item is None:
        return 0
    return item.piece.version.size if isinstance(item.piece, Whole) else len(item.piece.data)
