"""What was listed before is shown after a remount without the NAS, and with it what was made here since."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from synofs.content.listingstore import ListingStore
from synofs.fs.inodes import InodeTable
from synofs.fs.listing import ListingOptions
from synofs.fs.listings import Listings
from synofs.remote import RemoteError, Unreachable
from tests.unit.content_write.crashes import without_threads
from tests.unit.memory_store import MemoryStore, RecordingNotifier
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


class Mount:
    def __init__(self, store: MemoryStore, folder: Path) -> None:
        self.archive = ListingStore(folder / "listings.db")
        self.table = InodeTable("/")
        self.listings = Listings(self.table, store, RecordingNotifier(), ListingOptions(), self.archive)
        self.folder = self.table.obtain(self.table.root, b"s", is_dir=True)
        self.sub = self.table.obtain(self.folder, b"sub", is_dir=True)
        self.beside = self.table.obtain(self.table.root, b"s-not", is_dir=True)

    def make(self, name: bytes) -> None:
        self.listings.insert(self.folder, self.table.obtain(self.folder, name, is_dir=False))

    def remove(self, name: bytes) -> None:
        self.listings.remove(self.folder, self.table.obtain(self.folder, name, is_dir=False))

    async def names(self) -> set[bytes]:
        return set((await self.listings.whole(self.folder)).by_name)


Use = Callable[[Mount], Awaitable[None]]


@pytest.fixture
def in_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[MemoryStore, Use], Awaitable[None]]:
    monkeypatch.setattr(trio.to_thread, "run_sync", without_threads)

    async def run(store: MemoryStore, use: Use) -> None:
        """A mount that is killed at the end of `use`."""
        mount = Mount(store, tmp_path)
        async with trio.open_nursery() as nursery:
            await nursery.start(mount.archive.run)
            await nursery.start(mount.listings.run)
            await use(mount)
            monkeypatch.setattr(mount.archive, "keep", lambda *_: None)
            nursery.cancel_scope.cancel()

    return run


@pytest.mark.parametrize("seconds", [0.0, 0.1, 6.0], ids=["killed at once", "forgotten", "when it was written anew"])
@pytest.mark.parametrize("listed", [True, False], ids=["", "from a run in which it was not listed"])
async def test_without_the_nas_nothing_that_was_made_here_is_denied_and_nothing_removed_is_back(
    seconds: float, listed: bool, in_mount: Callable[[MemoryStore, Use], Awaitable[None]]
) -> None:
    store = MemoryStore()
    store.folder("/s")
    store.file("/s/old")
    store.file("/s/other")
    found: set[bytes] | None = None

    async def look(mount: Mount) -> None:
        await mount.names()
        await trio.sleep(0.1)

    async def change(mount: Mount) -> None:
        if listed:
            await mount.names()
        mount.remove(b"old")
        mount.make(b"new")
        await trio.sleep(seconds)

    async def look_without_the_nas(mount: Mount) -> None:
        nonlocal found
        with store.fail("list_dir", Unreachable("no route")):
            try:
                found = await mount.names()
            except RemoteError:
                found = None

    await in_mount(store, look)
    await in_mount(store, change)
    await in_mount(store, look_without_the_nas)
    assert found == ({b"other", b"new"} if listed and seconds > 1 else None)


@pytest.mark.parametrize("seconds", [0.0, 0.1], ids=["killed at once", "forgotten"])
async def test_a_folder_that_was_renamed_is_not_shown_as_the_one_that_had_its_name(
    seconds: float, in_mount: Callable[[MemoryStore, Use], Awaitable[None]]
) -> None:
    store = MemoryStore()
    for path in ("/s", "/s/sub"):
        store.folder(path)
        store.file(f"{path}/of the old one")
    store.folder("/s-not")
    found: list[object] = []

    async def look(mount: Mount) -> None:
        for folder in (mount.folder, mount.sub, mount.beside):
            await mount.listings.whole(folder)
        await trio.sleep(0.1)

    async def change(mount: Mount) -> None:
        mount.listings.archive.moved("/x", "/s")
        assert await mount.archive.find("/s/sub") is None
        await trio.sleep(seconds)

    async def look_without_the_nas(mount: Mount) -> None:
        found.extend([await mount.archive.find(path) for path in ("/s", "/s/sub", "/s-not")])

    await in_mount(store, look)
    await in_mount(store, change)
    await in_mount(store, look_without_the_nas)
    assert found == [None, None, []]
