"""Directory listings: one request (or a few pages) answers every question about a directory.

The life of a listing:

    unknown --open/lookup--> loading --last page--> complete --dir TTL--> stale --use--> reloading --> complete
                                \\--error--> unknown                                 \\--error--> stale (kept)

There is one load per directory at a time, whoever asks (`_start_load`); it runs in the nursery of `run`, so a
caller that gives up does not end it for the others. What a load does is in `fs/loading.py`, what is held in memory in
`fs/listingcache.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from synofs.content.listingstore import ListingStore
from synofs.fs import proofs
from synofs.fs.archived import ArchivedListings
from synofs.fs.errors import NoEntry
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import NOTHING, GivenUp, Listing, ListingOptions, Load, Notifier
from synofs.fs.listingcache import ListingCache
from synofs.fs.loading import Loader
from synofs.fs.polling import poll
from synofs.fs.staleness import Staleness
from synofs.remote import RemoteStore, Unavailable


class Listings:
    def __init__(
        self,
        table: InodeTable,
        store: RemoteStore,
        notifier: Notifier,
        options: ListingOptions,
        archive: ListingStore | None = None,
        staleness: Staleness | None = None,
    ) -> None:
        self.archive = ArchivedListings(archive)
        self.staleness = staleness or Staleness()
        self._table = table
        self._store = store
        self._notifier = notifier
        self._options = options
        self._cache = ListingCache(table, options.max_entries)
        self._loader = Loader(table, store, notifier, self._cache, self.archive, self.staleness)
        self._nursery: trio.Nursery | None = None
        self.overlay = self._loader.overlay
        self.refused = self._loader.refused

    @property
    def total_entries(self) -> int:
        return self._cache.total_entries

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve loads until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(poll, self, self._options)
            nursery.start_soon(self.archive.run)
            task_status.started()
            await trio.sleep_forever()

    # ----- asking -----------------------------------------------------------------------------------------------

    def is_at_hand(self, directory: Inode) -> bool:
        """Is the listing complete and within its TTL?"""
        listing = directory.listing
        return listing is not None and listing.complete and self._is_fresh(listing)

    def peek(self, directory: Inode) -> Listing | None:
        """The listing if it is complete and within its TTL. No waiting, no request."""
        listing = directory.listing
        if listing is None or not self.is_at_hand(directory):
            return None
        self._cache.touch(listing)
        return listing

    async def begin(self, directory: Inode) -> Listing:
        """A listing that can be read from the start: fresh, or loading with its first entries (or its end) here.

        Raises what the first load raised. A reload that fails because the NAS is away leaves the old listing in
        use: an old answer is better than none. So does one that takes too long (fs/staleness.py).
        """
        listing = self.peek(directory)
        if listing is not None:
            return listing
        await self._end_of_what_is_given_up(directory)
        listing = self._start_load(directory)
        load = listing.load
        if load is not None:
            if listing.complete:
                if await self.renewed(listing) and load.outdated:
                    return await self.begin(directory)
            elif load.pages == 0:
                await self.more(listing)
        return listing

    async def whole(self, directory: Inode) -> Listing:
        """A complete and fresh listing."""
        listing = self.peek(directory)
        if listing is not None:
            return listing
        await self._end_of_what_is_given_up(directory)
        listing = self._start_load(directory)
        await self.finish(listing)
        return listing

    @staticmethod
    async def _end_of_what_is_given_up(directory: Inode) -> None:
        load = directory.listing.load if directory.listing is not None else None
        while load is not None and load.given_up and not load.done:
            await load.step.wait()

    async def renewed(self, listing: Listing) -> bool:
        """Wait for the load under way, or go on with the old listing if that takes too long: then False."""
        load = listing.load
        fresh_until = listing.checked_at + self._options.dir_ttl_seconds
        if load is None or not (listing.complete and self._options.serve_stale and self.staleness.allows(fresh_until)):
            await self.finish(listing)
            return True
        return await self.staleness.wait(load.started_at, lambda: self.finish(listing))

    async def finish(self, listing: Listing) -> None:
        """Wait for the load under way, if any."""
        load = listing.load
        while load is not None and not load.done:
            await load.step.wait()
        if load is not None and isinstance(load.error, GivenUp):
            await self.finish(self._start_load(listing.directory))
        elif load is not None and load.error is not None:
            if not (self._options.serve_stale and listing.complete and isinstance(load.error, Unavailable)):
                raise load.error
            self.staleness.answers += 1

    def spawn(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run something that must not end with whoever asked for it. It must not raise."""
        assert self._nursery is not None, "run() has not been started"
        self._nursery.start_soon(work)

    def remaining_seconds(self, listing: Listing) -> float:
        """How long the listing may still be believed."""
        return max(0.0, listing.checked_at + self._options.dir_ttl_seconds - trio.current_time())

    async def more(self, listing: Listing) -> bool:
        """Wait for further entries of a listing; False when it is complete. Raises why they cannot come."""
        if listing.complete:
            return False
        if listing.load is not None:
            await listing.load.step.wait()
        if listing.error is not None:
            raise listing.error
        return True

    def expire(self, directory: Inode) -> None:
        """The next use asks the NAS again; what was asked before now does not count."""
        if directory.listing is not None:
            directory.listing.expire()

    def cached(self) -> Sequence[Listing]:
        return self._cache.all()

    def reload(self, directory: Inode) -> Listing:
        """Start asking the NAS again, whatever the age of the listing; `finish` waits for it."""
        return self._start_load(directory)

    def wants_load(self, directory: Inode) -> bool:
        """Would a use of this directory ask the NAS, and is nobody asking yet?"""
        listing = directory.listing
        return listing is None or (listing.load is None and not (listing.complete and self._is_fresh(listing)))

    def prefetch(
        self, directories: Sequence[Inode], ended: Callable[[], None], is_wanted: Callable[[], bool] = lambda: True
    ) -> None:
        """List directories together that nobody has asked for yet; `ended` is called when that is over, well or not.
        Of a huge one, to which nobody comes, no more pages are taken once it is not wanted any more."""
        loads = []
        for directory in directories:
            listing = directory.listing or self._cache.new(directory)
            if listing.load is None:
                listing.load = Load(trio.current_time())
                listing.be_ahead(is_wanted)
                loads.append((listing, listing.load))
        assert self._nursery is not None
        self._nursery.start_soon(self._loader.load_together, loads, ended)

    @staticmethod
    def is_complete(directory: Inode) -> bool:
        """Is it known what is in it, or was, some time ago?"""
        return directory.listing is not None and directory.listing.complete

    @property
    def folders_at_once(self) -> int:
        return self._store.folders_at_once

    def revalidation_cost(self, directory: Inode) -> int:
        """How many paths a `getinfo` must name to prove this old listing; 0 if that cannot be done."""
        return proofs.cost(directory.listing, trio.current_time(), self._options.dir_ttl_seconds)

    def revalidate(self, directories: Sequence[Inode], ended: Callable[[], None]) -> None:
        """Prove old listings with one `getinfo` for all of them; those that it does not prove are listed anew."""
        loads = []
        for directory in directories:
            listing = directory.listing
            if listing is not None and listing.load is None:
                listing.load = Load(trio.current_time())
                listing.ahead = True
                loads.append((listing, listing.load))
        assert self._nursery is not None
        self._nursery.start_soon(self._loader.revalidate, loads, ended)

    def _is_fresh(self, listing: Listing) -> bool:
        return trio.current_time() < listing.checked_at + self._options.dir_ttl_seconds

    def _start_load(self, directory: Inode) -> Listing:
        if directory.gone:
            raise NoEntry(directory.path())
        listing = directory.listing or self._cache.new(directory)
        if listing.load is None:
            listing.load = Load(trio.current_time())
            assert self._nursery is not None, "run() has not been started"
            self._nursery.start_soon(self._loader.load, listing, listing.load)
        self._cache.touch(listing)
        return listing

    # ----- changes made here --------------------------------------------------------------------------------------

    def insert(self, directory: Inode, inode: Inode) -> None:
        """A name was made here. The listing knows it at once, and so does a load that is under way."""
        self.archive.changed(directory)
        listing = directory.listing
        if listing is None:
            return
        met = listing.by_name.get(inode.name)
        if met is not None and met is not inode:  # the same file, listed here before its rename was answered
            self.remove(directory, met)
            met.gone = True
            self._table.release(met)
        if listing.load is not None:
            listing.load.changes[inode.name] = inode
        if listing.by_name.get(inode.name) is not inode:
            listing.by_name[inode.name] = inode
            listing.entries.append(inode)  # positions of open handles stay what they are
            self._cache.enlist(inode)

    def remove(self, directory: Inode, inode: Inode) -> None:
        """A name was removed here (before the inode gets another one)."""
        self.archive.changed(directory)
        listing = directory.listing
        if listing is None:
            return
        if listing.load is not None:
            listing.load.changes[inode.name] = None
        if listing.by_name.get(inode.name) is inode:
            del listing.by_name[inode.name]
            if listing.complete:
                listing.entries = [other for other in listing.entries if other is not inode]
            else:  # readers are following the list, and leave out what has gone
                listing.entries[listing.entries.index(inode)] = NOTHING
            self._cache.uncount(inode)

    def passed(self, directory: Inode, name: bytes) -> None:
        """A name was here for a moment, on its way to another directory. A listing may have met it."""
        listing = directory.listing
        if listing is None:
            return
        if listing.load is not None:
            listing.load.changes.setdefault(name, None)
        met = listing.by_name.get(name)
        if met is not None and met.staged is None:
            self.remove(directory, met)
            met.gone = True
            self._notifier.entry_gone(directory, met)
            self._table.release(met)

    def forget(self, directory: Inode) -> None:
        """Drop the listing of a folder that is gone or replaced."""
        if directory.listing is not None:
            self._cache.drop(directory.listing)

    @staticmethod
    def now() -> float:
        return trio.current_time()

    def know_empty(self, directory: Inode) -> None:
        """A folder that was just made here is empty: no need to ask."""
        self.archive.changed(directory)
        listing = self._cache.new(directory)
        listing.complete = True
        listing.checked_at = trio.current_time()
