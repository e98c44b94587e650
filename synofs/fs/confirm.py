"""Looking at fresh uploads in bulk: one listing of a folder, or one `getinfo`, proves many files at once.

Verifying each upload by a call of its own would double the number of calls. Uploads that end one after the other are
looked at together, when none has ended for a moment.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import trio

from synofs.remote import RemoteEntry, RemoteError, RemoteStore

_GETINFO_UP_TO = 100  # as many paths as one call takes
_FULL = 1000
_LONGEST_GATHERING = 20  # times the pause that ends it
_HURRIED = 0.2  # of the pause, when somebody waits for all of them


class _Ask:
    __slots__ = ("answered", "entry", "error", "path")

    def __init__(self, path: str) -> None:
        self.path = path
        self.answered = trio.Event()
        self.entry: RemoteEntry | None = None
        self.error: RemoteError | None = None


class Confirmer:
    def __init__(self, store: RemoteStore, gather_seconds: float) -> None:
        """`gather_seconds`: ask when no upload has ended for so long; 0 where somebody waits for each of them."""
        self._store = store
        self._gather_seconds = gather_seconds
        self._waiting: list[_Ask] = []
        self._work = trio.Event()  # somebody asks
        self._hurry = trio.Event()  # ask the NAS now
        self._urgent = 0
        self._hurried = 0
        self._sizes: dict[str, int] = {}  # how many entries a folder had when it was listed here

    async def look(self, path: str) -> RemoteEntry | None:
        """What is at `path` on the NAS, asked after this call began. Raises the store's error."""
        ask = _Ask(path)
        self._waiting.append(ask)
        self._work.set()
        if len(self._waiting) >= _FULL:
            self._hurry.set()
        await ask.answered.wait()
        if ask.error is not None:
            raise ask.error
        return ask.entry

    @contextmanager
    def urgent(self) -> Iterator[None]:
        """Somebody waits: inside, nothing is gathered."""
        self._urgent += 1
        self._hurry.set()
        try:
            yield
        finally:
            self._urgent -= 1

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """Somebody waits for all that is under way: inside, the pause that ends the gathering is short."""
        self._hurried += 1
        try:
            yield
        finally:
            self._hurried -= 1

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._work.wait()
                await self._gather()
                self._work, self._hurry = trio.Event(), trio.Event()
                asks, self._waiting = self._waiting, []
                few: list[_Ask] = []
                for folder, group in _by_folder(asks).items():
                    if self._is_cheap_to_list(folder, len(group)):
                        nursery.start_soon(self._by_listing, folder, group)
                    else:
                        few += group
                if few:
                    nursery.start_soon(self._by_getinfo, few)

    async def _gather(self) -> None:
        """Wait until nobody has asked for a moment, or cannot wait."""
        with trio.move_on_after(self._gather_seconds * _LONGEST_GATHERING):
            while not self._urgent and not self._hurry.is_set():
                waiting = len(self._waiting)
                with trio.move_on_after(self._gather_seconds * (_HURRIED if self._hurried else 1)):
                    await self._hurry.wait()
                if len(self._waiting) == waiting:
                    return

    def _is_cheap_to_list(self, folder: str, wanted: int) -> bool:
        return wanted > _GETINFO_UP_TO and self._sizes.get(folder, 0) < 20 * wanted

    async def _by_listing(self, folder: str, group: list[_Ask]) -> None:
        wanted: defaultdict[str, list[_Ask]] = defaultdict(list)
        for ask in group:
            wanted[posixpath.basename(ask.path)].append(ask)
        size = 0

        def take(page: Sequence[RemoteEntry]) -> None:
            nonlocal size
            size += len(page)
            for entry in page:
                for ask in wanted.get(entry.name, ()):
                    ask.entry = entry

        try:
            await self._store.list_dir(folder, take)
        except RemoteError as error:
            _fail(group, error)
        else:
            if len(self._sizes) > 1000:
                self._sizes.clear()
            self._sizes[folder] = size
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


def _by_folder(asks: list[_Ask]) -> dict[str, list[_Ask]]:
    folders: defaultdict[str, list[_Ask]] = defaultdict(list)
    for ask in asks:
        folders[posixpath.dirname(ask.path)].append(ask)
    return folders


def _fail(asks: list[_Ask], error: RemoteError) -> None:
    for ask in asks:
        ask.error = error


def _answer(asks: list[_Ask]) -> None:
    for ask in asks:
        ask.answered.set()
