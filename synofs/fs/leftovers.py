"""Hidden names on the NAS: temporary folders of uploads and renames, and files that were unlinked while open.

Each is written into the journal before it is made, so that whatever happens it is removed one day. Should the journal
be lost, a listing that shows one brings it back to mind. Removing is never urgent: it is done when the uploads have
gone quiet, at the end, and at the next start.
"""

from __future__ import annotations

import logging
import posixpath
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

import trio

from synofs.content.errors import ContentError
from synofs.content.hidden import HIDDEN_PREFIX, HiddenFolders
from synofs.content.journal import Move
from synofs.content.staging import StagingArea
from synofs.fs.moves import Mover
from synofs.remote import Fingerprint, NotEmpty, NotFound, RemoteEntry, RemoteError, RemoteStore

log = logging.getLogger(__name__)

_QUIET_SECONDS = 20.0
_STRAY_AFTER_SECONDS = 24 * 3600.0  # an upload under a name that File Station's form cannot carry takes less


class Leftovers:
    def __init__(self, store: RemoteStore, area: StagingArea, client: str) -> None:
        """`client`: names this client in hidden names; no other has the same."""
        self._store = store
        self._area = area
        self._client = client
        self._known: set[str] = set()
        self.in_use: set[str] = set()  # files that are unlinked, but open here
        self._passing: dict[int, tuple[str, str]] = {}  # rename -> (folder, name) that its file has on its way
        self.uploads = HiddenFolders(store, self, f"{HIDDEN_PREFIX}{client}")
        self.renames = HiddenFolders(store, self, f"{HIDDEN_PREFIX}{client}-mv")

    def name_of_gone(self, number: int) -> str:
        """A name, never used before, for a file that is unlinked but open."""
        return f"{HIDDEN_PREFIX}gone-{self._client}-{number:x}-{time.time_ns():x}"

    @asynccontextmanager
    async def hidden_file(self, folder: str) -> AsyncIterator[str]:
        """The path of a file that is never shown. It is not removed before the end of the block."""
        path = f"{folder}/{HIDDEN_PREFIX}{self._client}-try"
        await self.add(path)
        self.in_use.add(path)
        try:
            yield path
        finally:
            self.in_use.discard(path)

    async def add(self, path: str) -> None:
        if path not in self._known:
            self._known.add(path)
            try:
                await self._area.run(self._area.journal.add_leftover, path)
            except BaseException:
                self._known.discard(path)
                raise

    def found(self, folder: str, entry: RemoteEntry) -> None:
        """A listing shows a hidden name. Perhaps it is one of ours that the journal has lost."""
        own, gone = f"{HIDDEN_PREFIX}{self._client}", f"{HIDDEN_PREFIX}gone-{self._client}-"
        ours = entry.name in (own, f"{own}-mv", f"{own}-try") or entry.name.startswith(gone)
        stray = entry.name.startswith(f"{HIDDEN_PREFIX}upload-")
        clock = self._store.clock_seconds()  # the NAS's, as the file's: ours may be days away from it
        old = clock is not None and 0 < entry.ctime_ns < (clock - _STRAY_AFTER_SECONDS) * 1e9
        if ours or (stray and old):
            self._known.add(f"{folder.rstrip('/')}/{entry.name}")

    def any_below(self, folder: str) -> bool:
        return any(path.startswith(folder + "/") for path in self._known | self.in_use)

    def renamed(self, old: str, new: str) -> bool:
        """A folder has another path. Returns whether anything here depends on it."""
        self.uploads.forget_below(old)
        self.renames.forget_below(old)
        below = {path for path in self._known | self.in_use if path.startswith(old + "/")}
        for paths in (self._known, self.in_use):
            for path in below & paths:
                paths.remove(path)
                paths.add(new + path.removeprefix(old))
        return bool(below)

    # ----- MoveLog --------------------------------------------------------------------------------------------------

    async def begin(self, source: str, dest: str, temp_dir: str | None, replaces: Fingerprint | None) -> Move:
        move = await self._area.run(self._area.journal.begin_move, source, dest, temp_dir, replaces)
        self._hide(move)
        return move

    async def drop(self, move: Move) -> None:
        self.arrived(move)
        await self._area.run(self._area.journal.drop_move, move.id)

    async def unfinished(self) -> list[Move]:
        return await self._area.run(self._area.journal.moves)

    async def take_up(self) -> list[Move]:
        """The renames that an earlier run had begun."""
        moves = await self.unfinished()
        for move in moves:
            self._hide(move)
        return moves

    def _hide(self, move: Move) -> None:
        """From `a/x` to `b/y` by way of `a/y`: nobody has given that name, and nobody shall see it, however long it is
        there because the NAS does not answer, or we have crashed."""
        source_dir, source_name = posixpath.split(move.source)
        dest_name = posixpath.basename(move.dest)
        if move.temp_dir == source_dir and dest_name != source_name:
            self._passing[move.id] = (source_dir, dest_name)

    def arrived(self, move: Move) -> None:
        """The file is where it belongs, on the NAS."""
        self._passing.pop(move.id, None)

    def passing(self, folder: str) -> Collection[bytes]:
        """Names in a folder that files have on their way to another one."""
        if not self._passing:
            return ()
        return {name.encode("utf-8", "surrogateescape") for where, name in self._passing.values() if where == folder}

    # ----- removing -------------------------------------------------------------------------------------------------

    async def run(
        self,
        mover: Mover,
        unsent: Callable[[], int],
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Know what an earlier run left, then remove leftovers whenever the uploads have been quiet for a while."""
        self._known |= set(await self._area.run(self._area.journal.leftovers))
        task_status.started()
        while True:
            await trio.sleep(_QUIET_SECONDS)
            if self._known and not unsent():
                await self.clean(mover)

    async def clean(self, mover: Mover) -> None:
        """Remove what is not in use. What fails, at the NAS or on a local disk that is full, is tried again another
        time."""
        with _put_off("hidden names"):
            walking = {move.temp_dir for move in await self.unfinished()}
            for path in sorted(self._known - self.in_use - walking):
                with _put_off(path):
                    if await self._clean_one(path, mover):
                        await self.forget(path)

    async def _clean_one(self, path: str, mover: Mover) -> bool:
        async with self.uploads.unused(path) as no_upload, self.renames.unused(path) as no_rename:
            if not (no_upload and no_rename):
                return False
            if path.endswith(f"{HIDDEN_PREFIX}{self._client}-mv"):
                # What is in there is no copy of ours, but somebody's file on its way to another name.
                for entry in await self._inside(path):
                    await mover.show(f"{path}/{entry.name}", posixpath.dirname(path))
                await self._store.remove(path)
            else:
                await self.remove_tree(path)
        return True

    async def forget(self, path: str) -> None:
        self.in_use.discard(path)
        await self._area.run(self._area.journal.drop_leftover, path)
        self._known.discard(path)

    async def remove_tree(self, path: str) -> None:
        """Remove a hidden file, or a hidden folder with the files in it."""
        entry = (await self._store.get_entries([path]))[0]
        if entry is None:
            return
        if entry.is_dir:
            for child in await self._inside(path):
                if not child.is_dir:
                    await self._store.remove(f"{path}/{child.name}")
        await self._store.remove(path)

    async def empty_folder(self, path: str, mover: Mover) -> None:
        """A folder is to be removed: take our hidden names out of it, and empty hidden folders of other clients.
        Raises `NotEmpty` if anything else is in there."""
        entries = await self._inside(path)
        if any(not entry.name.startswith(HIDDEN_PREFIX) for entry in entries):
            raise NotEmpty("the folder is not empty", path=path)
        for entry in entries:
            hidden = f"{path}/{entry.name}"
            self.found(path, entry)
            if hidden in self._known:
                if not await self._clean_one(hidden, mover):
                    raise NotEmpty("files in the folder are on their way", path=path)
                await self.forget(hidden)
            elif entry.is_dir:
                await self._store.remove(hidden)
            else:
                raise NotEmpty("another client has a removed file open in there", path=path)

    async def _inside(self, path: str) -> list[RemoteEntry]:
        inside: list[RemoteEntry] = []

        def take(page: Sequence[RemoteEntry]) -> None:
            inside.extend(page)

        try:
            await self._store.list_dir(path, take)
        except NotFound:
            return []
        return inside


@contextmanager
def _put_off(what: str) -> Iterator[None]:
    """It need not be done now."""
    try:
        yield
    except (RemoteError, ContentError, OSError) as error:
        log.debug("%s: not removed yet: %s", what, error)
