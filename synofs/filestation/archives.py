"""Archives that are made, unpacked and looked into on the NAS.

What a task says of its end differs between builds, so what is there afterwards counts. The NAS skips what is there
already without a word, and adds to an archive that is there already: both are refused before.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator, Sequence

import msgspec

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.changes import Changes
from synofs.filestation.parsing import MAX_PATH_LENGTH, MAX_SIZE, Number, is_name, whole
from synofs.filestation.secret import Secret
from synofs.filestation.tasks import PATIENT, OnTaskProgress, Tasks
from synofs.remote import BadAnswer, Exists, InputOutput, InvalidName, NotADirectory, NotFound

WRONG_PASSWORD = 1403
FORMATS = ("zip", "7z")
LEVELS = ("store", "fastest", "moderate", "best")
ROOT_ITEM = -1
MAX_ITEMS = 200_000  # of one archive; a broken one may go round in circles


class Item(msgspec.Struct, frozen=True, rename={"id": "item_id", "packed_size": "pack_size"}):
    """A file or folder in an archive."""

    id: int
    name: str
    path: str = ""
    is_dir: bool = False
    size: Number = 0
    packed_size: Number = 0
    mtime: str = ""  # in the NAS's time zone


class _Items(msgspec.Struct, frozen=True):
    items: list[Item] = []
    total: int | None = None


class Archives:
    def __init__(self, caller: Caller, tasks: Tasks, changes: Changes) -> None:
        self._caller = caller
        self._tasks = tasks
        self._changes = changes

    # ----- making -------------------------------------------------------------------------------------------------

    async def compress(
        self,
        sources: Sequence[str],
        archive: str,
        *,
        format: str = "zip",
        level: str = "moderate",
        password: Secret | None = None,
        on_progress: OnTaskProgress | None = None,
    ) -> None:
        """Pack files and folders into a new archive. Raises `Exists` if something is at its path."""
        for source in sources:
            if await self._changes.entry(source) is None:
                raise NotFound("nothing is there", path=source)
        await self._need_folder(posixpath.dirname(archive))
        if await self._changes.entry(archive) is not None:
            raise Exists("something is there already", path=archive)
        start = calls.compress_start(sources, archive, format, level, _revealed(password))
        seen: list[object] = []

        async def is_done() -> bool:
            """There, and no longer growing."""
            entry = await self._changes.entry(archive)
            seen.append(entry.fingerprint if entry is not None else None)
            return entry is not None and entry.size > 0 and seen[-2:] == [entry.fingerprint] * 2

        await self._tasks.run(start, is_done, standstill_seconds=PATIENT, on_progress=on_progress)
        if await self._changes.entry(archive) is None:
            raise InputOutput("the NAS did not make the archive, and does not say why", path=archive)

    # ----- looking ------------------------------------------------------------------------------------------------

    async def level(self, archive: str, parent: int = ROOT_ITEM, password: Secret | None = None) -> Sequence[Item]:
        """The items of one folder of an archive, without the `..` that DSM lists there, and anything else that would
        lead out of the folder that it is unpacked into."""
        call = calls.extract_list(archive, parent, _revealed(password))
        items = (await self._caller.call(call, _Items)).items
        return [_believable(item) for item in items if is_name(item.name)]

    async def contents(self, archive: str, password: Secret | None = None) -> AsyncIterator[Item]:
        """Everything in an archive, folder by folder; `path` is complete."""
        waiting = [(ROOT_ITEM, "")]
        seen: set[int] = set()
        while waiting:
            parent, above = waiting.pop(0)
            for item in await self.level(archive, parent, password):
                if item.id in seen or len(seen) >= MAX_ITEMS:
                    raise BadAnswer("the NAS lists an item of the archive twice, or too many", path=archive)
                seen.add(item.id)
                path = posixpath.join(above, item.name)
                if len(path) > MAX_PATH_LENGTH:
                    raise BadAnswer("the NAS lists folders in folders without end", path=archive)
                if item.is_dir:
                    waiting.append((item.id, path))
                yield msgspec.structs.replace(item, path=path)

    async def _find(self, archive: str, wanted: Sequence[str], password: Secret | None) -> list[int]:
        ids: dict[str, int] = {}
        async for item in self.contents(archive, password):
            if item.path in wanted:
                ids[item.path] = item.id
        for path in wanted:
            if path not in ids:
                raise NotFound(f"the archive has no {path}", path=archive)
        return [ids[path] for path in wanted]

    # ----- unpacking ----------------------------------------------------------------------------------------------

    async def extract(
        self,
        archive: str,
        folder: str,
        *,
        wanted: Sequence[str] = (),
        password: Secret | None = None,
        overwrite: bool = False,
        subfolder: bool = False,
        on_progress: OnTaskProgress | None = None,
    ) -> str:
        """Unpack an archive, or the `wanted` paths of it, into a folder; returns where its content is then.

        `subfolder`: into a new folder of the archive's name. Raises `Exists`, unless `overwrite`, if something of what
        is to come is there: the NAS would skip it in silence.
        """
        if await self._changes.entry(archive) is None:
            raise NotFound("nothing is there", path=archive)
        await self._need_folder(folder)
        tops = [path.split("/")[0] for path in wanted] or [
            item.name for item in await self.level(archive, -1, password)
        ]
        into = posixpath.join(folder, stem_of(archive)) if subfolder else folder
        names = [posixpath.join(into, name) for name in dict.fromkeys(tops)]
        if not overwrite:
            exact = [posixpath.join(into, path) for path in wanted] or names
            await self._need_nothing_at(exact if not subfolder else [into])
        ids = await self._find(archive, wanted, password) if wanted else None
        start = calls.extract_start(
            archive,
            folder,
            _revealed(password),
            item_id=ids,
            overwrite=overwrite,
            create_subfolder=subfolder,
        )

        async def is_done() -> bool:
            return not [name for name in names if await self._changes.entry(name) is None]

        await self._tasks.run(start, is_done, standstill_seconds=PATIENT, on_progress=on_progress)
        for name in names:
            if await self._changes.entry(name) is None:
                raise InputOutput("the NAS did not unpack all of it, and does not say why", path=name)
        return into

    async def _need_folder(self, folder: str) -> None:
        entry = await self._changes.entry(folder)
        if entry is None:
            raise NotFound("there is no such folder", path=folder)
        if not entry.is_dir:
            raise NotADirectory("this is no folder", path=folder)

    async def _need_nothing_at(self, paths: Sequence[str]) -> None:
        for path in paths:
            if await self._changes.entry(path) is not None:
                raise Exists("something is there already", path=path)


def _believable(item: Item) -> Item:
    size, packed_size = whole(item.size, MAX_SIZE), whole(item.packed_size, MAX_SIZE)
    return msgspec.structs.replace(item, size=size, packed_size=packed_size)


def stem_of(archive: str) -> str:
    """The name of the folder that the NAS makes for an archive's content."""
    stem = posixpath.splitext(posixpath.basename(archive))[0]
    if not stem:
        raise InvalidName("the archive has no name", path=archive)
    return stem


def _revealed(password: Secret | None) -> str | None:
    return password.reveal() if password is not None else None
