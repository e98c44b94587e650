"""A NAS in memory for unit tests: `synofs.remote.RemoteStore`'s reading half over a dictionary.

It counts what it is asked, it can be stopped half-way through a call (`gate`), and it can be told to fail
(`fail`). Time does not pass in it: with trio's `autojump_clock` a test decides what happens when.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import trio

from synofs.remote import (
    Changed,
    Fingerprint,
    NotADirectory,
    NotFound,
    OnData,
    OnListed,
    OnPage,
    OnPageOf,
    RemoteEntry,
    Rights,
    ShortBody,
    Space,
)

SECOND = 1_000_000_000


@dataclass
class Node:
    """A file (`content`) or a folder (None)."""

    content: bytes | None
    mtime_ns: int
    rights: Rights
    size: int | None = None  # of a file that says another size than it has
    ctime_ns: int | None = None  # as mtime_ns unless told otherwise

    def entry(self, name: str) -> RemoteEntry:
        size = self.size if self.size is not None else len(self.content or b"")
        ctime_ns = self.mtime_ns if self.ctime_ns is None else self.ctime_ns
        return RemoteEntry(name, self.content is None, size, self.mtime_ns, self.mtime_ns, ctime_ns, self.rights)


class Call(NamedTuple):
    method: str
    subject: str  # the path; of get_entries: the paths, separated by spaces
    offset: int = 0
    length: int = 0


@dataclass
class Gate:
    """Calls that match stop here until it is opened."""

    method: str
    subject: str | None
    skip: int = 0  # so many matching calls pass
    reached: trio.Event = field(default_factory=trio.Event)
    waiting: int = 0
    _opened: trio.Event = field(default_factory=trio.Event)

    async def pass_through(self) -> None:
        if self.skip > 0:
            self.skip -= 1
            return
        self.waiting += 1
        self.reached.set()
        await self._opened.wait()

    def open(self) -> None:
        self._opened.set()


class MemoryStore:
    """Where a call can be stopped: `list_dir` before it looks, `page` before each page is handed over,
    `get_entries` before it looks, `answer` after it has looked, `read_range` before it looks, `piece` before each
    piece is handed over, `end` after the last one, `space`.
    """

    def __init__(self, page_entries: int = 1000, piece_bytes: int = 64 * 1024) -> None:
        self.nodes: dict[str, Node] = {"/": Node(None, 0, Rights.READ | Rights.EXECUTE)}
        self.page_entries = page_entries
        self.piece_bytes = piece_bytes
        self.calls: list[Call] = []
        self.bytes_sent = 0
        self.downloads_ended = 0  # of their own accord
        self.folders_at_once = 1
        self.files_at_once = 1
        self.ranges_ignored = False
        self.ignores_ranges = False
        self.piece_seconds = 0.0  # how long each piece takes
        self.list_seconds = 0.0  # how long a listing takes
        self.answer_seconds = 0.0  # how long a getinfo takes
        self.clock: float | None = 2_000_000.0  # what the NAS's clock says; files are older unless told otherwise
        self.cut_after: int | None = None  # the next downloads end after so many bytes
        self.extra_names: dict[str, list[RemoteEntry]] = {}  # what a listing shows in addition, whatever it is
        self.capacities: dict[str, Space | None] = {}
        self._gates: list[Gate] = []
        self._failures: list[tuple[str, str | None, Exception]] = []

    # ----- what a test does to the NAS ----------------------------------------------------------------------------

    def folder(self, path: str, *, mtime: int = 1000, rights: Rights = Rights.ALL) -> None:
        self.nodes[path] = Node(None, mtime * SECOND, rights)

    def file(self, path: str, content: bytes = b"", *, mtime: int = 1000, rights: Rights = Rights.ALL) -> None:
        self.nodes[path] = Node(content, mtime * SECOND, rights)

    def files(self, folder: str, count: int) -> list[bytes]:
        names = [f"{number:06}" for number in range(count)]
        for name in names:
            self.file(f"{folder}/{name}")
        return [name.encode() for name in names]

    def remove(self, path: str) -> None:
        """With everything below."""
        for known in [known for known in self.nodes if known == path or known.startswith(path + "/")]:
            del self.nodes[known]

    def version(self, path: str) -> Fingerprint:
        return self.nodes[path].entry("").fingerprint

    def gate(self, method: str, subject: str | None = None, skip: int = 0) -> Gate:
        gate = Gate(method, subject, skip)
        self._gates.append(gate)
        return gate

    @contextmanager
    def fail(self, method: str, error: Exception, subject: str | None = None) -> Iterator[None]:
        """Matching calls fail inside the block: those of `list_dir` before the first page, those of `page` before
        each page that no gate holds back."""
        failure = (method, subject, error)
        self._failures.append(failure)
        try:
            yield
        finally:
            self._failures.remove(failure)

    def count(self, method: str, subject: str | None = None) -> int:
        return len(self.asked(method, subject))

    def asked(self, method: str, subject: str | None = None) -> list[Call]:
        return [call for call in self.calls if call.method == method and (subject is None or call.subject == subject)]

    def reset(self) -> None:
        self.calls.clear()
        self.bytes_sent = 0

    async def _point(self, name: str, subject: str) -> None:
        await trio.lowlevel.checkpoint()
        for gate in [g for g in self._gates if g.method == name and g.subject in (None, subject)]:
            await gate.pass_through()
        for method, failing, error in self._failures:
            if method == name and failing in (None, subject):
                raise error

    # ----- RemoteStore --------------------------------------------------------------------------------------------

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        self.calls.append(Call("list_dir", path))
        await self._point("list_dir", path)
        await trio.sleep(self.list_seconds)
        node = self.nodes.get(path)
        if node is None:
            raise NotFound("no such folder", path=path)
        if node.content is not None:
            raise NotADirectory("a file", path=path)
        prefix = path.rstrip("/") + "/"
        entries = [
            child.entry(known.removeprefix(prefix))
            for known, child in self.nodes.items()
            if known.startswith(prefix) and known != "/" and "/" not in known.removeprefix(prefix)
        ]
        entries += self.extra_names.get(path, [])
        for start in range(0, max(1, len(entries)), self.page_entries):
            await self._point("page", path)
            on_page(entries[start : start + self.page_entries])

    async def read_files(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        self.calls.append(Call("read_files", " ".join(path for path, _ in files)))
        await trio.sleep(self.piece_seconds)
        contents = [(self.nodes[path].content if path in self.nodes else None, size) for path, size in files]
        return [data if data is not None and len(data) == size else None for data, size in contents]

    async def list_dirs(self, paths: Sequence[str], on_page: OnPageOf, on_listed: OnListed) -> None:
        self.calls.append(Call("list_dirs", " ".join(paths)))
        for number, path in enumerate(paths):
            try:
                await self.list_dir(path, partial(on_page, number))
            except Exception as exc:
                on_listed(number, exc)
            else:
                on_listed(number, None)

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        subject = " ".join(paths)
        self.calls.append(Call("get_entries", subject))
        await self._point("get_entries", subject)
        await trio.sleep(self.answer_seconds)
        found = [self.nodes.get(path) for path in paths]
        entries = [
            node.entry(path.rpartition("/")[2]) if node is not None else None
            for path, node in zip(paths, found, strict=True)
        ]
        await self._point("answer", subject)
        return entries

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        self.calls.append(Call("read_range", path, offset, length))
        await self._point("read_range", path)
        node = self.nodes.get(path)
        if node is None or node.content is None:
            raise NotFound("no such file", path=path)
        if len(node.content) != size:
            raise Changed("another size", path=path)
        assert 0 <= offset <= offset + length <= size, (offset, length, size)
        if self.ignores_ranges:
            self.ranges_ignored = True
        position = offset
        while position < offset + length:
            await self._point("piece", path)
            await trio.sleep(self.piece_seconds)
            if self.cut_after is not None and position - offset >= self.cut_after:
                raise ShortBody("cut", path=path)
            # A file that is replaced by another goes on being read, as on a NAS that has it open.
            piece = node.content[position : min(position + self.piece_bytes, offset + length)]
            self.bytes_sent += len(piece)
            await on_data(position, memoryview(piece))
            position += len(piece)
        await self._point("end", path)
        self.downloads_ended += 1

    def clock_seconds(self) -> float | None:
        return self.clock

    async def spaces(self) -> dict[str, Space]:
        self.calls.append(Call("spaces", "/"))
        await self._point("spaces", "/")
        return {name: space for name, space in self.capacities.items() if space is not None}


class RecordingNotifier:
    """`fs.listing.Notifier` that writes down what the kernel would be told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def content_changed(self, inode) -> None:
        self.told.append(("content", inode.path()))

    def attributes_before_answer(self, inode) -> None:
        pass

    def attributes_changed(self, inode) -> None:
        self.told.append(("attributes", inode.path()))

    def entry_appeared(self, parent, name: bytes) -> None:
        self.told.append(("appeared", f"{parent.path().rstrip('/')}/{name.decode()}"))

    def entry_gone(self, parent, inode) -> None:
        self.told.append(("gone", inode.path()))
