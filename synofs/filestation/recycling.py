"""The recycle bin of a share. There is no API for it: it is the folder `#recycle`, which keeps what was deleted under
the path that it had in the share.

A share may have none, or may let administrators alone look into it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.copying import Copying
from synofs.filestation.listing import Pager
from synofs.filestation.parsing import MAX_PATH_LENGTH, Listing, is_missing, is_name
from synofs.filestation.tasks import PATIENT, OnTaskProgress, Tasks
from synofs.remote import (
    BadAnswer,
    Exists,
    InputOutput,
    InvalidRequest,
    NotADirectory,
    NotFound,
    PermissionDenied,
    RemoteEntry,
    Unsupported,
)

BIN = "#recycle"
MAX_FOLDERS = 1_000_000


class Discarded(NamedTuple):
    """A file, or an empty folder, in the bin."""

    path: str  # where it is
    original: str  # where it was
    entry: RemoteEntry


OnDiscarded = Callable[[Sequence[Discarded]], Awaitable[None]]


def in_bin(path: str) -> str:
    """Where the bin keeps what was at `path`; a path in the bin is left as it is."""
    _, share, *below = path.split("/")
    return path if below[:1] == [BIN] else "/".join(["", share, BIN, *below])


def original_of(path: str) -> str:
    """Where something in the bin was."""
    _, share, *below = path.split("/")
    return "/".join(["", share, *(below[1:] if below[:1] == [BIN] else below)])


class RecycleBin:
    """Lists, restores and removes for good."""

    def __init__(self, caller: Caller, tasks: Tasks, pager: Pager, changes: Changes, copying: Copying) -> None:
        self._caller = caller
        self._tasks = tasks
        self._pager = pager
        self._changes = changes
        self._copying = copying

    async def list(self, below: str, on_found: OnDiscarded) -> None:
        """What was deleted at and below a path of a share. Raises `Unsupported` if the share has no bin."""
        top = await self._there(in_bin(below))
        if top is None:
            return
        waiting = [in_bin(below)]
        looked_into = 0
        while waiting:
            folder = waiting.pop()
            looked_into += 1
            if looked_into > MAX_FOLDERS or len(folder) > MAX_PATH_LENGTH:
                raise BadAnswer("the NAS's recycle bin does not end", path=original_of(in_bin(below)))
            try:
                entries = await self._entries(folder)
            except NotADirectory:  # `below` is a file
                await on_found([Discarded(folder, original_of(folder), top)])
                return
            except NotFound:
                continue  # removed meanwhile
            found = []
            for entry in entries:
                path = posixpath.join(folder, entry.name)
                if entry.is_dir:
                    waiting.append(path)
                else:
                    found.append(Discarded(path, original_of(path), entry))
            if found:
                await on_found(found)

    async def _there(self, path: str) -> RemoteEntry | None:
        """The entry, or None if the bin has none such; raises if there is no bin, or none for us."""
        bin_path = "/".join(path.split("/")[:3])
        try:
            await self._caller.call(calls.list_folder(bin_path, 0, 1), Listing)
        except NotFound as exc:
            raise Unsupported("the share has no recycle bin", path=original_of(bin_path), code=exc.code) from exc
        except PermissionDenied as exc:
            text = "this account may not look into the recycle bin"
            raise PermissionDenied(text, path=original_of(bin_path), code=exc.code) from exc
        return await self._changes.entry(path)

    async def _entries(self, folder: str) -> Sequence[RemoteEntry]:
        entry = await self._changes.entry(folder)
        if entry is None:
            raise NotFound("nothing is there", path=folder)
        if not entry.is_dir:
            raise NotADirectory("this is no folder", path=folder)
        found: list[RemoteEntry] = []

        async def fetch(offset: int, limit: int) -> Listing:
            return await self._caller.call(calls.list_folder(folder, offset, limit), Listing)

        await self._pager.list(fetch, found.extend, folder)
        # A name that is a way out of the bin would have what lies outside of it restored, or removed for good.
        return [entry for entry in found if is_name(entry.name)]

    async def restore(self, path: str, *, overwrite: bool = False, on_progress: OnTaskProgress | None = None) -> str:
        """Put back what was at `path` (or is at this path in the bin), and return where it is then.

        Folders that it was in are made again. Raises `Exists` if something has taken its place.
        """
        source, target = in_bin(path), original_of(path)
        if source.count("/") < 3:
            raise InvalidRequest("name what is to be restored, not the whole share", path=target)
        if await self._there(source) is None:
            raise NotFound("the recycle bin has nothing of this path", path=target)
        await self._make_dirs(posixpath.dirname(target))
        await self._copying.move(source, target, overwrite=overwrite, on_progress=on_progress)
        return target

    async def _make_dirs(self, folder: str) -> None:
        missing = []
        while await self._changes.entry(folder) is None:
            missing.append(folder)
            folder = posixpath.dirname(folder)
        for path in reversed(missing):
            try:
                await self._changes.make_dir(path)
            except Exists:
                continue  # somebody else was quicker

    async def empty(self, below: str, on_progress: OnTaskProgress | None = None) -> int:
        """Remove for good what was deleted at and below a path; returns how many entries of the bin that were."""
        top = in_bin(below)
        entry = await self._there(top)
        if entry is None:
            return 0
        is_whole_bin = top.count("/") == 2
        doomed = [posixpath.join(top, e.name) for e in await self._entries(top)] if is_whole_bin else [top]
        if not doomed:
            return 0

        async def is_done() -> bool:
            return not await self._left(doomed)

        await self._tasks.run(
            calls.delete_start(doomed, top), is_done, standstill_seconds=PATIENT, on_progress=on_progress
        )
        if left := await self._left(doomed):
            raise InputOutput("the NAS did not remove all of it, and does not say why", path=left)
        return len(doomed)

    async def _left(self, paths: Sequence[str]) -> str | None:
        """One of the paths that is still there."""
        for start in range(0, len(paths), 100):
            some = paths[start : start + 100]
            try:
                listing = await self._caller.call(calls.get_info(some), Listing)
            except NotFound:
                continue
            for path, record in zip(some, listing.records, strict=False):
                if not is_missing(record):
                    return record.path or path
        return None
