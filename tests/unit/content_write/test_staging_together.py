"""What is written down of several files is written down together, and waits for the disk as little as it can."""

from __future__ import annotations

import errno
import os
import sqlite3
import threading
from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from synofs.content.errors import JournalFailed
from synofs.content.journal import Journal
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from tests.unit.content_write.conftest import done
from tests.unit.content_write.staged import BASE_VERSION

pytestmark = pytest.mark.trio


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
