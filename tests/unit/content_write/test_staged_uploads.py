"""A file that is written while it is sent: the NAS gets what was there when the upload began."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.attempt import Attempt, Sent, decoded
from synofs.content.budget import BudgetOptions
from synofs.content.errors import LocalDiskFull
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.stagingdisk import StagingDisk
from synofs.remote import Fingerprint
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.staged import whole

pytestmark = pytest.mark.trio


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
