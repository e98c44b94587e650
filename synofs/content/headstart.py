"""The part of one file that was sent while the rest was still being written (`content/sendahead.py`)."""

from __future__ import annotations

from typing import BinaryIO

import trio

from synofs.remote import BeginningLost, GrowingUpload


class HeadStart:
    """What was sent of one file. Its writer calls `grew` and `void`, its upload `finish` and `close`."""

    def __init__(self) -> None:
        self.end = 0  # the bytes below are on the NAS, or on their way to it: they must not change
        self.upload: GrowingUpload | None = None
        self.asked_to_end = False
        self.scope = trio.CancelScope()  # of the task that sends
        self.idle = trio.Event()  # nothing is being sent any more
        self.closed = trio.Event()
        self._step = trio.Event()
        self._is_void = False

    def grew(self) -> None:
        self._step.set()

    def void(self) -> None:
        self._is_void = True
        self.scope.cancel()
        self.closed.set()

    async def step(self) -> None:
        """Wait until the file has grown, or an end was asked for."""
        await self._step.wait()
        self._step = trio.Event()

    def leads_to(self, path: str, *, overwrite: bool) -> bool:
        """Has a part of the file been sent to this place, in this way?"""
        upload = self.upload
        return upload is not None and (upload.path, upload.overwrite) == (path, overwrite) and self.end > 0

    async def finish(self, source: BinaryIO, size: int, mtime_ns: int) -> None:
        """Send the rest. Raises `BeginningLost` when the whole is to be sent instead, or what an upload raises."""
        self.asked_to_end = True
        self._step.set()
        await self.idle.wait()
        if self._is_void or self.upload is None:
            raise BeginningLost("what was sent before does not belong to the file any more")
        await self.upload.finish(source, size, mtime_ns)

    def close(self) -> None:
        self.closed.set()
        self.scope.cancel()
