"""Content, when somebody else changes it on the NAS, and when there is no room or no right for it."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.errors import LocalDiskFull
from synofs.fs.writes import WriteMode
from synofs.remote import (
    NoSpace,
    NotFound,
    PermissionDenied,
    Unreachable,
)
from tests.trees import revealing
from tests.unit.content_write.conftest import ROOMY, Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

BIG = revealing(3_000_000)


# ----- somebody else ----------------------------------------------------------------------------------------------


@pytest.fixture
def conflict_logs(expect_logs: Callable[..., None]) -> None:
    expect_logs("/s/f: somebody else changed it meanwhile")


def ours(rig: Rig) -> bytes:
    """The content of the conflict copy."""
    ((path, copy),) = rig.writes.conflicts
    assert path == "/s/f"
    return rig.nas.files()[copy]


async def test_somebody_elses_change_and_ours_both_survive(rig: Rig, nas: Nas, conflict_logs: None) -> None:
    nas.file("/s/f", b"old")
    number = await rig.open("/s/f", os.O_RDWR | os.O_TRUNC)
    await rig.fs.write(number, 0, b"ours")
    nas.write("/s/f", b"theirs")
    await rig.close(number)
    files = await rig.flushed()
    assert (files["/s/f"], ours(rig), len(files)) == (b"theirs", b"ours", 2)
    assert await rig.read("/s/f") == b"theirs"
    assert rig.writes.counters()["conflicts"] == 1


async def test_after_a_conflict_the_open_file_is_the_conflict_copy(rig: Rig, nas: Nas, conflict_logs: None) -> None:
    """A program that goes on writing makes no second copy, and never writes into theirs."""
    nas.file("/s/f", b"old")
    number = await rig.open("/s/f", os.O_RDWR | os.O_TRUNC)
    await rig.fs.write(number, 0, b"ours")
    nas.write("/s/f", b"theirs")
    for piece in range(3):
        await rig.fs.fsync(number)
        await rig.fs.write(number, 4 + piece, b"+")
    await rig.close(number)
    files = await rig.flushed()
    assert (files["/s/f"], ours(rig), len(files)) == (b"theirs", b"ours+++", 2)
    assert len(await rig.names()) == 2


async def read_and_then_changed_by_others(rig: Rig, nas: Nas, content: bytes) -> int:
    """A program has read the file, and the mount knows of another version by now. Returns the program's handle."""
    number = await rig.open("/s/f", os.O_RDWR)
    assert await rig.read_all(number) == content
    nas.write("/s/f", b"their content")
    await rig.fs.refresh("/s")
    assert (await rig.at("/s/f")).size == 13
    return number


async def test_an_edit_of_what_was_read_is_not_put_over_a_version_that_was_not(
    rig: Rig, nas: Nas, conflict_logs: None
) -> None:
    nas.file("/s/f", b"old content")
    number = await read_and_then_changed_by_others(rig, nas, b"old content")
    await rig.fs.write(number, 0, b"OUR")
    await rig.close(number)
    assert (await rig.flushed())["/s/f"] == b"their content"
    assert ours(rig) == b"OUR content"


async def test_an_edit_of_what_was_written_here_is_not_put_over_a_version_that_was_not_read(
    rig: Rig, nas: Nas, conflict_logs: None
) -> None:
    await rig.create("/s/f", b"our first")
    await rig.flushed()
    number = await read_and_then_changed_by_others(rig, nas, b"our first")
    await rig.fs.write(number, 0, b"our first, and more")
    await rig.close(number)
    assert (await rig.flushed())["/s/f"] == b"their content"
    assert ours(rig) == b"our first, and more"


async def test_a_program_that_empties_what_it_has_read_does_not_empty_a_version_that_it_has_not(
    rig: Rig, nas: Nas, conflict_logs: None
) -> None:
    nas.file("/s/f", b"old content")
    number = await read_and_then_changed_by_others(rig, nas, b"old content")
    await rig.fs.setattr(await rig.at("/s/f"), size=0, mtime_ns=None, number=number)
    await rig.fs.write(number, 0, b"ours")
    await rig.close(number)
    files = await rig.flushed()
    assert files["/s/f"] == b"their content"
    assert ours(rig) == b"ours"


async def test_what_cannot_be_fetched_any_more_is_filled_from_theirs_and_put_beside_it(
    rig: Rig, nas: Nas, conflict_logs: None, expect_logs: Callable[..., None]
) -> None:
    expect_logs("/s/f: changed on the NAS while parts of it were edited here")
    nas.file("/s/f", BIG)
    number = await rig.open("/s/f", os.O_RDWR)
    await rig.fs.write(number, 1000, b"mine")
    theirs = revealing(2_000_000, 7)
    nas.write("/s/f", theirs)
    await rig.close(number)
    files = await rig.flushed()
    assert files["/s/f"] == theirs
    assert ours(rig) == theirs[:1000] + b"mine" + theirs[1004:] + bytes(1_000_000)


async def test_an_appender_that_read_nothing_appends_to_the_present_version(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"one\n")
    number = await rig.open("/s/f", os.O_WRONLY | os.O_APPEND)
    nas.write("/s/f", b"one\ntwo\n")
    await rig.fs.refresh("/s")
    await rig.fs.write(number, 0, b"three\n")
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"one\ntwo\nthree\n"}


async def test_a_file_removed_by_somebody_else_comes_back_with_the_edit(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    number = await rig.open("/s/f", os.O_RDWR | os.O_TRUNC)
    nas.delete("/s/f")
    await rig.fs.write(number, 0, b"ours")
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"ours"}


async def test_a_write_to_a_file_that_is_known_to_be_gone_is_kept(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"")
    number = await rig.open("/s/f", os.O_WRONLY)
    await rig.names()
    nas.delete("/s/f")
    await rig.fs.refresh("/s")
    assert await rig.names() == []
    await rig.fs.write(number, 0, b"ours")
    assert await rig.names() == ["f"]
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"ours"}


async def test_saving_twice_within_a_second_is_no_conflict_and_asks_for_the_md5(rig: Rig, nas: Nas) -> None:
    await rig.create("/s/f", b"one")
    await rig.writes.drain()
    await rig.create("/s/f", b"two")
    assert await rig.flushed() == {"/s/f": b"two"}
    await rig.create("/s/f", b"SIX")
    assert await rig.flushed() == {"/s/f": b"SIX"}
    assert rig.writes.conflicts == []
    assert await rig.read("/s/f") == b"SIX"


async def test_somebody_elses_change_within_the_second_of_ours_survives(
    durable: Rig, nas: Nas, conflict_logs: None
) -> None:
    await durable.create("/s/f", b"ours")
    nas.write("/s/f", b"them")
    await durable.create("/s/f", b"more")
    assert (nas.files()["/s/f"], ours(durable)) == (b"them", b"more")


# ----- refused early ------------------------------------------------------------------------------------------------


async def test_in_writeback_mode_a_folder_that_cannot_be_written_to_refuses_create(writeback: Rig, nas: Nas) -> None:
    nas.meet("check_writable", PermissionDenied("no"))
    with pytest.raises(PermissionDenied):
        await writeback.create("/s/f", b"x")
    assert (await writeback.names(), writeback.area.journal.rows()) == ([], [])


async def test_the_question_is_asked_once_per_folder(writeback: Rig, nas: Nas) -> None:
    for number in range(20):
        await writeback.create(f"/s/{number}", b"x")
    assert nas.count("check_writable") == 1
    await writeback.mkdir("/s/new")
    await writeback.create("/s/new/f", b"x")
    assert nas.count("check_writable") == 1  # what was made here can be written to


async def test_a_nas_that_is_away_does_not_refuse_writeback(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    await writeback.names()
    nas.meet("check_writable", Unreachable("away"))
    nas.meet("upload", Unreachable("away"), times=3)
    await writeback.create("/s/f", b"x")
    assert await writeback.flushed() == {"/s/f": b"x"}


async def test_in_writeback_mode_more_than_the_nas_has_room_for_is_refused(writeback: Rig, nas: Nas) -> None:
    nas.free_bytes = 1000
    await writeback.names()
    writeback.fs.statfs()
    await wait_all_tasks_blocked()
    await writeback.create("/s/f", b"x" * 900)
    number = await writeback.open("/s/g", os.O_WRONLY | os.O_CREAT)
    with pytest.raises(NoSpace):
        await writeback.fs.write(number, 0, b"y" * 200)
    with pytest.raises(NoSpace):
        await writeback.truncate("/s/g", 200)
    await writeback.fs.write(number, 0, b"y" * 100)
    await writeback.close(number)
    assert await writeback.flushed() == {"/s/f": b"x" * 900, "/s/g": b"y" * 100}


async def test_a_full_budget_refuses_the_writer_and_keeps_what_is_unsent(
    nas: Nas, mode: WriteMode, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    rig = Rig(nas, await open_area(budget=ROOMY.__class__(max_dirty_bytes=1000, floor_bytes=0)), mode)
    await rig.start(nursery)
    number = await rig.open("/s/f", os.O_RDWR | os.O_CREAT)
    await rig.fs.write(number, 0, b"x" * 1000)
    with pytest.raises(LocalDiskFull):
        await rig.fs.write(number, 1000, b"y")
    assert await rig.read_all(number) == b"x" * 1000
    await rig.close(number)
    assert await rig.flushed() == {"/s/f": b"x" * 1000}
    assert rig.area.budget.dirty_bytes == 0
    await rig.create("/s/g", b"z" * 1000)  # room again


async def test_a_local_disk_that_fails_when_closing_does_not_keep_the_file_from_the_nas(
    writeback: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = await writeback.open("/s/f", os.O_RDWR | os.O_CREAT)
    await writeback.fs.write(number, 0, b"content")

    def fail(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="Input/output"):
            await writeback.close(number)
    await trio.sleep(5)
    assert nas.files() == {"/s/f": b"content"}


async def test_nothing_of_a_folder_that_is_gone_is_lost(rig: Rig, nas: Nas, expect_logs: Callable[..., None]) -> None:
    expect_logs("refuses it for good", "kept in")
    nas.folder("/s/d")
    number = await rig.open("/s/d/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(number, 0, b"content")
    nas.delete("/s/d")
    if rig.mode is WriteMode.DURABLE:
        with pytest.raises(NotFound):
            await rig.close(number)
    else:
        await rig.close(number)
    await rig.flushed()
    (row,) = rig.area.still_refused()
    assert (rig.area.folder / "recovery" / row.data).read_bytes() == b"content"


async def test_inodes_of_sent_files_are_let_go(rig: Rig, nas: Nas) -> None:
    """Pins of unsent files, on them and on their folders, are all taken back."""
    await rig.mkdir("/s/d")
    await rig.mkdir("/s/d/e")
    for number in range(5):
        await rig.create(f"/s/d/e/{number}", b"x")
    await rig.rename("/s/d/e", "/s/e2")
    await rig.flushed()
    for path in ("/s", "/s/d", "/s/e2", *(f"/s/e2/{number}" for number in range(5))):
        inode = await rig.at(path)
        assert (path, inode.opens, inode.writers, inode.staged) == (path, 0, 0, None)
    assert rig.area.files == {}
