"""The whole write half over a NAS in memory, used by path as a program would use it."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest
import trio

from synofs.content import stagedfile
from synofs.content.diskcache import DiskCache
from synofs.content.reader import Reader, ReaderOptions
from synofs.content.staging import StagingArea
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from synofs.fs.writes import WriteMode, WriteOptions, Writes
from tests.unit.content_write.nas import Nas
from tests.unit.memory_store import RecordingNotifier

CLIENT = "me"
HIDDEN = f".synofs-{CLIENT}"
LINGER = 0.5
PATIENCE = 30.0


class Rig:
    """`/s` is the share that is mounted. Paths are the NAS's."""

    def __init__(
        self, nas: Nas, area: StagingArea, mode: WriteMode, disk: DiskCache | None = None, **options: object
    ) -> None:
        self.nas = nas
        self.area = area
        self.mode = mode
        self.notifier = RecordingNotifier()
        self.reader = Reader(nas, ReaderOptions(), disk)
        write_options = WriteOptions(
            client=CLIENT,
            hostname="ann-laptop",
            mode=mode,
            linger_seconds=LINGER,
            patience_seconds=PATIENCE,
            **options,  # type: ignore[arg-type]
        )
        self.fs = Filesystem(
            nas, FsOptions(read_only=False, share="s"), self.reader, self.notifier, area, write_options
        )

    @property
    def writes(self) -> Writes:
        assert self.fs.writes is not None
        return self.fs.writes

    async def start(self, nursery: trio.Nursery) -> None:
        await nursery.start(self.reader.run)
        await nursery.start(self.fs.run)

    # ----- by path --------------------------------------------------------------------------------------------------

    async def find(self, path: str) -> Inode | None:
        inode = self.fs.inodes.root
        for name in path.removeprefix("/s").strip("/").encode("utf-8", "surrogateescape").split(b"/"):
            if not name:
                break
            found = await self.fs.lookup(inode, name)
            if found is None:
                return None
            if not found.lookups:
                self.fs.inodes.count_lookup(found)
            inode = found
        return inode

    async def at(self, path: str) -> Inode:
        inode = await self.find(path)
        if inode is None:
            raise FileNotFoundError(path)
        return inode

    async def _place(self, path: str) -> tuple[Inode, bytes]:
        folder, name = posixpath.split(path)
        return await self.at(folder), name.encode("utf-8", "surrogateescape")

    async def open(self, path: str, flags: int = os.O_RDONLY) -> int:
        """open(2): a create call if the name is not there and flags say so."""
        inode = await self.find(path)
        if inode is None and flags & os.O_CREAT:
            parent, name = await self._place(path)
            inode, number = await self.fs.create(parent, name, flags)
            self.fs.inodes.count_lookup(inode)
            return number
        number, _ = await self.fs.open(await self.at(path), flags)
        return number

    async def close(self, number: int) -> None:
        try:
            await self.fs.flush(number)
        finally:
            await self.fs.release(number)

    async def create(self, path: str, content: bytes = b"") -> None:
        """`cp` of a file."""
        number = await self.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        if content:
            await self.fs.write(number, 0, content)
        await self.close(number)

    async def edit(self, path: str, offset: int, content: bytes) -> None:
        """Some bytes of a file."""
        number = await self.open(path, os.O_RDWR)
        await self.fs.write(number, offset, content)
        await self.close(number)

    async def read(self, path: str) -> bytes:
        number = await self.open(path)
        content = await self.read_all(number)
        await self.close(number)
        return content

    async def read_all(self, number: int) -> bytes:
        parts = []
        while part := bytes(await self.fs.read(number, sum(map(len, parts)), 1 << 17)):
            parts.append(part)
        return b"".join(parts)

    async def mkdir(self, path: str) -> None:
        self.fs.inodes.count_lookup(await self.fs.mkdir(*await self._place(path)))

    async def unlink(self, path: str) -> None:
        await self.fs.unlink(*await self._place(path))

    async def rmdir(self, path: str) -> None:
        await self.fs.rmdir(*await self._place(path))

    async def rename(self, source: str, dest: str, *, replace: bool = True) -> None:
        await self.fs.rename(*await self._place(source), *await self._place(dest), replace=replace)

    async def truncate(self, path: str, size: int) -> None:
        await self.fs.setattr(await self.at(path), size=size, mtime_ns=None, number=None)

    async def utimens(self, path: str, mtime_ns: int) -> None:
        await self.fs.setattr(await self.at(path), size=None, mtime_ns=mtime_ns, number=None)

    async def names(self, path: str = "/s") -> list[str]:
        number = await self.fs.opendir(await self.at(path))
        names: list[str] = []
        while True:
            directory, entries = await self.fs.readdir(number, len(names))
            fresh = entries[len(names) :]
            if not fresh:
                break
            names += [inode.name.decode() for inode in fresh if not inode.gone and inode.parent is directory.inode]
        await self.fs.releasedir(number)
        return sorted(names)

    # ----- what is on the NAS -----------------------------------------------------------------------------------------

    async def flushed(self) -> dict[str, bytes]:
        """What other clients see when everything was sent."""
        await self.writes.drain()
        await self.area.flush()
        return self.visible()

    def visible(self) -> dict[str, bytes]:
        return {path: content for path, content in self.nas.files().items() if "/.synofs-" not in path}

    def uploads(self) -> list[str]:
        """The names under which files were uploaded, whether beside or over another."""
        return [posixpath.basename(path) for path in self.nas.asked("upload")]


def use_nas_clock(monkeypatch: pytest.MonkeyPatch, nas: Nas) -> None:
    """The time of a write is of the same clock as the NAS's: a test decides which second it is."""
    monkeypatch.setattr(stagedfile, "time", SimpleNamespace(time_ns=nas.now_ns))


@asynccontextmanager
async def running(rig: Rig):
    """A mount that ends: nothing is sent after the block."""
    async with trio.open_nursery() as nursery:
        await rig.start(nursery)
        yield rig
        nursery.cancel_scope.cancel()


StartRig = Callable[..., Rig]
