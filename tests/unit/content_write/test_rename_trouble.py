"""Renames whose answer is lost, that are looked at meanwhile, that cannot be written down, or that a crash cuts off."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.errors import LocalDiskFull
from synofs.content.journal import Changes
from synofs.content.stagingdisk import StagingDisk
from synofs.fs.writes import WriteMode
from synofs.remote import Exists, NotFound, RemoteEntry, TimedOut, Unreachable
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import PATIENCE, Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("two_folders")]


# ----- answers that are lost ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["/s/g", "/s/a/f", "/s/a/g"])
@pytest.mark.parametrize("done", [False, True], ids=["never seen", "done"])
@pytest.mark.parametrize("unsent", [False, True], ids=["sent", "unsent"])
async def test_a_rename_whose_answer_was_lost_is_done(
    writeback: Rig, nas: Nas, form: str, done: bool, unsent: bool
) -> None:
    nas.file("/s/f", b"old")
    if unsent:
        await writeback.create("/s/f", b"new")
    for method in ("rename", "move"):
        nas.meet(method, TimedOut("lost"), after=done)
    await writeback.rename("/s/f", form)
    nas.meet_nothing_more()
    assert await writeback.flushed() == {form: b"new" if unsent else b"old"}
    assert await writeback.names() == sorted({"a", "b", *([] if "/a/" in form else ["g"])})
    assert writeback.area.journal.moves() == []


async def test_a_rename_that_is_carried_out_late_is_done(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("rename", TimedOut("lost"))
    nas.meet("rename", NotFound("gone"), after=True)
    await writeback.rename("/s/f", "/s/g")
    assert await writeback.flushed() == {"/s/g": b"x"}


@pytest.mark.parametrize("form", ["/s/g", "/s/a/g"])
async def test_a_rename_of_several_steps_that_was_lost_again_and_again_is_done_while_its_caller_waits(
    writeback: Rig, nas: Nas, form: str
) -> None:
    """Each of the lost calls may be carried out late, and nobody would look for the file there."""
    nas.file("/s/f", b"x")
    nas.file(form, b"old")
    await writeback.names("/s/a")
    for method in ("rename", "move"):
        nas.meet(method, TimedOut("lost"), times=3)
    await writeback.rename("/s/f", form)
    assert await writeback.flushed() == {form: b"x"}


async def test_a_rename_whose_caller_has_left_is_not_taken_for_undone_while_a_call_may_be_on_its_way(
    writeback: Rig, nas: Nas, nursery: trio.Nursery
) -> None:
    nas.file("/s/f", b"x")
    await writeback.names("/s/a")

    async def late() -> None:
        await trio.sleep(2)
        nas._relocate("/s/f", "/s/g")

    async def lose() -> None:
        await trio.sleep(10)
        if nas.count("rename") == 3:
            nursery.start_soon(late)
        raise TimedOut("lost")

    nas.meet("rename", lose, times=3)
    with trio.move_on_after(5):
        await writeback.rename("/s/f", "/s/a/g")
    await trio.sleep(60)
    assert nas.files() == {"/s/a/g": b"x"}


async def test_what_cannot_be_brought_to_its_end_is_not_begun(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    assert await writeback.names("/s/a") == []
    nas.file("/s/a/g", b"a colleague's")
    with pytest.raises(Exists):
        await writeback.rename("/s/f", "/s/a/g")
    assert nas.count("rename") == nas.count("move") == 0


@pytest.mark.parametrize("act", ["rename", "unlink", "replace"])
async def test_an_upload_that_is_put_in_its_place_late_does_not_bring_back_what_has_left_it(
    writeback: Rig, nas: Nas, act: str, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.file("/s/f", b"old")
    nas.file("/s/a/f", b"other")
    await writeback.create("/s/f", b"new")
    asked = trio.Event()

    def lose() -> None:
        asked.set()
        raise TimedOut("lost")

    nas.meet("move", lose)
    await asked.wait()
    if act == "rename":
        await writeback.rename("/s/f", "/s/g")
    elif act == "unlink":
        await writeback.unlink("/s/f")
    else:
        await writeback.rename("/s/a/f", "/s/f")
    with contextlib.suppress(NotFound):
        await nas.move("/s/.synofs-me/f", "/s", overwrite=True)
    others = {"rename": {"/s/g": b"new", "/s/a/f": b"other"}, "unlink": {"/s/a/f": b"other"}}
    assert await writeback.flushed() == others.get(act, {"/s/f": b"other"})


async def test_a_replacement_whose_answer_was_lost_is_not_asked_for_again(writeback: Rig, nas: Nas) -> None:
    """What stands in the place by then may be somebody else's newer version."""
    nas.file("/s/f", b"new")
    nas.file("/s/a/f", b"old")
    await writeback.names("/s/a")
    nas.meet("move", TimedOut("lost"))
    with pytest.raises(TimedOut):
        await writeback.rename("/s/f", "/s/a/f")
    assert nas.count("move") == 1
    assert nas.files() == {"/s/f": b"new", "/s/a/f": b"old"}


async def test_when_the_nas_stays_away_the_caller_is_told_and_the_rename_is_finished_later(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    nas.file("/s/f", b"old")
    await writeback.create("/s/f", b"new")
    nas.meet("move", TimedOut("lost"), after=True)
    nas.meet("get_entries", Unreachable("away"), times=20)
    started = trio.current_time()
    with pytest.raises(TimedOut):
        await writeback.rename("/s/f", "/s/a/f")
    assert trio.current_time() - started == pytest.approx(PATIENCE, abs=1)
    assert await writeback.flushed() == {"/s/a/f": b"new"}
    assert await writeback.names("/s/a") == ["f"]
    assert ("appeared", "/s/a/f") in writeback.notifier.told  # the kernel has to look again


async def test_a_caller_that_gives_up_does_not_leave_the_rename_in_between(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await writeback.create("/s/f", b"new")
    gate = nas.gate("move", after=True)
    with trio.move_on_after(5):
        await writeback.rename("/s/f", "/s/a/f")
    gate.open()
    assert await writeback.flushed() == {"/s/a/f": b"new"}
    assert await writeback.names("/s/a") == ["f"]


@pytest.mark.parametrize("replaced", [False, True], ids=["", "over another"])
async def test_a_rename_that_has_waited_for_an_upload_leaves_nothing_under_the_old_name_if_its_answer_is_lost(
    writeback: Rig, nas: Nas, replaced: bool, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    if replaced:
        nas.file("/s/g", b"old")
    nas.meet("upload", TimedOut("lost"), after=True)
    await writeback.create("/s/f", b"content")
    inode = await writeback.at("/s/f")
    async with trio.open_nursery() as nursery:
        async with writeback.writes.hold_place(inode.number):
            await trio.sleep(1)  # its upload waits first, the rename after it
            nursery.start_soon(writeback.rename, "/s/f", "/s/g")
            await wait_all_tasks_blocked()
    assert await writeback.flushed() == {"/s/g": b"content"}
    await writeback.fs.refresh("/s")
    assert await writeback.names() == ["a", "b", "g"]


async def test_a_rename_that_is_done_after_its_caller_has_left_is_told_to_the_kernel(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"content")
    gate = nas.gate("rename")
    with trio.move_on_after(30):
        await rig.rename("/s/f", "/s/g")
    before = len(rig.notifier.told)
    gate.open()
    await wait_all_tasks_blocked()
    assert await rig.names() == ["a", "b", "g"]
    assert {("appeared", "/s/f"), ("appeared", "/s/g")} <= set(rig.notifier.told[before:])


async def test_a_torn_upload_is_replaced_after_its_folder_was_renamed(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")

    def tear() -> None:
        nas.write("/s/a/f", b"con")
        raise TimedOut("lost")

    nas.meet("upload", tear, path="/s/a/f")
    await writeback.create("/s/a/f", b"content")
    await trio.sleep(0.7)
    await writeback.rename("/s/a", "/s/c")
    assert await writeback.flushed() == {"/s/c/f": b"content"}
    assert writeback.writes.conflicts == []


# ----- looked at meanwhile ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("look", ["listing", "attributes"])
async def test_who_looks_while_the_answer_to_a_rename_is_on_its_way_does_not_make_the_file_vanish(
    look: str, rig: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is missed under its old name, where the mount still has it."""
    nas.file("/s/a/x", b"content")
    inode = await rig.at("/s/a/x")
    rename = nas.rename

    async def slow(path: str, new_name: str) -> RemoteEntry:
        entry = await rename(path, new_name)
        if look == "listing":
            await rig.fs.refresh("/s/a")
        else:
            await rig.fs._attributes._ask([inode])
        assert inode.gone
        return entry

    monkeypatch.setattr(nas, "rename", slow)
    await rig.rename("/s/a/x", "/s/a/y")
    assert await rig.at("/s/a/y") is inode
    assert await rig.read("/s/a/y") == b"content"


async def test_attributes_that_were_asked_for_under_an_old_name_say_nothing_of_the_new_one(rig: Rig, nas: Nas) -> None:
    nas.file("/s/a/x", b"content")
    inode = await rig.at("/s/a/x")
    gate = nas.gate("get_entries")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.fs._attributes._ask, [inode])
        await wait_all_tasks_blocked()
        nas.nodes["/s/a/y"] = nas.nodes.pop("/s/a/x")
        rig.fs.inodes.move(inode, inode.parent, b"y")
        gate.open()
    assert not inode.gone


async def test_a_name_that_a_file_has_on_its_way_is_not_shown_while_the_nas_is_silent(durable: Rig, nas: Nas) -> None:
    nas.file("/s/a/x", b"content")
    await durable.names("/s/b")
    nas.meet("move", Unreachable("away"))
    nas.meet("get_entries", Unreachable("away"), times=1000, skip=1)
    with pytest.raises(Unreachable):
        await durable.rename("/s/a/x", "/s/b/y")
    assert "/s/a/y" in nas.files()
    await durable.fs.refresh("/s/a")
    assert await durable.names("/s/a") == []
    assert await durable.find("/s/a/y") is None
    nas.meet_nothing_more()
    await trio.sleep(30)
    assert nas.files() == {"/s/b/y": b"content"}
    assert (await durable.names("/s/a"), await durable.names("/s/b")) == ([], ["y"])


async def test_a_file_that_a_listing_met_in_its_new_place_before_its_rename_was_answered_is_there_once(
    durable: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And when it goes on from there, no second one stays behind."""
    nas.file("/s/a/x", b"content")
    assert (await durable.names("/s/a"), await durable.names("/s/b")) == (["x"], [])
    move = nas.move

    async def slow(path: str, dest_dir: str, *, overwrite: bool) -> None:
        await move(path, dest_dir, overwrite=overwrite)
        await durable.fs.refresh("/s/b")

    with monkeypatch.context() as patch:
        patch.setattr(nas, "move", slow)
        await durable.rename("/s/a/x", "/s/b/x")
    assert await durable.names("/s/b") == ["x"]
    known = len(durable.fs.inodes)
    await durable.rename("/s/b/x", "/s/a/x")
    assert (await durable.names("/s/a"), await durable.names("/s/b")) == (["x"], [])
    assert len(durable.fs.inodes) == known == 4


# ----- a full local disk -----------------------------------------------------------------------------------------


async def test_a_rename_that_a_full_local_disk_could_not_note_is_noted_once_there_is_room(
    writeback: Rig, monkeypatch: pytest.MonkeyPatch, expect_logs: Callable[..., None]
) -> None:
    """Otherwise both files would be found under the new name after a crash, and one be put aside."""
    expect_logs("cannot be written down yet")
    await writeback.create("/s/old", b"of old")
    await writeback.create("/s/new", b"replaced")
    journal, moved = writeback.area.journal, writeback.area.journal.moved
    refusals = iter(range(2))

    def full(move: int | None, changes: Changes) -> None:
        if next(refusals, None) is not None:
            raise LocalDiskFull("the disk that holds the journal is full")
        moved(move, changes)

    monkeypatch.setattr(journal, "moved", full)
    with pytest.raises(LocalDiskFull):
        await writeback.rename("/s/old", "/s/new")
    assert {("appeared", "/s/old"), ("appeared", "/s/new")} <= set(writeback.notifier.told)
    await trio.sleep(3.0)
    assert [row.path for row in journal.rows()] in ([], ["/s/new"])
    assert await writeback.flushed() == {"/s/new": b"of old"}


@pytest.mark.parametrize("was_done", [True, False])
async def test_a_rename_of_an_earlier_run_is_settled_once_a_full_local_disk_has_room(
    was_done: bool,
    nas: Nas,
    mode: WriteMode,
    open_area: Areas,
    inline_disk: None,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    expect_logs: Callable[..., None],
) -> None:
    """It does not end the mount, and what is unsent waits for it."""
    expect_logs("cannot be written down yet")
    nas.file("/s/a/y", b"new" if was_done else b"theirs")
    if not was_done:
        nas.file("/s/a/x", b"new")
    area = await open_area()
    area.journal.begin_move("/s/a/x", "/s/a/y", None, None)
    rig = Rig(nas, area, mode)

    def full(*args: object) -> None:
        raise LocalDiskFull("the disk that holds the journal is full")

    with monkeypatch.context() as patch:
        patch.setattr(area.journal, "moved", full)
        patch.setattr(area.journal, "drop_move", full)
        await rig.start(nursery)
        await trio.sleep(3.0)
        assert area.journal.moves()
    await rig.writes.drain()
    assert not area.journal.moves()
    assert await rig.read("/s/a/y") == (b"new" if was_done else b"theirs")


# ----- a crash ---------------------------------------------------------------------------------------------------


async def test_a_file_that_was_just_sent_is_forgotten_before_its_name_changes(
    nas: Nas,
    mode: WriteMode,
    open_area: Areas,
    inline_disk: None,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A crash after the rename would bring it back under its old name."""

    async def never(disk: StagingDisk) -> None:  # what is put off stays so
        await trio.sleep_forever()

    monkeypatch.setattr(StagingDisk, "serve", never)
    rig = Rig(nas, await open_area(), mode)
    await rig.start(nursery)
    await rig.create("/s/f", b"content")
    await rig.writes.drain()
    known: list[list[str]] = []
    nas.meet("rename", lambda: known.append([row.path for row in rig.area.journal.rows()]))
    await rig.rename("/s/f", "/s/g")
    assert known == [[]]


async def test_a_name_that_a_file_has_on_its_way_is_not_shown_after_a_crash(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    area = await open_area()
    await area.run(area.journal.begin_move, "/s/a/x", "/s/b/y", "/s/a", None)
    nas.file("/s/a/y", b"content")
    nas.folder("/s/b")
    nas.meet("get_entries", Unreachable("away"), times=1000)
    rig = Rig(nas, area, WriteMode.WRITEBACK)
    await rig.start(nursery)
    assert (await rig.names("/s/a"), await rig.names("/s/b")) == ([], [])
    page = nas.gate("list_dir", path="/s/b", after=True)
    nursery.start_soon(rig.fs.refresh, "/s/b")
    await page.reached.wait()
    nas.meet_nothing_more()
    await trio.sleep(30)
    assert nas.files() == {"/s/b/y": b"content"}
    page.open()  # an answer from before that
    assert (await rig.names("/s/a"), await rig.names("/s/b")) == ([], ["y"])


@pytest.mark.parametrize(("dest", "temp_dir"), [("/s/a/y", None), ("/s/b/x", None), ("/s/b/y", "/s/a")])
async def test_a_rename_that_was_on_its_way_when_we_were_killed_is_done_by_the_next_mount(
    dest: str, temp_dir: str | None, nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    """Or the NAS does it later, when the edit has been sent under the old name: then both are there."""
    area = await open_area()
    nas.file("/s/a/x", b"old")
    staged = await area.stage("/s/a/x", nas.version("/s/a/x"), empty=True)
    await staged.write(0, b"edit")
    await staged.seal()
    await area.run(area.journal.begin_move, "/s/a/x", dest, temp_dir, None)
    await open_area.close(area)
    rig = Rig(nas, await open_area(), WriteMode.WRITEBACK)
    await rig.start(nursery)
    assert await rig.flushed() == {dest: b"edit"}
    assert rig.area.journal.moves() == []
