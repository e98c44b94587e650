"""A filesystem without a kernel, over a store in memory."""

from __future__ import annotations

import os

import pytest
import trio

from synofs.content.readahead import MIB
from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from tests.trees import revealing
from tests.unit.memory_store import MemoryStore, RecordingNotifier

TTL = 30.0
SIZE = 8 * MIB


class Rig:
    def __init__(self, store: MemoryStore, options: FsOptions) -> None:
        self.store = store
        self.reader = Reader(store, ReaderOptions())
        self.notifier = RecordingNotifier()
        self.fs = Filesystem(store, options, self.reader, self.notifier)

    async def find(self, path: str) -> Inode | None:
        """The inode at a path, as the kernel finds it: a lookup for each part, counted."""
        inode = self.fs.inodes.root
        for name in path.strip("/").encode().split(b"/"):
            found = await self.fs.lookup(inode, name)
            if found is None:
                return None
            self.fs.inodes.count_lookup(found)
            inode = found
        return inode

    async def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        number, _ = await self.fs.open(await self.find(path), flags)
        return number

    async def names(self, path: str) -> list[bytes]:
        """A whole readdir."""
        number = await self.fs.opendir(await self.find(path) if path != "/" else self.fs.inodes.root)
        names: list[bytes] = []
        position = 0
        while True:
            _, entries = await self.fs.readdir(number, position)
            if len(entries) <= position:
                break
            names += [inode.name for inode in entries[position:]]
            position = len(entries)
        await self.fs.releasedir(number)
        return names


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.folder("/s")
    store.folder("/s/d")
    store.file("/s/small", b"hello")
    store.file("/s/big", revealing(SIZE), mtime=1)
    return store


@pytest.fixture
def options() -> FsOptions:
    return FsOptions(dir_ttl_seconds=TTL, attr_ttl_seconds=TTL, umask=0)


@pytest.fixture
async def rig(store: MemoryStore, options: FsOptions, nursery: trio.Nursery) -> Rig:
    rig = Rig(store, options)
    await nursery.start(rig.reader.run)
    await nursery.start(rig.fs.run)
    return rig
