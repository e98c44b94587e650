"""The hidden folders that this client uses on the NAS, one of a kind inside each folder where it is needed.

A hidden folder is made when it is first used, written into the journal before that, and removed when nothing has
used it for a while. Using and removing exclude each other.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Protocol

import trio

from synofs.remote import Exists, RemoteStore

HIDDEN_PREFIX = ".synofs-"  # names on the NAS that are ours and never shown


class Remembers(Protocol):
    """Remembers hidden names until they are removed, across crashes."""

    async def add(self, path: str) -> None: ...


class _Folder:
    __slots__ = ("lock", "made", "users")

    def __init__(self) -> None:
        self.lock = trio.Lock()  # while it is made or removed
        self.made = False
        self.users = 0


class HiddenFolders:
    def __init__(self, store: RemoteStore, leftovers: Remembers, name: str) -> None:
        """`name`: of the hidden folder inside the folder where it is needed."""
        self._store = store
        self._leftovers = leftovers
        self._name = name
        self._folders: dict[str, _Folder] = {}

    def path_in(self, folder: str) -> str:
        return f"{folder}/{self._name}"

    @asynccontextmanager
    async def use(self, folder: str) -> AsyncIterator[str]:
        """The path of the hidden folder inside `folder`, which is there until the end of the block, unless somebody
        else removes it."""
        path = self.path_in(folder)
        known = self._folders.setdefault(path, _Folder())
        known.users += 1
        try:
            async with known.lock:
                await self._make(path, known)
            yield path
        finally:
            known.users -= 1

    async def _make(self, path: str, known: _Folder) -> None:
        if not known.made:
            await self._leftovers.add(path)
            with suppress(Exists):
                await self._store.make_dir(path)
            known.made = True

    async def make_again(self, path: str) -> None:
        """It turned out not to be there, although it was made once."""
        known = self._folders[path]
        async with known.lock:
            known.made = False
            await self._make(path, known)

    @asynccontextmanager
    async def unused(self, path: str) -> AsyncIterator[bool]:
        """Inside the block nobody begins to use it; the value tells that nobody does, so that it may be removed."""
        known = self._folders.get(path)
        if known is None:
            yield True
            return
        async with known.lock:
            free = known.users == 0
            yield free
            if free:
                known.made = False
                if known.users == 0:
                    self._folders.pop(path, None)

    def forget_below(self, folder: str) -> None:
        """The folder has another path now, or is no more."""
        for path in [path for path in self._folders if path.startswith(folder + "/")]:
            if self._folders[path].users == 0:
                del self._folders[path]
            else:
                self._folders[path].made = False
