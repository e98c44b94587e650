"""One file of the staging area: what is written is read, what is not comes from the NAS, and how it ends."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.budget import BudgetOptions
from synofs.content.errors import LocalDiskFull, StagedFileClosed
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.stagingdisk import StagingDisk
from synofs.remote import Fingerprint
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas, done
from tests.unit.content_write.staged import BASE, BASE_VERSION, LARGE, Base, content_of, nothing, whole

pytestmark = pytest.mark.trio


# ----- new files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, LARGE])
async def test_what_was_written_is_read(new: StagedFile, size: int) -> None:
    data = revealing(size, 1)
    await new.write(0, data)
    await new.write(size + 5, b"end")
    assert await whole(new) == data + bytes(5) + b"end"


async def test_reading_beyond_the_end_gives_nothing(new: StagedFile) -> None:
    await new.write(0, b"abc")
    assert await new.read(3, 10, nothing) == b""
    assert await new.read(2, 10, nothing) == b"c"


async def test_appends_of_several_tasks_do_not_overlap(new: StagedFile) -> None:
    pieces = [bytes([number]) * size for number, size in enumerate((LARGE, 10, LARGE, 70_000, 1))]
    async with trio.open_nursery() as nursery:
        for piece in pieces:
            nursery.start_soon(new.write, None, piece)
    content = await whole(new)
    assert len(content) == sum(map(len, pieces))
    assert all(piece in content for piece in pieces)


async def test_a_cut_and_regrown_file_has_zeros_behind_the_cut(new: StagedFile) -> None:
    await new.write(0, b"x" * 100)
    await new.truncate(10)
    await new.truncate(20)
    assert await whole(new) == b"x" * 10 + bytes(10)


async def test_a_write_ends_a_time_set_before_it(new: StagedFile) -> None:
    await new.set_mtime(123 * 10**9)
    assert new.effective_mtime_ns == 123 * 10**9
    await new.write(0, b"x")
    assert new.effective_mtime_ns > 10**18


async def test_times_are_whole_seconds(new: StagedFile) -> None:
    await new.set_mtime(123_456_789_012)
    assert new.effective_mtime_ns == 123 * 10**9


# ----- edits ----------------------------------------------------------------------------------------------------


async def test_an_edit_fetches_only_what_is_read(edit: StagedFile) -> None:
    base = Base()
    await edit.write(500_000, b"mine")
    assert await edit.read(499_998, 8, base) == BASE[499_998:500_000] + b"mine" + BASE[500_004:500_006]
    assert base.fetched == [(499_998, 2), (500_004, 2)]


async def test_what_was_written_is_read_without_the_nas(edit: StagedFile) -> None:
    await edit.write(10, b"mine")
    assert await edit.read(10, 4, nothing) == b"mine"


async def test_the_upload_fetches_exactly_what_was_not_written(edit: StagedFile) -> None:
    base = Base()
    await edit.write(0, revealing(300_000, 2))
    await edit.write(900_000, b"mine")
    await edit.fetch_missing(base)
    assert base.fetched_bytes == len(BASE) - 300_000 - 4
    assert edit.complete
    assert await whole(edit) == revealing(300_000, 2) + BASE[300_000:900_000] + b"mine" + BASE[900_004:]


async def test_what_was_cut_off_is_never_fetched(edit: StagedFile) -> None:
    base = Base()
    await edit.truncate(1000)
    await edit.truncate(2000)
    await edit.write(3000, b"end")
    await edit.fetch_missing(base)
    assert base.fetched_bytes == 1000
    assert await whole(edit) == BASE[:1000] + bytes(2000) + b"end"


async def test_overwriting_everything_fetches_nothing(edit: StagedFile) -> None:
    for start in range(0, len(BASE), 100_000):
        await edit.write(start, revealing(100_000, 3, start))
    await edit.fetch_missing(nothing)
    assert await whole(edit) == revealing(len(BASE), 3)


@pytest.mark.parametrize("size", [4, LARGE])
async def test_a_write_while_the_base_is_fetched_wins(edit: StagedFile, size: int) -> None:
    base = Base()
    base.gate = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(edit.fetch_missing, base)
        await base.asked.wait()
        await edit.write(50_000, b"w" * size)
        base.gate.set()
    assert await whole(edit) == BASE[:50_000] + b"w" * size + BASE[50_000 + size :]


async def test_fetched_bytes_do_not_cross_a_large_write_that_is_under_way(
    edit: StagedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, fetched, written = Base(), trio.Event(), trio.Event()
    run_bulk = StagingDisk.run_bulk

    async def slowly(self: StagingDisk, work: Callable, *args: object) -> object:
        result = await run_bulk(self, work, *args)
        if getattr(work, "__name__", "") == "write_at":
            written.set()
            await fetched.wait()  # the bytes are in the file, and it does not know of them yet
        return result

    monkeypatch.setattr(StagingDisk, "run_bulk", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(edit.write, 50_000, b"w" * LARGE)
        await written.wait()
        nursery.start_soon(edit.fetch_missing, base)
        await base.asked.wait()
        await wait_all_tasks_blocked()
        fetched.set()
    assert await whole(edit) == BASE[:50_000] + b"w" * LARGE + BASE[50_000 + LARGE :]


async def test_a_file_that_is_cut_while_a_reader_waits_for_the_base(edit: StagedFile) -> None:
    base = Base()
    base.gate = trio.Event()
    results: list[bytes] = []

    async def read(offset: int) -> None:
        results.append(bytes(await edit.read(offset, 100, base)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, 1000)
        nursery.start_soon(read, 0)
        await base.asked.wait()
        await wait_all_tasks_blocked()
        await edit.truncate(50)
        await edit.truncate(80)
        base.gate.set()
    assert sorted(results) == sorted([b"", BASE[:50] + bytes(30)])


async def test_the_range_log_does_not_grow_by_rewriting_the_same_bytes(edit: StagedFile, area: StagingArea) -> None:
    for _ in range(1000):
        await edit.write(77, b"same place")
    await edit.seal()
    assert area.journal.rows()[0].log_bytes < 100


# ----- the end ----------------------------------------------------------------------------------------------------


async def test_a_reader_that_waits_for_the_base_is_told_that_the_file_was_sent(
    edit: StagedFile, area: StagingArea
) -> None:
    base = Base()
    base.gate = trio.Event()

    async def read() -> None:
        with pytest.raises(StagedFileClosed):
            await edit.read(0, 100, base)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await base.asked.wait()
        await done(area, edit)
        base.gate.set()
    with pytest.raises(StagedFileClosed):
        await edit.write(0, b"x")
    with pytest.raises(StagedFileClosed):
        await edit.write(0, b"x" * LARGE)
    with pytest.raises(StagedFileClosed):
        await edit.truncate(0)


async def test_a_file_that_is_just_being_changed_is_not_done(
    new: StagedFile, area: StagingArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_bulk = StagingDisk.run_bulk

    async def check(self: StagingDisk, work: Callable, *args: object) -> object:
        assert not area.done(new)
        return await run_bulk(self, work, *args)

    monkeypatch.setattr(StagingDisk, "run_bulk", check)
    await new.write(0, b"x" * LARGE)
    assert await whole(new) == b"x" * LARGE
    await done(area, new)
    assert os.listdir(area.data_folder) == []
    assert area.budget.dirty_bytes == 0


async def test_when_the_nas_has_it_nothing_is_left(edit: StagedFile, area: StagingArea) -> None:
    await edit.write(0, b"x")
    await done(area, edit)
    assert os.listdir(area.data_folder) == []
    assert area.journal.rows() == []
    assert area.budget.dirty_bytes == 0


async def test_a_disowned_file_lives_on_without_a_name_until_its_end(edit: StagedFile, area: StagingArea) -> None:
    await edit.write(0, b"mine")
    await edit.fetch_missing(Base())
    await area.disown(edit)
    assert os.listdir(area.data_folder) == []
    assert area.journal.rows() == []
    await edit.write(4, b"more")
    await edit.seal()
    assert (await whole(edit))[:10] == b"minemore" + BASE[8:10]
    await area.drop(edit)
    assert area.budget.dirty_bytes == 0


async def test_a_refused_file_is_kept_under_its_name(area: StagingArea) -> None:
    paths = []
    for content in (b"first", b"second"):
        staged = await area.stage("/s/folder/\udce9t\udce9.odt", None, empty=True)
        await staged.write(0, content)
        paths.append(await area.refuse(staged, "no \udce9"))
    assert [content_of(path) for path in paths] == [b"first", b"second"]
    assert [os.path.basename(path) for path in paths] == ["\udce9t\udce9.odt", "2-\udce9t\udce9.odt"]
    assert [row.path for row in area.still_refused()] == ["/s/folder/\udce9t\udce9.odt"] * 2
    assert area.budget.dirty_bytes == 0
    os.unlink(paths[0])
    assert [row.data for row in area.still_refused()] == [os.path.basename(paths[1])]


async def test_the_longest_name_can_be_refused_more_than_once(area: StagingArea) -> None:
    name = "ü" * 127
    for _ in range(3):
        staged = await area.stage(f"/s/{name}", None, empty=True)
        kept = await area.refuse(staged, "no")
        assert len(os.path.basename(kept).encode()) <= 255
    assert len(area.still_refused()) == 3


async def test_a_refused_edit_keeps_the_list_of_what_was_written(edit: StagedFile, area: StagingArea) -> None:
    await edit.write(10, b"mine")
    kept = await area.refuse(edit, "no")
    assert len(content_of(kept + ".ranges")) > 0


# ----- the budget ---------------------------------------------------------------------------------------------------


async def test_the_budget_knows_the_size_of_every_file_at_any_time(open_area: Areas) -> None:
    area = await open_area()
    new = await area.stage("/s/new", None, empty=True)
    edit = await area.stage("/s/edit", BASE_VERSION, empty=False)
    assert area.budget.dirty_bytes == len(BASE)
    await new.write(0, b"x" * 100)
    await new.write(50, b"x" * 100)
    await new.truncate(10)
    await new.truncate(3000)
    await new.write(None, b"x")
    await edit.write(len(BASE) - 1, b"xy")
    assert area.budget.dirty_bytes == new.size + edit.size == 3001 + len(BASE) + 1


async def test_a_write_over_the_budget_is_refused_and_changes_nothing(open_area: Areas) -> None:
    area = await open_area(budget=BudgetOptions(max_dirty_bytes=1000, floor_bytes=0))
    staged = await area.stage("/s/f", None, empty=True)
    await staged.write(0, b"x" * 1000)
    generation = staged.generation
    for change in (lambda: staged.write(1000, b"y"), lambda: staged.truncate(1001)):
        with pytest.raises(LocalDiskFull):
            await change()
    assert (staged.size, staged.generation, area.budget.dirty_bytes) == (1000, generation, 1000)
    await staged.write(0, b"z")  # what does not grow is no new debt
    with pytest.raises(LocalDiskFull):
        await area.stage("/s/big", Fingerprint(1, 1), empty=False)
    assert os.listdir(area.data_folder) == [staged.data_name]


async def test_a_write_that_fails_half_way_leaves_no_stray_bytes(
    new: StagedFile, area: StagingArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    await new.write(0, b"good")
    pwrite = os.pwrite

    def full(fd: int, data: memoryview, offset: int) -> int:
        if offset >= 10:
            raise OSError(28, "No space left on device")
        return pwrite(fd, data[:3], offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space"):
            await new.write(4, b"x" * 20)
    assert (new.size, area.budget.dirty_bytes) == (4, 4)
    await new.truncate(20)
    assert await whole(new) == b"good" + bytes(16)
