"""pyfuse3's loop, with a kernel: what a call costs that is answered at once."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pyfuse3
import pytest
import trio

from synofs.fuse.turns import kept_while_answers_are_at_hand

pytestmark = [pytest.mark.mount, pytest.mark.trio]

CALLS = 200


class OnlyTheRoot(pyfuse3.Operations):
    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        self.calls += 1
        entry = pyfuse3.EntryAttributes()
        entry.st_ino, entry.st_mode = inode, stat.S_IFDIR | 0o755
        entry.attr_timeout = 0
        return entry


class Steps(trio.abc.Instrument):
    """Of the tasks that serve the kernel."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task.name.startswith("pyfuse")


async def test_a_call_that_is_answered_at_once_wakes_one_task(tmp_path: Path) -> None:
    """With pyfuse3's own lock it wakes two. If this fails, pyfuse3 does not look for trio where it did."""
    operations = OnlyTheRoot()
    pyfuse3.init(operations, str(tmp_path), {"fsname=turns"})
    steps = Steps()

    def look() -> None:
        for _ in range(CALLS):
            os.stat(tmp_path)

    try:
        with kept_while_answers_are_at_hand():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pyfuse3.main)
                await trio.to_thread.run_sync(os.stat, tmp_path)
                trio.lowlevel.add_instrument(steps)
                calls = operations.calls
                await trio.to_thread.run_sync(look)
                trio.lowlevel.remove_instrument(steps)
                calls = operations.calls - calls
                pyfuse3.terminate()
    finally:
        pyfuse3.close(unmount=True)
    assert calls >= CALLS
    assert steps.count <= 1.1 * calls + 10
