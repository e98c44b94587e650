"""One TCP connection: uvicorn's HTTP protocol, plus what a simulated NAS does to connections.

That is to end them in the middle (faults), to count them, to know which are idle, and to send files with
sendfile(2), without which the server would be the brake of every measurement.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from typing import Any, BinaryIO, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

SCOPE_KEY = "simnas.connection"

# In the state of the ASGI application: called for every new connection, which is refused if it returns False.
ON_ACCEPT = "simnas.on_accept"

# One sendfile call at most: byte counters and disconnects are noticed at this grain.
_SEND_BYTES = 8 * 2**20


class Connection(HttpToolsProtocol):
    """A connection from its accept to its end."""

    lost: asyncio.Event
    _sending_file = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.lost = asyncio.Event()
        super().connection_made(transport)
        accepted = self.app_state.get(ON_ACCEPT)
        if accepted is not None and not accepted():
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        cast(dict[str, Any], self.scope)[SCOPE_KEY] = self

    @property
    def idle(self) -> bool:
        """Whether no request is being received or answered."""
        return self.cycle is None or self.cycle.response_complete

    @property
    def closed(self) -> bool:
        return self.transport.is_closing()

    @property
    def encrypted(self) -> bool:
        return self.scheme == "https"

    def drop(self, *, reset: bool = False) -> None:
        """Ends the connection now; what is not sent yet is lost. With `reset`, the peer sees ECONNRESET."""
        raw = self.transport.get_extra_info("socket")
        if reset:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self.cycle is not None:
            self.cycle.disconnected = True
        if self._sending_file:
            # The socket must outlive the sendfile call that waits for it: that one now fails, and drops.
            with suppress(OSError):
                raw.shutdown(socket.SHUT_RDWR)
        else:
            self.transport.abort()

    def hang_up(self, *, reset: bool = False) -> None:
        """Ends the connection after what has been written so far, in the middle of a response."""
        if reset:
            self.drop(reset=True)
            return
        if self.cycle is not None:
            self.cycle.disconnected = True
        self.transport.close()

    async def send_file(self, file: BinaryIO, offset: int, count: int) -> int:
        """Sends part of a file as part of the response body, whose headers are out. Returns the bytes sent.

        Only for plain TCP and a response with Content-Length. May raise ConnectionError.
        """
        if self.flow.write_paused:
            await self.flow.drain()
        count = min(count, _SEND_BYTES)
        self._sending_file = True
        try:
            sent = await asyncio.get_running_loop().sendfile(self.transport, file, offset, count, fallback=False)
        finally:
            self._sending_file = False
        # The response cycle counts the body it has seen, and has not seen this.
        self.cycle.expected_content_length -= sent
        return sent
