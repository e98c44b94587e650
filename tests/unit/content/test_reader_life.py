"""What a reader costs beside its bytes: what goes on after a close, memory, and servers that know no ranges."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.readahead import KIB, MIB
from synofs.content.reader import ReaderOptions
from synofs.remote import OnData
from tests.trees import revealing, versions_in
from tests.unit.content.conftest import BIG, BLOCK, PATH, Rig, collect, read_all
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


# ----- closing and bounds -------------------------------------------------------------------------------------


async def test_closing_the_last_handle_ends_its_downloads(rig: Rig) -> None:
    rig.put(BIG)
    rig.store.gate("piece", skip=2)
    file, other = rig.open(), rig.open()
    await file.read(0, BLOCK)
    file.close()
    await wait_all_tasks_blocked()
    assert other.content.fetches
    other.close()
    await wait_all_tasks_blocked()
    assert other.content.fetches == []
    assert rig.store.bytes_sent == BLOCK


async def test_closing_does_not_cut_off_a_download_whose_bytes_have_all_come(rig: Rig) -> None:
    """Its connection would be lost."""
    rig.put(300 * KIB)
    gate = rig.store.gate("end")
    file = rig.open()
    await read_all(file, 300 * KIB)
    file.close()
    await wait_all_tasks_blocked()
    gate.open()
    await wait_all_tasks_blocked()
    assert rig.store.downloads_ended == 1


class LateStore(MemoryStore):
    """A download that is cancelled hands over what has come already."""

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        with trio.CancelScope(shield=True):
            await super().read_range(path, offset, length, size, on_data)


async def test_what_comes_too_late_is_not_mixed_with_what_the_next_handle_downloads(nursery: trio.Nursery) -> None:
    rig = Rig(LateStore(), ReaderOptions())
    await nursery.start(rig.reader.run)
    rig.put(BIG)
    gate = rig.store.gate("piece", PATH)
    version = rig.store.version(PATH)
    file = rig.open()
    with trio.move_on_after(1):
        await file.read(0, BLOCK)
    file.close()

    again = rig.open(version=version)
    rig.put(BIG, version=1)
    gate.open()
    assert versions_in(bytes(await again.read(0, BIG))) == {1}  # its first download, so the only one it knows


async def test_a_read_that_is_under_way_survives_the_close_of_its_handle(rig: Rig, nursery: trio.Nursery) -> None:
    rig.put(BLOCK)
    gate = rig.store.gate("piece", PATH)
    file = rig.open()

    async def read() -> None:
        assert bytes(await file.read(0, BLOCK)) == revealing(BLOCK)
        done.set()

    done = trio.Event()
    nursery.start_soon(read)
    await gate.reached.wait()
    file.close()
    gate.open()
    await done.wait()
    with pytest.raises(ValueError, match="closed"):
        await file.read(0, 1)


async def test_a_reader_that_gives_up_does_not_end_the_download_of_the_others(rig: Rig) -> None:
    rig.put(300 * KIB)
    gate = rig.store.gate("piece")
    file = rig.open()
    with trio.move_on_after(1):
        await file.read(0, 4096)
    gate.open()
    assert await file.read(0, 4096) == revealing(4096)
    assert len(rig.store.calls) == 1


@pytest.mark.parametrize("options", [ReaderOptions(memory_bytes=4 * MIB, request_bytes=1 * MIB)])
async def test_memory_is_bounded_whatever_is_read(rig: Rig) -> None:
    files = []
    for number in range(8):
        path = f"/s/{number}"
        rig.put(BIG, path=path)
        files.append(rig.open(path))
    for offset in range(0, BIG, BLOCK):
        for file in files:
            assert await file.read(offset, BLOCK) == revealing(BLOCK, offset=offset)
            held = sum(len(piece.data) for other in files for piece in other.content.held)
            assert rig.reader.cache_bytes <= 4 * MIB
            assert held <= 4 * MIB + 8 * 512 * KIB  # the share of each, and at least the first window


@pytest.mark.parametrize("options", [ReaderOptions(memory_bytes=64 * KIB, request_bytes=1 * MIB)])
async def test_with_next_to_no_memory_everything_is_read_all_the_same(rig: Rig) -> None:
    rig.store.piece_bytes = 16 * KIB
    rig.put(2 * MIB)
    with trio.fail_after(600):
        assert await read_all(rig.open(), 2 * MIB, block=16 * KIB) == revealing(2 * MIB)


# ----- servers without ranges ---------------------------------------------------------------------------------


@pytest.fixture
def no_ranges(store: MemoryStore) -> MemoryStore:
    store.ignores_ranges = True
    return store


async def test_without_ranges_sequential_reading_is_two_downloads(rig: Rig, no_ranges: MemoryStore) -> None:
    rig.put(BIG)
    assert await read_all(rig.open(), BIG) == revealing(BIG)
    assert no_ranges.count("read_range") == 2


@pytest.mark.parametrize("options", [ReaderOptions(memory_bytes=2 * MIB)])
async def test_without_ranges_the_stream_is_held_back_by_its_reader(rig: Rig, no_ranges: MemoryStore) -> None:
    size = 32 * MIB
    rig.put(size)
    file = rig.open()
    for offset in range(0, size, BLOCK):
        assert await file.read(offset, BLOCK) == revealing(BLOCK, offset=offset)
        held = sum(len(piece.data) for piece in file.content.held)
        assert rig.reader.cache_bytes + held <= 4 * MIB
    assert no_ranges.bytes_sent <= size + 1 * MIB


async def test_without_ranges_a_stream_that_nobody_follows_is_ended(rig: Rig, no_ranges: MemoryStore) -> None:
    rig.put(64 * MIB)
    no_ranges.piece_bytes = MIB
    file = rig.open()
    for offset in range(0, 2 * MIB, BLOCK):
        await file.read(offset, BLOCK)
    await trio.sleep(60)
    assert file.content.fetches == []
    assert no_ranges.bytes_sent < 40 * MIB
    assert await file.read(2 * MIB, BLOCK) == revealing(BLOCK, offset=2 * MIB)


async def test_without_ranges_a_step_back_is_read_at_once(rig: Rig, no_ranges: MemoryStore) -> None:
    rig.put(64 * MIB)
    no_ranges.piece_bytes = MIB
    file = rig.open()
    for offset in range(0, 4 * MIB, BLOCK):
        await file.read(offset, BLOCK)
    rig.reader._cache.drop(file.content.key)
    with trio.fail_after(5):
        assert await file.read(0, BLOCK) == revealing(BLOCK)
        assert await file.read(50 * MIB, BLOCK) == revealing(BLOCK, offset=50 * MIB)
        assert await file.read(1 * MIB, BLOCK) == revealing(BLOCK, offset=1 * MIB)


async def test_without_ranges_reads_out_of_order_share_one_stream(rig: Rig, no_ranges: MemoryStore) -> None:
    rig.put(BIG)
    no_ranges.ranges_ignored = True
    file = rig.open()
    results: list = []
    async with trio.open_nursery() as nursery:
        for number in (15, 3, 1, 14, 2, 0, 4):
            nursery.start_soon(collect, results, file.read, number * BLOCK, BLOCK)
            await trio.lowlevel.checkpoint()
    assert sorted(results) == sorted(revealing(BLOCK, offset=number * BLOCK) for number in (0, 1, 2, 3, 4, 14, 15))
    assert no_ranges.count("read_range") == 1


async def test_without_ranges_many_readers_all_get_their_bytes(rig: Rig, no_ranges: MemoryStore) -> None:
    size = 16 * MIB
    rig.put(size)
    no_ranges.piece_bytes = 256 * KIB
    no_ranges.ranges_ignored = True
    offsets = [0, 15 * MIB, 4 * MIB, 9 * MIB, 1 * MIB, 12 * MIB]
    results: dict[int, bytes] = {}

    async def read(offset: int) -> None:
        results[offset] = bytes(await rig.open().read(offset, BLOCK))

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for offset in offsets:
                nursery.start_soon(read, offset)
    assert results == {offset: revealing(BLOCK, offset=offset) for offset in offsets}
