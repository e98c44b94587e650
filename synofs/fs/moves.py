"""Renames on the NAS, with what File Station has: `Rename` (same folder, never replaces) and `CopyMove` (another
folder, keeps the name, may replace).

Replacing is done by `CopyMove` with overwrite, so there is never a moment without a file under the name, and the
client may die at any point. Where place and name change together, it takes more than one step:

- `a/x` to `b/x`: move
- `a/x` to `a/y`, and nothing is there: rename
- `a/x` to `b/y`, and there is no `a/y`: rename to `a/y`, move
- `a/x` to `a/y`, which is replaced, and whatever is left: through a hidden folder in the target's folder (move,
  rename, move)

A rename of more than one step, and one that unsent files depend on, is in the journal before it begins (`Move`;
`temp_dir` is the folder in which the new name is given). `finish` looks where the source is and brings it to its end:
after a crash, or when the answer to a call was lost.

Before a file is replaced, its version is compared with the one that was shown here. What somebody has changed since
then is not replaced.
"""

from __future__ import annotations

import logging
import posixpath
import secrets
from datetime import datetime
from enum import IntEnum
from typing import Protocol

from synofs.content.conflicts import conflict_name
from synofs.content.hidden import HiddenFolders
from synofs.content.journal import Move
from synofs.fs import lostanswers
from synofs.remote import Changed, Exists, Fingerprint, NotFound, RemoteEntry, RemoteError, RemoteStore

log = logging.getLogger(__name__)


class MoveLog(Protocol):
    """Remembers what was begun, across crashes."""

    async def begin(self, source: str, dest: str, temp_dir: str | None, replaces: Fingerprint | None) -> Move: ...

    async def drop(self, move: Move) -> None: ...


class OutcomeUnknown(Exception):
    """The NAS does not answer: nobody knows whether the rename was done, or half of it. `finish` it later."""

    def __init__(self, move: Move, error: RemoteError) -> None:
        super().__init__(str(error))
        self.move = move
        self.error = error


class _At(IntEnum):
    """Where the source is on its way."""

    SOURCE = 0
    ENTERED = 1  # in `temp_dir`, under its old name
    RENAMED = 2  # in `temp_dir`, under its new name
    DEST = 3


class Mover:
    def __init__(self, store: RemoteStore, journal: MoveLog, hidden: HiddenFolders, hostname: str) -> None:
        self._store = store
        self._log = journal
        self._hidden = hidden
        self._hostname = hostname

    async def move(self, source: str, dest: str, *, replaces: Fingerprint | None, noted: bool) -> Move | None:
        """Move a file or folder. `replaces`: the version of the file at `dest` that may be replaced; None: nothing may.

        `noted`: unsent files depend on it. Returns what the journal knows of it; the caller crosses that off together
        with all that follows from the rename. Raises `Exists`, `NotFound`, `Changed` and so on if nothing was done,
        `OutcomeUnknown` if a noted rename may have been done, and a temporary error if another may.
        """
        (source_dir, source_name), (dest_dir, dest_name) = posixpath.split(source), posixpath.split(dest)
        if source_name == dest_name:
            return await self._one_step(source, dest, replaces, noted)
        if source_dir == dest_dir and replaces is None:
            try:
                return await self._one_step(source, dest, None, noted)
            except Exists:
                if source_name.casefold() != dest_name.casefold():
                    raise  # else the file itself is in the way, on a file system that ignores case
        elif source_dir != dest_dir:
            # What cannot be brought to its end is not begun: a step whose answer is lost may be done after it was taken
            # back.
            between, there = await self._store.get_entries([f"{source_dir}/{dest_name}", dest])
            _check_target(there, dest, replaces)
            if between is None:
                return await self._walk(await self._log.begin(source, dest, source_dir, replaces), _At.ENTERED)
        else:
            await self._check_version(dest, replaces)
        async with self._hidden.use(dest_dir) as temp_dir:
            return await self._walk(await self._log.begin(source, dest, temp_dir, replaces), _At.SOURCE)

    async def _one_step(self, source: str, dest: str, replaces: Fingerprint | None, noted: bool) -> Move | None:
        if not noted:
            await self._step(source, dest, replaces)
            return None
        move = await self._log.begin(source, dest, None, replaces)
        try:
            await self._step(source, dest, replaces)
        except RemoteError as error:
            if error.temporary:
                raise OutcomeUnknown(move, error) from error
            await self._log.drop(move)
            raise
        return move

    async def _step(self, source: str, dest: str, replaces: Fingerprint | None) -> None:
        dest_dir, dest_name = posixpath.split(dest)
        if posixpath.basename(source) == dest_name:
            overwrite = replaces is not None and await self._check_version(dest, replaces)
            await lostanswers.move(self._store, source, dest_dir, overwrite=overwrite)
        else:
            await lostanswers.rename(self._store, source, dest_name)

    async def _check_version(self, path: str, replaces: Fingerprint | None) -> bool:
        """Is anything there? As `_check_target`."""
        return _check_target(await self._look(path), path, replaces)

    async def _look(self, path: str) -> RemoteEntry | None:
        return (await self._store.get_entries([path]))[0]

    # ----- in several steps ---------------------------------------------------------------------------------------

    async def _walk(self, move: Move, at: _At) -> Move:
        try:
            await self._go_on(move, at)
        except RemoteError as error:
            if error.temporary:
                raise OutcomeUnknown(move, error) from error
            try:
                await self._go_back(move)
            except RemoteError as another:
                raise OutcomeUnknown(move, another) from error
            await self._log.drop(move)
            raise
        return move

    async def _go_on(self, move: Move, at: _At) -> None:
        """From where the source is to the end."""
        assert move.temp_dir is not None
        dest_dir, dest_name = posixpath.split(move.dest)
        if at is _At.SOURCE:
            try:
                await lostanswers.move(self._store, move.source, move.temp_dir, overwrite=False)
            except NotFound:
                await self._hidden.make_again(move.temp_dir)  # perhaps somebody has removed it
                await lostanswers.move(self._store, move.source, move.temp_dir, overwrite=False)
        if at <= _At.ENTERED:
            await self._give_name(_entered(move), dest_name)
        overwrite = move.replaces is not None and await self._check_version(move.dest, move.replaces)
        await lostanswers.move(self._store, _renamed(move), dest_dir, overwrite=overwrite)

    async def _give_name(self, path: str, name: str) -> None:
        try:
            await lostanswers.rename(self._store, path, name)
        except Exists:
            folder, old = posixpath.split(path)
            if old.casefold() != name.casefold():
                raise
            step = f"{name} {secrets.token_hex(4)}"
            await lostanswers.rename(self._store, path, step)
            await lostanswers.rename(self._store, f"{folder}/{step}", name)

    async def _go_back(self, move: Move) -> None:
        """Bring the source to its old place. What cannot get there is shown beside the target, as a conflict copy."""
        source_dir, source_name = posixpath.split(move.source)
        at = await self._whereabouts(move)
        try:
            if at is _At.RENAMED:
                await lostanswers.rename(self._store, _renamed(move), source_name)
                at = _At.ENTERED
            if at is _At.ENTERED and move.temp_dir != source_dir:
                await lostanswers.move(self._store, _entered(move), source_dir, overwrite=False)
        except Exists:
            await self.show(_renamed(move) if at is _At.RENAMED else _entered(move), posixpath.dirname(move.dest))

    async def _whereabouts(self, move: Move) -> _At:
        source_dir = posixpath.dirname(move.source)
        source, entered, renamed = await self._store.get_entries([move.source, _entered(move), _renamed(move)])
        if source is not None:
            return _At.SOURCE if move.temp_dir != source_dir else _At.ENTERED
        if entered is not None:
            return _At.ENTERED
        return _At.RENAMED if renamed is not None else _At.DEST

    async def finish(self, move: Move, *, again: bool) -> bool:
        """Bring what was begun to its end; False: it was not done, and will not be. The journal still knows of it.

        `again`: what was not done is asked for again. Calls whose answers were lost may still be on their way to the
        NAS, or wait there: did we take them for not done, they would move the file later, where nobody looks for it.
        So they come too late.

        Raises the store's errors; then call again when the NAS answers.
        """
        if move.temp_dir is None:
            return await self._look(move.source) is None or (again and await self._step_after_all(move))
        at = await self._whereabouts(move)
        if not again and (at is _At.SOURCE or (at is _At.ENTERED and _entered(move) == move.source)):
            return False
        if at is not _At.DEST:
            try:
                await self._go_on(move, at)
            except RemoteError as error:
                if error.temporary:
                    raise
                log.warning("%s: its rename to %s is taken back: %s", move.source, move.dest, error)
                await self._go_back(move)
                return False
        return True

    async def _step_after_all(self, move: Move) -> bool:
        try:
            await self._step(move.source, move.dest, move.replaces)
        except RemoteError as error:
            if error.temporary:
                raise
            return await self._look(move.source) is None
        return True

    async def show(self, hidden: str, folder: str) -> str:
        """Bring a file out of a hidden folder, under its own name or one that says that there was a conflict."""
        temp_dir, name = posixpath.split(hidden)
        for number in range(100):
            shown = conflict_name(name, self._hostname, datetime.now(), number) if number else name
            if await self._look(f"{folder}/{shown}") is None:
                if posixpath.basename(hidden) != shown:
                    await lostanswers.rename(self._store, hidden, shown)
                    hidden = f"{temp_dir}/{shown}"
                await lostanswers.move(self._store, hidden, folder, overwrite=False)
                log.warning("%s/%s was left in a hidden folder and is shown again", folder, shown)
                return f"{folder}/{shown}"
        raise Exists("no free name", path=f"{folder}/{name}")


def _check_target(there: RemoteEntry | None, path: str, replaces: Fingerprint | None) -> bool:
    """Is anything there? Raises `Exists` if nothing may be, and `Changed` if it is another version than the one that
    may be replaced."""
    if there is not None and replaces is None:
        raise Exists("something is there already", path=path)
    if there is not None and (there.is_dir or there.fingerprint != replaces):
        raise Changed("somebody has changed it on the NAS, so it is not replaced", path=path)
    return there is not None


def _entered(move: Move) -> str:
    return f"{move.temp_dir}/{posixpath.basename(move.source)}"


def _renamed(move: Move) -> str:
    return f"{move.temp_dir}/{posixpath.basename(move.dest)}"
