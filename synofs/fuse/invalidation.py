"""Telling the kernel what changed on the NAS.

These calls may block until the kernel has finished an operation in the same directory, and that operation may be
one that waits for us: so never from the event loop, never from a handler. One task hands them, in order, to a
thread of its own. A name waits here until no call of its folder is being served: a thread that waits in the kernel
cannot be killed, and if we were killed beside it, the mount would hang instead of ending. What is not told yet is kept
once per target, so a storm of changes cannot grow the queue beyond the number of inodes that the kernel knows.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Callable
from functools import partial

import pyfuse3
import trio

from synofs.fs.inodes import Inode
from synofs.fuse.calls import Calls

log = logging.getLogger(__name__)

_ASKED_FOR = object()  # in place of a reply: the kernel asks before it uses what it knows


class KernelNotifier:
    """`fs.listing.Notifier` for a mounted filesystem."""

    def __init__(self) -> None:
        self._inodes: dict[int, bool] = {}  # number -> attributes only
        self._names: dict[tuple[int, bytes], int] = {}  # (directory, name) -> number of what was deleted, or 0
        self._work = trio.Event()
        self.delivering = False
        self._delivery = trio.Event()  # set and replaced at the end of each
        self._thread = trio.CapacityLimiter(1)
        self._quiet = False
        self._calls = Calls()

    def mind(self, calls: Calls) -> None:
        """Folders that these calls keep locked are left alone until they are answered."""
        self._calls = calls
        calls.on_unlock = self._folder_unlocked

    def _folder_unlocked(self) -> None:
        if self._names:
            self._work.set()

    def content_changed(self, inode: Inode) -> None:
        inode.kernel_cached = None
        self._inodes[inode.number] = False
        self._work.set()

    def attributes_changed(self, inode: Inode) -> None:
        self._inodes.setdefault(inode.number, True)
        self._work.set()

    def attributes_before_answer(self, inode: Inode) -> None:
        if inode.kernel_entry is None:  # they have changed since the kernel was told
            with contextlib.suppress(OSError):
                pyfuse3.invalidate_inode(inode.number, True)
            inode.kernel_entry = _ASKED_FOR

    def entry_appeared(self, parent: Inode, name: bytes) -> None:
        if parent.lookups:
            self._names[parent.number, name] = 0
            self._work.set()

    def entry_gone(self, parent: Inode, inode: Inode) -> None:
        if parent.lookups:
            self._names[parent.number, inode.name] = inode.number if inode.lookups else 0
            self._work.set()

    async def run(self) -> None:
        """Deliver until cancelled. A delivery that blocks in the kernel is left to its thread at the end; before that,
        see to it with `fall_silent` that there is none."""
        while True:
            await self._work.wait()
            self._work = trio.Event()
            if self._quiet:
                continue
            inodes, self._inodes = self._inodes, {}
            names = {key: self._names.pop(key) for key in list(self._names) if not self._calls.locks(key[0])}
            self.delivering = True
            work = partial(_deliver, inodes, names, self._calls.locks)
            await trio.to_thread.run_sync(work, limiter=self._thread, abandon_on_cancel=True)
            self.delivering = False
            if names:  # put off: their folders were locked meanwhile, and may be free again
                self._names = names | self._names
                self._work.set()
            self._delivery.set()
            self._delivery = trio.Event()

    async def fall_silent(self) -> None:
        """Begin no more deliveries, and return when none is under way.

        One that waits in the kernel for a folder waits for the call that keeps it locked. If we ended before that call
        is answered, neither would ever end: the thread holds the kernel's device open.
        """
        self._quiet = True
        while self.delivering:
            await self._delivery.wait()

    async def delivered(self) -> None:
        """Wait until the kernel knows everything that was told so far."""
        while self._inodes or self._names or self.delivering:
            await self._delivery.wait()


def _deliver(inodes: dict[int, bool], names: dict[tuple[int, bytes], int], is_locked: Callable[[int], bool]) -> None:
    """What is told is taken out of `names`; what is locked by now stays."""
    for number, attributes_only in inodes.items():
        # ENOENT: the kernel has forgotten it meanwhile.
        with contextlib.suppress(OSError):
            pyfuse3.invalidate_inode(number, attributes_only)
    for directory, name in list(names):
        if is_locked(directory):
            continue
        deleted = names.pop((directory, name))
        try:
            pyfuse3.invalidate_entry(directory, name, deleted)
        except OSError as error:
            if deleted and error.errno != errno.ENOENT:  # a mount point or a folder in use below: drop what can be
                with contextlib.suppress(OSError):
                    pyfuse3.invalidate_entry(directory, name, 0)
