"""Renames on the NAS, with what File Station has: `Rename` (same folder, never replaces) and `CopyMove` (another
folder, keeps the name, may replace).

Replacing is done by `CopyMove` with overwrite, so there is never a moment without a file under the name, and the
client may die at any point. Where the names differ, the file goes through a hidden folder to get its new one there.
Each such walk is in the journal before it starts (`moves`), and the next mount finishes what was begun.
"""

from __future__ import annotations

import contextlib
import posixpath
from typing import Protocol

from synofs.remote import Exists, NotEmpty, RemoteStore


class MoveLog(Protocol):
    """Remembers a walk through a hidden folder, across crashes."""

    async def begin(self, temp_dir: str, source_name: str, dest_dir: str, dest_name: str) -> None: ...

    async def end(self, temp_dir: str) -> None: ...

    async def unfinished(self) -> list[tuple[str, str, str, str]]: ...


class Mover:
    def __init__(self, store: RemoteStore, log: MoveLog, hidden_name: str) -> None:
        """`hidden_name`: the hidden folder of this client, made inside the target folder when it is needed."""
        self._store = store
        self._log = log
        self._hidden_name = hidden_name

    async def move(self, source: str, dest: str, *, replace: bool) -> None:
        """Move a file or folder; `replace`: a file at `dest` is replaced. Raises `Exists`, `NotFound`, ..."""
        source_dir, source_name = posixpath.split(source)
        dest_dir, dest_name = posixpath.split(dest)
        if source_name == dest_name:
            await self._store.move(source, dest_dir, overwrite=replace)
            return
        if source_dir == dest_dir and not replace:
            await self._rename(source, dest_name)
            return
        await self._through_hidden(source, dest_dir, dest_name, replace=replace)

    async def _rename(self, source: str, name: str) -> None:
        try:
            await self._store.rename(source, name)
        except Exists:
            old = posixpath.basename(source)
            if old.casefold() != name.casefold():
                raise
            # A NAS that ignores case sees the file itself in the way.
            folder = posixpath.dirname(source)
            step = f"{self._hidden_name}-{name}"[:100]
            await self._store.rename(source, step)
            await self._store.rename(f"{folder}/{step}", name)

    async def _through_hidden(self, source: str, dest_dir: str, dest_name: str, *, replace: bool) -> None:
        temp_dir = f"{dest_dir}/{self._hidden_name}"
        source_name = posixpath.basename(source)
        await self._log.begin(temp_dir, source_name, dest_dir, dest_name)
        with contextlib.suppress(Exists):
            await self._store.make_dir(temp_dir)
        await self._store.move(source, temp_dir, overwrite=False)
        await self._finish(temp_dir, source_name, dest_dir, dest_name, replace=replace)
        await self._log.end(temp_dir)

    async def _finish(self, temp_dir: str, source_name: str, dest_dir: str, dest_name: str, *, replace: bool) -> None:
        await self._store.rename(f"{temp_dir}/{source_name}", dest_name)
        try:
            await self._store.move(f"{temp_dir}/{dest_name}", dest_dir, overwrite=replace)
        except Exists:
            # Somebody was faster. Give the source its place back under its own name rather than hide it.
            await self._store.rename(f"{temp_dir}/{dest_name}", source_name)
            await self._store.move(f"{temp_dir}/{source_name}", dest_dir, overwrite=False)
            raise
        with contextlib.suppress(NotEmpty):
            await self._store.remove(temp_dir)

    async def recover(self) -> None:
        """Finish what an earlier run had begun. Raises the store's errors; call again when the NAS answers."""
        for temp_dir, source_name, dest_dir, dest_name in await self._log.unfinished():
            renamed, entered = await self._store.get_entries([f"{temp_dir}/{dest_name}", f"{temp_dir}/{source_name}"])
            if renamed is not None:
                await self._store.move(f"{temp_dir}/{dest_name}", dest_dir, overwrite=True)
            elif entered is not None:
                await self._finish(temp_dir, source_name, dest_dir, dest_name, replace=True)
            await self._log.end(temp_dir)
