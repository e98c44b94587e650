"""Making and removing names, in order with pending uploads."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fs.errors import (
    AccessDenied,
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    IsADirectory,
    NoEntry,
    NotADirectory,
)
from synofs.fs.writes import WriteMode
from synofs.remote import Exists, InputOutput, NotEmpty, PermissionDenied, Rights, TimedOut, Unreachable
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.rig import HIDDEN, Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

BIG = revealing(1_000_000)


async def unsent(rig: Rig, path: str, content: bytes) -> None:
    """A file that was closed and is not on the NAS yet, in either mode: the first attempt failed."""
    if rig.mode is WriteMode.WRITEBACK:
        await rig.create(path, content)
    else:
        number = await rig.open(path, os.O_WRONLY | os.O_CREAT)
        await rig.fs.write(number, 0, content)
        await rig.fs.release(number)
    assert path not in rig.nas.files()


# ----- mkdir ------------------------------------------------------------------------------------------------


async def test_a_new_folder_is_on_the_nas_and_known_to_be_empty(rig: Rig, nas: Nas) -> None:
    assert await rig.names() == []
    await rig.mkdir("/s/d")
    nas.calls.clear()
    assert (await rig.names(), await rig.names("/s/d"), nas.calls) == (["d"], [], [])
    assert nas.tree() == {"/s": None, "/s/d": None}


async def test_a_name_that_is_taken_cannot_be_made_again(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    await unsent(rig, "/s/f", b"x")
    for path in ("/s/d", "/s/f"):
        with pytest.raises(EntryExists):
            await rig.fs.create(await rig.at("/s"), path.encode()[3:], os.O_CREAT | os.O_EXCL)


async def test_our_own_hidden_names_cannot_be_used(rig: Rig, nas: Nas) -> None:
    for verb in (rig.mkdir, rig.create):
        with pytest.raises(InvalidArgument):
            await verb("/s/.synofs-x")
    await rig.create("/s/f", b"x")
    with pytest.raises(InvalidArgument):
        await rig.rename("/s/f", "/s/.synofs-f")


async def test_hidden_names_are_not_shown(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    nas.folder("/s/.synofs-of-another-client")
    await rig.create("/s/f", b"new")
    await rig.writes.drain()
    await rig.fs.refresh("/s")
    assert f"/s/{HIDDEN}" in nas.tree()
    assert await rig.names() == ["f"]
    assert await rig.find(f"/s/{HIDDEN}") is None


async def test_in_the_list_of_shares_nothing_can_be_made(rig: Rig, nas: Nas) -> None:
    root = rig.fs.inodes.root
    root.name = b""  # as if all shares were mounted
    with pytest.raises(AccessDenied):
        await rig.fs.mkdir(root, b"share")
    with pytest.raises(AccessDenied):
        await rig.fs.create(root, b"file", os.O_CREAT)


async def test_a_folder_without_write_permission_refuses(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.file("/s/d/f", b"x")
    nas.nodes["/s/d"].rights = Rights.READ | Rights.EXECUTE
    nas.nodes["/s/d/f"].rights = Rights.READ
    with pytest.raises(AccessDenied):
        await rig.mkdir("/s/d/new")
    with pytest.raises(AccessDenied):
        await rig.create("/s/d/new")
    with pytest.raises(AccessDenied):
        await rig.unlink("/s/d/f")
    with pytest.raises(AccessDenied):
        await rig.rename("/s/d/f", "/s/f")


async def test_a_folder_that_somebody_made_meanwhile_is_refused_and_seen_at_once(rig: Rig, nas: Nas) -> None:
    assert await rig.names() == []
    nas.folder("/s/d")
    with pytest.raises(Exists):
        await rig.mkdir("/s/d")
    assert ("appeared", "/s/d") in rig.notifier.told
    assert await rig.names() == ["d"]
    await rig.create("/s/d/f", b"x")
    assert await rig.flushed() == {"/s/d/f": b"x"}


async def test_a_mkdir_whose_answer_was_lost_shows_what_there_is_now(rig: Rig, nas: Nas) -> None:
    assert await rig.names() == []
    nas.meet("make_dir", TimedOut("lost"), after=True)
    with pytest.raises(TimedOut):
        await rig.mkdir("/s/d")
    assert await rig.names() == ["d"]


async def test_a_new_file_may_be_read_and_written_and_not_executed(rig: Rig, nas: Nas) -> None:
    number = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    assert rig.fs.mode(await rig.at("/s/f")) & 0o777 & ~rig.fs.options.umask == 0o666 & ~rig.fs.options.umask
    await rig.close(number)


# ----- unlink -----------------------------------------------------------------------------------------------


async def test_unlink_removes_the_file_from_the_nas(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    await rig.unlink("/s/f")
    assert (nas.files(), await rig.names()) == ({}, [])
    with pytest.raises(NoEntry):
        await rig.unlink("/s/f")


async def test_unlink_of_a_file_that_was_never_sent_needs_no_call(writeback: Rig, nas: Nas) -> None:
    await writeback.create("/s/f", b"x")
    nas.calls.clear()
    await writeback.unlink("/s/f")
    await trio.sleep(10)
    assert (nas.calls, nas.files(), await writeback.names()) == ([], {}, [])
    assert (writeback.area.journal.rows(), os.listdir(writeback.area.data_folder)) == ([], [])


async def test_unlink_of_an_edited_file_sends_nothing_any_more(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await writeback.edit("/s/f", 0, b"new")
    await writeback.unlink("/s/f")
    await trio.sleep(10)
    assert (nas.files(), nas.count("upload"), await writeback.names()) == ({}, 0, [])
    assert writeback.area.journal.rows() == []


async def test_unlink_waits_for_an_upload_under_way(writeback: Rig, nas: Nas) -> None:
    gate = nas.gate("upload")
    await writeback.create("/s/f", b"x")
    await gate.reached.wait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.unlink, "/s/f")
        await wait_all_tasks_blocked()
        gate.open()
    await trio.sleep(10)
    assert (nas.files(), await writeback.names()) == ({}, [])


@pytest.mark.parametrize("error", [Unreachable, PermissionDenied, InputOutput])
async def test_an_unlink_that_fails_takes_nothing_away(writeback: Rig, nas: Nas, error: type[Exception]) -> None:
    """Neither the file nor what was written to it and not sent yet."""
    nas.file("/s/f", b"old")
    await writeback.edit("/s/f", 0, b"new")
    nas.meet("remove", error("no"), times=3)
    with pytest.raises(error):
        await writeback.unlink("/s/f")
    nas.meet_nothing_more()
    assert await writeback.names() == ["f"]
    assert await writeback.flushed() == {"/s/f": b"new"}


async def test_a_new_file_under_the_old_name_is_another_inode(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    handle = await rig.open("/s/f")
    old = await rig.at("/s/f")
    await rig.unlink("/s/f")
    await rig.create("/s/f", b"new")
    assert (await rig.at("/s/f")).number != old.number
    assert await rig.read_all(handle) == b"old"
    await rig.close(handle)
    assert await rig.flushed() == {"/s/f": b"new"}


async def test_unlinking_a_folder_or_removing_a_file_as_one_is_refused(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.file("/s/f", b"x")
    with pytest.raises(IsADirectory):
        await rig.unlink("/s/d")
    with pytest.raises(NotADirectory):
        await rig.rmdir("/s/f")


# ----- unlink while open --------------------------------------------------------------------------------------


async def test_a_file_unlinked_while_open_can_be_read_and_written_until_it_is_closed(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", BIG)
    reader = await rig.open("/s/f")
    writer = await rig.open("/s/f", os.O_RDWR)
    await rig.unlink("/s/f")
    assert await rig.names() == []
    assert await rig.read_all(reader) == BIG
    await rig.fs.write(writer, 10, b"mine")
    assert bytes(await rig.fs.read(reader, 8, 8)) == BIG[8:10] + b"mine" + BIG[14:16]
    await rig.fs.fsync(writer)
    await rig.close(writer)
    assert (await rig.read_all(reader))[10:14] == b"mine"
    await rig.close(reader)
    await trio.sleep(10)
    assert (nas.tree(), nas.count("upload")) == ({"/s": None}, 0)
    assert (rig.area.journal.rows(), os.listdir(rig.area.data_folder)) == ([], [])
    assert rig.area.budget.dirty_bytes == 0


async def test_its_attributes_can_be_asked_for_however_long_it_stays_open(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"content")
    handle = await rig.open("/s/f")
    inode = await rig.at("/s/f")
    await rig.unlink("/s/f")
    await trio.sleep(1000)
    await rig.fs.getattr(inode)  # fstat(2)
    assert inode.size == 7
    await rig.fs.setattr(inode, size=None, mtime_ns=5 * SECOND, number=handle)
    await rig.close(handle)


@pytest.mark.parametrize("edited", [False, True])
async def test_unsent_content_lives_on_here_alone(rig: Rig, nas: Nas, edited: bool) -> None:
    if edited:
        nas.file("/s/f", BIG)
    handle = await rig.open("/s/f", os.O_RDWR | os.O_CREAT)
    await rig.fs.write(handle, 10, b"mine")
    await rig.unlink("/s/f")
    assert nas.tree() == {"/s": None}
    expected = BIG[:10] + b"mine" + BIG[14:] if edited else bytes(10) + b"mine"
    assert await rig.read_all(handle) == expected
    await rig.close(handle)
    await trio.sleep(10)
    assert (nas.tree(), rig.area.journal.rows()) == ({"/s": None}, [])


async def test_a_file_unlinked_while_open_does_not_come_back_after_a_crash(
    rig: Rig, nas: Nas, open_area: Areas
) -> None:
    handle = await rig.open("/s/f", os.O_RDWR | os.O_CREAT)
    await rig.fs.write(handle, 0, b"mine")
    await rig.fs.fsync(handle)
    await rig.fs.write(handle, 4, b" and more")
    await rig.unlink("/s/f")
    await rig.area.flush()
    assert rig.area.journal.rows() == []
    assert os.listdir(rig.area.data_folder) == []


async def test_the_hidden_file_of_a_crash_is_removed_later(durable: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    await durable.open("/s/f")
    await durable.unlink("/s/f")
    (hidden,) = nas.files()
    assert hidden.startswith("/s/.synofs-gone-me-")
    assert durable.area.journal.leftovers() == [hidden]


async def test_the_same_name_can_be_unlinked_while_open_again_and_again(rig: Rig, nas: Nas) -> None:
    nas.meet("remove", Unreachable("away"), times=99)
    for _ in range(3):
        nas.file("/s/f", b"x")
        await rig.fs.refresh("/s")
        handle = await rig.open("/s/f")
        await rig.unlink("/s/f")
        with pytest.raises(Unreachable):
            await rig.close(handle)
    assert len(nas.files()) == 3


# ----- rmdir ------------------------------------------------------------------------------------------------


async def test_rmdir_removes_an_empty_folder_only(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.file("/s/d/f", b"x")
    with pytest.raises(NotEmpty):
        await rig.rmdir("/s/d")
    await rig.unlink("/s/d/f")
    await rig.rmdir("/s/d")
    assert (nas.tree(), await rig.names()) == ({"/s": None}, [])


async def test_a_folder_with_an_unsent_file_is_not_empty(writeback: Rig, nas: Nas) -> None:
    await writeback.mkdir("/s/d")
    await writeback.create("/s/d/f", b"x")
    with pytest.raises(DirectoryNotEmpty):
        await writeback.rmdir("/s/d")
    assert await writeback.flushed() == {"/s/d/f": b"x"}


async def test_hidden_names_of_ours_do_not_keep_a_folder(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.file("/s/d/f", b"old")
    await rig.create("/s/d/f", b"new")
    await rig.writes.drain()
    reader = await rig.open("/s/d/f")
    await rig.unlink("/s/d/f")
    assert len(nas.tree()) == 4  # the share, the folder, our hidden folder, and the file that is open
    await rig.rmdir("/s/d")
    assert nas.tree() == {"/s": None}
    await rig.close(reader)


async def test_a_folder_made_again_gets_its_hidden_folder_again(rig: Rig, nas: Nas) -> None:
    for _ in range(2):
        await rig.mkdir("/s/d")
        await rig.create("/s/d/f", b"one")
        await rig.writes.drain()
        await rig.create("/s/d/f", b"another")
        assert await rig.flushed() == {"/s/d/f": b"another"}
        await rig.unlink("/s/d/f")
        await rig.rmdir("/s/d")
        assert nas.tree() == {"/s": None}


async def test_an_empty_hidden_folder_of_another_client_goes_with_the_folder(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.folder("/s/d/.synofs-other")
    await rig.rmdir("/s/d")
    assert nas.tree() == {"/s": None}


async def test_a_hidden_file_of_another_client_keeps_the_folder(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.folder("/s/d/.synofs-other-mv")
    nas.file("/s/d/.synofs-other-mv/f", b"on its way")
    with pytest.raises(NotEmpty):
        await rig.rmdir("/s/d")
    assert nas.files() == {"/s/d/.synofs-other-mv/f": b"on its way"}


async def test_times_given_to_a_file_go_with_it(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    await rig.utimens("/s/f", 5 * SECOND)
    await rig.unlink("/s/f")
    await rig.area.flush()
    assert rig.area.journal.mtimes() == {}
    nas.file("/s/f", b"x")
    await rig.fs.refresh("/s")
    assert (await rig.at("/s/f")).shown_mtime_ns is None


@pytest.mark.parametrize("flushed", [False, True])
async def test_a_tree_is_made_and_removed_without_a_trace(rig: Rig, nas: Nas, flushed: bool) -> None:
    """`rm -r` of what was copied in a moment ago."""
    folders = ["/s/d", "/s/d/e", "/s/d/e/f"]
    for folder in folders:
        await rig.mkdir(folder)
        for number in range(5):
            await rig.create(f"{folder}/{number}", b"%d" % number)
    if flushed:
        await rig.writes.drain()
    for folder in reversed(folders):
        for number in range(5):
            await rig.unlink(f"{folder}/{number}")
        await rig.rmdir(folder)
    await trio.sleep(30)
    assert nas.tree() == {"/s": None}
    assert (rig.area.journal.rows(), rig.area.files) == ([], {})


async def test_a_file_whose_last_writer_leaves_while_it_is_unlinked_is_read_to_its_end(rig: Rig, nas: Nas) -> None:
    writer = await rig.open("/s/f", os.O_WRONLY | os.O_CREAT)
    await rig.fs.write(writer, 0, BIG)
    await rig.fs.fsync(writer)
    reader = await rig.open("/s/f")
    gate = nas.gate("remove")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.unlink, "/s/f")
        await gate.reached.wait()
        nursery.start_soon(rig.close, writer)
        await wait_all_tasks_blocked()
        gate.open()
    assert nas.files() == {}
    assert await rig.read_all(reader) == BIG
    await rig.close(reader)
    assert await rig.flushed() == {}
    assert rig.area.files == {}
