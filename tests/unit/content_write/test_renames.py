"""Renames through the verb, of files that are clean, open, unsent or being sent, over others that are so, too."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.errors import (
    AccessDenied,
    DirectoryNotEmpty,
    EntryExists,
    IsADirectory,
    NoEntry,
    NotADirectory,
    VersionNotShown,
)
from synofs.remote import InputOutput, NotEmpty, PermissionDenied, TimedOut
from tests.trees import revealing
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.rig import Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("two_folders")]

BIG = revealing(1_000_000)


# ----- every form, clean ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dest", ["/s/a/y", "/s/b/x", "/s/b/y", "/s/a/X"])
@pytest.mark.parametrize("replaced", [False, True])
@pytest.mark.parametrize("in_the_way", [False, True], ids=["", "new name taken in the old folder"])
async def test_a_file_on_the_nas_is_renamed_in_every_form(
    rig: Rig, nas: Nas, dest: str, replaced: bool, in_the_way: bool
) -> None:
    nas.file("/s/a/x", b"content", mtime=5)
    expected = {dest: b"content"}
    if replaced:
        nas.file(dest, b"old")
    if in_the_way and dest == "/s/b/y":
        nas.file("/s/a/y", b"in the way")
        expected["/s/a/y"] = b"in the way"
    inode = await rig.at("/s/a/x")
    await rig.rename("/s/a/x", dest)
    assert rig.visible() == expected
    assert await rig.at(dest) is inode
    assert await rig.find("/s/a/x") is None
    assert await rig.read(dest) == b"content"
    assert nas.nodes[dest].mtime_ns == 5 * SECOND
    assert nas.count("upload") == 0
    assert rig.area.journal.moves() == []


@pytest.mark.parametrize("dest", ["/s/a/y", "/s/b/d", "/s/b/y"])
@pytest.mark.parametrize("replaced", [False, True])
async def test_a_folder_is_renamed_in_every_form(rig: Rig, nas: Nas, dest: str, replaced: bool) -> None:
    nas.folder("/s/a/d")
    nas.file("/s/a/d/f", b"content")
    if replaced:
        nas.folder(dest)
    await rig.rename("/s/a/d", dest)
    assert nas.files() == {f"{dest}/f": b"content"}
    assert await rig.read(f"{dest}/f") == b"content"
    assert await rig.find("/s/a/d") is None


async def test_a_folder_does_not_replace_one_with_entries(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/a/d")
    nas.file("/s/b/f", b"x")
    before = nas.tree()
    with pytest.raises(NotEmpty):
        await rig.rename("/s/a/d", "/s/b")
    assert nas.tree() == before


async def test_a_folder_does_not_replace_one_with_unsent_files(writeback: Rig, nas: Nas) -> None:
    nas.folder("/s/a/d")
    await writeback.create("/s/b/f", b"x")
    with pytest.raises(DirectoryNotEmpty):
        await writeback.rename("/s/a/d", "/s/b")
    assert await writeback.flushed() == {"/s/b/f": b"x"}


async def test_files_and_folders_do_not_replace_each_other(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    with pytest.raises(IsADirectory):
        await rig.rename("/s/f", "/s/a")
    with pytest.raises(NotADirectory):
        await rig.rename("/s/a", "/s/f")


@pytest.mark.parametrize("unsent", [False, True])
async def test_noreplace_refuses_an_existing_name(writeback: Rig, nas: Nas, unsent: bool) -> None:
    nas.file("/s/f", b"source")
    if unsent:
        await writeback.create("/s/g", b"target")
    else:
        nas.file("/s/g", b"target")
    with pytest.raises(EntryExists):
        await writeback.rename("/s/f", "/s/g", replace=False)
    await writeback.rename("/s/f", "/s/h", replace=False)
    assert await writeback.flushed() == {"/s/g": b"target", "/s/h": b"source"}


async def test_renaming_a_file_to_itself_does_nothing(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    await rig.names()
    nas.calls.clear()
    await rig.rename("/s/f", "/s/f")
    assert nas.calls == []


async def test_only_the_case_of_a_name_is_changed_even_where_case_is_ignored(rig: Rig, nas: Nas) -> None:
    nas.ignores_case = True
    nas.file("/s/readme", b"x")
    await rig.rename("/s/readme", "/s/README")
    assert rig.visible() == {"/s/README": b"x"}


async def test_a_name_that_is_gone_cannot_be_renamed(rig: Rig, nas: Nas) -> None:
    with pytest.raises(NoEntry):
        await rig.rename("/s/nothing", "/s/g")


async def test_a_name_that_somebody_took_meanwhile_is_not_replaced(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"ours")
    await rig.names()
    nas.write("/s/g", b"theirs")
    with pytest.raises(Exception, match="something is there"):
        await rig.rename("/s/f", "/s/g")
    assert rig.visible() == {"/s/f": b"ours", "/s/g": b"theirs"}
    assert ("appeared", "/s/g") in rig.notifier.told
    assert "g" in await rig.names()  # now it is shown
    await rig.rename("/s/f", "/s/g")
    assert rig.visible() == {"/s/g": b"ours"}


@pytest.mark.parametrize("source", ["/s/f", "/s/a/f", "/s/a/g"])
async def test_a_version_that_was_not_shown_here_is_not_replaced(rig: Rig, nas: Nas, source: str) -> None:
    nas.file(source, b"ours")
    nas.file("/s/b/f" if source == "/s/a/f" else "/s/b/x", b"old")
    dest = "/s/b/f" if source == "/s/a/f" else "/s/b/x"
    await rig.names("/s/b")
    nas.write(dest, b"theirs")
    with pytest.raises(VersionNotShown):
        await rig.rename(source, dest)
    assert rig.visible() == {source: b"ours", dest: b"theirs"}
    assert rig.area.journal.moves() == []
    assert await rig.read(dest) == b"theirs"  # now it is shown
    await rig.rename(source, dest)
    assert rig.visible() == {dest: b"ours"}


@pytest.mark.parametrize("source", ["/s/a/f", "/s/b/f"])
async def test_a_version_that_only_the_kernel_was_shown_for_the_rename_is_not_replaced(
    rig: Rig, nas: Nas, source: str
) -> None:
    nas.file(source, b"ours")
    dest = "/s/b/f" if source == "/s/a/f" else "/s/b/x"
    nas.file(dest, b"old")
    target = await rig.find(dest)
    assert target is not None
    target.be_shown(trio.current_time())
    nas.write(dest, b"theirs")
    await trio.sleep(60)  # beyond the TTL: the kernel looks the name up once more
    target = await rig.find(dest)
    assert target is not None
    target.be_shown(trio.current_time())
    with pytest.raises(VersionNotShown):
        await rig.rename(source, dest)
    assert rig.visible() == {source: b"ours", dest: b"theirs"}
    await trio.sleep(1)
    await rig.rename(source, dest)
    assert rig.visible() == {dest: b"ours"}


# ----- open, unsent, being sent -----------------------------------------------------------------------------------


async def test_an_open_file_is_read_and_written_under_its_new_name(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    reader = await rig.open("/s/f")
    writer = await rig.open("/s/f", os.O_RDWR)
    await rig.fs.read(reader, 0, 10)
    await rig.rename("/s/f", "/s/a/g")
    assert await rig.read_all(reader) == BIG
    await rig.fs.write(writer, 0, b"mine")
    await rig.close(writer)
    await rig.close(reader)
    assert await rig.flushed() == {"/s/a/g": b"mine" + BIG[4:]}


async def test_a_file_that_was_never_sent_is_sent_once_under_its_last_name(writeback: Rig, nas: Nas) -> None:
    await writeback.create("/s/f", b"content")
    await writeback.rename("/s/f", "/s/g")
    await writeback.rename("/s/g", "/s/a/h")
    assert nas.count("rename") == nas.count("move") == 0
    assert await writeback.flushed() == {"/s/a/h": b"content"}
    assert nas.asked("upload") == ["/s/a/h"]


async def test_an_edited_file_is_renamed_on_the_nas_and_sent_under_its_new_name(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await writeback.create("/s/f", b"new")
    await writeback.rename("/s/f", "/s/a/g")
    assert nas.files() == {"/s/a/g": b"old"}
    (row,) = writeback.area.journal.rows()
    assert row.path == "/s/a/g"
    assert await writeback.flushed() == {"/s/a/g": b"new"}
    assert writeback.writes.conflicts == []


async def test_a_rename_waits_for_an_upload_under_way(writeback: Rig, nas: Nas) -> None:
    gate = nas.gate("upload")
    await writeback.create("/s/f", b"content")
    await gate.reached.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.rename, "/s/f", "/s/g")
        await wait_all_tasks_blocked()
        assert await writeback.find("/s/g") is None
        gate.open()
    assert await writeback.flushed() == {"/s/g": b"content"}
    assert nas.count("upload") == 1


async def test_an_upload_whose_end_is_not_known_is_settled_before_its_name_changes(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", TimedOut("lost"), after=True)
    await writeback.create("/s/f", b"content")
    await trio.sleep(0.7)
    assert nas.files() == {"/s/f": b"content"}
    await writeback.rename("/s/f", "/s/g")
    assert await writeback.flushed() == {"/s/g": b"content"}
    assert nas.count("upload") == 1


@pytest.mark.parametrize("lost", [False, True], ids=["", "an answer was lost"])
async def test_a_folder_is_renamed_with_its_unsent_files(
    writeback: Rig, nas: Nas, lost: bool, expect_logs: Callable[..., None]
) -> None:
    nas.file("/s/a/old", b"old")
    await writeback.mkdir("/s/a/d")
    if lost:
        expect_logs("not sent yet")
        nas.meet("upload", TimedOut("lost"), path="/s/a/d/new", after=True)
    await writeback.create("/s/a/d/new", b"new")
    await writeback.edit("/s/a/old", 0, b"OLD")
    if lost:
        await trio.sleep(0.7)
    await writeback.rename("/s/a", "/s/b/c")
    assert {row.path for row in writeback.area.journal.rows()} <= {"/s/b/c/d/new", "/s/b/c/old"}
    assert await writeback.flushed() == {"/s/b/c/d/new": b"new", "/s/b/c/old": b"OLD"}
    assert writeback.writes.conflicts == []
    assert await writeback.names("/s/b/c/d") == ["new"]


async def test_a_folder_waits_for_the_uploads_below_it(writeback: Rig, nas: Nas) -> None:
    gate = nas.gate("upload")
    await writeback.mkdir("/s/a/d")
    await writeback.create("/s/a/d/f", b"content")
    await gate.reached.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.rename, "/s/a", "/s/c")
        await wait_all_tasks_blocked()
        assert "/s/a" in nas.tree()
        gate.open()
    assert await writeback.flushed() == {"/s/c/d/f": b"content"}


async def test_a_file_made_in_a_folder_while_that_is_renamed_goes_along(writeback: Rig, nas: Nas) -> None:
    await writeback.create("/s/a/one", b"1")
    folder = await writeback.at("/s/a")
    gate = nas.gate("rename")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.rename, "/s/a", "/s/c")
        await gate.reached.wait()
        _, number = await writeback.fs.create(folder, b"two", os.O_WRONLY | os.O_CREAT)
        await writeback.fs.write(number, 0, b"2")
        await writeback.close(number)
        gate.open()
    assert {row.path for row in writeback.area.journal.rows()} == {"/s/c/one", "/s/c/two"}
    assert await writeback.flushed() == {"/s/c/one": b"1", "/s/c/two": b"2"}


# ----- over others ------------------------------------------------------------------------------------------------


async def test_an_editors_save_costs_one_upload(writeback: Rig, nas: Nas) -> None:
    """A temporary file, written, closed and renamed over the old one."""
    nas.file("/s/doc", b"old")
    await writeback.create("/s/.doc.tmp", b"the new one")
    await writeback.rename("/s/.doc.tmp", "/s/doc")
    assert await writeback.read("/s/doc") == b"the new one"
    assert nas.files() == {"/s/doc": b"old"}
    assert await writeback.flushed() == {"/s/doc": b"the new one"}
    assert (nas.count("upload"), await writeback.names()) == (1, ["a", "b", "doc"])


async def test_an_editors_save_with_fsync_costs_one_upload(rig: Rig, nas: Nas) -> None:
    nas.file("/s/doc", b"old")
    number = await rig.open("/s/.doc.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    await rig.fs.write(number, 0, b"the new one")
    await rig.fs.fsync(number)
    await rig.close(number)
    await rig.rename("/s/.doc.tmp", "/s/doc")
    assert rig.visible() == {"/s/doc": b"the new one"}
    assert await rig.flushed() == {"/s/doc": b"the new one"}
    assert nas.count("upload") == 1


async def test_an_editors_save_over_somebody_elses_change_keeps_both(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("/s/doc: somebody else changed it meanwhile")
    nas.file("/s/doc", b"old")
    await writeback.names()
    await writeback.create("/s/.doc.tmp", b"ours")
    nas.write("/s/doc", b"theirs")
    await writeback.rename("/s/.doc.tmp", "/s/doc")
    files = await writeback.flushed()
    assert files.pop("/s/doc") == b"theirs"
    assert list(files.values()) == [b"ours"]


@pytest.mark.parametrize("source_sent", [False, True])
@pytest.mark.parametrize("target_on_nas", [False, True])
async def test_an_unsent_target_is_never_sent(writeback: Rig, nas: Nas, source_sent: bool, target_on_nas: bool) -> None:
    if target_on_nas:
        nas.file("/s/g", b"older")
    await writeback.create("/s/f", b"source")
    if source_sent:
        await writeback.writes.drain()
    nas.calls.clear()
    await writeback.create("/s/g", b"target")
    await writeback.rename("/s/f", "/s/g")
    assert [row.path for row in writeback.area.journal.rows()] == ([] if source_sent else ["/s/g"])
    assert await writeback.flushed() == {"/s/g": b"source"}
    assert len(writeback.uploads()) == (0 if source_sent else 1)
    assert writeback.writes.conflicts == []


async def test_a_target_whose_upload_may_have_arrived_is_replaced(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("upload", TimedOut("lost"), path="/s/g", after=True)
    await writeback.create("/s/g", b"target")
    await trio.sleep(0.7)
    assert nas.files() == {"/s/g": b"target"}
    await writeback.create("/s/f", b"source")
    await writeback.rename("/s/f", "/s/g")
    assert await writeback.flushed() == {"/s/g": b"source"}
    assert writeback.writes.conflicts == []


async def test_an_open_unsent_target_is_readable_to_the_end(rig: Rig, nas: Nas) -> None:
    nas.file("/s/g", BIG)
    target = await rig.open("/s/g", os.O_RDWR)
    await rig.fs.write(target, 0, b"mine")
    nas.file("/s/f", b"source")
    await rig.fs.refresh("/s")
    await rig.rename("/s/f", "/s/g")
    assert await rig.read_all(target) == b"mine" + BIG[4:]
    await rig.fs.write(target, 0, b"MINE")
    await rig.close(target)
    assert await rig.flushed() == {"/s/g": b"source"}
    assert (rig.area.journal.rows(), rig.area.budget.dirty_bytes) == ([], 0)


@pytest.mark.parametrize("error", [PermissionDenied, InputOutput])
async def test_a_rename_that_fails_takes_nothing_away(
    writeback: Rig, nas: Nas, error: type[Exception], expect_logs: Callable[..., None]
) -> None:
    """Neither what is unsent of the file nor what is unsent of the one that it should have replaced."""
    nas.file("/s/f", b"old f")
    nas.file("/s/a/f", b"old g")
    await writeback.create("/s/f", b"new f")
    await writeback.create("/s/a/f", b"new g")
    nas.meet("move", error("no"))
    with pytest.raises(error):
        await writeback.rename("/s/f", "/s/a/f")
    assert await writeback.flushed() == {"/s/f": b"new f", "/s/a/f": b"new g"}
    assert writeback.area.journal.moves() == []


# ----- what is known by path ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["file", "folder"])
async def test_times_given_to_files_go_along(rig: Rig, nas: Nas, what: str) -> None:
    nas.file("/s/a/f", b"x")
    nas.file("/s/b/f", b"y")
    await rig.utimens("/s/a/f", 5 * SECOND)
    await rig.utimens("/s/b/f", 6 * SECOND)
    if what == "file":
        await rig.rename("/s/a/f", "/s/b/f")
        new = "/s/b/f"
    else:
        await rig.rename("/s/a", "/s/c")
        new = "/s/c/f"
    known = rig.area.journal.mtimes()
    assert known[new] == (nas.version(new), 5 * SECOND)
    assert len(known) == (1 if what == "file" else 2)
    assert (await rig.at(new)).shown_mtime_ns == 5 * SECOND


async def test_hidden_names_go_along_with_their_folder(rig: Rig, nas: Nas) -> None:
    nas.file("/s/a/f", b"old")
    await rig.create("/s/a/f", b"new")
    await rig.writes.drain()
    reader = await rig.open("/s/a/f")
    await rig.unlink("/s/a/f")
    await rig.rename("/s/a", "/s/c")
    assert all(path.startswith("/s/c/.synofs-") for path in rig.area.journal.leftovers())
    assert await rig.read_all(reader) == b"new"
    await rig.close(reader)
    nas.file("/s/c/g", b"old")
    await rig.fs.refresh("/s/c")
    await rig.create("/s/c/g", b"new")
    await rig.writes.drain()
    await rig.writes.leftovers.clean(rig.fs._mover)
    assert nas.tree() == {"/s": None, "/s/b": None, "/s/c": None, "/s/c/g": b"new"}


async def test_a_share_cannot_be_renamed(rig: Rig, nas: Nas) -> None:
    root = rig.fs.inodes.root
    nas.folder("/other")
    root.name, root.rights = b"", root.rights & ~2
    with pytest.raises(AccessDenied):
        await rig.fs.rename(root, b"other", root, b"new", replace=True)
