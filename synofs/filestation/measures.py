"""What the NAS counts and computes by itself: sizes of folders, MD5 of files.

Both are tasks that change nothing. The NAS loses some of those that end before anyone can ask, so a lost one is
started again, and in the end counted by hand: it is the small ones that are lost.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import NamedTuple

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.listing import Pager
from synofs.filestation.parsing import MAX_SIZE, Listing, entry_of, is_missing, is_name, matched, whole
from synofs.filestation.tasks import PATIENT, OnTaskProgress, Tasks
from synofs.remote import NotFound, RemoteEntry, Unavailable

# How long each try waits for a task that the NAS does not know: it is over (the usual case), or registered late.
TRIES = (0.0, 0.1, 0.0)
MAX_COUNTED_FOLDERS = 500


class TreeSize(NamedTuple):
    """Of files and folders with all in them. The paths that were asked for are not counted as folders."""

    folders: int
    files: int
    size: int  # bytes


class Measures:
    """Sizes of trees."""

    def __init__(self, caller: Caller, tasks: Tasks, pager: Pager) -> None:
        self._caller = caller
        self._tasks = tasks
        self._pager = pager

    async def size(self, paths: Sequence[str], on_progress: OnTaskProgress | None = None) -> TreeSize:
        """Raises `NotFound` if one of them is not there: the NAS would count the others and say nothing."""
        entries = await self._entries(paths)
        for early_seconds in TRIES:
            status = await self._tasks.run(
                calls.dir_size_start(paths),
                _never,
                early_seconds=early_seconds,
                standstill_seconds=PATIENT,
                on_progress=on_progress,
            )
            if status is not None:
                counted = (status.num_dir, status.num_file, status.total_size)
                return TreeSize(*(whole(number, MAX_SIZE) for number in counted))
        return await self._counted(dict(zip(paths, entries, strict=True)))

    async def _entries(self, paths: Sequence[str]) -> list[RemoteEntry]:
        listing = await self._caller.call(calls.get_info(paths), Listing)
        entries = []
        for path, record in zip(paths, matched(paths, listing.records), strict=True):
            if is_missing(record):
                raise NotFound("nothing is there", path=path)
            entries.append(entry_of(record))
        return entries

    async def _counted(self, entries: dict[str, RemoteEntry]) -> TreeSize:
        """By listings."""
        folders = files = size = 0
        waiting = [path for path, entry in entries.items() if entry.is_dir]
        for entry in entries.values():
            if not entry.is_dir:
                files, size = files + 1, size + entry.size
        visited = 0
        while waiting:
            folder = waiting.pop()
            visited += 1
            if visited > MAX_COUNTED_FOLDERS:
                raise Unavailable("the NAS loses the task that counts", path=folder)
            for entry in await self._list(folder):
                if not is_name(entry.name):
                    continue
                if entry.is_dir:
                    folders += 1
                    waiting.append(posixpath.join(folder, entry.name))
                else:
                    files, size = files + 1, size + entry.size
        return TreeSize(folders, files, size)

    async def _list(self, folder: str) -> list[RemoteEntry]:
        found: list[RemoteEntry] = []

        async def fetch(offset: int, limit: int) -> Listing:
            return await self._caller.call(calls.list_folder(folder, offset, limit), Listing)

        await self._pager.list(fetch, found.extend, folder)
        return found


async def _never() -> bool:
    return False
