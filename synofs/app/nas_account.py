"""Services of the NAS around an account: sharing links, the recycle bin, favourites, tasks, thumbnails."""

from __future__ import annotations

import base64
import logging
import posixpath
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from synofs.app import commands
from synofs.app.control import Tell
from synofs.app.errors import Failure, Problem
from synofs.app.nas_desk import Handlers, NasDesk, described
from synofs.filestation import recycling
from synofs.filestation.background import BackgroundTask
from synofs.filestation.recycling import Discarded
from synofs.filestation.sharing import Link
from synofs.remote import Exists, NotADirectory, NotFound, PermissionDenied, RemoteError, Unsupported

log = logging.getLogger(__name__)


class AccountServices:
    def __init__(self, desk: NasDesk) -> None:
        self._desk = desk

    def handlers(self) -> Handlers:
        return {
            commands.ShareCreate: self._share_create,
            commands.ShareList: self._share_list,
            commands.ShareRemove: self._share_remove,
            commands.TrashList: self._trash_list,
            commands.TrashRestore: self._trash_restore,
            commands.TrashEmpty: self._trash_empty,
            commands.FavList: self._fav_list,
            commands.FavAdd: self._fav_add,
            commands.FavRemove: self._fav_remove,
            commands.TasksList: self._tasks_list,
            commands.TasksStop: self._tasks_stop,
            commands.TasksClear: self._tasks_clear,
            commands.Thumb: self._thumb,
        }

    # ----- sharing links ------------------------------------------------------------------------------------------

    async def _share_create(self, request: commands.ShareCreate, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(request.path)
        await self._desk.settle(path)
        await self._desk.entry(path)
        link = await self._desk.services.sharing.create(
            path,
            password=request.password,
            expires=request.expires,
        )
        return self._link(link)

    async def _share_list(self, request: commands.ShareList, tell: Tell) -> dict[str, Any]:
        return {"links": [self._link(link) for link in await self._desk.services.sharing.list()]}

    async def _share_remove(self, request: commands.ShareRemove, tell: Tell) -> dict[str, Any]:
        """By id or address, or all links of a path."""
        links = await self._desk.services.sharing.list()
        if request.by == "path":
            path = self._desk.path(request.value)
            chosen = [link for link in links if link.path == path]
        else:
            chosen = [link for link in links if request.value in (link.id, link.url)]
        if not chosen:
            raise Failure(Problem.NO_LINK, link=request.shown)
        await self._desk.services.sharing.remove([link.id for link in chosen])
        return {"links": [self._link(link) for link in chosen]}

    def _link(self, link: Link) -> dict[str, Any]:
        return {**msgspec.structs.asdict(link), **self._desk.places(link.path)}

    # ----- the recycle bin ----------------------------------------------------------------------------------------

    async def _trash_list(self, request: commands.TrashList, tell: Tell) -> dict[str, Any]:
        path = self._desk.path(request.path)

        async def on_found(found: Sequence[Discarded]) -> None:
            await tell({"discarded": [{**self._desk.places(one.original), **described(one.entry)} for one in found]})

        await self._in_bins(path, partial(self._desk.services.recycle_bin.list, on_found=on_found))
        return {}

    async def _trash_restore(self, request: commands.TrashRestore, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        path = self._desk.below_shares(request.path)
        overwrite = request.overwrite
        try:
            async with self._desk.reporting(tell) as on_progress:
                target = await self._desk.services.recycle_bin.restore(
                    path, overwrite=overwrite, on_progress=on_progress
                )
        except Unsupported as exc:
            raise self._no_bin(exc) from exc
        share = "/".join(target.split("/")[:2])
        await self._desk.look_again(share)
        return self._desk.places(target)

    async def _trash_empty(self, request: commands.TrashEmpty, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        path = self._desk.path(request.path)
        removed = 0

        async def empty(below: str) -> None:
            nonlocal removed
            async with self._desk.reporting(tell) as on_progress:
                removed += await self._desk.services.recycle_bin.empty(below, on_progress)
            await self._desk.look_again(recycling.in_bin(below))

        await self._in_bins(path, empty)
        return {"removed": removed}

    async def _in_bins(self, path: str, work: Callable[[str], Awaitable[None]]) -> None:
        """In the bin of a path's share; for the root in those of all shares that have one for us."""
        if path != "/":
            try:
                await work(path)
            except Unsupported as exc:
                raise self._no_bin(exc) from exc
            return
        for share in await self._desk.shares():
            try:
                await work(share)
            except (Unsupported, PermissionDenied) as exc:
                log.debug("%s: %s", share, exc)

    def _no_bin(self, error: RemoteError) -> Failure:
        return Failure(Problem.NO_RECYCLE_BIN, path=self._desk.local(error.path or "/"))

    # ----- favourites, tasks, thumbnails --------------------------------------------------------------------------

    async def _fav_list(self, request: commands.FavList, tell: Tell) -> dict[str, Any]:
        found = await self._desk.services.favourites.list()
        return {"favourites": [{**msgspec.structs.asdict(one), **self._desk.places(one.path)} for one in found]}

    async def _fav_add(self, request: commands.FavAdd, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(request.path)
        if not (await self._desk.entry(path)).is_dir:
            raise NotADirectory("only a folder can be a favourite", path=path)
        name = request.name or posixpath.basename(path)
        try:
            await self._desk.services.favourites.add(path, name)
        except Exists as exc:
            raise Failure(Problem.FAVOURITE_THERE, path=self._desk.local(path)) from exc
        return {**self._desk.places(path), "name": name}

    async def _fav_remove(self, request: commands.FavRemove, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(request.path)
        if path not in [one.path for one in await self._desk.services.favourites.list()]:
            raise Failure(Problem.NOT_LISTED, path=self._desk.local(path), detail="this is no favourite", command="fav")
        await self._desk.services.favourites.remove(path)
        return self._desk.places(path)

    async def _tasks_list(self, request: commands.TasksList, tell: Tell) -> dict[str, Any]:
        return {"tasks": [self._task(task) for task in await self._desk.services.background.list()]}

    def _task(self, task: BackgroundTask) -> dict[str, Any]:
        return {**msgspec.structs.asdict(task), **(self._desk.places(task.path) if task.path else {"path": None})}

    async def _tasks_stop(self, request: commands.TasksStop, tell: Tell) -> dict[str, Any]:
        wanted = request.id
        for task in await self._desk.services.background.list():
            if task.id == wanted:
                await self._desk.services.background.stop(task)
                return self._task(task)
        raise Failure(Problem.NOT_LISTED, path=wanted, detail="the NAS knows no such task", command="tasks")

    async def _tasks_clear(self, request: commands.TasksClear, tell: Tell) -> dict[str, Any]:
        await self._desk.services.background.clear_finished()
        return {}

    async def _thumb(self, request: commands.Thumb, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(request.path)
        await self._desk.settle(path)
        await self._desk.entry(path)
        try:
            content = await self._desk.services.thumbnails.get(path, request.size)
        except NotFound as exc:
            raise Failure(Problem.NO_THUMBNAIL, path=self._desk.local(path)) from exc
        return {**self._desk.places(path), "content": base64.b64encode(content).decode("ascii")}
