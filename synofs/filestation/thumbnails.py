"""Thumbnails that the NAS makes itself. Asking for one costs it less than sending the photograph, and 1 % of the bytes.

The first question for a picture may be answered with 404 while the NAS makes it, and one that it can make none of is
answered so for ever: the two cannot be told apart but by asking again later. Asking changes the mtime of the
picture's *folder*, because the NAS puts what it made into a hidden folder there.
"""

from __future__ import annotations

import trio

from synofs.filestation import calls
from synofs.filestation.caller import Attempt, Caller
from synofs.filestation.lanes import Lane
from synofs.filestation.parsing import Empty, data_of
from synofs.filestation.transport import Head
from synofs.filestation.wire import check_status
from synofs.remote import BadAnswer, NotFound

SIZES = ("small", "medium", "large")
PAUSES_SECONDS = (0.2, 0.5, 1.0, 2.0)


class Thumbnails:
    """For somebody who waits for one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def get(self, path: str, size: str = "small") -> bytes:
        """The thumbnail, also if it has to be made first. Raises `NotFound` when there is none after some seconds."""
        for pause in PAUSES_SECONDS:
            try:
                return await thumbnail(self._caller, path, size, lane=Lane.SMALL)
            except NotFound:
                await trio.sleep(pause)
        return await thumbnail(self._caller, path, size, lane=Lane.SMALL)


async def thumbnail(caller: Caller, path: str, size: str, *, lane: Lane = Lane.BACKGROUND) -> bytes:
    """The picture's thumbnail, an encoded image: `small` has about 120 pixels, `medium` 320, `large` 640.

    Raises `NotFound` when the NAS has none, or has none yet.
    """
    call = calls.thumbnail(path, size)

    async def attempt(this: Attempt) -> bytes:
        response = await caller.wire.fetch(
            call,
            this.session,
            _Whole(),
            headers={},
            lane=lane,
            answer_seconds=this.answer_seconds,
            fresh_connection=this.fresh_connection,
        )
        if response.status == 404:
            raise NotFound("the NAS has no thumbnail of it", path=path, code=404)
        check_status(response.head, path)
        if not (response.head.content_type or "").startswith("image/"):
            data_of(call.api, response.body, Empty, path=path)  # raises what the NAS says
            raise BadAnswer("the NAS reports success in place of the thumbnail", path=path)
        return response.body

    return await caller.run(attempt, idempotent=True)


class _Whole:
    """Takes nothing while it comes: a thumbnail is small enough to be an answer."""

    def wants(self, head: Head) -> bool:
        return False

    async def take(self, piece: memoryview) -> bool:
        return False
