"""Hidden names on the NAS: temporary folders of uploads and renames, and files that were unlinked while open.

Each is written into the journal before it is made, so that whatever happens it is removed one day. Removing is never
urgent: it is done when the uploads have gone quiet, at the end, and at the next start.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from synofs.content.put import Putter
from synofs.content.staging import StagingArea
from synofs.remote import NotFound, RemoteEntry, RemoteError, RemoteStore

log = logging.getLogger(__name__)

_QUIET_SECONDS = 20.0


class Leftovers:
    def __init__(self, store: RemoteStore, area: StagingArea) -> None:
        self._store = store
        self._area = area
        self._known: set[str] = set()
        self.in_use: set[str] = set()  # files that are unlinked, but open here

    async def add(self, path: str) -> None:
        if path not in self._known:
            self._known.add(path)
            await self._area.run(self._area.journal.add_leftover, path)

    # ----- MoveLog --------------------------------------------------------------------------------------------------

    async def begin(self, temp_dir: str, source_name: str, dest_dir: str, dest_name: str) -> None:
        await self.add(temp_dir)
        await self._area.run(self._area.journal.add_move, temp_dir, source_name, dest_dir, dest_name)

    async def end(self, temp_dir: str) -> None:
        await self._area.run(self._area.journal.drop_move, temp_dir)

    async def unfinished(self) -> list[tuple[str, str, str, str]]:
        return await self._area.run(self._area.journal.moves)

    # ----- removing -------------------------------------------------------------------------------------------------

    async def run(self, putter: Putter, busy: Callable[[], bool]) -> None:
        """Remove leftovers whenever the uploads have been quiet for a while."""
        while True:
            await trio.sleep(_QUIET_SECONDS)
            if self._known and not busy():
                await self.clean(putter)

    async def load(self) -> None:
        """Know what an earlier run left."""
        self._known |= set(await self._area.run(self._area.journal.leftovers))

    async def clean(self, putter: Putter | None = None) -> None:
        """Remove what is not in use. What fails is tried again another time."""
        walking = {temp_dir for temp_dir, *_ in await self.unfinished()}
        for path in sorted(self._known - self.in_use - walking):
            if putter is not None:
                putter.forget_temp_dir(path)
            try:
                await self.remove_tree(path)
            except RemoteError as error:
                log.debug("%s: not removed yet: %s", path, error)
                continue
            await self.forget(path)

    async def forget(self, path: str) -> None:
        self._known.discard(path)
        self.in_use.discard(path)
        await self._area.run(self._area.journal.drop_leftover, path)

    async def remove_tree(self, path: str) -> None:
        """Remove a hidden file, or a hidden folder with the files in it."""
        entry = (await self._store.get_entries([path]))[0]
        if entry is None:
            return
        if entry.is_dir:
            inside: list[RemoteEntry] = []

            def take(page: Sequence[RemoteEntry]) -> None:
                inside.extend(page)

            try:
                await self._store.list_dir(path, take)
            except NotFound:
                return
            for child in inside:
                if not child.is_dir:
                    await self._store.remove(f"{path}/{child.name}")
        await self._store.remove(path)
