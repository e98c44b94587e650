"""Whose thumbnails are fetched, when, and how often."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from synofs.app.feeder import Feeder, FeederOptions
from synofs.app.thumbnail_cache import ThumbnailCache, file_uri
from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.callers import Caller
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from synofs.remote import NotFound, Unreachable
from tests.unit.app.test_thumbnail_cache import encoded
from tests.unit.memory_store import MemoryStore

pytestmark = pytest.mark.trio

ME = Caller(1, os.geteuid())
PICTURE = encoded(320, 213)


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 (nobody signals it)
            await trio.sleep(0.005)


class Rig:
    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        for name in ("/s", "/s/a", "/s/b"):
            self.store.folder(name)
        for name in ("1.jpg", "2.JPG", "3.png", "notes.txt", "film.mp4"):
            self.store.file(f"/s/a/{name}", b"x" * 100)
        self.store.file("/s/a/empty.jpg", b"")
        self.store.files("/s/b", 0)
        self.fs = Filesystem(self.store, FsOptions(), Reader(self.store, ReaderOptions()))
        self.mountpoint = folder / "my nas"
        self.cache = ThumbnailCache(folder / "thumbnails")
        self.asked: list[str] = []
        self.answer: Callable[[str], bytes] = lambda path: PICTURE
        self.at_once = self.most_at_once = 0
        self.options = FeederOptions(str(self.mountpoint), "/", at_once=2, pauses_seconds=(0.01, 0.01))
        self.feeder = Feeder(self._fetch, self.cache, self.options)

    async def _fetch(self, path: str, size: str) -> bytes:
        self.asked.append(path)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.sleep(0.01)
            return self.answer(path)
        finally:
            self.at_once -= 1

    async def find(self, path: str) -> Inode:
        inode: Inode | None = self.fs.inodes.root
        for name in path.strip("/").encode().split(b"/"):
            assert inode is not None
            inode = await self.fs.lookup(inode, name)
        assert inode is not None
        return inode

    async def visit(self, path: str, opened_at: float | None = None, caller: Caller = ME) -> None:
        inode = await self.find(path)
        handle = await self.fs.opendir(inode)
        await self.fs.readdir(handle, 0)
        self.feeder.visited(inode, caller, trio.current_time() if opened_at is None else opened_at)

    async def rest(self) -> None:
        """Until it has done all that it is going to do."""
        feeder = self.feeder
        await until(
            lambda: (
                not (feeder._under_way or feeder._of_the_folder or feeder._asked_for or feeder._again or feeder._later)
            )
        )

    async def has(self, path: str) -> bool:
        inode = await self.find(path)
        return self.cache.has(file_uri(os.fsencode(f"{self.mountpoint}{path}")), inode.mtime_ns // 10**9)


@pytest.fixture
async def rig(tmp_path: Path, nursery: trio.Nursery) -> Rig:
    rig = Rig(tmp_path)
    await nursery.start(rig.fs.run)
    await nursery.start(rig.feeder.run)
    return rig


PICTURES = ["/s/a/1.jpg", "/s/a/2.JPG", "/s/a/3.png"]


async def test_the_pictures_of_a_visited_folder_are_put_where_file_managers_look(rig: Rig) -> None:
    await rig.visit("/s/a")
    await rig.rest()
    assert sorted(rig.asked) == PICTURES
    assert [await rig.has(path) for path in PICTURES] == [True] * 3
    assert rig.most_at_once == 2


async def test_what_is_there_is_not_asked_for_again(rig: Rig) -> None:
    """A thumbnail request changes the folder's mtime on the NAS, and a file manager may come back for that."""
    for _ in range(3):
        await rig.visit("/s/a")
        await rig.rest()
        rig.store.nodes["/s/a"].mtime_ns += 10**9
        await rig.fs.refresh("/s/a")
    assert sorted(rig.asked) == PICTURES


async def test_a_new_version_of_a_picture_gets_a_new_thumbnail(rig: Rig) -> None:
    await rig.visit("/s/a")
    await rig.rest()
    rig.store.file("/s/a/1.jpg", b"y" * 200, mtime=2000)
    await rig.fs.refresh("/s/a")
    assert not await rig.has("/s/a/1.jpg")
    await rig.visit("/s/a")
    await rig.rest()
    assert rig.asked.count("/s/a/1.jpg") == 2
    assert await rig.has("/s/a/1.jpg")


async def test_a_thumbnail_that_the_nas_is_still_making_is_asked_for_again(rig: Rig) -> None:
    def lazy(path: str) -> bytes:
        if rig.asked.count(path) == 1:
            raise NotFound("not yet")
        return PICTURE

    rig.answer = lazy
    await rig.visit("/s/a")
    await rig.rest()
    assert sorted(rig.asked) == sorted(PICTURES * 2)
    assert await rig.has(PICTURES[0])


async def test_the_top_of_a_folder_is_complete_before_its_end_is_begun(rig: Rig) -> None:
    rig.store.folder("/s/c")
    for number in range(60):
        rig.store.file(f"/s/c/{number:02}.jpg", b"x" * 100)

    def answer(path: str) -> bytes:
        if rig.asked.count(path) == 1:
            raise NotFound("not yet", path=path)
        return PICTURE

    rig.answer = answer
    await rig.visit("/s/c")
    await rig.rest()
    assert len(rig.asked) == 120
    top_again = [place for place, path in enumerate(rig.asked) if path == "/s/c/00.jpg"][1]
    assert top_again < rig.asked.index("/s/c/59.jpg")


async def test_what_the_nas_has_none_of_is_asked_for_a_few_times_and_then_left_to_thumbnailers(rig: Rig) -> None:
    def never(path: str) -> bytes:
        raise NotFound("none")

    rig.answer = never
    picture = await rig.find(PICTURES[0])
    assert not rig.feeder.looked_at(picture, ME)
    for _ in range(3):
        await rig.visit("/s/a")
        await rig.rest()
    assert sorted(rig.asked) == sorted(PICTURES * 3)
    assert rig.feeder.looked_at(picture, ME)


async def test_what_is_no_picture_ends_like_none(rig: Rig) -> None:
    rig.answer = lambda path: b"<html>"
    await rig.visit("/s/a")
    await rig.rest()
    await rig.visit("/s/a")
    await rig.rest()
    assert sorted(rig.asked) == PICTURES


async def test_a_nas_that_went_away_ends_it_until_somebody_comes_again(rig: Rig) -> None:
    def away(path: str) -> bytes:
        raise Unreachable("gone")

    rig.answer = away
    await rig.visit("/s/a")
    await rig.rest()
    assert len(rig.asked) <= 2
    rig.answer = lambda path: PICTURE
    await rig.visit("/s/a")
    await rig.rest()
    assert await rig.has(PICTURES[2])


async def test_the_folder_that_somebody_left_is_dropped(rig: Rig) -> None:
    for number in range(40):
        rig.store.file(f"/s/b/{number:02}.jpg", b"x")
    await rig.visit("/s/b")
    await until(lambda: len(rig.asked) >= 4)
    await rig.visit("/s/a")
    await rig.rest()
    assert [await rig.has(path) for path in PICTURES] == [True] * 3
    assert len([path for path in rig.asked if path.startswith("/s/b/")]) < 10


async def test_a_folder_opened_right_after_its_parent_is_only_counted(rig: Rig) -> None:
    now = trio.current_time()
    await rig.visit("/s", opened_at=now)
    await rig.visit("/s/a", opened_at=now + 0.1)
    await rig.rest()
    assert rig.asked == []
    await rig.visit("/s/a", opened_at=now + 5)
    await rig.rest()
    assert sorted(rig.asked) == PICTURES


async def test_what_a_thumbnailer_wants_goes_first(rig: Rig) -> None:
    for number in range(20):
        rig.store.file(f"/s/b/{number:02}.jpg", b"x")
    await rig.visit("/s/b")
    await until(lambda: len(rig.asked) >= 2)
    assert not rig.feeder.looked_at(await rig.find("/s/b/19.jpg"), ME)
    await rig.rest()
    assert rig.asked.index("/s/b/19.jpg") < 6
    assert len(rig.asked) == 20


async def test_another_users_programs_start_nothing(rig: Rig) -> None:
    """The thumbnails would go into the wrong home."""
    other = Caller(1, os.geteuid() + 1)
    await rig.visit("/s/a", caller=other)
    assert not rig.feeder.looked_at(await rig.find(PICTURES[0]), other)
    await rig.rest()
    assert rig.asked == []
