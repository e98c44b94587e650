"""What File Station does besides being a file system: search, sizes, links, favourites, archives."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import msgspec
import trio

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.parsing import Empty, Number, Record, entry_of
from synofs.filestation.tasks import Started, Tasks
from synofs.remote import BadAnswer, NotFound, RemoteEntry, RemoteError, Unavailable

log = logging.getLogger(__name__)

PAGE = 1000
SEARCH_SECONDS = 600.0
SIZE_TRIES = (0.0, 0.1, 0.5)  # how long each waits for a task that the NAS does not know
LONGEST_PAUSE_SECONDS = 1.0


class Found(NamedTuple):
    """What a search found, and where."""

    path: str
    entry: RemoteEntry


class FolderSize(NamedTuple):
    """Of all below a folder, without itself."""

    folders: int
    files: int
    size_bytes: int


class StationInfo(msgspec.Struct, frozen=True):
    """The NAS, and who this session is to it."""

    hostname: str = ""
    uid: int | None = None
    is_manager: bool = False
    support_sharing: bool = False


class Link(msgspec.Struct, frozen=True):
    """A sharing link. Dates are as the NAS writes them, "" where there is none."""

    id: str
    url: str = ""
    path: str = ""
    name: str = ""
    status: str = ""
    has_password: bool = False
    date_expired: str | None = None
    date_available: str | None = None
    error: int = 0


class Favourite(msgspec.Struct, frozen=True):
    path: str
    name: str = ""
    isdir: bool = False
    status: str = ""  # "valid" or "broken"


class ArchiveItem(msgspec.Struct, frozen=True):
    """One item of an archive; a folder's own items are listed by its `item_id`."""

    item_id: int
    name: str = ""
    path: str = ""
    is_dir: bool = False
    size: Number = 0
    mtime: str = ""


class BackgroundTask(msgspec.Struct, frozen=True):
    taskid: str
    api: str = ""
    method: str = ""
    finished: bool = False
    progress: Number | None = None
    path: Any = None


class _SearchPage(msgspec.Struct, frozen=True):
    files: list[Record] = []
    finished: bool = False
    total: int | None = None


class _Links(msgspec.Struct, frozen=True):
    links: list[Link] = []
    total: int | None = None


class _Favourites(msgspec.Struct, frozen=True):
    favorites: list[Favourite] = []
    total: int | None = None


class _Items(msgspec.Struct, frozen=True):
    items: list[ArchiveItem] = []


class _Tasks(msgspec.Struct, frozen=True):
    tasks: list[BackgroundTask] = []
    total: int | None = None


class Services:
    """Each method raises `RemoteError`s, as the store's methods do."""

    def __init__(self, caller: Caller, tasks: Tasks, changes: Changes) -> None:
        self._caller = caller
        self._tasks = tasks
        self._changes = changes

    async def info(self) -> StationInfo:
        return await self._caller.call(calls.station_info(), StationInfo)

    # ----- finding and counting ---------------------------------------------------------------------------------

    async def search(
        self,
        folder: str,
        pattern: str,
        on_found: Callable[[Sequence[Found]], None],
        *,
        recursive: bool = True,
        kind: Literal["file", "dir", "all"] = "all",
    ) -> None:
        """Everything below `folder` whose name matches, once the NAS has found all of it."""
        start = calls.search_start(folder, pattern, recursive=recursive, kind=kind)
        taskid = (await self._caller.call(start, Started)).taskid
        try:
            # While it runs, the result is sorted anew with everything that is found: pages would shift.
            await self._wait_for_search(taskid, folder)
            offset, total = 0, 1
            while offset < total:
                page = await self._caller.call(calls.search_list(taskid, offset, PAGE), _SearchPage)
                if not page.files:
                    break
                on_found([Found(record.path or "", entry_of(record)) for record in page.files])
                offset += len(page.files)
                total = page.total or 0
        finally:
            await self._end_search(taskid)

    async def _wait_for_search(self, taskid: str, folder: str) -> None:
        pause = 0.05
        with trio.move_on_after(SEARCH_SECONDS):
            while True:
                page = await self._caller.call(calls.search_list(taskid, 0, 1), _SearchPage)
                if page.finished:
                    if page.total is None:  # how the NAS says that it does not know the task
                        raise Unavailable("the NAS has lost the search", path=folder)
                    return
                await trio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        raise Unavailable("the search takes too long", path=folder)

    async def _end_search(self, taskid: str) -> None:
        """Searches that are left alone go on, and leave their results on the NAS's disk."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 3.0):
            for method in ("stop", "clean"):
                try:
                    await self._caller.call(calls.search_end(method, taskid), Empty)
                except RemoteError as exc:
                    log.debug("ending a search failed: %s", exc)

    async def folder_size(self, path: str) -> FolderSize:
        for early_seconds in SIZE_TRIES:
            status = await self._tasks.run(calls.dir_size_start(path), _never, early_seconds=early_seconds)
            if status is not None and status.total_size is not None:
                return FolderSize(int(status.num_dir or 0), int(status.num_file or 0), int(status.total_size))
        raise Unavailable("the NAS loses the task that counts the folder", path=path)

    async def copy(self, path: str, dest_dir: str, *, overwrite: bool) -> None:
        """On the NAS, keeping the name; no byte comes over here."""
        await self._changes.copy_or_move(path, dest_dir, overwrite=overwrite, remove_source=False)

    # ----- links and favourites ---------------------------------------------------------------------------------

    async def links(self) -> list[Link]:
        return (await self._caller.call(calls.sharing_links(0, 0), _Links)).links

    async def share_link(
        self,
        path: str,
        *,
        password: str | None = None,
        expires: datetime.date | None = None,
        available: datetime.date | None = None,
    ) -> Link:
        call = calls.sharing_create(path, password, _day(expires), _day(available))
        links = (await self._caller.call(call, _Links)).links
        if len(links) != 1 or links[0].error or not links[0].url:
            raise BadAnswer("the NAS made no sharing link", path=path)
        return links[0]

    async def remove_link(self, link_id: str) -> None:
        await self._caller.call(calls.sharing_delete(link_id), Empty)

    async def favourites(self) -> list[Favourite]:
        return (await self._caller.call(calls.favorites(0, 0), _Favourites)).favorites

    async def add_favourite(self, path: str, name: str) -> None:
        await self._caller.call(calls.favorite_add(path, name), Empty)

    async def remove_favourite(self, path: str) -> None:
        await self._caller.call(calls.favorite_delete(path), Empty)

    # ----- archives ---------------------------------------------------------------------------------------------

    async def compress(
        self,
        paths: Sequence[str],
        archive: str,
        *,
        file_format: Literal["zip", "7z"] = "zip",
        password: str | None = None,
    ) -> None:
        """Accounts that are no administrators need a session of sign-in version 7 for this."""
        start = calls.compress_start(paths, archive, file_format, password)
        await self._tasks.run(start, partial(self._changes.is_there, archive))
        if not await self._changes.is_there(archive):
            raise NotFound("the NAS made no archive", path=archive)

    async def extract(self, archive: str, folder: str, *, overwrite: bool = False, password: str | None = None) -> None:
        await self._tasks.run(calls.extract_start(archive, folder, overwrite=overwrite, password=password), _never)

    async def archive_items(self, archive: str, *, item_id: int = -1, password: str | None = None) -> list[ArchiveItem]:
        """One level: the archive's own, or that of the folder `item_id` in it."""
        listed = await self._caller.call(calls.extract_list(archive, item_id, password), _Items)
        return [item for item in listed.items if item.name != ".."]

    # ----- the rest ---------------------------------------------------------------------------------------------

    async def background_tasks(self) -> list[BackgroundTask]:
        return (await self._caller.call(calls.background_tasks(0, 0), _Tasks)).tasks

    async def clear_finished_tasks(self) -> None:
        await self._caller.call(calls.background_clear(), Empty)


def _day(date: datetime.date | None) -> str | None:
    return date.isoformat() if date is not None else None


async def _never() -> bool:
    return False
