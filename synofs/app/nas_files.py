"""Services of the NAS that work on the content of files: `synofs cp`, `mv`, `search`, `du`, `md5`, archives."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from synofs.app import commands
from synofs.app.control import Tell
from synofs.app.nas_desk import KERNEL_SECONDS, Handlers, NasDesk, described
from synofs.filestation.copying import WAYSTATION_PREFIX
from synofs.filestation.search import Hit
from synofs.remote import IsADirectory, NotADirectory

HIDDEN_PREFIX = WAYSTATION_PREFIX.removesuffix("copy-")


class FileServices:
    def __init__(self, desk: NasDesk) -> None:
        self._desk = desk

    def handlers(self) -> Handlers:
        return {
            commands.Copy: self._copy,
            commands.Search: self._search,
            commands.Du: self._du,
            commands.Md5: self._md5,
            commands.Compress: self._compress,
            commands.Extract: self._extract,
            commands.Peek: self._peek,
        }

    # ----- copies, searches, sums ---------------------------------------------------------------------------------

    async def _copy(self, request: commands.Copy, tell: Tell) -> dict[str, Any]:
        """Copy or move `source` to `target`, or into it if it is a folder."""
        self._desk.need_writable()
        source, target = self._desk.below_shares(request.source), self._desk.path(request.target)
        move = request.move
        entry = (await self._desk.client.get_entries([target]))[0]
        if entry is not None and entry.is_dir:
            target = posixpath.join(target, posixpath.basename(source))
        elif request.into:
            raise NotADirectory("this is no folder", path=target)
        await self._desk.settle(source, closed=move)
        await self._desk.settle(target, closed=True)
        transfer = self._desk.services.copying.move if move else self._desk.services.copying.copy
        try:
            async with self._desk.reporting(tell) as on_progress:
                await transfer(source, target, overwrite=request.overwrite, on_progress=on_progress)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KERNEL_SECONDS):
                await self._desk.look_again(target, *([source] if move else []))
        return self._desk.places(target)

    async def _search(self, request: commands.Search, tell: Tell) -> dict[str, Any]:
        path = self._desk.path(request.path)

        found = 0

        async def on_hits(hits: Sequence[Hit]) -> None:
            nonlocal found
            shown = [hit for hit in hits if not _is_ours(hit.path)]
            found += len(shown)
            if shown:
                await tell({"hits": [{**self._desk.places(hit.path), **described(hit.entry)} for hit in shown]})

        if path != "/" and not (await self._desk.entry(path)).is_dir:
            raise NotADirectory("this is no folder", path=path)
        for folder in await self._desk.shares() if path == "/" else [path]:
            await self._desk.services.search.find(folder, request.filter, on_hits)
        return {"found": found}

    async def _du(self, request: commands.Du, tell: Tell) -> dict[str, Any]:
        path = self._desk.path(request.path)
        await self._desk.settle(path)
        async with self._desk.reporting(tell) as on_progress:
            paths = await self._desk.shares() if path == "/" else [path]
            size = await self._desk.services.measures.size(paths, on_progress)
        return {**self._desk.places(path), **size._asdict()}

    async def _md5(self, request: commands.Md5, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(request.path)
        await self._desk.settle(path)
        if (await self._desk.entry(path)).is_dir:
            raise IsADirectory("this is a folder", path=path)
        return {**self._desk.places(path), "md5": await self._desk.client.md5(path)}

    # ----- archives -----------------------------------------------------------------------------------------------

    async def _compress(self, request: commands.Compress, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        archive = self._desk.below_shares(request.archive)
        sources = [self._desk.below_shares(inside) for inside in request.sources]
        for path in (*sources, archive):
            await self._desk.settle(path)
        async with self._desk.reporting(tell) as on_progress:
            await self._desk.services.archives.compress(
                sources,
                archive,
                format=request.format,
                level=request.level,
                password=request.password,
                on_progress=on_progress,
            )
        await self._desk.look_again(archive)
        return {**self._desk.places(archive), **described(await self._desk.entry(archive))}

    async def _extract(self, request: commands.Extract, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        archive, folder = self._desk.below_shares(request.archive), self._desk.below_shares(request.folder)
        await self._desk.settle(archive)
        await self._desk.settle(folder)
        try:
            async with self._desk.reporting(tell) as on_progress:
                into = await self._desk.services.archives.extract(
                    archive,
                    folder,
                    wanted=request.items,
                    password=request.password,
                    overwrite=request.overwrite,
                    subfolder=request.subfolder,
                    on_progress=on_progress,
                )
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KERNEL_SECONDS):
                await self._desk.look_again(folder)
        return self._desk.places(into)

    async def _peek(self, request: commands.Peek, tell: Tell) -> dict[str, Any]:
        archive = self._desk.below_shares(request.archive)
        await self._desk.settle(archive)
        await self._desk.entry(archive)
        count = 0
        async for item in self._desk.services.archives.contents(archive, request.password):
            count += 1
            await tell({"items": [msgspec.structs.asdict(item)]})
        return {"found": count}


def _is_ours(path: str) -> bool:
    """A hidden file of synofs's own making."""
    return any(part.startswith(HIDDEN_PREFIX) for part in path.split("/"))
