"""What a cache folder looks like if the process dies between any two steps on the disk.

Every call that changes the disk is a step. After each one the folder is copied, database and write-ahead log
included, just as the kernel would keep it after SIGKILL; a test then opens each copy as the next mount would.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trio

from synofs.content.journal import Journal

_STEPS = ("open", "pwrite", "write", "ftruncate", "unlink", "rename", "setxattr", "copy_file_range")
_JOURNAL = ("_do", "begin_move", "moved", "_commit")


async def without_threads(work: Callable[..., Any], *args: object, limiter: object = None) -> Any:
    """In place of `trio.to_thread.run_sync`."""
    await trio.lowlevel.checkpoint()
    return work(*args)


class Snapshot(NamedTuple):
    folder: Path
    during: int  # how many acts had ended


class Crashes:
    """Copies of `folder`, one for each step of the acts between `watch`."""

    def __init__(self, folder: Path, copies: Path) -> None:
        self._folder = folder
        self._copies = copies
        self.snapshots: list[Snapshot] = []
        self.acts = 0  # raised by the test when an act has been acknowledged
        self._inside = False

    def _take(self) -> None:
        if self._inside:
            return
        self._inside = True
        try:
            copy = self._copies / f"{len(self.snapshots):04}"
            shutil.copytree(self._folder, copy)
            (copy / "synofs-v1" / "test" / "lock").unlink()
            self.snapshots.append(Snapshot(copy, self.acts))
        finally:
            self._inside = False

    @contextmanager
    def watch(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            for name in _STEPS:
                patch.setattr(os, name, self._stepped(getattr(os, name)))
            for name in _JOURNAL:
                patch.setattr(Journal, name, self._stepped(getattr(Journal, name)))
            yield

    def _stepped(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepped(*args: Any, **kwargs: Any) -> Any:
            result = call(*args, **kwargs)
            self._take()
            return result

        return stepped
