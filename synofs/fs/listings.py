"""Directory listings: one request (or a few pages) answers every question about a directory.

The life of a listing:

    unknown --open/lookup--> loading --last page--> complete --dir TTL--> stale --use--> reloading --> complete
                                \\--error--> unknown                                 \\--error--> stale (kept)

*Loading* fills `entries` in the order of the pages, and readers follow it: `ls -f` prints before the last page is
here. *Reloading* builds a new list beside the old one and swaps at the end, so a reader that holds the old list
keeps its cookies (a cookie is an index into the list that the reader started with). What a reload finds changed is
told to the kernel through the `Notifier`.

There is one load per directory at a time, whoever asks (`_start_load`); it runs in the nursery of `run`, so a
caller that gives up does not end it for the others.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence

import trio

from synofs.content.listingstore import ListingStore
from synofs.fs import proofs
from synofs.fs.archived import ArchivedListings
from synofs.fs.errors import NoEntry
from synofs.fs.inodes import Change, Inode, InodeTable
from synofs.fs.listing import NOTHING, GivenUp, Listing, ListingOptions, Load, Notifier
from synofs.fs.names import HIDDEN_PREFIX, kernel_name
from synofs.fs.polling import poll
from synofs.fs.refused import RefusedNames
from synofs.fs.staleness import Staleness
from synofs.remote import (
    InputOutput,
    NotADirectory,
    NotFound,
    Overloaded,
    RemoteEntry,
    RemoteError,
    RemoteStore,
    Unavailable,
    Unreachable,
)

log = logging.getLogger(__name__)


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
        self._cached: OrderedDict[int, Listing] = OrderedDict()  # by directory number, least recently used first
        self._total_entries = 0
        self._nursery: trio.Nursery | None = None
        self.local_names: Callable[[Inode], Mapping[bytes, Inode]] = lambda directory: {}  # unsent new files
        self.hidden_found: Callable[[Inode, RemoteEntry], None] = lambda directory, entry: None
        self.passing: Callable[[Inode], Collection[bytes]] = lambda directory: ()  # see fs/leftovers.py
        self.refused = RefusedNames()

    @property
    def total_entries(self) -> int:
        return self._total_entries

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve loads until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(poll, self, self._options)
            nursery.start_soon(self.archive.run)
            task_status.started()
            await trio.sleep_forever()

    # ----- asking -----------------------------------------------------------------------------------------------

    def peek(self, directory: Inode) -> Listing | None:
        """The listing if it is complete and within its TTL. No waiting, no request."""
        listing = directory.listing
        if listing is None or not listing.complete or not self._is_fresh(listing):
            return None
        self._touch(listing)
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
        listing = directory.listing
        if listing is not None:
            listing.checked_at = float("-inf")
            if listing.load is not None:
                listing.load.outdated = True

    def cached(self) -> Sequence[Listing]:
        return list(self._cached.values())

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
            listing = directory.listing or self._new(directory)
            if listing.load is None:
                listing.load = Load(trio.current_time())
                listing.be_ahead(is_wanted)
                loads.append((listing, listing.load))
        assert self._nursery is not None
        self._nursery.start_soon(self._load_together, loads, ended)

    async def _load_together(self, loads: list[tuple[Listing, Load]], ended: Callable[[], None]) -> None:
        try:
            if len(loads) == 1:
                await self._load(*loads[0])
                return
            for listing, load in loads:
                self._begin(listing, load)
            async with trio.open_nursery() as nursery:
                await self._store.list_dirs(
                    [listing.directory.path() for listing, _ in loads],
                    lambda number, page: self._take_page(*loads[number], page),
                    lambda number, error: nursery.start_soon(self._loaded, *loads[number], error),
                )
        except Exception as exc:  # nobody foresaw it; here it would end the mount
            for listing, load in loads:
                if not load.done:
                    await self._loaded(listing, load, exc)
        finally:
            for listing, load in loads:
                self._end(listing, load)
            ended()

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
        self._nursery.start_soon(self._revalidate, loads, ended)

    async def _revalidate(self, loads: list[tuple[Listing, Load]], ended: Callable[[], None]) -> None:
        try:
            answers = await proofs.ask(self._store, [listing for listing, _ in loads])
            unproved = [of for of, answer in zip(loads, answers, strict=True) if not self._is_proved(*of, answer)]
        except (Unreachable, Overloaded) as error:
            unproved = []
            for listing, load in loads:
                load.error = error
                self._end(listing, load)
        except Exception as error:
            if not isinstance(error, RemoteError):
                log.error("a proof of listings failed in a way nobody foresaw", exc_info=error)
            unproved = [(listing, load) for listing, load in loads if not load.done]
        at_once = self._store.folders_at_once
        async with trio.open_nursery() as nursery:
            for start in range(0, len(unproved), at_once):
                nursery.start_soon(self._load_together, unproved[start : start + at_once], lambda: None)
        ended()

    def _is_proved(self, listing: Listing, load: Load, answer: proofs.Answer) -> bool:
        if not answer.proves_it():
            load.own_times = proofs.times_of(answer.own) if answer.own is not None else None
            return False
        for inode, entry in zip(answer.entries, answer.rest, strict=True):
            if entry is not None and inode.checked_at <= load.started_at:
                self._tell_if_known(inode, self._table.update(inode, entry, load.started_at))
        self._checked(listing, load)
        self._end(listing, load)
        return True

    def _tell_if_known(self, inode: Inode, change: Change) -> None:
        if inode.lookups and change is not Change.NOTHING:
            self._tell(inode, change)

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
            self._list(inode)

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
            if inode.listed:
                inode.listed = False
                self._total_entries -= 1

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
            self._drop(directory.listing)

    @staticmethod
    def now() -> float:
        return trio.current_time()

    def know_empty(self, directory: Inode) -> None:
        """A folder that was just made here is empty: no need to ask."""
        self.archive.changed(directory)
        listing = directory.listing = Listing(directory)
        listing.complete = True
        listing.checked_at = trio.current_time()
        self._cached[directory.number] = listing

    # ----- loading ----------------------------------------------------------------------------------------------

    def _is_fresh(self, listing: Listing) -> bool:
        return trio.current_time() < listing.checked_at + self._options.dir_ttl_seconds

    def _touch(self, listing: Listing) -> None:
        listing.used_at = trio.current_time()
        listing.use_count += 1
        if listing.directory.number in self._cached:
            self._cached.move_to_end(listing.directory.number)

    def _start_load(self, directory: Inode) -> Listing:
        if directory.gone:
            raise NoEntry(directory.path())
        listing = directory.listing or self._new(directory)
        if listing.load is None:
            listing.load = Load(trio.current_time())
            assert self._nursery is not None, "run() has not been started"
            self._nursery.start_soon(self._load, listing, listing.load)
        self._touch(listing)
        return listing

    def _new(self, directory: Inode) -> Listing:
        listing = directory.listing = self._cached[directory.number] = Listing(directory)
        return listing

    async def _load(self, listing: Listing, load: Load) -> None:
        self._begin(listing, load)
        error: Exception | None = None
        try:
            try:
                await self._store.list_dir(listing.directory.path(), lambda page: self._take_page(listing, load, page))
            except Exception as exc:  # whoever waits raises it; here it would end the mount
                error = exc
            await self._loaded(listing, load, error)
        finally:
            self._end(listing, load)

    def _begin(self, listing: Listing, load: Load) -> None:
        if not listing.complete:
            listing.entries, listing.by_name = load.entries, load.by_name
        load.listed_at_nas = self._store.clock_seconds()
        load.own_times = load.own_times or proofs.times_of(listing.directory)

    async def _loaded(self, listing: Listing, load: Load, error: Exception | None) -> None:
        """All pages are here, or none will come any more."""
        if error is None:
            took = trio.current_time() - load.started_at
            load.listed_at_nas = proofs.asked_at(load.listed_at_nas, self._store.clock_seconds(), took)
            listing.listed_at, listing.listed_at_nas = load.started_at, load.listed_at_nas
            listing.own_times = load.own_times
            self._complete(listing, load)
        else:
            error = self._told_of_a_share(listing.directory, error)
            if not await self._recall(listing, load, error):
                load.error = listing.error = error
                self._failed(listing, load, error)
        self._end(listing, load)

    @staticmethod
    def _end(listing: Listing, load: Load) -> None:
        if not load.done:
            load.done = True
            if listing.load is load:
                listing.load = None
            load.advance()

    def _take_page(self, listing: Listing, load: Load, page: Sequence[RemoteEntry]) -> None:
        if load.pages and not load.is_wanted():
            load.given_up = True
            raise GivenUp
        directory = listing.directory
        entries, by_name = load.entries, load.by_name
        table = self._table
        passing = self.passing(directory)
        for entry in page:
            name = kernel_name(entry.name)
            if name is None or name in by_name:
                if name is None or name not in load.changes:
                    self.refused.add(directory, entry.name)
                continue
            if name.startswith(HIDDEN_PREFIX):
                self.hidden_found(directory, entry)
                continue
            if name in load.changes or name in passing:
                continue
            inode = table.obtain(directory, name, entry.is_dir)
            if inode.checked_at <= load.started_at:  # else a later answer is known
                change = table.update(inode, entry, load.started_at)
                self._tell_if_known(inode, change)
            self._list(inode)
            entries.append(inode)
            by_name[name] = inode
        load.pages += 1
        load.advance()

    def _tell(self, inode: Inode, change: Change) -> None:
        if change is Change.CONTENT:
            self._notifier.content_changed(inode)
        else:
            self._notifier.attributes_changed(inode)

    def _complete(self, listing: Listing, load: Load) -> None:
        directory = listing.directory
        dropped = self._overlay(directory, load)
        entries, by_name = load.entries, load.by_name
        if directory.listing is not listing:  # dropped meanwhile: the directory itself is gone
            listing.error = NoEntry(directory.path())
            self._abandon(load)
            self._unlist_unheld(dropped)
            return
        if load.changes or dropped:
            entries = [inode for inode in entries if inode is not NOTHING]
        if listing.complete:
            old = listing.by_name
            for name, inode in old.items():
                if by_name.get(name) is not inode:
                    self._notifier.entry_gone(directory, inode)
                    self._unlist(inode, gone=True)
            for name in by_name.keys() - old.keys():
                self._notifier.entry_appeared(directory, name)
        listing.entries, listing.by_name = entries, by_name
        self._unlist_unheld(dropped, gone_from=directory)
        self._checked(listing, load)
        listing.complete = True
        self._evict(keep=listing)
        if load.started_at > 0:
            self.archive.keep(listing)

    @staticmethod
    def _checked(listing: Listing, load: Load) -> None:
        listing.checked_at = float("-inf") if load.outdated else load.started_at

    def _overlay(self, directory: Inode, load: Load) -> list[Inode]:
        """Add what was made here: unsent files, and changes since the request was sent. Returns what a page had shown
        and is not there any more."""
        entries, by_name = load.entries, load.by_name
        dropped = []
        for name, inode in [*load.changes.items(), *self.local_names(directory).items()]:
            known = by_name.get(name)
            if known is inode:
                continue
            if known is not None:  # a page that was taken before the change
                del by_name[name]
                entries[entries.index(known)] = NOTHING
                dropped.append(known)
            if inode is not None:
                by_name[name] = inode
                entries.append(inode)
                self._list(inode)
        return dropped

    def _abandon(self, load: Load) -> None:
        """Undo what a load has listed."""
        shown, load.by_name = load.by_name, {}
        self._unlist_unheld(shown.values())

    def _unlist_unheld(self, inodes: Iterable[Inode], gone_from: Inode | None = None) -> None:
        """Of inodes that were listed, those that no listing holds any more."""
        for inode in inodes:
            if inode.listed and not self._is_held(inode):
                self._unlist(inode, gone=inode.parent is gone_from)

    @staticmethod
    def _is_held(inode: Inode) -> bool:
        listing = inode.parent.listing if inode.parent is not None else None
        if listing is None:
            return False
        on_its_way = listing.load.by_name if listing.load is not None else {}
        return inode in (listing.by_name.get(inode.name), on_its_way.get(inode.name))

    async def _recall(self, listing: Listing, load: Load, error: Exception) -> bool:
        """The NAS cannot be asked for a directory that is not in memory: show it as it was when it was last seen."""
        if listing.complete or load.pages or not isinstance(error, Unavailable):
            return False
        known = await self.archive.find(listing.directory)
        if known is None:
            return False
        load.started_at = float("-inf")  # stale: the next use asks the NAS
        self._take_page(listing, load, known)
        self._complete(listing, load)
        self.staleness.answers += 1
        return True

    def _told_of_a_share(self, directory: Inode, error: Exception) -> Exception:
        """A share that is not found need not be deleted: it is locked, or its volume is not there yet after a restart
        of the NAS. What is gone for good, the list of shares tells; until then this must not look like the empty
        folder that readdir(3) makes of ENOENT, or a mirror job deletes its copy."""
        if not isinstance(error, NotFound) or directory.path().count("/") > 1:
            return error
        if directory.parent is not None:
            self.expire(directory.parent)
        return InputOutput("the NAS does not find this share now", path=directory.path())

    def _failed(self, listing: Listing, load: Load, error: Exception) -> None:
        directory = listing.directory
        if listing.complete:
            self._abandon(load)
        if isinstance(error, NotFound | NotADirectory):
            directory.gone = True
            if directory.parent is not None:
                self._notifier.entry_gone(directory.parent, directory)
                self.expire(directory.parent)
            self._drop(listing)
        elif not listing.complete:
            self._drop(listing)

    # ----- forgetting -------------------------------------------------------------------------------------------

    def _list(self, inode: Inode) -> None:
        if not inode.listed:
            inode.listed = True
            self._total_entries += 1

    def _unlist(self, inode: Inode, *, gone: bool = False) -> None:
        inode.listed = False
        inode.gone = inode.gone or gone
        self._total_entries -= 1
        if inode.listing is not None and (gone or inode.lookups == 0):
            self._drop(inode.listing)
        if inode.lookups == 0:
            inode.kernel_entry = None
        self._table.release(inode)

    def _drop(self, listing: Listing) -> None:
        self._cached.pop(listing.directory.number, None)
        if listing.directory.listing is listing:
            listing.directory.listing = None
        for inode in listing.by_name.values():
            if inode.listed and inode.parent is listing.directory:
                self._unlist(inode)
        self._table.release(listing.directory)

    def _evict(self, keep: Listing) -> None:
        """Drop the least recently used listings over the limit; those being read or loaded stay."""
        if self._total_entries <= self._options.max_entries:
            return
        for listing in list(self._cached.values()):
            if self._total_entries <= self._options.max_entries:
                return
            in_use = listing is keep or listing.load is not None or listing.directory.opens > 0
            if listing.complete and not in_use:
                self._drop(listing)
