"""Which inodes have unsent content, and where they are.

A dirty inode has `staged` set. It is kept in memory (`opens`), so are the folders above it, because its path comes
from the chain of its parents; it is shown in listings although the NAS does not know of it (`local_names`); and it is
in the upload queue. Nothing here waits: what is changed together is changed between two awaits.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from synofs.content.attempt import Attempt
from synofs.content.stagedfile import StagedFile
from synofs.content.writeback import Writeback
from synofs.fs.inodes import Inode, InodeTable


class DirtyFiles:
    def __init__(self, table: InodeTable, queue: Writeback[Inode]) -> None:
        self._table = table
        self._queue = queue
        self._local: dict[int, dict[bytes, Inode]] = {}  # directory number -> dirty files in it

    def attach(self, inode: Inode, staged: StagedFile) -> None:
        """The inode becomes dirty."""
        inode.staged = staged
        inode.shown_mtime_ns = None
        inode.opens += 1
        if not staged.unlinked:
            inode.gone = False
            self._pin_parents(inode, 1)
            self._remember(inode)
            self._queue.add(inode, inode.path())

    def detach(self, inode: Inode, *, refused: bool = False) -> StagedFile | None:
        """The inode is clean again, or nobody wants its content. Returns what it had. `refused`: the queue is about to
        drop it by itself, and to tell why to who waits for it."""
        staged = inode.staged
        if staged is None:
            return None
        if not refused:
            self._queue.discard(inode)
        if not staged.unlinked:
            self._leave_place(inode)
        inode.staged = None
        inode.opens -= 1
        inode.kernel_entry = None
        self._release_up_from(inode)
        return staged

    def unlink(self, inode: Inode) -> None:
        """The name goes: unsent content will not be sent, but lives on for who has it open."""
        staged = inode.staged
        if staged is not None and not staged.unlinked:
            self._queue.discard(inode)
            self._leave_place(inode)
            staged.unlinked = True
            self._release_up_from(inode)

    def show(self, inode: Inode) -> None:
        """The inode's attributes are the staged file's."""
        staged = inode.staged
        if staged is not None:
            inode.size, inode.mtime_ns = staged.fingerprint
            inode.ctime_ns = inode.mtime_ns
            inode.checked_at = trio.current_time()
            inode.kernel_entry = None

    def local_names(self, directory: Inode) -> Mapping[bytes, Inode]:
        return self._local.get(directory.number, {})

    def at_or_below(self, inode: Inode) -> list[Inode]:
        """Dirty inodes at and below this one."""
        if not inode.is_dir:
            return [inode] if inode.staged is not None and not inode.staged.unlinked else []
        found = []
        for entry in self._queue.entries:
            node: Inode | None = entry.item
            while node is not None and node is not inode:
                node = node.parent
            if node is not None:
                found.append(entry.item)
        return found

    def relocate(self, inode: Inode, parent: Inode, name: bytes) -> dict[str, dict[str, object]]:
        """Give a file or folder another place. Returns what changes in the journal: for each file that is dirty at or
        below it, its columns."""
        below = self.at_or_below(inode)
        old_path, old_parent = inode.path(), inode.parent
        for dirty in below:
            self._leave_place(dirty)
        self._table.move(inode, parent, name)
        inode.kernel_entry = None
        new_path = inode.path()
        changes: dict[str, dict[str, object]] = {}
        for dirty in below:
            self._pin_parents(dirty, 1)
            self._remember(dirty)
            staged = dirty.staged
            assert staged is not None
            staged.path = dirty.path()
            staged.attempt = _moved(staged.attempt, old_path, new_path)
            staged.relabel()
            self._queue.rename(dirty, staged.path)
            changes[staged.id] = staged.columns()
        if below and old_parent is not None:
            self._release_up_from(old_parent)
        return changes

    def _remember(self, inode: Inode) -> None:
        if inode.parent is not None:
            self._local.setdefault(inode.parent.number, {})[inode.name] = inode

    def _leave_place(self, inode: Inode) -> None:
        self._pin_parents(inode, -1)
        if inode.parent is None:
            return
        names = self._local.get(inode.parent.number, {})
        if names.get(inode.name) is inode:
            del names[inode.name]
            if not names:
                del self._local[inode.parent.number]

    def _release_up_from(self, inode: Inode) -> None:
        """What was kept in memory for the sake of unsent content alone is not needed any more."""
        node: Inode | None = inode
        while node is not None:
            above = node.parent
            self._table.release(node)
            node = above

    @staticmethod
    def _pin_parents(inode: Inode, count: int) -> None:
        node = inode.parent
        while node is not None:
            node.opens += count
            node = node.parent


def _moved(attempt: Attempt | None, old: str, new: str) -> Attempt | None:
    if attempt is None or not (attempt.path == old or attempt.path.startswith(old + "/")):
        return attempt
    return attempt._replace(path=new + attempt.path.removeprefix(old))
