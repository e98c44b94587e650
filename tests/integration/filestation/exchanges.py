"""One exchange with a raw server: a transport, a request, something to receive and something to send."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.transport import Head, Request, TransportOptions
from tests.integration.filestation.raw_server import RawServer

GET = Request("GET", "/webapi/entry.cgi", answer_seconds=20)


@asynccontextmanager
async def connected(server: RawServer, **options: Any) -> AsyncIterator[RequestsTransport]:
    port = options.pop("port", server.port)
    made = RequestsTransport(TransportOptions("http", "127.0.0.1", port, **options))
    try:
        yield made
    finally:
        await made.aclose()


class Sink:
    def __init__(self, stop_after: int | None = None) -> None:
        self.data = bytearray()
        self.stop_after = stop_after

    def wants(self, head: Head) -> bool:
        return head.status == 200

    async def take(self, piece: memoryview) -> bool:
        self.data += piece
        return self.stop_after is None or len(self.data) < self.stop_after


class Body:
    """A `RequestBody` of given pieces, which may lie about their length."""

    def __init__(self, *pieces: bytes, length: int | None = None) -> None:
        self._pieces = pieces
        self.length = sum(map(len, pieces)) if length is None else length
        self.sent_bytes = 0

    def pieces(self) -> Iterator[bytes]:
        return iter(self._pieces)

    def sent(self, byte_count: int) -> None:
        self.sent_bytes += byte_count
