"""Folders, names and places: everything that changes the NAS but uploads."""

from __future__ import annotations

import hashlib
import posixpath
import re
from functools import partial

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.download import Downloader
from synofs.filestation.parsing import Empty, Listing, Record, entry_of, is_missing, matched
from synofs.filestation.tasks import Tasks
from synofs.remote import (
    BadAnswer,
    Exists,
    InputOutput,
    InvalidName,
    NotEmpty,
    NotFound,
    RemoteEntry,
    RemoteError,
    Unavailable,
    Unsupported,
)

# How long each try waits for a task that the NAS does not know: it is over (the usual case), or registered late.
MD5_SECONDS = 3600.0  # it says nothing on its way, and a slow disk reads some 100 GB in that time
MD5_TRIES = (0.0, 0.1, 0.0)
MAX_DOWNLOAD_FOR_MD5_BYTES = 64 * 1024**2

# What Delete was seen to say of a folder with entries. It says the same of other things.
_PERHAPS_NOT_EMPTY = frozenset({400, 401, 414, 417, 421, 900})
_MOST_LOST = 1000


class Changes:
    """Makes, moves and removes entries."""

    def __init__(self, caller: Caller, tasks: Tasks, downloader: Downloader) -> None:
        self._caller = caller
        self._downloader = downloader
        self._tasks = tasks
        self._existing_folder_is_success: bool | None = None  # not known yet
        self._lost_once: set[tuple[str, str]] = set()  # moves whose task the NAS did not know any more

    async def make_dir(self, path: str) -> RemoteEntry:
        parent, name = posixpath.split(path)
        call = calls.create_folder(parent, name)
        if self._existing_folder_is_success is not False and await self._record(path) is not None:
            raise Exists("something is there already", path=path, code=414)
        listing = await self._caller.call(call, Listing, deadline_seconds=self._caller.change_deadline_seconds)
        if self._existing_folder_is_success is None:
            await self._learn_about_existing_folders(path)
        return await self._entry(path, listing)

    async def _learn_about_existing_folders(self, path: str) -> None:
        """Some builds report success for a folder that was there, and there it takes a look before each call.

        Which kind this NAS is, the folder that was just made tells: it is asked for once more.
        """
        parent, name = posixpath.split(path)
        try:
            await self._caller.call(calls.create_folder(parent, name), Listing)
        except Exists:
            self._existing_folder_is_success = False
        except RemoteError:
            return  # it does not tell; the next folder may
        else:
            self._existing_folder_is_success = True

    async def rename(self, path: str, new_name: str) -> RemoteEntry:
        if "/" in new_name or new_name in ("", ".", ".."):
            raise InvalidName("not a name", path=path)
        call = calls.rename(path, new_name)
        listing = await self._caller.call(call, Listing, deadline_seconds=self._caller.change_deadline_seconds)
        return await self._entry(posixpath.join(posixpath.dirname(path), new_name), listing)

    async def move(self, path: str, dest_dir: str, *, overwrite: bool) -> RemoteEntry:
        return await self.copy_or_move(path, dest_dir, overwrite=overwrite, remove_source=True)

    async def copy_or_move(self, path: str, dest_dir: str, *, overwrite: bool, remove_source: bool) -> RemoteEntry:
        """The way in which a task reports its failure depends on the build, so what is there afterwards counts."""
        target = f"{dest_dir}/{posixpath.basename(path)}"
        start = calls.copy_move_start(path, dest_dir, overwrite=overwrite, remove_source=remove_source)
        is_done = partial(self._is_moved, path, target) if remove_source else partial(self.is_there, target)
        status = await self._tasks.run(start, is_done)
        was_lost = (path, target) in self._lost_once
        self._lost_once.discard((path, target))
        source, there = await self._records([path, target])
        if there is not None and (source is None or not remove_source):
            return entry_of(there)
        if source is None:
            raise NotFound("nothing is there", path=path)
        if there is not None and not overwrite:
            raise Exists("something is there already", path=target)
        if status is None and not was_lost and len(self._lost_once) < _MOST_LOST:
            # It has restarted; or it is a build on which a task that failed for good is not known any more.
            self._lost_once.add((path, target))
            raise Unavailable("the NAS has lost the task that was to move it", path=path)
        raise InputOutput("the NAS did not move it, and does not say why", path=path)

    async def _is_moved(self, path: str, target: str) -> bool:
        source, there = await self._records([path, target])
        return source is None and there is not None

    async def is_there(self, target: str) -> bool:
        return await self._record(target) is not None

    async def remove(self, path: str) -> None:
        try:
            await self._caller.call(calls.delete(path), Empty, deadline_seconds=self._caller.change_deadline_seconds)
        except NotFound:
            return
        except RemoteError as exc:
            if exc.code in _PERHAPS_NOT_EMPTY and await self._has_entries(path):
                raise NotEmpty("the folder is not empty", path=path, code=exc.code) from exc
            raise

    async def _has_entries(self, path: str) -> bool:
        try:
            listing = await self._caller.call(calls.list_folder(path, 0, 1), Listing)
        except RemoteError:
            return False  # a file, most likely
        return bool(listing.records)

    async def check_writable(self, dir_path: str, name: str) -> None:
        try:
            await self._caller.call(calls.check_permission(dir_path, name), Empty)
        except Unsupported:
            return  # then the upload will tell

    async def md5(self, path: str) -> str:
        """A task that is lost on the way is started again: it changes nothing."""
        for early_seconds in MD5_TRIES:
            status = await self._tasks.run(
                calls.md5_start(path), _never, early_seconds=early_seconds, standstill_seconds=MD5_SECONDS
            )
            if status is not None:
                if not re.fullmatch(r"[0-9a-fA-F]{32}", status.md5 or ""):
                    raise BadAnswer("the NAS gives no MD5", path=path)
                return (status.md5 or "").lower()
        return await self._md5_by_download(path)

    async def _md5_by_download(self, path: str) -> str:
        """The tasks that are over before anyone can ask are those of small files."""
        record = await self._record(path)
        if record is None:
            raise NotFound("nothing is there", path=path)
        size = entry_of(record).size
        if size > MAX_DOWNLOAD_FOR_MD5_BYTES:
            raise Unavailable("the NAS loses the task that computes the MD5", path=path)
        digest = hashlib.md5(usedforsecurity=False)

        async def add(offset: int, piece: memoryview) -> None:
            digest.update(piece)

        await self._downloader.read_range(path, 0, size, size, add)
        return digest.hexdigest()

    # ----- looking ----------------------------------------------------------------------------------------------

    async def entry(self, path: str) -> RemoteEntry | None:
        """What is at a path, or None."""
        try:
            record = await self._record(path)
        except NotFound:  # some builds say it so
            return None
        return entry_of(record) if record is not None else None

    async def _entry(self, path: str, listing: Listing) -> RemoteEntry:
        """Of what was just made: from the answer, if it is there in full, or else by a look."""
        records = listing.records
        if len(records) == 1 and not is_missing(records[0]) and records[0].additional is not None:
            entry = entry_of(records[0])
            if entry.name == posixpath.basename(path):
                return entry
        record = await self._record(path)
        if record is None:
            raise InputOutput("the NAS reports success, and nothing is there", path=path)
        return entry_of(record)

    async def _record(self, path: str) -> Record | None:
        return (await self._records([path]))[0]

    async def _records(self, paths: list[str]) -> list[Record | None]:
        listing = await self._caller.call(calls.get_info(paths), Listing)
        records = matched(paths, listing.records)
        return [None if is_missing(record) else record for record in records]


async def _never() -> bool:
    return False
