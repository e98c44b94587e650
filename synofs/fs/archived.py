"""Listings on the local disk, kept true when names change here.

What a directory held when it was last listed must not deny, after a remount without the NAS, what was made here since.
So a directory that changes is forgotten there at once, and written anew when some changes have come together.
"""

from __future__ import annotations

import trio

from synofs.content.listingstore import ListingStore
from synofs.fs.inodes import Inode, entry_of
from synofs.fs.listing import Listing
from synofs.remote import RemoteEntry

_TOGETHER_SECONDS = 5.0


class ArchivedListings:
    """Without a `store` nothing is kept and nothing known."""

    def __init__(self, store: ListingStore | None) -> None:
        self._store = store
        self._changed: set[Inode] = set()  # directories that are forgotten and not written anew yet

    async def run(self) -> None:
        """Write what has changed, until cancelled; then what is left of it."""
        try:
            while True:
                await trio.sleep(_TOGETHER_SECONDS)
                self._write_changed()
        finally:
            self._write_changed()

    def keep(self, listing: Listing) -> None:
        if self._store is not None:
            self._changed.discard(listing.directory)
            entries = [entry_of(inode) for inode in listing.entries if inode.staged is None]
            self._store.keep(listing.directory.path(), entries)

    def changed(self, directory: Inode) -> None:
        """A name was made, removed or replaced in it."""
        if self._store is not None and directory not in self._changed:
            self._changed.add(directory)
            self._store.forget(directory.path())

    def moved(self, old: str, new: str) -> None:
        """A directory has another path: what was known at and below both is of others."""
        if self._store is not None:
            self._store.forget_tree(old)
            self._store.forget_tree(new)

    async def find(self, directory: Inode) -> list[RemoteEntry] | None:
        """What it held when it was last seen."""
        return await self._store.find(directory.path()) if self._store is not None else None

    def _write_changed(self) -> None:
        changed, self._changed = self._changed, set()
        for directory in changed:
            listing = directory.listing
            if listing is not None and listing.complete and not directory.gone:
                self.keep(listing)
