"""Renames: of clean and unsent files, of folders with unsent files below, over other files; and of earlier runs.

A file that was never uploaded is renamed here alone, and its upload replaces what stands under the new name: so an
editor that writes a temporary file and renames it over the old one costs one upload. Anything else is renamed on the
NAS (fs/moves.py), and what is unsent goes along.

Uploads are kept away by the `placing` locks of the files concerned, which for a folder are all unsent files below
it. A rename runs in a task of its own: once it has begun on the NAS, neither the caller's deadline nor a lost answer
may leave it in between. The task holds the locks until it is known where the file is.

A file that is renamed over while it is open is readable as far as it is in memory.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import trio

from synofs.content.errors import ContentError
from synofs.content.journal import Changes, Move
from synofs.fs.errors import (
    AccessDenied,
    DeadlineExceeded,
    EntryExists,
    IsADirectory,
    NoEntry,
    NotADirectory,
    VersionNotShown,
)
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.fs.moves import Mover, OutcomeUnknown
from synofs.fs.names import printable
from synofs.fs.namespace import Namespace, is_open, path_of
from synofs.fs.uploads import version_of
from synofs.fs.writes import Writes
from synofs.remote import Changed, Exists, Fingerprint, RemoteError, Rights

log = logging.getLogger(__name__)

_JOURNAL_PAUSE_SECONDS = 1.0
_PAUSE_SECONDS = 5.0  # between two looks at a rename whose end is not known


class _Rename:
    """One rename under way. Its caller waits for `ended`; the task may have to go on after that."""

    def __init__(self, inode: Inode, target: Inode | None, new_parent: Inode, new_name: bytes) -> None:
        self.inode = inode
        self.target = target
        self.new_parent = new_parent
        self.new_name = new_name
        self.ended = trio.Event()
        self.error: Exception | None = None

    @property
    def dest(self) -> str:
        return path_of(self.new_parent, self.new_name)

    def end(self, error: Exception | None) -> None:
        """Only the first end counts."""
        if not self.ended.is_set():
            self.error = error
            self.ended.set()


class Renames:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        notifier: Notifier,
        names: Namespace,
        writes: Writes,
        mover: Mover,
    ) -> None:
        self._table = table
        self._listings = listings
        self._notifier = notifier
        self._names = names
        self._writes = writes
        self._dirty = writes.dirty
        self._leftovers = writes.leftovers
        self._mover = mover
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Finish what an earlier run had begun, and serve renames until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            nursery.start_soon(self._recover, await self._leftovers.take_up())
            task_status.started()
            await trio.sleep_forever()

    # ----- the verb ---------------------------------------------------------------------------------------------

    async def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, *, replace: bool
    ) -> None:
        self._names.check_name(new_parent, new_name)
        inode = await self._names.find(old_parent, old_name)
        target = await self._names.look(new_parent, new_name)
        if target is inode:
            return
        if target is not None and not replace:
            raise EntryExists(path_of(new_parent, new_name))
        if not (old_parent.rights & Rights.WRITE and new_parent.rights & Rights.WRITE):
            raise AccessDenied(inode.path())
        if target is not None and target.is_dir != inode.is_dir:
            raise IsADirectory(target.path()) if target.is_dir else NotADirectory(target.path())
        rename = _Rename(inode, target, new_parent, new_name)
        assert self._nursery is not None, "run() has not been started"
        self._nursery.start_soon(self._rename, rename)
        try:
            await rename.ended.wait()
        except trio.Cancelled:
            rename.end(DeadlineExceeded(rename.dest))  # the kernel is told that it failed: should it be done, tell it
            raise
        if rename.error is not None:
            raise rename.error

    async def _rename(self, rename: _Rename) -> None:
        try:
            while True:
                if _perhaps_sent(rename.inode):
                    await self._writes.sync(rename.inode)
                async with self._placing(rename.inode, rename.target):
                    if not _perhaps_sent(rename.inode):  # else it was sent while we waited
                        await self._rename_locked(rename)
                        break
        except Exception as error:
            rename.end(error)
        except BaseException:
            rename.end(DeadlineExceeded("the mount is being ended"))
            raise
        else:
            rename.end(None)

    @asynccontextmanager
    async def _placing(self, inode: Inode, target: Inode | None) -> AsyncIterator[None]:
        """Keep uploads away from both and, of a folder, from all unsent files below it."""
        while True:
            numbers = {inode.number} | {other.number for other in self._dirty.at_or_below(inode)}
            if target is not None:
                numbers.add(target.number)
            async with self._writes.hold_place(*numbers):
                if all(other.number in numbers for other in self._dirty.at_or_below(inode)):
                    yield
                    return

    async def _rename_locked(self, rename: _Rename) -> None:
        inode, target, parent = rename.inode, rename.target, rename.new_parent
        if inode.gone or (target is not None and (target.gone or target.parent is not parent)):
            raise NoEntry(rename.dest)  # renamed or removed since we began to wait
        if target is not None and target.is_dir:
            async with self._names.doubtful(parent):
                await self._names.remove_folder(target)
            self._names.vanish(parent, target, self._leftovers.name_of_gone(target.number))
            target = rename.target = None
        if target is not None and target.staged is not None and not target.staged.complete and is_open(target):
            # An edit that is open needs all of its content here, before what it edits is replaced on the NAS.
            await self._writes.uploads.fetch_missing(target, target.staged)
        if inode.staged is not None and inode.staged.base is None:
            await self._rename_here(rename)
        else:
            await self._rename_on_nas(rename)

    async def _rename_here(self, rename: _Rename) -> None:
        """Never uploaded: the upload replaces what stands under the new name."""
        staged, target = rename.inode.staged, rename.target
        assert staged is not None
        if target is not None and target.staged is not None:
            attempt = await target.staged.attempt_with_md5()
            staged.inherit(target.staged.base, target.staged.base_md5, attempt)
        elif target is not None:
            staged.inherit(*version_of(target, target.replaceable_version(trio.current_time())), None)
        await self._settle(rename, None)

    async def _rename_on_nas(self, rename: _Rename) -> None:
        inode, target = rename.inode, rename.target
        replaces: Fingerprint | None = None
        if target is not None:
            known = target.replaceable_version(trio.current_time())
            replaces = target.staged.base if target.staged is not None else known
        noted = self._depend_on(inode.path()) or bool(self._dirty.at_or_below(inode))
        noted = noted or (target is not None and target.staged is not None)
        await self._writes.area.flush()  # an upload that is done must not come back under the old name after a crash
        old_parent = inode.parent
        assert old_parent is not None
        try:
            async with self._names.doubtful(old_parent, rename.new_parent):
                for file in (inode, target):
                    if file is not None:
                        await self._names.withdraw_upload(file)
                move = await self._mover.move(inode.path(), rename.dest, replaces=replaces, noted=noted)
        except Exists:  # it was not shown here: whoever tries again shall see it
            self._listings.expire(rename.new_parent)
            self._notifier.entry_appeared(rename.new_parent, rename.new_name)
            raise
        except Changed as changed:
            raise VersionNotShown(str(changed)) from changed
        except OutcomeUnknown as unknown:
            assert self._nursery is not None
            self._nursery.start_soon(self._lose_patience, rename, unknown.error)
            if not await self._outcome(unknown.move, insists=lambda: not rename.ended.is_set()):
                await self._leftovers.drop(unknown.move)
                self._look_again(unknown.move)
                raise unknown.error from None
            move = unknown.move
        await self._settle(rename, move)

    async def _lose_patience(self, rename: _Rename, error: RemoteError) -> None:
        """The caller is told that nobody knows; the task goes on."""
        await trio.sleep(self._writes.patience_seconds)
        rename.end(error)

    async def _outcome(self, move: Move, *, insists: Callable[[], bool]) -> bool:
        """Was it done, or is it now? Asks until the NAS tells. `insists`: does anybody still wait for it? Once its
        caller was told that it failed it is not asked for again, and looked for after a pause: what was on its way has
        arrived."""
        while True:
            again = insists()
            if not again:
                await trio.sleep(_PAUSE_SECONDS)
            try:
                return await self._mover.finish(move, again=again)
            except (RemoteError, ContentError, OSError) as error:
                log.info("%s: its rename waits: %s", printable(move.source), error)
                await trio.sleep(_PAUSE_SECONDS)

    async def _settle(self, rename: _Rename, move: Move | None) -> None:
        """It is done on the NAS: all that follows from it, here and in the journal."""
        await self._writes.area.rows_written()
        inode, target, parent = rename.inode, rename.target, rename.new_parent
        old_parent, old_name, old_path = inode.parent, inode.name, inode.path()
        assert old_parent is not None
        replaced = target.staged if target is not None else None
        keep = target is not None and is_open(target)
        self._writes.uploads.forget_cached(old_path, rename.dest)
        if target is not None:
            self._dirty.unlink(target)
            self._names.vanish(parent, target, self._leftovers.name_of_gone(target.number))
        self._listings.remove(old_parent, inode)
        if parent is not old_parent and rename.new_name != old_name:
            self._listings.passed(old_parent, rename.new_name)
        if move is not None:
            self._leftovers.arrived(move)
        inode.gone = False  # who looked at the NAS meanwhile missed it under its old name
        files = self._dirty.relocate(inode, parent, rename.new_name)
        self._listings.insert(parent, inode)
        if inode.is_dir:
            self._listings.archive.moved(old_path, rename.dest)
        self._table.release(inode)  # the kernel may have forgotten it meanwhile
        if rename.ended.is_set():  # the kernel was told that it failed, or did not ask for it
            self._tell_of(rename, old_parent, old_name)
        known_by_path = self._leftovers.renamed(old_path, rename.dest) | self._rename_times(old_path, rename.dest)
        gone = [replaced.id] if replaced is not None else []
        if replaced is not None:
            replaced.abandon()
        changes = Changes(files, gone, (old_path, rename.dest) if known_by_path else None)
        await self._write_down(rename, move, changes, (old_parent, old_name))
        if target is not None and replaced is not None:
            await self._writes.forget(target, replaced, keep=keep, journaled=True)

    def _tell_of(self, rename: _Rename, old_parent: Inode, old_name: bytes) -> None:
        self._notifier.entry_appeared(old_parent, old_name)
        self._notifier.entry_appeared(rename.new_parent, rename.new_name)

    async def _write_down(
        self, rename: _Rename, move: Move | None, changes: Changes, old_place: tuple[Inode, bytes]
    ) -> None:
        """The journal is to know of it, however long the local disk is full: what is written down next of these files
        goes by their new names, and what was replaced must not come back beside them."""
        while True:
            try:
                await self._writes.area.moved(move.id if move is not None else None, changes)
                return
            except (ContentError, OSError) as error:
                _tell_of_a_full_disk(rename.dest, error)
                if not rename.ended.is_set():  # a crash may undo it
                    rename.end(error)
                    self._tell_of(rename, *old_place)
                await trio.sleep(_JOURNAL_PAUSE_SECONDS)

    def _depend_on(self, path: str) -> bool:
        """Is anything but unsent files known by a path at or below this one?"""
        return self._leftovers.any_below(path) or any(_is_below(given, path) for given in self._table.given_mtimes)

    def _rename_times(self, old: str, new: str) -> bool:
        """Times given to files on the NAS are known by path. Returns whether any was concerned."""
        given = self._table.given_mtimes
        concerned = [path for path in given if _is_below(path, old) or _is_below(path, new)]
        moved = {new + path.removeprefix(old): given[path] for path in concerned if _is_below(path, old)}
        for path in concerned:
            del given[path]
        given.update(moved)
        return bool(concerned)

    # ----- of an earlier run --------------------------------------------------------------------------------------

    async def _recover(self, moves: list[Move]) -> None:
        """Unsent files may belong under their new names: the queue waits for this."""
        for move in moves:
            if await self._outcome(move, insists=lambda: True):
                await self._follow(move)
            else:
                await self._insist(move, partial(self._leftovers.drop, move))
            self._look_again(move)
        self._writes.moves_settled()

    @staticmethod
    async def _insist(move: Move, write: Callable[[], Awaitable[None]]) -> None:
        """Have the journal know, however long the local disk is full."""
        while True:
            try:
                return await write()
            except (ContentError, OSError) as error:
                _tell_of_a_full_disk(move.dest, error)
                await trio.sleep(_JOURNAL_PAUSE_SECONDS)

    async def _follow(self, move: Move) -> None:
        """The NAS has it under its new name: unsent files go there, too."""
        inode, target = self._inode_at(move.source), self._inode_at(move.dest)
        if inode is None:
            if target is not None and target.staged is not None:  # what was replaced is not to be sent any more
                staged = target.staged
                self._dirty.unlink(target)
                await self._writes.forget(target, staged, keep=is_open(target))
            self._leftovers.arrived(move)
            changes = Changes({}, renamed=(move.source, move.dest))
            await self._insist(move, partial(self._writes.area.moved, move.id, changes))
            self._rename_times(move.source, move.dest)
            self._leftovers.renamed(move.source, move.dest)
            return
        root = self._table.root.path().rstrip("/")
        *folders, name = move.dest.removeprefix(root + "/").encode("utf-8", "surrogateescape").split(b"/")
        parent = self._table.root
        for folder in folders:
            parent = self._table.obtain(parent, folder, is_dir=True)
        rename = _Rename(inode, target if target is not inode else None, parent, name)
        rename.end(None)
        async with self._placing(inode, rename.target):
            await self._settle(rename, move)

    def _look_again(self, move: Move) -> None:
        """What was listed while the file was on its way is not to be believed."""
        folders = {posixpath.dirname(move.source), posixpath.dirname(move.dest)}
        for listing in self._listings.cached():
            if listing.directory.path() in folders:
                self._listings.expire(listing.directory)

    def _inode_at(self, path: str) -> Inode | None:
        """The unsent file, or the folder of unsent files, at a path of the NAS."""
        for entry in self._writes.queue.entries:
            node: Inode | None = entry.item
            while node is not None:
                if node.path() == path:
                    return node
                node = node.parent
        return None


def _tell_of_a_full_disk(dest: str, error: Exception) -> None:
    log.warning("%s: its rename cannot be written down yet: %s", printable(dest), error)


def _perhaps_sent(inode: Inode) -> bool:
    """Nobody knows whether a new file is on the NAS. Its rename has to know: here alone, or there, too?"""
    staged = inode.staged
    return staged is not None and not staged.unlinked and staged.base is None and staged.attempt is not None


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")
