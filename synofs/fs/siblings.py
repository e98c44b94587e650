"""Reading ahead across files: who reads the small files of a directory in order gets the next ones ahead.

`cp -r`, `tar`, `grep -r` open one small file after the other, and each costs a round trip however small it is. After
two files in a row the next ones of the listing are fetched, within a budget of files and bytes that grows with each
one that is used. A file out of order, or a big one, ends it; what was fetched and not used is lost to the cache.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice

import trio

from synofs.content.reader import Reader
from synofs.fs.inodes import Inode
from synofs.fs.listing import Listing
from synofs.remote import Rights


@dataclass(frozen=True, slots=True)
class SiblingOptions:
    small_file_bytes: int = 1024 * 1024
    files_in_a_row: int = 2
    first_window: int = 4
    max_window: int = 96
    max_bytes_ahead: int = 16 * 1024 * 1024  # of all directories together
    idle_seconds: float = 10.0  # then nobody goes on reading a directory
    max_bytes_together: int = 2 * 1024 * 1024
    fetches_at_once: int = 5
    skip: int = 8  # so many files further still count as "in order": a program leaves out what it does not want
    max_directories: int = 16


class _Run:
    """One directory whose files are being read."""

    __slots__ = ("ahead", "by_number", "in_a_row", "index", "last", "next_index", "read_at", "window")

    def __init__(self, window: int) -> None:
        self.by_number = False  # the order in which the files are read
        self.index = -1  # position in that order of the file that was read last
        self.last: Inode | None = None
        self.next_index = 0  # position up to which was fetched ahead
        self.read_at = 0.0
        self.in_a_row = 0
        self.window = window
        self.ahead: dict[int, int] = {}  # inode number -> bytes, fetched and not read yet


class SiblingPrefetch:
    def __init__(self, reader: Reader, options: SiblingOptions) -> None:
        self._reader = reader
        self._options = options
        self._runs: OrderedDict[int, _Run] = OrderedDict()
        self._fetching = 0

    def reading(self, inode: Inode, nursery: trio.Nursery) -> None:
        """The first byte of a file is being read."""
        listing = inode.parent.listing if inode.parent is not None else None
        if listing is None or inode.size > self._options.small_file_bytes:
            return
        run = self._run(listing.directory)
        index = self._position(run, listing, inode)
        if index == run.index:
            return
        run.index, run.last, run.read_at = index, inode, trio.current_time()
        run.next_index = max(run.next_index, index + 1)
        run.in_a_row += 1
        if run.ahead.pop(inode.number, None) is not None:
            run.window = min(self._options.max_window, run.window * 2)
        if run.in_a_row >= self._options.files_in_a_row:
            run.window = max(run.window, self._options.first_window)
            self._fill(run, listing.directory, nursery)

    def _position(self, run: _Run, listing: Listing, inode: Inode) -> int:
        """Where the file stands in the order of the run. A file that follows in neither order starts a new run."""
        for by_number in (run.by_number, not run.by_number):
            order = listing.in_order(folders=False, by_number=by_number)
            before = run.index if by_number is run.by_number else order.place(run.last)
            index = order.place(inode)
            if not before <= index <= before + self._options.skip + len(run.ahead) + 1:
                continue
            if by_number is not run.by_number:
                run.by_number = by_number
                run.index = before
                run.next_index = index + 1
            return index
        run.in_a_row = run.window = 0
        run.ahead.clear()
        index = listing.in_order(folders=False, by_number=run.by_number).place(inode)
        run.next_index = index + 1
        return index

    def _run(self, directory: Inode) -> _Run:
        run = self._runs.get(directory.number)
        if run is None:
            run = self._runs[directory.number] = _Run(self._proved_window())
        self._runs.move_to_end(directory.number)
        while len(self._runs) > self._options.max_directories:
            self._runs.popitem(last=False)
        return run

    def _proved_window(self) -> int:
        """Who has used all that came ahead in the directory before this one begins here as it ended there: else small
        directories would be over before their window has opened."""
        before = next(reversed(self._runs.values()), None)
        return before.window if before is not None and not before.ahead else 0

    def _fill(self, run: _Run, directory: Inode, nursery: trio.Nursery) -> None:
        options, listing = self._options, directory.listing
        if listing is None:
            return
        together = max(1, min(self._reader.files_at_once, run.window // options.fetches_at_once))
        if run.ahead and len(run.ahead) + together > run.window:
            return  # each file that is read makes room for one: better to wait for more, and ask for them together
        files = listing.in_order(folders=False, by_number=run.by_number).inodes
        bytes_ahead = self._bytes_ahead()
        batch: list[Inode] = []
        for inode in islice(files, run.next_index, run.index + options.skip + options.max_window):
            if (
                self._fetching >= options.fetches_at_once
                or len(run.ahead) >= run.window
                or bytes_ahead + inode.size > options.max_bytes_ahead
            ):
                break
            run.next_index += 1
            if self._is_worth_it(inode):
                run.ahead[inode.number] = inode.size
                bytes_ahead += inode.size
                batch.append(inode)
                if len(batch) >= together or sum(one.size for one in batch) >= options.max_bytes_together:
                    self._start(run, directory, batch, nursery)
                    batch = []
        if batch:
            self._start(run, directory, batch, nursery)

    def _bytes_ahead(self) -> int:
        idle_since = trio.current_time() - self._options.idle_seconds
        return sum(sum(run.ahead.values()) for run in self._runs.values() if run.read_at >= idle_since)

    def _start(self, run: _Run, directory: Inode, batch: list[Inode], nursery: trio.Nursery) -> None:
        self._fetching += 1
        nursery.start_soon(self._fetch, run, directory, batch, nursery)

    def _is_worth_it(self, inode: Inode) -> bool:
        return (
            0 < inode.size <= self._options.small_file_bytes
            and inode.staged is None
            and not inode.gone
            and bool(inode.rights & Rights.READ)
            and not self._reader.has_start(inode.number, inode.fingerprint)
        )

    async def _fetch(self, run: _Run, directory: Inode, batch: list[Inode], nursery: trio.Nursery) -> None:
        unseen = [inode for inode in batch if inode.kernel_cached != inode.fingerprint]
        try:
            if len(unseen) > 1:
                await self._reader.prefetch_together([(one.number, one.fingerprint, one.path) for one in unseen])
            for inode in batch if len(unseen) <= 1 else (one for one in batch if one not in unseen):
                version = inode.fingerprint
                await self._reader.prefetch(inode.number, version, inode.path, seen=inode.kernel_cached == version)
        finally:
            self._fetching -= 1
        if run.window:
            self._fill(run, directory, nursery)
