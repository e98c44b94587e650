"""Hidden names on the NAS: none stays, and nothing in them is lost."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from synofs.content.errors import LocalDiskFull
from synofs.fs.writes import WriteMode
from synofs.remote import TimedOut, Unreachable
from tests.soak.disk import Disk
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.rig import HIDDEN, Rig, running
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]


def hidden(nas: Nas) -> list[str]:
    return [path for path in nas.tree() if "/.synofs-" in path]


async def test_hidden_folders_are_removed_when_it_has_been_quiet_for_a_while(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await rig.create("/s/f", b"new")
    await rig.writes.drain()
    assert hidden(nas) == [f"/s/{HIDDEN}"]
    await trio.sleep(60)
    assert hidden(nas) == []
    assert rig.area.journal.leftovers() == []


async def test_they_are_removed_at_the_end(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await rig.create("/s/f", b"new")
    assert await rig.fs.finish(within_seconds=10) == 0
    assert nas.tree() == {"/s": None, "/s/f": b"new"}


class State:
    away = True

    def activity(self) -> int:
        return 0


@pytest.mark.parametrize(("back_after", "left"), [(None, 1), (8, 0)])
async def test_the_end_waits_ten_seconds_for_a_nas_that_is_away(
    writeback: Rig, nas: Nas, expect_logs: Callable[..., None], back_after: float | None, left: int
) -> None:
    expect_logs("not sent yet")
    state = State()
    writeback.fs.watch_over(state)
    nas.meet("upload", Unreachable("away"), times=1000)
    await writeback.create("/s/f", b"new")
    began = trio.current_time()
    async with trio.open_nursery() as nursery:

        async def come_back() -> None:
            await trio.sleep(back_after or 1000)
            state.away = False
            nas.meet_nothing_more()

        nursery.start_soon(come_back)
        assert await writeback.fs.finish(within_seconds=60) == left
        nursery.cancel_scope.cancel()
    if left:
        assert 10 <= trio.current_time() - began < 11


async def test_a_folder_that_is_needed_while_it_is_removed_is_made_again(writeback: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await writeback.create("/s/f", b"one")
    await writeback.writes.drain()
    gate = nas.gate("remove")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.writes.leftovers.clean, writeback.fs._mover)
        await gate.reached.wait()
        await writeback.create("/s/f", b"another")
        await trio.sleep(1)
        gate.open()
    assert await writeback.flushed() == {"/s/f": b"another"}


async def test_what_cannot_be_removed_is_tried_again(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await rig.create("/s/f", b"new")
    await rig.writes.drain()
    nas.meet("remove", Unreachable("away"), times=3)
    await trio.sleep(25)
    assert hidden(nas) == [f"/s/{HIDDEN}"]
    await trio.sleep(100)
    assert hidden(nas) == []


async def test_the_next_mount_removes_what_the_last_one_left(nas: Nas, mode: WriteMode, open_area: Areas) -> None:
    nas.file("/s/f", b"old")
    nas.file("/s/g", b"open")
    area = await open_area()
    async with running(Rig(nas, area, mode)) as rig:
        await rig.create("/s/f", b"new")
        await rig.writes.drain()
        await rig.open("/s/g")
        await rig.unlink("/s/g")
        assert len(hidden(nas)) == 2
    await open_area.close(area)
    async with running(Rig(nas, await open_area(), mode)):
        await trio.sleep(60)
    assert nas.tree() == {"/s": None, "/s/f": b"new"}


async def test_a_file_that_is_open_here_is_not_removed(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"open")
    handle = await rig.open("/s/f")
    await rig.unlink("/s/f")
    await trio.sleep(100)
    assert await rig.read_all(handle) == b"open"
    await rig.close(handle)
    assert hidden(nas) == []


async def test_without_a_journal_a_listing_brings_hidden_names_back_to_mind(
    nas: Nas, mode: WriteMode, open_area: Areas, tmp_path: Path
) -> None:
    nas.file("/s/f", b"old")
    area = await open_area()
    async with running(Rig(nas, area, mode)) as rig:
        await rig.create("/s/f", b"new")
        await rig.writes.drain()
    await open_area.close(area)
    for file in (tmp_path / "synofs-v1" / "test").glob("journal.db*"):
        os.unlink(file)
    async with running(Rig(nas, await open_area(), mode)) as rig:
        assert await rig.names() == ["f"]
        await trio.sleep(60)
    assert nas.tree() == {"/s": None, "/s/f": b"new"}


async def test_a_file_on_its_way_through_a_hidden_folder_is_shown_again_and_never_removed(
    nas: Nas, mode: WriteMode, open_area: Areas, expect_logs: Callable[..., None]
) -> None:
    """A rename was cut short, and its journal is lost."""
    expect_logs("was left in a hidden folder and is shown again")
    nas.folder(f"/s/{HIDDEN}-mv")
    nas.file(f"/s/{HIDDEN}-mv/report", b"the only copy")
    nas.file(f"/s/{HIDDEN}-mv/other", b"another")
    nas.file("/s/other", b"in its place")
    async with running(Rig(nas, await open_area(), mode)) as rig:
        await rig.names()
        await trio.sleep(60)
    files = nas.files()
    assert (files.pop("/s/report"), files.pop("/s/other")) == (b"the only copy", b"in its place")
    assert list(files.values()) == [b"another"]
    assert hidden(nas) == []


async def test_hidden_names_of_other_clients_are_left_alone(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/.synofs-other")
    nas.file("/s/.synofs-other/f", b"on its way")
    nas.file("/s/.synofs-gone-other-1-2", b"open there")
    await rig.names()
    await trio.sleep(100)
    assert len(hidden(nas)) == 3


async def test_a_stray_upload_is_removed_when_it_is_a_day_old(rig: Rig, nas: Nas) -> None:
    """The client sends names that its form cannot carry under another one first."""
    now = nas.now_ns()  # however far that is from our own clock
    for name, hours in (("fresh", 1), ("old", 25)):
        nas.file(f"/s/.synofs-upload-{name}", b"x")
        nas.nodes[f"/s/.synofs-upload-{name}"].ctime_ns = now - hours * 3600 * SECOND
    await rig.names()
    await trio.sleep(100)
    assert hidden(nas) == ["/s/.synofs-upload-fresh"]


async def test_renames_that_are_not_finished_keep_their_folder(writeback: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.file("/s/f", b"content")
    nas.file("/s/g", b"old")
    nas.meet("rename", TimedOut("lost"), after=True)
    nas.meet("get_entries", Unreachable("away"), skip=1, times=20)
    with pytest.raises(TimedOut):
        await writeback.rename("/s/f", "/s/g")
    await writeback.writes.leftovers.clean(writeback.fs._mover)
    await trio.sleep(200)
    assert writeback.visible() == {"/s/g": b"content"}
    assert hidden(nas) == []


async def test_a_local_disk_that_takes_no_more_does_not_end_the_mount_when_it_tidies_up(
    rig: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas.file("/s/f", b"old")
    await rig.create("/s/f", b"new")
    await rig.writes.drain()
    with monkeypatch.context() as full:
        for verb in ("drop_leftover", "moves"):
            full.setattr(rig.area.journal, verb, refuse)
            await trio.sleep(60)
            assert await rig.fs.finish(within_seconds=10) == 0
    await trio.sleep(60)
    assert hidden(nas) == []
    assert rig.area.journal.leftovers() == []
    assert await rig.read("/s/f") == b"new"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Where the journal and the staged files are."""
    with Disk(tmp_path) as disk:
        yield disk


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a disk of its own")
async def test_an_hour_on_a_local_disk_that_is_full_ends_nothing_and_with_room_hidden_names_go(
    disk: Disk, rig: Rig, nas: Nas
) -> None:
    nas.file("/s/f", b"old")
    await rig.create("/s/f", b"new")
    await rig.writes.drain()
    await trio.sleep(2)  # what was sent is forgotten
    disk.fill()
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (disk.folder / "the rest").write_bytes(bytes(1 << 20))
    await trio.sleep(3600)
    assert rig.area.journal.leftovers() == [f"/s/{HIDDEN}"], "there was room to forget it"
    assert await rig.read("/s/f") == b"new"
    disk.empty()
    await trio.sleep(60)
    assert hidden(nas) == []
    assert rig.area.journal.leftovers() == []
    await rig.create("/s/g", b"later")
    assert (await rig.flushed())["/s/g"] == b"later"


def refuse(*args: object) -> None:
    raise LocalDiskFull("full")
