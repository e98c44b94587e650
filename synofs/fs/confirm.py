"""Looking at fresh uploads in bulk: one listing of a folder, or one `getinfo`, proves many files at once.

Verifying each upload by a call of its own would double the number of calls. Uploads that end within a short time
are looked at together.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from synofs.remote import RemoteEntry, RemoteError, RemoteStore

_LIST_FROM = 20  # so many files of one folder are proved by listing it
_FULL = 500


class _Ask:
    __slots__ = ("answered", "entry", "error", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.answered = trio.Event()
        self.entry: RemoteEntry | None = None
        self.error: RemoteError | None = None


class Confirmer:
    def __init__(self, store: RemoteStore, gather_seconds: float) -> None:
        """`gather_seconds`: how long to wait for more uploads to end before asking; 0 where somebody waits."""
        self._store = store
        self._gather_seconds = gather_seconds
        self._waiting: list[_Ask] = []
        self._work = trio.Event()
        self._full = trio.Event()
        self._urgent = 0

    async def look(self, path: str) -> RemoteEntry | None:
        """What is at `path` on the NAS, asked after this call began. Raises the store's error."""
        ask = _Ask(path)
        self._waiting.append(ask)
        self._work.set()
        if len(self._waiting) >= _FULL:
            self._full.set()
        await ask.answered.wait()
        if ask.error is not None:
            raise ask.error
        return ask.entry

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Somebody waits: inside, nothing is gathered."""
        self._urgent += 1
        self._full.set()
        try:
            yield
        finally:
            self._urgent -= 1

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._work.wait()
                if self._gather_seconds and not self._urgent:
                    with trio.move_on_after(self._gather_seconds):
                        await self._full.wait()
                self._work, self._full = trio.Event(), trio.Event()
                asks, self._waiting = self._waiting, []
                folders: defaultdict[str, list[_Ask]] = defaultdict(list)
                for ask in asks:
                    folders[posixpath.dirname(ask.path)].append(ask)
                few = [ask for group in folders.values() if len(group) < _LIST_FROM for ask in group]
                for folder, group in folders.items():
                    if len(group) >= _LIST_FROM:
                        nursery.start_soon(self._by_listing, folder, group)
                if few:
                    nursery.start_soon(self._by_getinfo, few)

    async def _by_listing(self, folder: str, group: list[_Ask]) -> None:
        wanted = {posixpath.basename(ask.path): ask for ask in group}

        def take(page: Sequence[RemoteEntry]) -> None:
            for entry in page:
                if entry.name in wanted:
                    wanted[entry.name].entry = entry

        try:
            await self._store.list_dir(folder, take)
        except RemoteError as error:
            _fail(group, error)
        _answer(group)

    async def _by_getinfo(self, asks: list[_Ask]) -> None:
        try:
            entries = await self._store.get_entries([ask.path for ask in asks])
        except RemoteError as error:
            _fail(asks, error)
        else:
            for ask, entry in zip(asks, entries, strict=True):
                ask.entry = entry
        _answer(asks)


def _fail(asks: list[_Ask], error: RemoteError) -> None:
    for ask in asks:
        ask.error = error


def _answer(asks: list[_Ask]) -> None:
    for ask in asks:
        ask.answered.set()
