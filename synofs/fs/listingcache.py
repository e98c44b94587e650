"""The listings in memory, within a budget of entries: the least recently used go first.

An inode that a listing holds is kept (`Inode.listed`); one that no listing, no program and no kernel holds goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import trio

from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import Listing


class ListingCache:
    def __init__(self, table: InodeTable, max_entries: int) -> None:
        self._table = table
        self._max_entries = max_entries
        self._cached: OrderedDict[int, Listing] = OrderedDict()  # by directory number, least recently used first
        self.total_entries = 0

    def all(self) -> list[Listing]:
        return list(self._cached.values())

    def new(self, directory: Inode) -> Listing:
        listing = directory.listing = self._cached[directory.number] = Listing(directory)
        return listing

    def touch(self, listing: Listing) -> None:
        listing.used_at = trio.current_time()
        listing.use_count += 1
        if listing.directory.number in self._cached:
            self._cached.move_to_end(listing.directory.number)

    def enlist(self, inode: Inode) -> None:
        if not inode.listed:
            inode.listed = True
            self.total_entries += 1

    def uncount(self, inode: Inode) -> None:
        """No listing holds it for now, and it is not to go for that."""
        if inode.listed:
            inode.listed = False
            self.total_entries -= 1

    def unlist(self, inode: Inode, *, gone: bool = False) -> None:
        inode.listed = False
        inode.gone = inode.gone or gone
        self.total_entries -= 1
        if inode.listing is not None and (gone or inode.lookups == 0):
            self.drop(inode.listing)
        if inode.lookups == 0:
            inode.kernel_entry = None
        self._table.release(inode)

    def unlist_unheld(self, inodes: Iterable[Inode], gone_from: Inode | None = None) -> None:
        """Of inodes that were listed, those that no listing holds any more."""
        for inode in inodes:
            if inode.listed and not self._is_held(inode):
                self.unlist(inode, gone=inode.parent is gone_from)

    @staticmethod
    def _is_held(inode: Inode) -> bool:
        listing = inode.parent.listing if inode.parent is not None else None
        if listing is None:
            return False
        on_its_way = listing.load.by_name if listing.load is not None else {}
        return inode in (listing.by_name.get(inode.name), on_its_way.get(inode.name))

    def drop(self, listing: Listing) -> None:
        self._cached.pop(listing.directory.number, None)
        if listing.directory.listing is listing:
            listing.directory.listing = None
        for inode in listing.by_name.values():
            if inode.listed and inode.parent is listing.directory:
                self.unlist(inode)
        self._table.release(listing.directory)

    def evict(self, keep: Listing) -> None:
        """Drop the least recently used listings over the limit; those being read or loaded stay."""
        if self.total_entries <= self._max_entries:
            return
        for listing in self.all():
            if self.total_entries <= self._max_entries:
                return
            in_use = listing is keep or listing.load is not None or listing.directory.opens > 0
            if listing.complete and not in_use:
                self.drop(listing)
