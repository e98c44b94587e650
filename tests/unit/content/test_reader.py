from __future__ import annotations

import random

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.readahead import KIB, MIB
from synofs.content.reader import Reader, ReaderOptions
from synofs.remote import Changed, InputOutput, NotFound, ShortBody, Unreachable
from tests.trees import revealing, versions_in
from tests.unit.content.conftest import BIG, BLOCK, PATH, Rig, collect, read_all
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


# ----- what is read, and what it costs ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4095, 4096, 1 * MIB - 1, 1 * MIB, 1 * MIB + 1, BIG + 5])
async def test_what_is_read_is_what_is_there(rig: Rig, size: int) -> None:
    rig.put(size)
    assert await read_all(rig.open(), size) == revealing(size)


async def test_reading_at_or_behind_the_end_gives_nothing_and_asks_nothing(rig: Rig) -> None:
    rig.put(100)
    file = rig.open()
    assert await file.read(100, 10) == b""
    assert await file.read(4711, 10) == b""
    assert rig.store.calls == []


async def test_an_empty_file_asks_nothing(rig: Rig) -> None:
    rig.put(0)
    assert await rig.open().read(0, 4096) == b""
    assert rig.store.calls == []


async def test_a_read_over_the_end_is_cut_there(rig: Rig) -> None:
    rig.put(100)
    assert await rig.open().read(90, 50) == revealing(10, offset=90)


@pytest.mark.parametrize("size", [1, 4096, 300 * KIB, 1 * MIB])
async def test_a_small_file_is_one_request(rig: Rig, size: int) -> None:
    rig.put(size)
    file = rig.open()
    await read_all(file, size, block=4096)
    assert [(call.method, call.offset, call.length) for call in rig.store.calls] == [("read_range", 0, size)]


async def test_what_is_in_memory_asks_nothing_even_after_a_close(rig: Rig) -> None:
    rig.put(300 * KIB)
    file = rig.open()
    await read_all(file, 300 * KIB)
    file.close()
    rig.store.reset()
    assert await read_all(rig.open(), 300 * KIB) == revealing(300 * KIB)
    assert rig.store.calls == []


async def test_two_readers_of_a_block_cause_one_request(rig: Rig) -> None:
    rig.put(300 * KIB)
    gate = rig.store.gate("read_range")
    results: list = []
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(collect, results, rig.open().read, 0, 4096)
            nursery.start_soon(collect, results, rig.open().read, 100 * KIB, 4096)
        await wait_all_tasks_blocked()
        gate.open()
    assert results.count(revealing(4096)) == results.count(revealing(4096, offset=100 * KIB)) == 5
    assert len(rig.store.calls) == 1


async def test_a_read_waits_for_its_bytes_and_not_for_the_whole_download(rig: Rig) -> None:
    rig.put(BIG)
    rig.store.gate("piece", skip=1)
    assert await rig.open().read(0, 1000) == revealing(1000)


async def test_random_reads_move_32_kib_each(rig: Rig) -> None:
    rig.put(64 * MIB)
    file = rig.open()
    rng = random.Random(4)
    for number in rng.sample(range(1, 64), 63):  # in a random order, far from each other
        offset = number * MIB + rng.randrange(28 * KIB)
        assert await file.read(offset, 4096) == revealing(4096, offset=offset)
    assert rig.store.bytes_sent <= 63 * 32 * KIB
    assert all(call.length <= 32 * KIB for call in rig.store.asked("read_range"))


async def test_a_sequential_read_is_few_requests_of_a_limited_size(rig: Rig) -> None:
    size = 64 * MIB
    rig.store.piece_bytes = MIB
    rig.put(size)
    assert await read_all(rig.open(), size) == revealing(size)
    downloads = rig.store.asked("read_range")
    assert max(call.length for call in downloads) <= rig.reader.options.request_bytes
    assert len(downloads) <= 24
    assert sum(call.length for call in downloads) == size, "nothing is downloaded twice"


async def test_a_head_of_a_huge_file_downloads_little(rig: Rig) -> None:
    rig.put(BIG)
    await rig.open().read(0, BLOCK)
    await wait_all_tasks_blocked()
    assert rig.store.bytes_sent <= 1 * MIB


# ----- never a mix of two versions ----------------------------------------------------------------------------


async def test_the_first_download_needs_no_proof(rig: Rig) -> None:
    rig.put(BIG)
    await rig.open().read(0, BLOCK)
    await wait_all_tasks_blocked()
    assert rig.store.count("get_entries") == 0


async def test_no_second_download_is_handed_out_before_a_getinfo_sent_after_it(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, BLOCK)
    rig.store.reset()
    gate = rig.store.gate("get_entries")
    results: list = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, results, file.read, 5 * MIB, BLOCK)
        await gate.reached.wait()
        await trio.sleep(10)
        assert results == []
        gate.open()
    assert results == [revealing(BLOCK, offset=5 * MIB)]
    assert [call.method for call in rig.store.calls] == ["read_range", "get_entries"]


@pytest.mark.parametrize("in_order", [True, False])
async def test_a_getinfo_sent_before_the_bytes_came_proves_nothing(rig: Rig, in_order: bool) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, BLOCK)
    late = rig.store.gate("answer", skip=1)
    early = rig.store.gate("answer")
    results: list = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, results, file.read, 5 * MIB, BLOCK)
        await early.reached.wait()  # a getinfo has looked: the file is as it was
        await trio.sleep(1)
        rig.put(BIG, version=1)
        nursery.start_soon(collect, results, file.read, 3 * MIB, BLOCK)  # version 1
        await late.reached.wait()  # another has, and has seen that
        for answer in (early, late) if in_order else (late, early):
            answer.open()
            await trio.sleep(1)
    first, second = results
    assert first == revealing(BLOCK, offset=5 * MIB) if in_order else isinstance(first, Changed)
    assert isinstance(second, Changed)


async def test_the_proof_of_a_small_random_read_runs_beside_its_download(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, 4096)
    rig.store.reset()
    gate = rig.store.gate("read_range")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(file.read, 5 * MIB, 4096)
        await gate.reached.wait()
        await wait_all_tasks_blocked()
        assert rig.store.count("get_entries") == 1
        gate.open()
    assert len(rig.store.calls) == 2


async def test_another_mtime_at_the_same_size_is_found_in_the_middle_of_a_read(rig: Rig) -> None:
    size = 16 * MIB
    rig.put(size)
    file = rig.open()
    position = 0
    while position < 3 * MIB:
        position += len(await file.read(position, BLOCK))
    rig.put(size, version=1)
    error = None
    while error is None and position < size:
        try:
            data = await file.read(position, BLOCK)
        except Changed as changed:
            error = changed
        else:
            assert versions_in(bytes(data), position) == {0}, "read ahead before the change"
            position += len(data)
    assert error is not None
    assert position < size


async def test_after_a_change_no_handle_of_the_old_version_reads_anything(rig: Rig) -> None:
    rig.put(BIG)
    file, other = rig.open(), rig.open()
    await file.read(0, BLOCK)
    rig.put(BIG, version=1)
    with pytest.raises(Changed):
        await file.read(5 * MIB, BLOCK)
    for offset in (0, 5 * MIB):
        with pytest.raises(Changed):
            await other.read(offset, BLOCK)
    assert await rig.open().read(0, BLOCK) == revealing(BLOCK, 1)


async def test_bytes_that_left_the_memory_are_not_replaced_by_another_versions(rig: Rig) -> None:
    """Nothing of the file is here any more, but its reader has seen bytes of the old version."""
    rig.put(BIG)
    rig.put(BIG, path="/s/other")
    file = rig.open()
    assert versions_in(bytes(await file.read(0, BLOCK))) == {0}
    await wait_all_tasks_blocked()
    rig.reader._cache.drop(file.content.key)
    rig.put(BIG, version=1)
    with pytest.raises(Changed):
        await file.read(BLOCK, BLOCK)


async def test_pages_that_the_kernel_kept_are_not_mixed_with_another_version(rig: Rig) -> None:
    """The file was read before, closed, and left our memory; the kernel may still have pages of it."""
    rig.put(BIG)
    old = rig.store.version(PATH)
    rig.put(BIG, version=1)
    file = rig.open(version=old, seen=True)
    with pytest.raises(Changed):
        await file.read(5 * MIB, BLOCK)


async def test_a_file_that_is_gone_is_not_found(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, BLOCK)
    rig.store.remove(PATH)
    with pytest.raises(NotFound):
        await file.read(5 * MIB, BLOCK)


async def test_a_renamed_file_is_read_on_under_its_new_path(rig: Rig) -> None:
    rig.put(BIG)
    path = PATH
    file = rig.reader.open(1, rig.store.version(PATH), lambda: path)
    await file.read(0, BLOCK)
    rig.store.nodes["/s/renamed"] = rig.store.nodes.pop(PATH)
    path = "/s/renamed"
    assert await file.read(5 * MIB, BLOCK) == revealing(BLOCK, offset=5 * MIB)


async def test_bytes_that_wait_for_their_proof_are_not_downloaded_again(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, 4096)
    await wait_all_tasks_blocked()
    rig.store.reset()
    gate = rig.store.gate("get_entries")
    results: list = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, results, file.read, 5 * MIB, BLOCK)
        await gate.reached.wait()
        for _ in range(4):  # the download has ended; its bytes are held
            nursery.start_soon(collect, results, file.read, 5 * MIB, BLOCK)
        await wait_all_tasks_blocked()
        gate.open()
    assert results == [revealing(BLOCK, offset=5 * MIB)] * 5
    assert sum(call.length for call in rig.store.asked("read_range", PATH) if call.offset == 5 * MIB) == BLOCK


async def test_one_getinfo_proves_all_that_came_before_it(rig: Rig) -> None:
    """On a slow line, too, where the reader waits for each piece."""
    rig.store.piece_bytes = 16 * KIB
    rig.store.piece_seconds = 0.016
    rig.store.answer_seconds = 0.005
    size = 16 * MIB
    rig.put(size)
    started = trio.current_time()
    assert await read_all(rig.open(), size) == revealing(size)
    seconds = trio.current_time() - started
    assert seconds > 4
    assert rig.store.count("get_entries") <= rig.store.count("read_range") + 4 * seconds


async def test_few_proofs_do_not_slow_a_stream_down(nursery: trio.Nursery) -> None:
    seconds = {}
    for options in (ReaderOptions(proof_seconds=0), ReaderOptions()):
        rig = Rig(MemoryStore(piece_bytes=16 * KIB), options)
        await nursery.start(rig.reader.run)
        rig.store.piece_seconds = 0.016
        rig.store.answer_seconds = 0.005
        rig.put(16 * MIB)
        started = trio.current_time()
        await read_all(rig.open(), 16 * MIB)
        seconds[options.proof_seconds] = trio.current_time() - started
    assert seconds[ReaderOptions().proof_seconds] < seconds[0] + 0.5


# ----- failing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [0, 64 * KIB, 192 * KIB])
async def test_a_short_body_is_an_error_never_zeros_never_a_silent_end(rig: Rig, cut: int) -> None:
    rig.put(300 * KIB)
    rig.store.cut_after = cut
    file = rig.open()
    with pytest.raises(ShortBody):
        await file.read(256 * KIB, 4096)
    rig.store.cut_after = None
    assert await file.read(256 * KIB, 4096) == revealing(4096, offset=256 * KIB)


async def test_bytes_that_came_before_a_failure_are_good(rig: Rig) -> None:
    rig.put(300 * KIB)
    rig.store.cut_after = 128 * KIB
    file = rig.open()
    assert await file.read(0, 128 * KIB) == revealing(128 * KIB)
    with pytest.raises(ShortBody):
        await file.read(128 * KIB, 128 * KIB)


async def test_a_store_that_delivers_less_than_it_promised_is_an_error(rig: Rig) -> None:
    rig.put(300 * KIB)

    async def too_short(path, offset, length, size, on_data) -> None:
        await trio.lowlevel.checkpoint()

    rig.store.read_range = too_short
    with pytest.raises(ShortBody):
        await rig.open().read(0, 4096)


async def test_another_size_is_changed(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    rig.put(BIG + 1)
    with pytest.raises(Changed):
        await file.read(0, 4096)


@pytest.mark.parametrize("error", [Unreachable("no route"), InputOutput("disk"), ValueError("a bug")])
async def test_a_failed_download_fails_the_read_and_the_next_one_tries_again(rig: Rig, error: Exception) -> None:
    rig.put(300 * KIB)
    file = rig.open()
    with rig.store.fail("read_range", error), pytest.raises(type(error)):
        await file.read(0, 4096)
    assert await file.read(0, 4096) == revealing(4096)


@pytest.mark.parametrize("error", [Unreachable("no route"), InputOutput("disk"), ValueError("a bug")])
async def test_a_failed_proof_fails_the_read_and_the_next_one_asks_again(rig: Rig, error: Exception) -> None:
    rig.put(BIG)
    file = rig.open()
    await file.read(0, 4096)
    await wait_all_tasks_blocked()
    rig.store.reset()
    with rig.store.fail("get_entries", error), trio.fail_after(60), pytest.raises(type(error)):
        await file.read(5 * MIB, BLOCK)
    assert len(rig.store.calls) <= 3, "and it does not hammer on the NAS"
    assert await file.read(5 * MIB, BLOCK) == revealing(BLOCK, offset=5 * MIB)
    starts = [call.offset for call in rig.store.asked("read_range")]
    assert starts.count(5 * MIB) == 1, "the bytes were here, only the proof was missing"


async def test_a_failed_read_ahead_troubles_nobody(rig: Rig) -> None:
    rig.put(BIG)
    file = rig.open()
    gate = rig.store.gate("piece", skip=4)
    await file.read(0, BLOCK)
    with rig.store.fail("piece", Unreachable("no route")):
        gate.open()
        await wait_all_tasks_blocked()
    assert await read_all(file, BIG) == revealing(BIG)


async def test_what_was_asked_for_before_our_own_edit_of_the_same_size_and_time_is_not_handed_out(rig: Rig) -> None:
    """An edit in place that gives the file its old time back, while it is downloaded."""
    rig.put(BIG)
    file = rig.open()
    await file.read(0, BLOCK)
    piece = rig.store.gate("piece")
    results: list = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(collect, results, file.read, 5 * MIB, BLOCK)
        await piece.reached.wait()
        await wait_all_tasks_blocked()
        rig.put(BIG, version=1, mtime=1000)
        rig.reader.written_here(hash(PATH), file.content.key.version, PATH, None)
        piece.open()
    assert results == [revealing(BLOCK, 1, offset=5 * MIB)]
    assert await file.read(6 * MIB, BLOCK) == revealing(BLOCK, 1, offset=6 * MIB)


# ----- versions that are younger than the NAS's clock can tell apart -----------------------------------------------


async def test_bytes_of_a_file_that_is_being_written_to_are_read_once_more_when_its_second_has_passed(
    nursery: trio.Nursery,
) -> None:
    store = MemoryStore()
    store.folder("/s")
    store.clock = 5000.0
    store.file("/s/f", b"old", mtime=5000)
    reader = Reader(store, ReaderOptions())
    await nursery.start(reader.run)
    version = store.version("/s/f")

    async def read() -> bytes:
        opened = reader.open(1, version, lambda: "/s/f")
        try:
            return bytes(await opened.read(0, 10))
        finally:
            opened.close()

    assert await read() == b"old"
    store.file("/s/f", b"new", mtime=5000)  # within the same second: size and mtime are the same
    assert not reader.outgrown(1, version)
    store.clock = 5004.0
    assert reader.outgrown(1, version)
    assert await read() == b"new"
    assert not reader.outgrown(1, version)
    assert store.count("read_range") == 2


async def test_of_files_that_were_young_and_are_never_opened_again_not_all_are_remembered(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is forgotten loses its bytes, too: they may be those of an older content."""
    monkeypatch.setattr("synofs.content.reader._MOST_YOUNG", 2)
    store = MemoryStore()
    store.folder("/s")
    store.clock = 5000.0
    reader = Reader(store, ReaderOptions())
    await nursery.start(reader.run)
    for number in range(4):
        path = f"/s/{number}"
        store.file(path, b"content", mtime=5000)
        opened = reader.open(number, store.version(path), lambda path=path: path)
        assert bytes(await opened.read(0, 10)) == b"content"
        opened.close()
    store.clock = 5004.0
    assert [reader.outgrown(number, store.version(f"/s/{number}")) for number in range(4)] == [False, False, True, True]
    assert reader.memory_bytes == 0
