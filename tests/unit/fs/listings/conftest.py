"""Listings without a filesystem."""

from __future__ import annotations

import pytest
import trio

from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import Listing, ListingOptions
from synofs.fs.listings import Listings
from tests.unit.memory_store import MemoryStore, RecordingNotifier

DIR_TTL = 30.0


class Rig:
    """Listings over a store in memory."""

    def __init__(self, store: MemoryStore, options: ListingOptions) -> None:
        self.store = store
        self.notifier = RecordingNotifier()
        self.table = InodeTable("/")
        self.listings = Listings(self.table, store, self.notifier, options)

    def folder(self, *names: bytes, known_to_kernel: bool = True) -> Inode:
        inode = self.table.root
        for name in names:
            inode = self.table.obtain(inode, name, is_dir=True)
            if known_to_kernel and not inode.lookups:
                self.table.count_lookup(inode)
        return inode

    def child(self, parent: Inode, name: bytes, is_dir: bool = False) -> Inode:
        return self.table.obtain(parent, name, is_dir)


def names(listing: Listing) -> list[bytes]:
    return [inode.name for inode in listing.entries]


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore(page_entries=3)
    store.folder("/s")
    return store


@pytest.fixture
def options() -> ListingOptions:
    return ListingOptions(dir_ttl_seconds=DIR_TTL)


@pytest.fixture
async def rig(store: MemoryStore, options: ListingOptions, nursery: trio.Nursery) -> Rig:
    rig = Rig(store, options)
    await nursery.start(rig.listings.run)
    return rig
