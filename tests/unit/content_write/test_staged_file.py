from __future__ import annotations

import errno
import hashlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from synofs.content.attempt import Attempt, Sent, decoded
from synofs.content.budget import BudgetOptions
from synofs.content.errors import JournalFailed, LocalDiskFull, StagedFileClosed
from synofs.content.journal import Journal
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.stagingdisk import StagingDisk
from synofs.remote import Fingerprint
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas, done

pytestmark = pytest.mark.trio

LARGE = 200 * 1024  # written in a thread
BASE = revealing(1_000_000)
BASE_VERSION = Fingerprint(len(BASE), 5_000_000_000)


class Base:
    """The version on the NAS; counts what is fetched of it."""

    def __init__(self, content: bytes = BASE) -> None:
        self.content = content
        self.fetched: list[tuple[int, int]] = []
        self.gate: trio.Event | None = None
        self.asked = trio.Event()

    async def __call__(self, offset: int, length: int) -> bytes:
        self.fetched.append((offset, length))
        self.asked.set()
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        data = self.content[offset : offset + length]
        assert len(data) == length
        return data

    @property
    def fetched_bytes(self) -> int:
        return sum(length for _, length in self.fetched)


async def nothing(offset: int, length: int) -> bytes:
    raise AssertionError("nothing is to be fetched")


async def whole(staged: StagedFile, base: Callable = nothing) -> bytes:
    return bytes(await staged.read(0, staged.size + 100, base))


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()


@pytest.fixture
async def area(open_area: Areas) -> StagingArea:
    return await open_area()


@pytest.fixture
async def new(area: StagingArea) -> StagedFile:
    return await area.stage("/s/new", None, empty=True)


@pytest.fixture
async def edit(area: StagingArea) -> StagedFile:
    return await area.stage("/s/edit", BASE_VERSION, empty=False)


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


# ----- the journal, together ---------------------------------------------------------------------------------------


async def test_what_waits_for_the_journal_at_the_same_time_is_committed_at_once(
    area: StagingArea, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []
    commit = Journal._commit
    monkeypatch.setattr(Journal, "_commit", lambda self: (commits.append(1), commit(self)))
    files = [await area.stage(f"/s/{number}", None, empty=True) for number in range(100)]
    for staged in files:
        await staged.seal()  # the first one does not wait for the journal
        await staged.write(0, b"bytes")
    commits.clear()
    async with trio.open_nursery() as nursery:
        for staged in files:
            nursery.start_soon(staged.seal)
    assert [row.size for row in area.journal.rows()] == [5] * 100
    assert len(commits) < 10


@pytest.fixture
def disk_waits(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each commit: does it wait for the disk, and may it tidy the journal, which waits for the disk, too?"""
    waits: list[bool] = []
    commit = Journal._commit

    def watched(journal: Journal) -> None:
        asked = [journal.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "wal_autocheckpoint")]
        assert asked in ([2, 1000], [1, 0])
        waits.append(asked[0] == 2)
        commit(journal)

    monkeypatch.setattr(Journal, "_commit", watched)
    return waits


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which files have been waited for, but for the journal's."""
    names: list[str] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        names.append(os.path.basename(os.readlink(f"/proc/self/fd/{fd}")))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    return names


async def test_beginning_a_file_waits_for_no_disk_and_its_first_seal_for_its_labelled_data_and_its_name(
    area: StagingArea, disk_waits: list[bool], synced: list[str]
) -> None:
    synced.clear()  # of opening the area
    staged = await area.stage("/s/f", None, empty=True)
    assert (disk_waits, synced) == ([], [])
    await staged.write(0, b"bytes")
    await staged.seal()
    assert (disk_waits, synced) == ([], [staged.data_name, "staging"])
    await area.stage("/s/f", BASE_VERSION, empty=False)
    assert disk_waits == [False]


async def test_rows_of_new_files_are_written_together_as_of_their_seals(
    area: StagingArea, disk_waits: list[bool], inline_disk: None, autojump_clock: MockClock
) -> None:
    for number in range(100):
        staged = await area.stage(f"/s/{number}", None, empty=True)
        await staged.write(0, b"bytes")
        await staged.seal()
    assert disk_waits == []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(area.serve)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert disk_waits == [False, True]  # the last one when it ends
    assert [row.size for row in area.journal.rows()] == [5] * 100


async def test_of_files_that_are_made_one_after_the_other_each_waits_for_its_data_alone(
    area: StagingArea, synced: list[str]
) -> None:
    synced.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(area.serve)
        for number in range(100):
            staged = await area.stage(f"/s/{number}", None, empty=True)
            await staged.write(0, b"bytes")
            await staged.seal()
            await trio.sleep(0.001)
        assert len(area.files) == 100
        nursery.cancel_scope.cancel()
    assert synced.count("staging") < 20
    assert set(os.listdir(area.data_folder)) == {staged.data_name for staged in area.files.values()}


async def test_data_files_that_were_made_ahead_go_when_nobody_makes_files(
    area: StagingArea, inline_disk: None, autojump_clock: MockClock
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(area.serve)
        for number in range(3):
            await done(area, await area.stage(f"/s/{number}", None, empty=True))
        await trio.sleep(0.5)
        assert len(os.listdir(area.data_folder)) > 3
        await trio.sleep(10)
        assert os.listdir(area.data_folder) == []
        nursery.cancel_scope.cancel()
    assert len(os.listdir("/proc/self/fd")) <= descriptors


async def test_a_seal_waits_for_the_journal_if_it_knows_more_than_the_label(
    area: StagingArea, disk_waits: list[bool]
) -> None:
    async def waits_for_the_journal(staged: StagedFile) -> bool:
        await staged.write(0, b"more")
        disk_waits.clear()
        await staged.seal()
        return disk_waits == [True]

    again = await area.stage("/s/again", None, empty=True)
    assert not await waits_for_the_journal(again)
    assert await waits_for_the_journal(again)
    emptied = await area.stage("/s/emptied", BASE_VERSION, empty=True)
    assert not await waits_for_the_journal(emptied)
    assert await waits_for_the_journal(await area.stage("/s/ambiguous", BASE_VERSION, empty=True, base_md5="0" * 32))
    assert await waits_for_the_journal(await area.stage("/s/edit", BASE_VERSION, empty=False))
    doubtful = await area.stage("/s/doubtful", None, empty=True)
    await doubtful.note_attempt("/s/doubtful")
    assert await waits_for_the_journal(doubtful)


async def test_a_seal_waits_for_the_journal_if_the_data_cannot_be_labelled(
    area: StagingArea, disk_waits: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "no attributes here")

    monkeypatch.setattr(os, "setxattr", refused)
    staged = await area.stage("/s/f", None, empty=True)
    await staged.write(0, b"bytes")
    await staged.seal()
    assert disk_waits[-1]


async def test_a_file_is_begun_and_sealed_although_the_journal_is_busy(area: StagingArea) -> None:
    gate = threading.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(area.run, gate.wait, 10)
        await wait_all_tasks_blocked()
        with trio.fail_after(5):
            staged = await area.stage("/s/f", None, empty=True)
            await staged.write(0, b"bytes")
            await staged.seal()
        gate.set()
    await area.flush()
    assert [(row.path, row.size) for row in area.journal.rows()] == [("/s/f", 5)]


async def test_one_failure_takes_back_nothing_of_the_others(area: StagingArea) -> None:
    outcomes: list[object] = []

    def fail() -> None:
        area.journal.add_leftover("/s/half-done")
        raise ValueError("in the middle")

    async def run(work: Callable[[], None]) -> None:
        try:
            outcomes.append(await area.run(work))
        except ValueError as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, lambda: area.journal.add_leftover("/s/one"))
        nursery.start_soon(run, fail)
        nursery.start_soon(run, lambda: area.journal.add_leftover("/s/two"))
    assert sorted(outcomes, key=str) == [None, None, "in the middle"]
    assert area.journal.leftovers() == ["/s/one", "/s/two"]


async def test_a_commit_that_fails_fails_all_of_them(area: StagingArea, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []

    def full(journal: Journal) -> None:
        journal.db.rollback()
        raise sqlite3.OperationalError("disk I/O error")

    async def stage(number: int) -> None:
        try:
            await area.stage(f"/s/{number}", BASE_VERSION, empty=False)
        except JournalFailed:
            failed.append(number)

    descriptors = os.listdir("/proc/self/fd")
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_commit", full)
        async with trio.open_nursery() as nursery:
            for number in range(5):
                nursery.start_soon(stage, number)
    assert sorted(failed) == [0, 1, 2, 3, 4]
    assert area.journal.rows() == []
    assert area.budget.dirty_bytes == 0
    assert len(os.listdir("/proc/self/fd")) <= len(descriptors)
    assert os.listdir(area.data_folder) == []


async def test_cancelled_before_its_turn_it_is_not_done_and_after_that_it_is(area: StagingArea) -> None:
    gate = threading.Event()
    done_work: list[str] = []
    result: list[str] = []

    def first() -> None:
        gate.wait(10)

    async def cancelled(scope: trio.CancelScope) -> None:
        with scope:
            await area.run(done_work.append, "never")
        result.append("cancelled" if scope.cancelled_caught else "ran")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(area.run, first)
        await wait_all_tasks_blocked()
        scope = trio.CancelScope()
        nursery.start_soon(cancelled, scope)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        gate.set()
    await area.flush()
    assert (done_work, result) == ([], ["cancelled"])


async def test_what_was_put_off_is_done_although_whoever_took_it_along_is_cancelled(area: StagingArea) -> None:
    put_off: list[int] = []
    for number in range(3):
        area._disk.later(put_off.append, number)
        with trio.CancelScope() as scope:
            scope.cancel()
            await area.flush()
    await area.flush()
    assert put_off == [0, 1, 2]


# ----- uploads ----------------------------------------------------------------------------------------------------


async def test_an_upload_reads_what_was_there_when_it_began(new: StagedFile) -> None:
    await new.write(0, b"first")
    frozen = await new.freeze()
    await new.write(0, b"SECOND")
    await new.truncate(8)
    assert frozen.source.read() == b"first"
    assert (frozen.size, frozen.generation < new.generation) == (5, True)
    await new.unfreeze(frozen)
    assert await whole(new) == b"SECOND\0\0"


async def test_a_copy_is_made_once_per_upload_and_the_old_one_goes(new: StagedFile, area: StagingArea) -> None:
    await new.write(0, b"x" * 1000)
    before = area.budget.dirty_bytes
    frozen = await new.freeze()
    for number in range(5):
        await new.write(number, b"y")
    assert len(os.listdir(area.data_folder)) == 2
    assert area.budget.dirty_bytes == 2 * before
    await new.unfreeze(frozen)
    assert os.listdir(area.data_folder) == [new.data_name]
    assert area.budget.dirty_bytes == before


async def test_no_write_is_lost_when_the_upload_ends_while_the_copy_is_made(
    new: StagedFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the upload must not let another writer into the file that is being copied."""
    await new.write(0, b"." * 100)
    frozen = await new.freeze()
    copied, go_on = trio.Event(), trio.Event()
    run_bulk = StagingDisk.run_bulk

    async def slowly(self: StagingDisk, work: Callable, *args: object) -> object:
        result = await run_bulk(self, work, *args)
        if getattr(work, "__name__", "") == "copy":
            copied.set()
            await go_on.wait()
        return result

    monkeypatch.setattr(StagingDisk, "run_bulk", slowly)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(new.write, 0, b"A")
        await copied.wait()
        nursery.start_soon(new.unfreeze, frozen)
        nursery.start_soon(new.write, 1, b"B")
        await wait_all_tasks_blocked()
        go_on.set()
    assert (await whole(new))[:3] == b"AB."
    assert not new.frozen


async def test_the_writer_is_told_if_there_is_no_room_for_the_copy(open_area: Areas) -> None:
    area = await open_area(budget=BudgetOptions(max_dirty_bytes=1500, floor_bytes=0))
    staged = await area.stage("/s/f", None, empty=True)
    await staged.write(0, b"x" * 1000)
    frozen = await staged.freeze()
    with pytest.raises(LocalDiskFull):
        await staged.write(0, b"y")
    assert area.budget.dirty_bytes == 1000
    await staged.unfreeze(frozen)
    await staged.write(0, b"y")
    assert (await whole(staged))[:2] == b"yx"


async def test_the_checksum_of_an_upload_with_unknown_end_is_kept_before_the_content_changes(
    new: StagedFile, area: StagingArea
) -> None:
    await new.write(0, b"what was sent")
    frozen = await new.freeze()
    await new.note_attempt("/s/new")
    await new.unfreeze(frozen)  # it failed, and nobody knows how far it got
    await new.write(0, b"and then changed")
    expected = Attempt("/s/new", (Sent(13, hashlib.md5(b"what was sent").hexdigest()),), is_present=False)
    assert new.attempt == expected
    row = area.journal.rows()[0]
    assert (row.attempted, decoded(row.attempted_sent)) == ("/s/new", expected.sent)
    await new.write(0, b"and again")
    assert new.attempt == expected


async def test_so_it_is_if_the_content_changed_during_the_upload(new: StagedFile) -> None:
    await new.write(0, b"what was sent")
    frozen = await new.freeze()
    await new.note_attempt("/s/new")
    await new.write(0, b"and then changed")
    await new.write(0, b"and again")
    await new.unfreeze(frozen)
    assert new.attempt == Attempt("/s/new", (Sent(13, hashlib.md5(b"what was sent").hexdigest()),), is_present=False)


async def test_the_journal_knows_what_the_content_starts_from_before_it_changes(
    new: StagedFile, area: StagingArea
) -> None:
    await area.rows_written()
    await new.write(0, b"x")
    frozen = await new.freeze()
    await new.note_attempt("/s/new")
    new.placed(Fingerprint(1, 10**9), "md5")
    await new.unfreeze(frozen)
    assert area.journal.rows()[0].base is None  # most often the file is done now, and no row is needed
    await new.write(0, b"y")
    row = area.journal.rows()[0]
    assert (row.base, row.base_md5, row.attempted, new.attempt) == (Fingerprint(1, 10**9), "md5", None, None)


@pytest.mark.parametrize(("way", "seals"), [("run_short", 1), ("run", 2)])
async def test_a_base_that_comes_while_the_old_one_is_written_down_is_not_taken_for_saved(
    new: StagedFile, area: StagingArea, monkeypatch: pytest.MonkeyPatch, way: str, seals: int
) -> None:
    for _ in range(seals - 1):
        await new.seal()
    await new.write(0, b"x")
    run = getattr(StagingDisk, way)

    async def slowly(self: StagingDisk, *args: object, **kwargs: object) -> object:
        result = await run(self, *args, **kwargs)
        new.placed(Fingerprint(1, 10**9), None)  # the upload ends right now
        return result

    with monkeypatch.context() as patch:
        patch.setattr(StagingDisk, way, slowly)
        await new.seal()
    assert new.unsaved
    await new.write(0, b"y")
    assert area.journal.rows()[0].base == Fingerprint(1, 10**9)


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
