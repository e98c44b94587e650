"""Random work over a NAS whose answers are lost and that does some things late: in the end everything is in its place,
in sight, and can be removed."""

from __future__ import annotations

import itertools
import logging
import os
import posixpath
import random
from collections.abc import Callable

import pytest
import trio

from synofs.content.errors import ContentError, LocalDiskFull
from synofs.fs.errors import FilesystemError
from synofs.fs.writes import WriteMode
from synofs.remote import RemoteError
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.rig import Rig, use_nas_clock
from tests.unit.content_write.unreliable import LATEST_SECONDS, UnreliableNas
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

FOLDERS = ("/s/a", "/s/b", "/s/a/c")
STEPS = 60
MOST_FILES = 8


class Program:
    """Knows what it must find. What a failed call has left in doubt it leaves alone."""

    def __init__(self, rig: Rig, rng: random.Random, folders: tuple[str, ...]) -> None:
        self.rig = rig
        self.rng = rng
        self.folders = folders
        self.numbers = itertools.count(1)
        self.files: dict[str, bytes] = {}
        self.doubts: dict[str, set[bytes | None]] = {}
        self.moved: list[tuple[str, str, bytes]] = []
        self.failures = 0
        self.wrong: list[str] = []

    async def run(self, steps: int) -> None:
        verbs = {
            self.create: 5, self.overwrite: 3, self.rename: 4, self.rename_over: 4, self.unlink: 2,
            self.unlink_open: 1, self.list: 2, self.read: 1,
        }  # fmt: skip
        for _ in range(steps):
            (verb,) = self.rng.choices(list(verbs), list(verbs.values()))
            if len(self.files) >= MOST_FILES and verb == self.create:
                verb = self.rename_over
            self.rig.nas.told.append(f"{trio.current_time():.2f} -- {verb.__name__}")
            await verb()
            await trio.sleep(self.rng.choice((0.0, 0.1, 1.0, 3.0)))

    def new_path(self) -> str:
        return f"{self.rng.choice(self.folders)}/f{next(self.numbers)}"

    def new_content(self) -> bytes:
        return b"content %d" % next(self.numbers)

    def some(self) -> str | None:
        return self.rng.choice(sorted(self.files)) if self.files else None

    async def change(self, doubts: dict[str, set[bytes | None]], act: Callable, *arguments: object) -> bool:
        self.rig.nas.told.append(f"   {arguments}")
        known = {path: self.files.pop(path) for path in doubts if path in self.files}
        try:
            await act(*arguments)
        except (FilesystemError, RemoteError, ContentError, OSError) as error:
            self.rig.nas.told.append(f"   failed: {error!r}")
            self.failures += 1
            self.doubts |= doubts
            return False
        self.files |= known
        return True

    async def create(self) -> None:
        path, content = self.new_path(), self.new_content()
        if await self.change({path: {None, b"", content}}, self.rig.create, path, content):
            self.files[path] = content

    async def overwrite(self) -> None:
        if path := self.some():
            content = self.new_content()
            if await self.change({path: {self.files[path], b"", content}}, self.rig.create, path, content):
                self.files[path] = content

    async def rename(self) -> None:
        if old := self.some():
            await self._rename(old, self.new_path())

    async def rename_over(self) -> None:
        old, new = self.some(), self.some()
        if old and new and old != new:
            await self._rename(old, new)

    async def _rename(self, old: str, new: str) -> None:
        content, replaced = self.files[old], self.files.get(new)
        doubts = {old: {None, content}, new: {replaced, content}}
        if await self.change(doubts, self.rig.rename, old, new):
            self.files[new] = self.files.pop(old)
        else:
            self.moved.append((old, new, content))

    async def unlink(self) -> None:
        if (path := self.some()) and await self.change({path: {None, self.files[path]}}, self.rig.unlink, path):
            del self.files[path]

    async def unlink_open(self) -> None:
        if path := self.some():
            content = self.files[path]

            async def act() -> None:
                number = await self.rig.open(path)
                try:
                    await self.rig.unlink(path)
                    if (found := await self.rig.read_all(number)) != content:
                        self.wrong.append(f"{path}: {found!r} is read after its unlink, not {content!r}")
                finally:
                    await self.rig.close(number)

            if await self.change({path: {None, content}}, act):
                del self.files[path]

    async def list(self) -> None:
        folder = self.rng.choice(self.folders)
        try:
            if self.rng.random() < 0.5:
                await self.rig.fs.refresh(folder)
            names = set(await self.rig.names(folder))
        except (FilesystemError, RemoteError):
            return
        here = {posixpath.basename(path) for path in self.files if posixpath.dirname(path) == folder}
        doubtful = {posixpath.basename(path) for path in self.doubts if posixpath.dirname(path) == folder}
        if here - names:
            self.wrong.append(f"{folder} lacks {here - names}")
        if names - here - doubtful - {"c"}:
            self.wrong.append(f"{folder} has {names - here - doubtful}")

    async def read(self) -> None:
        if path := self.some():
            try:
                found = await self.rig.read(path)
            except (FilesystemError, RemoteError, ContentError) as error:
                if "NoEntry" in repr(error):
                    self.wrong.append(f"{path}: {error!r}")
                return
            if found != self.files[path]:
                self.wrong.append(f"{path}: {found!r} is read, not {self.files[path]!r}")

    def judge(self, found: dict[str, bytes]) -> None:
        for path, content in self.files.items():
            if found.get(path) != content:
                self.wrong.append(f"{path}: {found.get(path)!r} on the NAS, not {content!r}")
        for path, states in self.doubts.items():
            if found.get(path) not in states:
                self.wrong.append(f"{path}: {found.get(path)!r} on the NAS, none of {states}")
        for old, new, content in self.moved:
            if content not in (found.get(old), found.get(new)):
                self.wrong.append(f"{old}: its content is neither there nor at {new}")
        for path in found.keys() - self.files.keys() - self.doubts.keys():
            self.wrong.append(f"{path}: {found[path]!r} is there, and nobody made it or it was removed")


@pytest.mark.parametrize("full_disk", [False, True], ids=["", "full disk"])
@pytest.mark.parametrize("mode", list(WriteMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SYNOFS_SEEDS", "5"))))
async def test_whatever_is_lost_or_late_every_file_is_in_its_place_and_in_sight_in_the_end(
    seed: int,
    mode: WriteMode,
    full_disk: bool,
    open_area: Areas,
    inline_disk: None,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "synofs")  # what is tried again is told as a warning
    nas = UnreliableNas("s")
    use_nas_clock(monkeypatch, nas)
    for folder in FOLDERS:
        nas.folder(folder)
    rng = random.Random(f"{seed} {mode.value} {full_disk}")
    area = await open_area()
    rig = Rig(nas, area, mode)
    await rig.start(nursery)
    nas.be_unreliable(f"{seed} {mode.value}", nursery)
    if full_disk:
        for name in ("begin_move", "moved", "delete", "add_leftover", "keep_promises", "drop_move"):
            monkeypatch.setattr(area.journal, name, at_times_full(nas, rng, getattr(area.journal, name)))
    program = Program(rig, rng, FOLDERS)
    await program.run(STEPS)
    nas.calm = True
    await trio.sleep(LATEST_SECONDS)
    found = await rig.flushed()
    hidden = [path for path in nas.files() if "-mv/" in path]
    await rig.fs.refresh("/s")
    shown = {f"{folder}/{name}" for folder in FOLDERS for name in await rig.names(folder)} - set(FOLDERS)
    program.judge(found)
    if hidden:
        program.wrong.append(f"out of sight: {hidden}")
    if shown != found.keys():
        program.wrong.append(f"shown {shown - found.keys()}, not shown {found.keys() - shown}")
    for folder in sorted(FOLDERS, reverse=True):
        try:
            for name in await rig.names(folder):
                if f"{folder}/{name}" not in FOLDERS:
                    await rig.unlink(f"{folder}/{name}")
            await rig.rmdir(folder)
        except (FilesystemError, RemoteError) as error:
            program.wrong.append(f"rm -r {folder}: {error!r}")
    await trio.sleep(60)
    if nas.tree() != {"/s": None}:
        program.wrong.append(f"left: {nas.tree()}")
    assert not program.wrong, "\n".join([*program.wrong, *nas.told])


def at_times_full(nas: UnreliableNas, rng: random.Random, work: Callable) -> Callable:
    def perhaps(*arguments: object) -> object:
        if not nas.calm and rng.random() < 0.05:
            nas.told.append(f"   full disk: {work.__name__}{arguments}")
            raise LocalDiskFull("full")
        return work(*arguments)

    return perhaps
