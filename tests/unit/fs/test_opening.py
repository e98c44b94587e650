"""Files that are opened and read while they change on the NAS: a handle gives one version, and says if it cannot."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.readahead import KIB, MIB
from synofs.fs.errors import IsADirectory, NoEntry, ReadOnlyFilesystem, StaleInode
from synofs.remote import Changed
from tests.trees import revealing, versions_in
from tests.unit.fs.conftest import SIZE, TTL, Rig
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


@pytest.mark.parametrize(
    "flags",
    [os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND],
)
async def test_opening_for_a_change_is_refused_on_a_read_only_mount(rig: Rig, flags: int) -> None:
    with pytest.raises(ReadOnlyFilesystem):
        await rig.open("/s/small", flags)


async def test_a_folder_is_no_file(rig: Rig) -> None:
    with pytest.raises(IsADirectory):
        await rig.open("/s/d")


async def test_a_file_is_read(rig: Rig) -> None:
    assert await rig.fs.read(await rig.open("/s/small"), 0, 100) == b"hello"


async def test_the_kernel_may_keep_its_pages_of_the_same_version_only(rig: Rig, store: MemoryStore) -> None:
    inode = await rig.find("/s/small")
    kept = []

    async def read() -> None:
        number, keep_pages = await rig.fs.open(inode, os.O_RDONLY)
        kept.append(keep_pages)
        await rig.fs.read(number, 0, 5)
        await rig.fs.release(number)

    await read()
    await read()
    store.file("/s/small", b"HELLO", mtime=2)
    await trio.sleep(TTL)
    await read()
    await read()
    assert kept == [False, True, False, True]


async def test_pages_of_a_young_version_are_not_kept_however_many_others_were_young_since(
    rig: Rig, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synofs.content.reader._MOST_YOUNG", 1)
    paths = ("/s/small", "/s/big")
    store.clock = 5000.0
    for path in paths:
        store.file(path, b"old", mtime=5000)
    for path in paths:
        assert await rig.fs.read(await rig.open(path), 0, 5) == b"old"
        store.file(path, b"new", mtime=5000)  # of the same size, in the same second
    store.clock = 5004.0
    for path in paths:
        number, keep_pages = await rig.fs.open(await rig.find(path), os.O_RDONLY)
        assert not keep_pages
        assert await rig.fs.read(number, 0, 5) == b"new"


async def test_opening_a_file_that_is_gone_is_no_entry(rig: Rig, store: MemoryStore) -> None:
    inode = await rig.find("/s/small")
    store.remove("/s/small")
    await trio.sleep(TTL)
    with pytest.raises(NoEntry):
        await rig.fs.open(inode, os.O_RDONLY)


async def test_a_handle_follows_a_change_before_its_first_byte(rig: Rig, store: MemoryStore) -> None:
    number = await rig.open("/s/big")
    store.file("/s/big", revealing(SIZE + 5, 1), mtime=2)
    assert versions_in(bytes(await rig.fs.read(number, 0, 4096))) == {1}
    assert await rig.fs.read(number, SIZE, 100) == revealing(5, 1, SIZE)


async def test_reads_beside_each_other_follow_a_change_together(rig: Rig, store: MemoryStore) -> None:
    """The kernel sends several reads of one handle at once."""
    number = await rig.open("/s/big")
    store.file("/s/big", revealing(SIZE + 8, 1), mtime=2)
    results = {}

    async def read(offset: int) -> None:
        results[offset] = versions_in(bytes(await rig.fs.read(number, offset, 4096)), offset)

    async with trio.open_nursery() as nursery:
        for offset in range(0, SIZE, MIB):
            nursery.start_soon(read, offset)
    assert results == {offset: {1} for offset in range(0, SIZE, MIB)}


async def test_a_read_in_flight_is_not_given_the_old_version_when_another_one_followed_the_change(
    rig: Rig, store: MemoryStore
) -> None:
    number = await rig.open("/s/big")
    other = await rig.open("/s/big")  # keeps the downloads of the old version going
    inode = await rig.find("/s/big")
    gate = store.gate("piece", "/s/big")
    results = []

    async def read(offset: int) -> None:
        results.append(versions_in(bytes(await rig.fs.read(number, offset, 4096)), offset))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 0)  # waits for the first piece of the old version
        await gate.reached.wait()
        store.file("/s/big", revealing(SIZE, 1), mtime=2)
        await trio.sleep(TTL)
        await rig.fs.getattr(inode)  # the change is known now
        nursery.start_soon(read, 100 * KIB)  # follows it
        await wait_all_tasks_blocked()
        gate.open()
    assert results == [{1}, {1}]
    await rig.fs.release(other)


@pytest.mark.parametrize("growth", [0, 8, -8])
async def test_a_handle_that_has_read_gets_an_error_after_a_change_and_a_reopen_the_new_version(
    rig: Rig, store: MemoryStore, growth: int
) -> None:
    number = await rig.open("/s/big")
    assert versions_in(bytes(await rig.fs.read(number, 0, 4096))) == {0}
    await wait_all_tasks_blocked()
    store.file("/s/big", revealing(SIZE + growth, 1), mtime=2)
    for offset in (5 * MIB, 0, 4096):
        with pytest.raises(Changed):
            await rig.fs.read(number, offset, 4096)
    await rig.fs.release(number)
    number = await rig.open("/s/big")
    assert versions_in(bytes(await rig.fs.read(number, 5 * MIB, 4096)), 5 * MIB) == {1}


async def test_a_handle_does_not_follow_a_change_after_another_handle_has_read(rig: Rig, store: MemoryStore) -> None:
    """The kernel serves both from the same pages, so it may have given this one bytes of the old version."""
    second = await rig.open("/s/big")
    first = await rig.open("/s/big")
    await rig.fs.read(first, 0, 4096)
    await wait_all_tasks_blocked()
    store.file("/s/big", revealing(SIZE, 1), mtime=2)
    with pytest.raises(Changed):
        await rig.fs.read(second, 5 * MIB, 4096)


async def test_two_opens_before_the_first_byte_need_no_proof(rig: Rig, store: MemoryStore) -> None:
    first, second = await rig.open("/s/big"), await rig.open("/s/big")
    store.reset()
    await rig.fs.read(second, 0, 4096)
    await rig.fs.read(first, 0, 4096)
    await wait_all_tasks_blocked()
    assert [call.method for call in store.calls] == ["read_range"]


async def test_a_handle_that_the_kernel_serves_from_its_pages_does_not_follow_a_change(
    rig: Rig, store: MemoryStore
) -> None:
    """What was read through it without asking us is not known."""
    inode = await rig.find("/s/big")
    first, _ = await rig.fs.open(inode, os.O_RDONLY)
    await rig.fs.read(first, 0, 4096)
    second, keep_pages = await rig.fs.open(inode, os.O_RDONLY)
    assert keep_pages
    store.file("/s/big", revealing(SIZE, 1), mtime=2)
    with pytest.raises(Changed):
        await rig.fs.read(second, 5 * MIB, 4096)


async def test_a_handle_of_an_old_version_costs_no_further_requests(rig: Rig, store: MemoryStore) -> None:
    number = await rig.open("/s/big")
    await rig.fs.read(number, 0, 4096)
    await wait_all_tasks_blocked()
    store.file("/s/big", revealing(SIZE, 1), mtime=2)
    with pytest.raises(Changed):
        await rig.fs.read(number, 5 * MIB, 4096)
    store.reset()
    for _ in range(10):
        with pytest.raises(Changed):
            await rig.fs.read(number, 5 * MIB, 4096)
    assert store.calls == []


@pytest.mark.parametrize("first_read", [True, False])
async def test_a_handle_of_a_file_that_is_gone_is_stale(rig: Rig, store: MemoryStore, first_read: bool) -> None:
    number = await rig.open("/s/big")
    if first_read:
        await rig.fs.read(number, 0, 4096)
        await wait_all_tasks_blocked()
    store.remove("/s/big")
    with pytest.raises(StaleInode):
        await rig.fs.read(number, 5 * MIB, 4096)
