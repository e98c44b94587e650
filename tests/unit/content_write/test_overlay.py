"""Names made and removed here while a listing of their folder is on its way."""

from __future__ import annotations

import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

FILES = {f"{number:02}" for number in range(30)}


@pytest.fixture(autouse=True)
def folder(nas: Nas) -> None:
    nas.page_entries = 10
    nas.folder("/s/d")
    for name in FILES:
        nas.file(f"/s/d/{name}", b"x")


CHANGES = {
    "create": (lambda rig: rig.create("/s/d/new", b"content"), {"new"}, set()),
    "mkdir": (lambda rig: rig.mkdir("/s/d/new"), {"new"}, set()),
    "unlink": (lambda rig: rig.unlink("/s/d/05"), set(), {"05"}),
    "rename": (lambda rig: rig.rename("/s/d/05", "/s/d/new"), {"new"}, {"05"}),
    "rename to another folder": (lambda rig: rig.rename("/s/d/05", "/s/new"), set(), {"05"}),
    "rename over": (lambda rig: rig.rename("/s/d/05", "/s/d/25"), set(), {"05"}),
    "rename over an earlier page": (lambda rig: rig.rename("/s/d/25", "/s/d/05"), set(), {"25"}),
    "create and unlink": (lambda rig: create_and_unlink(rig), set(), set()),
    "replace by a folder": (lambda rig: replace_by_a_folder(rig), set(), set()),
}


async def create_and_unlink(rig: Rig) -> None:
    await rig.create("/s/d/new", b"content")
    await rig.unlink("/s/d/new")


async def replace_by_a_folder(rig: Rig) -> None:
    await rig.unlink("/s/d/05")
    await rig.mkdir("/s/d/05")


@pytest.mark.parametrize("change", list(CHANGES))
@pytest.mark.parametrize("pages", range(4), ids=lambda pages: f"{pages} pages have come")
async def test_a_reload_under_way_shows_what_was_changed_here_meanwhile(
    rig: Rig, nas: Nas, change: str, pages: int
) -> None:
    act, appeared, gone = CHANGES[change]
    await rig.names()
    await rig.names("/s/d")
    gate = nas.gate("page" if pages else "list_dir", path="/s/d", after=bool(pages), skip=max(0, pages - 1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.fs.refresh, "/s/d")
        await gate.reached.wait()
        await act(rig)
        assert set(await rig.names("/s/d")) == FILES - gone | appeared
        gate.open()
    assert set(await rig.names("/s/d")) == FILES - gone | appeared
    names = await rig.names("/s/d")
    assert len(names) == len(set(names))
    await rig.flushed()
    await rig.fs.refresh("/s/d")
    assert set(await rig.names("/s/d")) == FILES - gone | appeared


@pytest.mark.parametrize("change", ["create", "mkdir"])
async def test_a_first_listing_shows_what_was_made_here_meanwhile(rig: Rig, nas: Nas, change: str) -> None:
    """`ls` of a folder is on its way, and somebody makes a file in it."""
    act, appeared, _ = CHANGES[change]
    gate = nas.gate("page", path="/s/d", after=True, skip=1)
    seen: list[str] = []

    async def ls() -> None:
        seen.extend(await rig.names("/s/d"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ls)
        await gate.reached.wait()
        nursery.start_soon(act, rig)
        await wait_all_tasks_blocked()
        gate.open()
    assert set(seen) >= FILES
    assert len(seen) == len(set(seen))
    assert set(await rig.names("/s/d")) == FILES | appeared


async def test_an_old_page_does_not_undo_an_upload(writeback: Rig, nas: Nas) -> None:
    """The page was made before the file was replaced; its size and time are of the old version."""
    await writeback.names("/s/d")
    gate = nas.gate("list_dir", path="/s/d", after=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writeback.fs.refresh, "/s/d")
        await gate.reached.wait()
        await writeback.create("/s/d/05", b"a longer content")
        await writeback.flushed()
        gate.open()
    inode = await writeback.at("/s/d/05")
    assert (inode.size, inode.fingerprint) == (16, nas.version("/s/d/05"))
    assert await writeback.read("/s/d/05") == b"a longer content"


async def test_a_reader_of_the_folder_keeps_its_place_while_names_come_and_go(rig: Rig, nas: Nas) -> None:
    """`rm *` and `mv` work on what readdir gave them before."""
    await rig.names("/s/d")
    number = await rig.fs.opendir(await rig.at("/s/d"))
    _, entries = await rig.fs.readdir(number, 0)
    seen = [inode.name for inode in entries[:10]]
    for name in seen:
        await rig.unlink(f"/s/d/{name.decode()}")
    await rig.create("/s/d/new")
    position = 10
    while True:
        handle, entries = await rig.fs.readdir(number, position)
        if len(entries) <= position:
            break
        seen += [inode.name for inode in entries[position:] if not inode.gone and inode.parent is handle.inode]
        position = len(entries)
    await rig.fs.releasedir(number)
    assert {name.decode() for name in seen} >= FILES
    assert len(seen) == len(set(seen))


async def test_an_unsent_file_is_listed_before_the_nas_knows_of_it(writeback: Rig, nas: Nas) -> None:
    number = await writeback.open("/s/d/new", os.O_WRONLY | os.O_CREAT)
    await writeback.fs.write(number, 0, b"12345")
    assert "new" in await writeback.names("/s/d")
    await writeback.fs.refresh("/s/d")
    assert "new" in await writeback.names("/s/d")
    assert (await writeback.at("/s/d/new")).size == 5
    await writeback.close(number)
