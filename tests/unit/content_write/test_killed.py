"""The whole write half, killed at any moment: between two calls to the NAS, and between two steps on the disk.

A story is a list of acts. At each moment the cache folder and the NAS are copied. Each copy is then mounted anew and
flushed, and the NAS must show what it showed before the act, or what it shows after it: nothing lost, nothing
twice, nothing under two names, nothing hidden left, no conflict copy.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from synofs.fs.writes import WriteMode
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.crashes import Crashes
from tests.unit.content_write.nas import Nas, Node
from tests.unit.content_write.rig import Rig, running, use_nas_clock
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]

BIG = revealing(200_000)

State = dict[str, bytes]


class WatchedNas(Nas):
    """Each call is two moments."""

    moment: Callable[[], None] = staticmethod(lambda: None)

    async def _call(self, method: str, path: str, length: int = 0) -> None:
        await super()._call(method, path, length)
        self.moment()

    async def _done(self, method: str, path: str) -> None:
        self.moment()
        await super()._done(method, path)


class Moment(NamedTuple):
    folder: Path
    nodes: dict[str, Node]
    act: int


class Moments(Crashes):
    def __init__(self, folder: Path, copies: Path, nas: WatchedNas) -> None:
        super().__init__(folder, copies)
        self._nas = nas
        self.moments: list[Moment] = []
        nas.moment = self._take

    def _take(self) -> None:
        before = len(self.snapshots)
        super()._take()
        if len(self.snapshots) > before:
            folder, act = self.snapshots[-1]
            self.moments.append(Moment(folder, copy.deepcopy(self._nas.nodes), act))


class Story:
    def __init__(self, rig: Rig, moments: Moments) -> None:
        self.rig = rig
        self.moments = moments
        self.states: list[State] = []

    async def act(self, act: Awaitable[object], *changes: tuple[str, bytes | None]) -> object:
        """An act, and what it changes for who looks at the NAS after a flush."""
        before = dict(self.states[-1])
        for path, content in changes:
            if content is None:
                del before[path]
            else:
                before[path] = content
        self.states.append(before)
        result = await act
        self.moments.acts += 1
        return result

    async def write(self, path: str, content: bytes, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> None:
        """open, write, close; each is an act."""
        number = await self.act(self.rig.open(path, flags), (path, b"") if flags & os.O_TRUNC else (path, BIG))
        assert isinstance(number, int)
        after = content if flags & os.O_TRUNC else content + BIG[len(content) :]
        await self.act(self.rig.fs.write(number, 0, content), (path, after))
        await self.act(self.rig.close(number))


async def pause() -> None:
    """Time for uploads."""
    await trio.sleep(5)


async def new_file(story: Story) -> None:
    await story.write("/s/f", b"content")
    await story.act(pause())


async def replaced_file(story: Story) -> None:
    await story.write("/s/old", b"the new content")
    await story.act(pause())


async def replaced_twice(story: Story) -> None:
    await story.write("/s/old", b"first")
    await story.write("/s/old", b"second")
    await story.act(pause())
    await story.write("/s/old", b"third")
    await story.act(pause())


async def few_bytes(story: Story) -> None:
    await story.write("/s/big", b"mine", os.O_RDWR)
    await story.act(pause())


async def appended_while_it_is_sent(story: Story) -> None:
    rig = story.rig
    number = await story.act(rig.open("/s/log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), ("/s/log", b""))
    assert isinstance(number, int)
    content = b""
    for line in (b"one\n", b"two\n", b"three\n"):
        content += line
        await story.act(rig.fs.write(number, 0, line), ("/s/log", content))
        await story.act(rig.fs.fsync(number))
    await story.act(rig.close(number))


async def overwritten_while_it_is_sent(story: Story, path: str = "/s/f") -> None:
    rig = story.rig
    gate = rig.nas.gate("upload")
    first = await story.act(rig.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), (path, b""))
    assert isinstance(first, int)
    await story.act(rig.fs.write(first, 0, b"the first content"), (path, b"the first content"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.close, first)
        await gate.reached.wait()
        second = await story.act(rig.open(path, os.O_WRONLY | os.O_TRUNC), (path, b""))
        assert isinstance(second, int)
        await story.act(rig.fs.write(second, 0, b"second"), (path, b"second"))
        gate.open()
    await story.act(rig.close(second))
    await story.act(pause())


async def replaced_and_overwritten_while_it_is_sent(story: Story) -> None:
    await overwritten_while_it_is_sent(story, "/s/old")


async def removed(story: Story) -> None:
    await story.act(story.rig.unlink("/s/old"), ("/s/old", None))


async def edited_and_removed(story: Story) -> None:
    await story.write("/s/old", b"edited")
    await story.act(story.rig.unlink("/s/old"), ("/s/old", None))
    await story.act(pause())


async def renamed(story: Story) -> None:
    await story.act(story.rig.rename("/s/old", "/s/d/new"), ("/s/old", None), ("/s/d/new", b"old"))


async def renamed_over(story: Story) -> None:
    await story.act(story.rig.rename("/s/old", "/s/target"), ("/s/old", None), ("/s/target", b"old"))


async def new_and_renamed(story: Story) -> None:
    await story.write("/s/f", b"content")
    await story.act(story.rig.rename("/s/f", "/s/d/g"), ("/s/f", None), ("/s/d/g", b"content"))
    await story.act(pause())


async def edited_and_renamed(story: Story) -> None:
    await story.write("/s/old", b"edited")
    await story.act(story.rig.rename("/s/old", "/s/d/g"), ("/s/old", None), ("/s/d/g", b"edited"))
    await story.act(pause())


async def edited_and_renamed_over_an_edited_one(story: Story) -> None:
    await story.write("/s/target", b"edited target")
    await story.write("/s/old", b"edited")
    await story.act(story.rig.rename("/s/old", "/s/target"), ("/s/old", None), ("/s/target", b"edited"))
    await story.act(pause())


async def clean_over_an_edited_one(story: Story) -> None:
    await story.write("/s/target", b"edited target")
    await story.act(story.rig.rename("/s/old", "/s/target"), ("/s/old", None), ("/s/target", b"old"))
    await story.act(pause())


async def saved_by_an_editor(story: Story) -> None:
    """A temporary file, fsync, rename over; and once more."""
    for content in (b"first save", b"second save"):
        number = await story.act(story.rig.open("/s/.tmp", os.O_WRONLY | os.O_CREAT | os.O_EXCL), ("/s/.tmp", b""))
        assert isinstance(number, int)
        await story.act(story.rig.fs.write(number, 0, content), ("/s/.tmp", content))
        await story.act(story.rig.fs.fsync(number))
        await story.act(story.rig.close(number))
        await story.act(story.rig.rename("/s/.tmp", "/s/old"), ("/s/.tmp", None), ("/s/old", content))


async def folder_renamed(story: Story) -> None:
    rig = story.rig
    await story.write("/s/d/new", b"new")
    await story.write("/s/d/inside", b"edited")
    await story.act(
        rig.rename("/s/d", "/s/e"),
        *(("/s/d/new", None), ("/s/d/inside", None), ("/s/e/new", b"new"), ("/s/e/inside", b"edited")),
    )
    await story.act(pause())


async def open_when_it_was_removed(story: Story) -> None:
    rig = story.rig
    number = await story.act(rig.open("/s/old", os.O_RDWR))
    assert isinstance(number, int)
    await story.act(rig.fs.write(number, 0, b"OLD"), ("/s/old", b"OLD"))
    await story.act(rig.unlink("/s/old"), ("/s/old", None))
    await story.act(rig.fs.write(number, 0, b"nobody will see this"))
    await story.act(rig.close(number))


STORIES = [
    new_file,
    replaced_file,
    replaced_twice,
    few_bytes,
    appended_while_it_is_sent,
    overwritten_while_it_is_sent,
    replaced_and_overwritten_while_it_is_sent,
    removed,
    edited_and_removed,
    renamed,
    renamed_over,
    new_and_renamed,
    edited_and_renamed,
    edited_and_renamed_over_an_edited_one,
    clean_over_an_edited_one,
    saved_by_an_editor,
    folder_renamed,
    open_when_it_was_removed,
]


@pytest.mark.parametrize("tell", STORIES, ids=lambda story: story.__name__)
async def test_whenever_it_is_killed_the_nas_shows_the_old_state_or_the_new_one(
    tell: Callable[[Story], Awaitable[None]],
    mode: WriteMode,
    open_area: Areas,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    expect_logs: Callable[..., None],
) -> None:
    nas = WatchedNas("s")
    use_nas_clock(monkeypatch, nas)
    nas.folder("/s/d")
    files = {"/s/old": b"old", "/s/target": b"target", "/s/big": BIG, "/s/d/inside": b"inside"}
    for path, content in files.items():
        nas.file(path, content)
    moments = Moments(tmp_path, tmp_path_factory.mktemp("copies"), nas)
    area = await open_area()
    async with running(Rig(nas, area, mode)) as rig:
        await rig.names()
        story = Story(rig, moments)
        story.states = [files]
        with moments.watch():
            await tell(story)
        nas.moment = lambda: None
        assert await rig.flushed() == story.states[-1]
    assert len(moments.moments) >= 4
    for number, (folder, nodes, act) in enumerate(moments.moments):
        nas.nodes = nodes
        again = await open_area(folder)
        async with running(Rig(nas, again, mode)) as rig:
            shown = await rig.flushed()
            allowed = story.states[act : act + 2]
            assert shown in allowed, (number, act, sorted(shown.items()), nas.calls[-10:])
            await trio.sleep(30)
            assert [path for path in nas.tree() if "/.synofs-" in path] == [], (number, act)
            assert (rig.writes.conflicts, again.still_refused(), again.files) == ([], [], {})
        await open_area.close(again)
    if "is taken back" in caplog.text:
        expect_logs("is taken back")
