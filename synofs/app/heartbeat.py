"""Whether the NAS is there, as seen by the requests that are made anyway; nothing is asked for the sake of it."""

from __future__ import annotations

import time

from synofs.filestation.transport import (
    BodySink,
    ConnectError,
    ReceiveError,
    Request,
    Response,
    SendError,
    Transport,
)


class Heartbeat:
    """A `Transport` that passes everything on and remembers how the last exchange ended."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.silent_since: float | None = None  # wall clock; None while the NAS answers
        self.last_trouble = ""

    @property
    def state(self) -> str:
        return "online" if self.silent_since is None else "offline"

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        try:
            response = await self._transport.send(request, sink)
        except (ConnectError, SendError, ReceiveError) as exc:
            if not exc.reused:  # an idle connection that the NAS has closed tells nothing
                self.silent_since = self.silent_since or time.time()
                self.last_trouble = str(exc)
            raise
        self.silent_since = None
        return response

    async def aclose(self) -> None:
        await self._transport.aclose()
