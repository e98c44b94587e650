"""Favourites: the account's bookmarks in File Station."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.parsing import Empty


class Favourite(msgspec.Struct, frozen=True):
    name: str
    path: str
    status: str = "valid"  # broken: nothing is there any more, or no folder


class _Favourites(msgspec.Struct, frozen=True):
    favorites: list[Favourite] = []
    total: int | None = None


class Favourites:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> Sequence[Favourite]:
        return (await self._caller.call(calls.favorites(), _Favourites)).favorites

    async def add(self, path: str, name: str) -> None:
        """The NAS takes files and missing paths, too, and shows them as broken: the caller looks before. Raises
        `Exists` for a path or a name that is in the list."""
        await self._caller.call(calls.favorite_add(path, name), Empty)

    async def remove(self, path: str) -> None:
        """A path that is no favourite is no error."""
        await self._caller.call(calls.favorite_delete(path), Empty)
