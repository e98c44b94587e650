"""A whole `RemoteStore` in memory, whose calls can be met by whatever happens to calls.

`nas.meet(method, ...)` lets something happen before or after the next call (or calls) of a method: an error, another
client's change, a pause until the test goes on. "After" means that the NAS has done it and the answer is lost.
Time is trio's, in whole seconds, as a NAS keeps it.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import BinaryIO, NamedTuple

import trio

from synofs.remote import (
    BeginningLost,
    Changed,
    Exists,
    Fingerprint,
    IsADirectory,
    NotADirectory,
    NotEmpty,
    NotFound,
    OnData,
    OnPage,
    OnProgress,
    RemoteEntry,
    Rights,
    Space,
)

SECOND = 10**9
EPOCH = 1_700_000_000 * SECOND
PIECE_BYTES = 64 * 1024


@dataclass
class Node:
    content: bytes | None  # None: a folder
    mtime_ns: int
    ctime_ns: int
    rights: Rights = Rights.ALL

    def entry(self, name: str) -> RemoteEntry:
        size = len(self.content or b"")
        return RemoteEntry(name, self.content is None, size, self.mtime_ns, self.mtime_ns, self.ctime_ns, self.rights)


class Call(NamedTuple):
    method: str
    path: str  # of get_entries: the paths, separated by spaces
    length: int = 0


Happening = Callable[[], None] | Callable[[], Awaitable[None]] | Exception


@dataclass
class Meeting:
    method: str
    happening: Happening
    path: str | None
    after: bool
    times: int
    skip: int
    met: int = 0


@dataclass
class Gate:
    """Holds a call until it is opened."""

    reached: trio.Event = field(default_factory=trio.Event)
    opened: trio.Event = field(default_factory=trio.Event)

    async def __call__(self) -> None:
        self.reached.set()
        await self.opened.wait()

    def open(self) -> None:
        self.opened.set()


class Nas:
    ranges_ignored = False
    folders_at_once = files_at_once = 1

    def __init__(self, *shares: str) -> None:
        self.nodes: dict[str, Node] = {"/": Node(None, 0, 0, Rights.READ | Rights.EXECUTE)}
        self.calls: list[Call] = []
        self.page_entries = 1000
        self.keeps_mtimes = True
        self.ignores_case = False
        self.free_bytes = 10**12
        self.slices = ""  # or what the NAS knows of them: "nothing of slices", "the first size only"
        self._meetings: list[Meeting] = []
        for share in shares:
            self.folder(f"/{share}")

    # ----- what a test, or another client, does ---------------------------------------------------------------------

    def now_ns(self) -> int:
        return int(trio.current_time()) * SECOND + EPOCH

    def folder(self, path: str) -> None:
        self.nodes[path] = Node(None, self._time(), self._time())

    def file(self, path: str, content: bytes = b"", *, mtime: int = 1000) -> None:
        self.nodes[path] = Node(content, mtime * SECOND, mtime * SECOND)

    def write(self, path: str, content: bytes) -> None:
        """Another client's change, now."""
        self.nodes[path] = Node(content, self._time(), self._time())

    def delete(self, path: str) -> None:
        for known in self._below(path):
            del self.nodes[known]

    def _time(self) -> int:
        try:
            return self.now_ns()
        except RuntimeError:  # outside trio: a fixture that builds the tree
            return 1000 * SECOND

    def tree(self) -> dict[str, bytes | None]:
        """All that is there, apart from the root."""
        return {path: node.content for path, node in sorted(self.nodes.items()) if path != "/"}

    def files(self) -> dict[str, bytes]:
        return {path: content for path, content in self.tree().items() if content is not None}

    def version(self, path: str) -> Fingerprint:
        return self.nodes[path].entry("").fingerprint

    def meet(
        self,
        method: str,
        happening: Happening,
        *,
        path: str | None = None,
        after: bool = False,
        times: int = 1,
        skip: int = 0,
    ) -> Meeting:
        meeting = Meeting(method, happening, path, after, times, skip)
        self._meetings.append(meeting)
        return meeting

    def meet_nothing_more(self) -> None:
        self._meetings.clear()

    def gate(self, method: str, *, path: str | None = None, after: bool = False, skip: int = 0) -> Gate:
        gate = Gate()
        self.meet(method, gate, path=path, after=after, skip=skip)
        return gate

    def count(self, method: str) -> int:
        return len(self.asked(method))

    def asked(self, method: str) -> list[str]:
        return [call.path for call in self.calls if call.method == method]

    def methods(self) -> list[str]:
        return [call.method for call in self.calls]

    # ----- inside ---------------------------------------------------------------------------------------------------

    async def _call(self, method: str, path: str, length: int = 0) -> None:
        self.calls.append(Call(method, path, length))
        await trio.lowlevel.checkpoint()
        await self._happen(method, path, after=False)

    async def _done(self, method: str, path: str) -> None:
        await self._happen(method, path, after=True)

    async def _happen(self, method: str, path: str, *, after: bool) -> None:
        for meeting in list(self._meetings):
            if (meeting.method, meeting.after) != (method, after) or meeting.path not in (None, path):
                continue
            if meeting.skip:
                meeting.skip -= 1
                continue
            meeting.met += 1
            if meeting.met >= meeting.times:
                self._meetings.remove(meeting)
            if isinstance(meeting.happening, Exception):
                raise meeting.happening
            result = meeting.happening()
            if result is not None:
                await result

    def _below(self, path: str) -> list[str]:
        return [known for known in self.nodes if known == path or known.startswith(path + "/")]

    def _find(self, path: str) -> str | None:
        """The name under which it is there."""
        if path in self.nodes or not self.ignores_case:
            return path if path in self.nodes else None
        return next((known for known in self.nodes if known.casefold() == path.casefold()), None)

    def _need(self, path: str) -> Node:
        if path not in self.nodes:
            raise NotFound("nothing is there", path=path)
        return self.nodes[path]

    def _need_folder(self, path: str) -> None:
        parent = self.nodes.get(posixpath.dirname(path))
        if parent is None:
            raise NotFound("no such folder", path=path)
        if parent.content is not None:
            raise NotADirectory("a file", path=path)

    def _relocate(self, path: str, target: str) -> None:
        for known in self._below(path):
            node = self.nodes.pop(known)
            node.ctime_ns = self.now_ns()
            self.nodes[target + known.removeprefix(path)] = node

    # ----- RemoteStore ------------------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        await self._call("list_dir", path)
        if self._need(path).content is not None:
            raise NotADirectory("a file", path=path)
        prefix = path.rstrip("/") + "/"
        entries = [
            node.entry(known.removeprefix(prefix))
            for known, node in sorted(self.nodes.items())
            if known != "/" and posixpath.dirname(known) == path
        ]
        for start in range(0, max(1, len(entries)), self.page_entries):
            on_page(entries[start : start + self.page_entries])
            await self._happen("page", path, after=True)
        await self._done("list_dir", path)

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        subject = " ".join(paths)
        await self._call("get_entries", subject)
        found = [self.nodes.get(path) for path in paths]
        entries = [
            node.entry(posixpath.basename(path)) if node is not None else None
            for path, node in zip(paths, found, strict=True)
        ]
        await self._done("get_entries", subject)
        return entries

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        await self._call("read_range", path, length)
        content = self._need(path).content
        if content is None:
            raise IsADirectory("a folder", path=path)
        if len(content) != size:
            raise Changed("another size", path=path)
        for start in range(offset, offset + length, PIECE_BYTES):
            await on_data(start, memoryview(content)[start : min(start + PIECE_BYTES, offset + length)])

    def clock_seconds(self) -> float | None:
        return self.now_ns() / SECOND

    async def spaces(self) -> dict[str, Space]:
        await self._call("spaces", "/")
        space = Space(10**13, self.free_bytes)
        return {path[1:]: space for path in self.nodes if path.count("/") == 1 and path != "/"}

    async def upload(
        self,
        path: str,
        source: BinaryIO,
        size: int,
        mtime_ns: int | None,
        *,
        overwrite: bool,
        on_progress: OnProgress | None = None,
    ) -> None:
        await self._call("upload", path, size)
        self.put(path, source, size, mtime_ns, overwrite=overwrite)
        await self._done("upload", path)

    def put(self, path: str, source: BinaryIO, size: int, mtime_ns: int | None, *, overwrite: bool) -> None:
        self._need_folder(path)
        there = self.nodes.get(path)
        if there is not None and (not overwrite or there.content is None):
            raise Exists("something is there", path=path)
        content = source.read(size)
        assert len(content) == size
        mtime = self.now_ns() if mtime_ns is None or not self.keeps_mtimes else mtime_ns // SECOND * SECOND
        self.nodes[path] = Node(content, mtime, self.now_ns())

    def begin_upload(self, path: str, *, overwrite: bool) -> Growing:
        return Growing(self, path, overwrite)

    async def make_dir(self, path: str) -> RemoteEntry:
        await self._call("make_dir", path)
        self._need_folder(path)
        if self._find(path) is not None:
            raise Exists("something is there", path=path)
        self.folder(path)
        await self._done("make_dir", path)
        return self.nodes[path].entry(posixpath.basename(path))

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        await self._call("rename", path)
        self._need(path)
        target = posixpath.join(posixpath.dirname(path), new_name)
        if self._find(target) is not None:
            raise Exists("something is there", path=path)
        self._relocate(path, target)
        await self._done("rename", path)
        return self.nodes[target].entry(new_name)

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        await self._call("move", path)
        target = f"{dest_dir}/{posixpath.basename(path)}"
        self._need(path)
        self._need_folder(target)
        if target in self.nodes and target != path:
            if not overwrite or self.nodes[target].content is None:
                raise Exists("something is there", path=target)
            del self.nodes[target]
        self._relocate(path, target)
        await self._done("move", path)
        return self._need(target).entry(posixpath.basename(path))

    async def remove(self, path: str) -> None:
        await self._call("remove", path)
        if len(self._below(path)) > 1:
            raise NotEmpty("it has entries", path=path)
        self.nodes.pop(path, None)
        await self._done("remove", path)

    async def check_writable(self, dir_path: str, name: str) -> None:
        await self._call("check_writable", dir_path)
        self._need(dir_path)

    async def md5(self, path: str) -> str:
        await self._call("md5", path)
        content = self._need(path).content
        if content is None:
            raise IsADirectory("a folder", path=path)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()


class Growing:
    """A file that comes in slices. What it consists of is what was sent, whatever the source says later."""

    def __init__(self, nas: Nas, path: str, overwrite: bool) -> None:
        self.path = path
        self.overwrite = overwrite
        self._nas = nas
        self._bytes = bytearray()
        self._usable = True
        self._first_size: int | None = None

    @property
    def sent(self) -> int:
        return len(self._bytes)

    async def append(self, source: BinaryIO, end: int, size: int, mtime_ns: int) -> None:
        assert self.sent < end < size
        self._take(source, end)
        await self._nas._call("append", self.path, end)
        if self._nas.slices == "nothing of slices":
            self._nas.put(self.path, BytesIO(self._bytes), len(self._bytes), mtime_ns, overwrite=self.overwrite)
            raise BeginningLost("it does not go on", path=self.path)
        self._first_size = self._first_size or size
        await self._nas._done("append", self.path)
        self._usable = True

    async def finish(self, source: BinaryIO, size: int, mtime_ns: int) -> None:
        before = self.sent
        self._take(source, size)
        assert self.sent > before
        await self._nas._call("finish", self.path, size - before)
        if self._nas.slices == "the first size only" and size != self._first_size:
            raise BeginningLost("another size", path=self.path)
        whole = BytesIO(self._bytes)
        self._nas.put(self.path, whole, size, mtime_ns, overwrite=self.overwrite)
        await self._nas._done("finish", self.path)

    def _take(self, source: BinaryIO, end: int) -> None:
        if not self._usable:
            raise BeginningLost("broken off before", path=self.path)
        self._usable = False
        source.seek(self.sent)
        wanted = end - self.sent
        data = source.read(wanted)
        assert len(data) == wanted
        self._bytes += data
