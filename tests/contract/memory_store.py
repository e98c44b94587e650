"""A whole `RemoteStore` in memory. It keeps the same promises as the client with a NAS: the same tests say so."""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Sequence
from functools import partial
from typing import BinaryIO

import trio

from synofs.remote import (
    Changed,
    Exists,
    InvalidName,
    NotEmpty,
    NotFound,
    OnData,
    OnListed,
    OnPage,
    OnPageOf,
    OnProgress,
    RemoteEntry,
    RemoteError,
    Rights,
    Space,
)

PIECE_BYTES = 64 * 1024
PAGE_ENTRIES = 1000


class MemoryStore:
    """Paths and what is there: bytes of a file, None for a folder."""

    def __init__(self, *shares: str) -> None:
        self.content: dict[str, bytes | None] = {"/": None} | {f"/{share}": None for share in shares}
        self.mtimes_ns: dict[str, int] = {}

    @property
    def ranges_ignored(self) -> bool:
        return False

    async def list_dir(self, path: str, on_page: OnPage) -> None:
        await trio.lowlevel.checkpoint()
        if self.content.get(path, b"") is not None:
            raise NotFound("no such folder", path=path)
        children = sorted(name for name in self.content if name != "/" and posixpath.dirname(name) == path)
        entries = [self._entry(child) for child in children]
        for start in range(0, len(entries), PAGE_ENTRIES):
            on_page(entries[start : start + PAGE_ENTRIES])

    folders_at_once = 1
    files_at_once = 2

    async def read_files(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        await trio.lowlevel.checkpoint()
        contents = [(self.content.get(path), size) for path, size in files]
        return [data if data is not None and len(data) == size else None for data, size in contents]

    async def list_dirs(self, paths: Sequence[str], on_page: OnPageOf, on_listed: OnListed) -> None:
        for number, path in enumerate(paths):
            try:
                await self.list_dir(path, partial(on_page, number))
            except RemoteError as exc:
                on_listed(number, exc)
            else:
                on_listed(number, None)

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        await trio.lowlevel.checkpoint()
        return [self._entry(path) if path in self.content else None for path in paths]

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        await trio.lowlevel.checkpoint()
        content = self.content.get(path)
        if content is None:
            raise NotFound("no such file", path=path)
        if len(content) != size:
            raise Changed("another size", path=path)
        for start in range(offset, offset + length, PIECE_BYTES):
            await on_data(start, memoryview(content)[start : min(start + PIECE_BYTES, offset + length)])

    def clock_seconds(self) -> float | None:
        return None

    async def spaces(self) -> dict[str, Space]:
        await trio.lowlevel.checkpoint()
        return {path[1:]: Space(10**12, 10**11) for path in self.content if path.count("/") == 1 and path != "/"}

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
        await trio.lowlevel.checkpoint()
        self._need_folder(path)
        if path in self.content and (not overwrite or self.content[path] is None):
            raise Exists("something is there", path=path)
        self.content[path] = source.read(size)
        # The NAS takes milliseconds and keeps whole seconds.
        self.mtimes_ns[path] = (mtime_ns if mtime_ns is not None else time.time_ns()) // 10**9 * 10**9
        if on_progress is not None:
            on_progress(size)

    def begin_upload(self, path: str, *, overwrite: bool) -> Growing:
        return Growing(self, path, overwrite)

    async def make_dir(self, path: str) -> RemoteEntry:
        await trio.lowlevel.checkpoint()
        self._need_folder(path)
        self._need_free(path)
        self.content[path] = None
        return self._entry(path)

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        await trio.lowlevel.checkpoint()
        if "/" in new_name or new_name in ("", ".", ".."):
            raise InvalidName("not a name", path=path)
        target = posixpath.join(posixpath.dirname(path), new_name)
        self._need(path)
        self._need_free(target)
        self._relocate(path, target)
        return self._entry(target)

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        await trio.lowlevel.checkpoint()
        target = f"{dest_dir}/{posixpath.basename(path)}"
        self._need(path)
        self._need_folder(target)
        if not overwrite:
            self._need_free(target)
        self._relocate(path, target)
        return self._entry(target)

    async def remove(self, path: str) -> None:
        await trio.lowlevel.checkpoint()
        if any(posixpath.dirname(other) == path for other in self.content):
            raise NotEmpty("it has entries", path=path)
        self.content.pop(path, None)

    async def check_writable(self, dir_path: str, name: str) -> None:
        await trio.lowlevel.checkpoint()
        self._need_folder(f"{dir_path}/{name}")

    async def md5(self, path: str) -> str:
        await trio.lowlevel.checkpoint()
        content = self.content.get(path)
        if content is None:
            raise NotFound("no such file", path=path)
        return hashlib.md5(content, usedforsecurity=False).hexdigest()

    # ----- inside -----------------------------------------------------------------------------------------------

    def _entry(self, path: str) -> RemoteEntry:
        content = self.content[path]
        mtime_ns = self.mtimes_ns.get(path, 0)
        return RemoteEntry(
            posixpath.basename(path), content is None, len(content or b""), mtime_ns, mtime_ns, mtime_ns, Rights.ALL
        )

    def _need(self, path: str) -> None:
        if path not in self.content:
            raise NotFound("nothing is there", path=path)

    def _need_free(self, path: str) -> None:
        if path in self.content:
            raise Exists("something is there", path=path)

    def _need_folder(self, path: str) -> None:
        if self.content.get(posixpath.dirname(path), b"") is not None:
            raise NotFound("no such folder", path=path)

    def _relocate(self, path: str, target: str) -> None:
        below = [known for known in self.content if known == path or known.startswith(f"{path}/")]
        for known in below:
            moved = target + known.removeprefix(path)
            self.content[moved] = self.content.pop(known)
            if known in self.mtimes_ns:
                self.mtimes_ns[moved] = self.mtimes_ns.pop(known)


class Growing:
    """A file that is sent in parts."""

    def __init__(self, store: MemoryStore, path: str, overwrite: bool) -> None:
        self.path = path
        self.overwrite = overwrite
        self.sent = 0
        self._store = store

    async def append(self, source: BinaryIO, end: int, size: int, mtime_ns: int) -> None:
        await trio.lowlevel.checkpoint()
        assert self.sent < end < size
        self.sent = end

    async def finish(self, source: BinaryIO, size: int, mtime_ns: int) -> None:
        source.seek(0)
        await self._store.upload(self.path, source, size, mtime_ns, overwrite=self.overwrite)
        self.sent = size
