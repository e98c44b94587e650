"""Data files that are made ahead, while a program makes one file after the other.

Making a file and making its name durable take as long as making a small file's bytes durable. So, behind the program's
back, some are made at once, with one flush of the folder for all of their names. They are empty and have no label:
after a crash they are nobody's. When no new file has come for a moment they are removed.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Sequence
from typing import NamedTuple

import trio

from synofs.content.stagingdisk import StagingDisk, close_all

log = logging.getLogger(__name__)

_AT_ONCE = 32
_FEW = 16  # made anew when no more are left
_IN_A_ROW_SECONDS = 0.5  # who makes two files within this time makes more
_KEPT_SECONDS = 2.0


class Spare(NamedTuple):
    """An empty data file whose name is durable, and our descriptor of it."""

    name: str
    fd: int


class Spares:
    def __init__(self, disk: StagingDisk) -> None:
        self._disk = disk
        self._spares: list[Spare] = []
        self._taken_at = float("-inf")
        self._wanted = trio.Event()

    def take(self) -> Spare | None:
        """One that was made ahead, for a new file; None: there is none."""
        now = trio.current_time()
        if len(self._spares) <= _FEW and now < self._taken_at + _IN_A_ROW_SECONDS:
            self._wanted.set()
        self._taken_at = now
        return self._spares.pop() if self._spares else None

    async def serve(self) -> None:
        """Make them when they are wanted, and remove them when they are not, until cancelled."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted = trio.Event()
                try:
                    self._spares += await self._disk.run_short(_make, self._disk)
                except OSError as error:  # whoever needs a file will be told
                    log.debug("no data files could be made ahead: %s", error)
                while self._spares and not self._wanted.is_set():
                    with trio.move_on_at(self._taken_at + _KEPT_SECONDS):
                        await self._wanted.wait()
                    if trio.current_time() >= self._taken_at + _KEPT_SECONDS:
                        await self._drop()
        finally:
            with trio.CancelScope(shield=True):
                await self._drop()

    async def _drop(self) -> None:
        spares, self._spares = self._spares, []
        if spares:
            await self._disk.run_short(_remove, self._disk, spares)


def _make(disk: StagingDisk) -> list[Spare]:
    made: list[Spare] = []
    try:
        for _ in range(_AT_ONCE):
            name = disk.new_data_name(uuid.uuid4().hex)
            made.append(Spare(name, disk.create(name)))
        disk.sync_names()
    except BaseException:
        _remove(disk, made)
        raise
    return made


def _remove(disk: StagingDisk, spares: Sequence[Spare]) -> None:
    close_all([spare.fd for spare in spares])
    for spare in spares:
        try:
            os.unlink(disk.data_path(spare.name))
        except OSError as error:
            log.debug("an empty data file stays until the next mount: %s", error)
