"""Services of the NAS that work on the content of files: `synofs cp`, `mv`, `search`, `du`, `md5`, archives."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from typing import Any

import msgspec
import trio

from synofs.app.control import Arguments, Tell
from synofs.app.nas_desk import KERNEL_SECONDS, Handler, NasDesk, described, secret_of
from synofs.filestation.copying import WAYSTATION_PREFIX
from synofs.filestation.search import Hit, SearchFilter
from synofs.remote import IsADirectory, NotADirectory

HIDDEN_PREFIX = WAYSTATION_PREFIX.removesuffix("copy-")


class FileServices:
    def __init__(self, desk: NasDesk) -> None:
        self._desk = desk

    def handlers(self) -> dict[str, Handler]:
        return {
            "copy": self._copy,
            "search": self._search,
            "du": self._du,
            "md5": self._md5,
            "compress": self._compress,
            "extract": self._extract,
            "peek": self._peek,
        }

    # ----- copies, searches, sums ---------------------------------------------------------------------------------

    async def _copy(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        """Copy or move `source` to `target`, or into it if it is a folder."""
        self._desk.need_writable()
        source, target = self._desk.below_shares(arguments["source"]), self._desk.path(arguments["target"])
        move = bool(arguments.get("move"))
        entry = (await self._desk.client.get_entries([target]))[0]
        if entry is not None and entry.is_dir:
            target = posixpath.join(target, posixpath.basename(source))
        elif arguments.get("into"):
            raise NotADirectory("this is no folder", path=target)
        await self._desk.settle(source, closed=move)
        await self._desk.settle(target, closed=True)
        transfer = self._desk.services.copying.move if move else self._desk.services.copying.copy
        try:
            async with self._desk.reporting(tell) as on_progress:
                await transfer(source, target, overwrite=bool(arguments.get("overwrite")), on_progress=on_progress)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KERNEL_SECONDS):
                await self._desk.look_again(target, *([source] if move else []))
        return self._desk.places(target)

    async def _search(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        wanted = SearchFilter(**arguments["filter"])
        path = self._desk.path(arguments["path"])

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
            await self._desk.services.search.find(folder, wanted, on_hits)
        return {"found": found}

    async def _du(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        path = self._desk.path(arguments["path"])
        await self._desk.settle(path)
        async with self._desk.reporting(tell) as on_progress:
            paths = await self._desk.shares() if path == "/" else [path]
            size = await self._desk.services.measures.size(paths, on_progress)
        return {**self._desk.places(path), **size._asdict()}

    async def _md5(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        path = self._desk.below_shares(arguments["path"])
        await self._desk.settle(path)
        if (await self._desk.entry(path)).is_dir:
            raise IsADirectory("this is a folder", path=path)
        return {**self._desk.places(path), "md5": await self._desk.client.md5(path)}

    # ----- archives -----------------------------------------------------------------------------------------------

    async def _compress(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        archive = self._desk.below_shares(arguments["archive"])
        sources = [self._desk.below_shares(inside) for inside in arguments["sources"]]
        for path in (*sources, archive):
            await self._desk.settle(path)
        async with self._desk.reporting(tell) as on_progress:
            await self._desk.services.archives.compress(
                sources,
                archive,
                format=str(arguments["format"]),
                level=str(arguments["level"]),
                password=secret_of(arguments),
                on_progress=on_progress,
            )
        await self._desk.look_again(archive)
        return {**self._desk.places(archive), **described(await self._desk.entry(archive))}

    async def _extract(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        self._desk.need_writable()
        archive, folder = self._desk.below_shares(arguments["archive"]), self._desk.below_shares(arguments["folder"])
        await self._desk.settle(archive)
        await self._desk.settle(folder)
        try:
            async with self._desk.reporting(tell) as on_progress:
                into = await self._desk.services.archives.extract(
                    archive,
                    folder,
                    wanted=[str(path) for path in arguments.get("items", ())],
                    password=secret_of(arguments),
                    overwrite=bool(arguments.get("overwrite")),
                    subfolder=bool(arguments.get("subfolder")),
                    on_progress=on_progress,
                )
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + KERNEL_SECONDS):
                await self._desk.look_again(folder)
        return self._desk.places(into)

    async def _peek(self, arguments: Arguments, tell: Tell) -> dict[str, Any]:
        archive = self._desk.below_shares(arguments["archive"])
        await self._desk.settle(archive)
        await self._desk.entry(archive)
        count = 0
        async for item in self._desk.services.archives.contents(archive, secret_of(arguments)):
            count += 1
            await tell({"items": [msgspec.structs.asdict(item)]})
        return {"found": count}


def _is_ours(path: str) -> bool:
    """A hidden file of synofs's own making."""
    return any(part.startswith(HIDDEN_PREFIX) for part in path.split("/"))
