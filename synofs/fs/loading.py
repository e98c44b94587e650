"""Loading listings: what the NAS says of a directory is taken in page by page, and swapped in when it is whole.

The first load fills `Listing.entries` in the order of the pages, and readers follow it: `ls -f` prints before the last
page is here. A later one builds a new list beside the old one and swaps at the end, so a reader that holds the old
list keeps its cookies (a cookie is an index into the list that the reader started with). What it finds changed is told
to the kernel through the `Notifier`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

import trio

from synofs.fs import proofs
from synofs.fs.archived import ArchivedListings
from synofs.fs.errors import NoEntry
from synofs.fs.inodes import Change, Inode, InodeTable
from synofs.fs.listing import NOTHING, GivenUp, Listing, Load, Notifier
from synofs.fs.listingcache import ListingCache
from synofs.fs.names import HIDDEN_PREFIX, kernel_name
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

Loads = list[tuple[Listing, Load]]


class Overlay:
    """What this mount knows of directories and the NAS does not. Set by who writes."""

    def __init__(self) -> None:
        self.unsent: Callable[[Inode], Mapping[bytes, Inode]] = lambda directory: {}  # new files by name
        self.passing: Callable[[Inode], Collection[bytes]] = lambda directory: ()  # see fs/leftovers.py
        self.hidden_found: Callable[[Inode, RemoteEntry], None] = lambda directory, entry: None


class Loader:
    """Takes `Listing.load`s to their end: none of its methods raises what the NAS says, and each ends all its loads."""

    def __init__(
        self,
        table: InodeTable,
        store: RemoteStore,
        notifier: Notifier,
        cache: ListingCache,
        archive: ArchivedListings,
        staleness: Staleness,
    ) -> None:
        self._table = table
        self._store = store
        self._notifier = notifier
        self._cache = cache
        self._archive = archive
        self._staleness = staleness
        self.overlay = Overlay()
        self.refused = RefusedNames()

    async def load(self, listing: Listing, load: Load) -> None:
        """List one directory."""
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

    async def load_together(self, loads: Loads, ended: Callable[[], None]) -> None:
        """List some directories with as few requests as the NAS allows."""
        try:
            if len(loads) == 1:
                await self.load(*loads[0])
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

    async def revalidate(self, loads: Loads, ended: Callable[[], None]) -> None:
        """Prove old listings, and list those anew that cannot be proved."""
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
                nursery.start_soon(self.load_together, unproved[start : start + at_once], lambda: None)
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

    def _begin(self, listing: Listing, load: Load) -> None:
        if not listing.complete:
            listing.entries, listing.by_name = load.entries, load.by_name
        load.listed_at_nas = self._store.clock_seconds()
        load.own_times = load.own_times or proofs.times_of(listing.directory)

    def _take_page(self, listing: Listing, load: Load, page: Sequence[RemoteEntry]) -> None:
        if load.pages and not load.is_wanted():
            load.given_up = True
            raise GivenUp
        directory = listing.directory
        entries, by_name = load.entries, load.by_name
        table = self._table
        passing = self.overlay.passing(directory)
        for entry in page:
            name = kernel_name(entry.name)
            if name is None or name in by_name:
                if name is None or name not in load.changes:
                    self.refused.add(directory, entry.name)
                continue
            if name.startswith(HIDDEN_PREFIX):
                self.overlay.hidden_found(directory, entry)
                continue
            if name in load.changes or name in passing:
                continue
            inode = table.obtain(directory, name, entry.is_dir)
            if inode.checked_at <= load.started_at:  # else a later answer is known
                change = table.update(inode, entry, load.started_at)
                self._tell_if_known(inode, change)
            self._cache.enlist(inode)
            entries.append(inode)
            by_name[name] = inode
        load.pages += 1
        load.advance()

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

    def _complete(self, listing: Listing, load: Load) -> None:
        directory = listing.directory
        dropped = self._overlay(directory, load)
        entries, by_name = load.entries, load.by_name
        if directory.listing is not listing:  # dropped meanwhile: the directory itself is gone
            listing.error = NoEntry(directory.path())
            self._abandon(load)
            self._cache.unlist_unheld(dropped)
            return
        if load.changes or dropped:
            entries = [inode for inode in entries if inode is not NOTHING]
        if listing.complete:
            old = listing.by_name
            for name, inode in old.items():
                if by_name.get(name) is not inode:
                    self._notifier.entry_gone(directory, inode)
                    self._cache.unlist(inode, gone=True)
            for name in by_name.keys() - old.keys():
                self._notifier.entry_appeared(directory, name)
        listing.entries, listing.by_name = entries, by_name
        self._cache.unlist_unheld(dropped, gone_from=directory)
        self._checked(listing, load)
        listing.complete = True
        self._cache.evict(keep=listing)
        if load.started_at > 0:
            self._archive.keep(listing)

    @staticmethod
    def _checked(listing: Listing, load: Load) -> None:
        listing.checked_at = float("-inf") if load.outdated else load.started_at

    def _overlay(self, directory: Inode, load: Load) -> list[Inode]:
        """Add what was made here: unsent files, and changes since the request was sent. Returns what a page had shown
        and is not there any more."""
        entries, by_name = load.entries, load.by_name
        dropped = []
        for name, inode in [*load.changes.items(), *self.overlay.unsent(directory).items()]:
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
                self._cache.enlist(inode)
        return dropped

    def _abandon(self, load: Load) -> None:
        """Undo what a load has listed."""
        shown, load.by_name = load.by_name, {}
        self._cache.unlist_unheld(shown.values())

    async def _recall(self, listing: Listing, load: Load, error: Exception) -> bool:
        """The NAS cannot be asked for a directory that is not in memory: show it as it was when it was last seen."""
        if listing.complete or load.pages or not isinstance(error, Unavailable):
            return False
        known = await self._archive.find(listing.directory)
        if known is None:
            return False
        load.started_at = float("-inf")  # stale: the next use asks the NAS
        self._take_page(listing, load, known)
        self._complete(listing, load)
        self._staleness.answers += 1
        return True

    def _told_of_a_share(self, directory: Inode, error: Exception) -> Exception:
        """A share that is not found need not be deleted: it is locked, or its volume is not there yet after a restart
        of the NAS. What is gone for good, the list of shares tells; until then this must not look like the empty
        folder that readdir(3) makes of ENOENT, or a mirror job deletes its copy."""
        if not isinstance(error, NotFound) or directory.path().count("/") > 1:
            return error
        self._expire_parent(directory)
        return InputOutput("the NAS does not find this share now", path=directory.path())

    def _failed(self, listing: Listing, load: Load, error: Exception) -> None:
        directory = listing.directory
        if listing.complete:
            self._abandon(load)
        if isinstance(error, NotFound | NotADirectory):
            directory.gone = True
            if directory.parent is not None:
                self._notifier.entry_gone(directory.parent, directory)
                self._expire_parent(directory)
            self._cache.drop(listing)
        elif not listing.complete:
            self._cache.drop(listing)

    @staticmethod
    def _expire_parent(directory: Inode) -> None:
        if directory.parent is not None and directory.parent.listing is not None:
            directory.parent.listing.expire()

    def _tell_if_known(self, inode: Inode, change: Change) -> None:
        if inode.lookups and change is not Change.NOTHING:
            if change is Change.CONTENT:
                self._notifier.content_changed(inode)
            else:
                self._notifier.attributes_changed(inode)
