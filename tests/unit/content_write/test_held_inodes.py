"""An inode that nobody needs is not kept, whatever became of the call that had found it."""

from __future__ import annotations

import pytest
import trio

from synofs.content.errors import LocalDiskFull
from synofs.fs.writes import WriteMode
from synofs.remote import PermissionDenied, RemoteEntry, Unreachable
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


@pytest.fixture(autouse=True)
def folders(nas: Nas) -> None:
    nas.folder("/s/a")
    nas.folder("/s/b")


def held(rig: Rig) -> dict[str, dict[str, object]]:
    return {str(one["path"]): one for one in rig.fs.inodes.held(1000)}


def kernel_forgets(rig: Rig) -> None:
    """All that nobody uses."""
    for one in rig.fs.inodes.held(1000):
        if one["path"] != "/s":
            rig.fs.inodes.forget(int(str(one["number"])), int(str(one["lookups"])))


async def test_a_name_on_its_way_to_another_folder_that_a_listing_met_is_not_kept(
    durable: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    nas.file("/s/a/x", b"content")
    await durable.names("/s/a")
    page = nas.gate("page", path="/s/a", after=True)
    rename = nas.rename

    async with trio.open_nursery() as nursery:

        async def slow(path: str, new_name: str) -> RemoteEntry:
            entry = await rename(path, new_name)
            nursery.start_soon(durable.fs.refresh, "/s/a")
            await page.reached.wait()
            return entry

        monkeypatch.setattr(nas, "rename", slow)
        await durable.rename("/s/a/x", "/s/b/y")
        page.open()
    assert await durable.names("/s/a") == []
    kernel_forgets(durable)
    assert "/s/a/y" not in held(durable)


async def test_a_file_that_could_not_be_begun_is_not_kept(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*_: object, **__: object) -> None:
        raise LocalDiskFull("no room")

    await rig.names("/s/a")
    monkeypatch.setattr(rig.area, "stage", full)
    with pytest.raises(LocalDiskFull):
        await rig.create("/s/a/new")
    assert "/s/a/new" not in held(rig)


async def test_a_folder_that_only_an_unsent_file_of_an_earlier_run_needed_is_not_kept(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    area = await open_area()
    nas.folder("/s/a/deep")
    staged = await area.stage("/s/a/deep/f", None, empty=True)
    await staged.write(0, b"content")
    await staged.seal()
    await open_area.close(area)
    rig = Rig(nas, await open_area(), WriteMode.WRITEBACK)
    await rig.start(nursery)
    assert "/s/a/deep/f" in held(rig)
    await rig.writes.drain()
    assert nas.files()["/s/a/deep/f"] == b"content"
    assert set(held(rig)) == {"/s"}


async def test_a_new_file_that_is_refused_when_the_kernel_has_forgotten_it_is_not_kept(
    writeback: Rig, nas: Nas, expect_logs
) -> None:
    expect_logs("refused by the NAS", "the NAS refuses it for good")
    await writeback.names("/s/a")
    nas.meet("upload", PermissionDenied("no"))
    await writeback.create("/s/a/new", b"content")
    kernel_forgets(writeback)
    await trio.sleep(10)
    assert writeback.writes.refusals
    assert "/s/a/new" not in held(writeback)


async def test_a_file_that_the_kernel_forgot_while_its_rename_went_on_is_not_kept(
    durable: Rig, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has listed the folder that it went to, or it was dropped from memory."""
    nas.file("/s/a/x", b"content")
    await durable.names("/s/a")
    folder = await durable.at("/s/b")
    move = nas.move

    async def slow(path: str, dest_dir: str, *, overwrite: bool) -> None:
        await move(path, dest_dir, overwrite=overwrite)
        durable.fs._listings.forget(folder)
        kernel_forgets(durable)

    monkeypatch.setattr(nas, "move", slow)
    await durable.rename("/s/a/x", "/s/b/x")
    assert "/s/b/x" not in held(durable)
    assert nas.files() == {"/s/b/x": b"content"}


async def test_an_unlinked_file_whose_end_the_nas_does_not_answer_is_not_kept(durable: Rig, nas: Nas) -> None:
    """The kernel's forget may overtake its release."""
    nas.file("/s/a/x", b"content")
    number = await durable.open("/s/a/x")
    await durable.unlink("/s/a/x")
    kernel_forgets(durable)
    nas.meet("remove", Unreachable("away"))
    with pytest.raises(Unreachable):
        await durable.close(number)
    assert not [path for path in held(durable) if path.startswith("/s/a/")]


async def test_what_a_page_showed_of_a_folder_that_is_gone_is_not_kept(durable: Rig, nas: Nas) -> None:
    """The folder was dropped while it was listed anew, and the NAS went away before the last page."""
    nas.page_entries = 1
    nas.file("/s/a/1")
    nas.file("/s/a/2")
    await durable.names("/s/a")
    folder = await durable.at("/s/a")
    await durable.at("/s/a/2")
    page = nas.gate("page", path="/s/a", after=True)
    nas.meet("page", Unreachable("away"), path="/s/a", after=True, skip=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(durable.fs.refresh, "/s/a")
        await page.reached.wait()
        durable.fs._listings.forget(folder)
        page.open()
    kernel_forgets(durable)
    assert not {"/s/a/1", "/s/a/2"} & set(held(durable))
