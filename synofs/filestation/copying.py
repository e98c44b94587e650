"""Copies and moves on the NAS: no byte of a file passes through here.

CopyMove keeps the name. A copy or move to another name is therefore made of two calls, and where the old name is
taken in the new folder (a copy beside its original, above all) of three, by way of a hidden folder of its own.

What a task says of its end differs between builds, and a short one may say nothing at all. So what is there
afterwards counts: a file of the same size, a folder with as much in it.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
from collections.abc import Awaitable, Callable
from functools import partial

import trio

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.measures import Measures
from synofs.filestation.parsing import Empty, Listing, entry_of, is_missing, matched
from synofs.filestation.tasks import PATIENT, OnTaskProgress, Tasks
from synofs.remote import (
    Exists,
    InputOutput,
    InvalidRequest,
    IsADirectory,
    NotADirectory,
    NotFound,
    RemoteEntry,
    RemoteError,
)

log = logging.getLogger(__name__)

# The mount does not show names that begin so.
WAYSTATION_PREFIX = ".synofs-copy-"
PUT_BACK_SECONDS = 60.0


class Copying:
    """Copies and moves files and folders."""

    def __init__(self, caller: Caller, tasks: Tasks, changes: Changes, measures: Measures) -> None:
        self._caller = caller
        self._tasks = tasks
        self._changes = changes
        self._measures = measures

    async def copy(
        self, source: str, target: str, *, overwrite: bool = False, on_progress: OnTaskProgress | None = None
    ) -> None:
        """Copy a file, or a folder with all in it, to `target`, which is the new path and not a folder to put it in.

        With `overwrite` a file is replaced, and a folder merged into the one that is there. Raises `Exists` otherwise.
        """
        await self._transfer(source, target, overwrite, False, on_progress)

    async def move(
        self, source: str, target: str, *, overwrite: bool = False, on_progress: OnTaskProgress | None = None
    ) -> None:
        """Move to the path `target`. Within a share that is a rename on the NAS's disk."""
        await self._transfer(source, target, overwrite, True, on_progress)

    async def _transfer(
        self, source: str, target: str, overwrite: bool, remove_source: bool, on_progress: OnTaskProgress | None
    ) -> None:
        (from_dir, old_name), (to_dir, new_name) = posixpath.split(source), posixpath.split(target)
        if source == target:
            raise InvalidRequest("source and target are the same", path=source)
        if f"{target}/".startswith(f"{source}/"):
            raise InvalidRequest("a folder cannot go into itself", path=source)
        if to_dir == "/":
            raise InvalidRequest("shares are made in DSM's Control Panel", path=target)
        by_old_name = posixpath.join(to_dir, old_name)
        origin, folder, there, in_the_way = await self._look([source, to_dir, target, by_old_name])
        if origin is None:
            raise NotFound("nothing is there", path=source)
        if folder is None:
            raise NotFound("there is no such folder", path=to_dir)
        if not folder.is_dir:
            raise NotADirectory("this is no folder", path=to_dir)
        if there is not None:
            self._check_replacement(origin, there, target, overwrite)
        step = partial(self._step, remove_source=remove_source, overwrite=overwrite, on_progress=on_progress)
        if old_name == new_name:
            await step(source, to_dir)
        elif there is None and remove_source and from_dir == to_dir:
            await self._changes.rename(source, new_name)
        elif there is None and in_the_way is None:
            await step(source, to_dir)
            await self._changes.rename(by_old_name, new_name)
        else:
            await self._by_waystation(source, to_dir, new_name, remove_source, step)

    def _check_replacement(self, origin: RemoteEntry, there: RemoteEntry, target: str, overwrite: bool) -> None:
        if not overwrite:
            raise Exists("something is there already", path=target)
        if there.is_dir and not origin.is_dir:
            raise IsADirectory("a folder is there, and a file cannot replace it", path=target)
        if origin.is_dir and not there.is_dir:
            raise NotADirectory("a file is there, and a folder cannot replace it", path=target)

    async def _by_waystation(
        self, source: str, to_dir: str, new_name: str, remove_source: bool, step: Callable[..., Awaitable[None]]
    ) -> None:
        """Into a folder of its own beside the target, to the new name there, and from there into place."""
        waystation = posixpath.join(to_dir, WAYSTATION_PREFIX + secrets.token_hex(6))
        await self._changes.make_dir(waystation)
        at_first = posixpath.join(waystation, posixpath.basename(source))
        at_last = posixpath.join(waystation, new_name)
        try:
            await step(source, waystation)
            await self._changes.rename(at_first, new_name)
            await step(at_last, to_dir, remove_source=True, on_progress=None)
        except (trio.Cancelled, RemoteError):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + PUT_BACK_SECONDS):
                await self._clear(waystation, source if remove_source else None, [at_first, at_last])
            raise
        await self._remove(waystation)

    async def _clear(self, waystation: str, put_back: str | None, places: list[str]) -> None:
        """After a failure. What was moved goes back to where it was; a waystation that holds it still is kept."""
        try:
            if put_back is not None:
                for place, entry in zip(places, await self._look(places), strict=True):
                    if entry is None:
                        continue
                    old_name = posixpath.basename(put_back)
                    if posixpath.basename(place) != old_name:
                        await self._changes.rename(place, old_name)
                    await self._step(
                        posixpath.join(waystation, old_name), posixpath.dirname(put_back), remove_source=True
                    )
                    break
            await self._remove(waystation, with_content=put_back is None)
        except RemoteError as exc:
            log.warning("%s was left on the NAS: %s", ascii(waystation), exc)

    async def _remove(self, folder: str, *, with_content: bool = False) -> None:
        call = calls.delete(folder, recursive=with_content)
        await self._caller.call(call, Empty, deadline_seconds=self._caller.change_deadline_seconds)

    async def _step(
        self,
        source: str,
        to_dir: str,
        *,
        remove_source: bool,
        overwrite: bool = False,
        on_progress: OnTaskProgress | None = None,
    ) -> None:
        """One CopyMove, and the proof that it happened."""
        target = posixpath.join(to_dir, posixpath.basename(source))
        start = calls.copy_move_start(source, to_dir, overwrite=overwrite, remove_source=remove_source)
        is_done = partial(self._happened, source, target, remove_source)
        status = await self._tasks.run(start, is_done, standstill_seconds=PATIENT, on_progress=on_progress)
        if status is not None and not remove_source and (await self._look([target]))[0] is not None:
            return  # the NAS says that it is done, and it is there: a second count of all files would tell no more
        if await is_done():
            return
        origin, there = await self._look([source, target])
        if origin is None and there is None:
            raise NotFound("nothing is there", path=source)
        doing = "move" if remove_source else "copy"
        raise InputOutput(f"the NAS did not {doing} all of it, and does not say why", path=source)

    async def _happened(self, source: str, target: str, remove_source: bool) -> bool:
        origin, there = await self._look([source, target])
        if there is None:
            return False
        if remove_source:
            return origin is None
        if origin is None or origin.is_dir != there.is_dir:
            return False
        if not origin.is_dir:
            return origin.size == there.size
        counted = [await self._measures.size([path]) for path in (source, target)]
        # A folder that was merged into another holds more than the original.
        return counted[1].files >= counted[0].files and counted[1].size >= counted[0].size

    async def _look(self, paths: list[str]) -> list[RemoteEntry | None]:
        different = list(dict.fromkeys(paths))
        try:
            listing = await self._caller.call(calls.get_info(different), Listing)
        except NotFound:  # some builds refuse the whole call
            if len(different) == 1:
                return [None for _ in paths]
            return [(await self._look([path]))[0] for path in paths]
        found = dict(zip(different, matched(different, listing.records), strict=True))
        return [None if is_missing(found[path]) else entry_of(found[path]) for path in paths]
