"""The server process: ASGI application, listening socket, start and end."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Iterator, Set
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from .connection import ON_ACCEPT, Connection
from .control import Control
from .nas import Nas
from .options import Options
from .pages import desktop
from .webapi import WebApi


class Server(uvicorn.Server):
    """uvicorn, with a first line on stdout that says where it listens, and exit code 0 after SIGTERM."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._nas = Nas(options)
        control = Control(self._nas, self._connections)
        self._accept = control.accept
        application = Starlette(
            routes=[*control.routes(), Mount("/webapi", app=WebApi(self._nas)), Route("/", _desktop)]
        )
        super().__init__(
            uvicorn.Config(
                application,
                http=Connection,
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                server_header=False,
                headers=[("server", "nginx")],
                timeout_keep_alive=options.idle_seconds,  # type: ignore[arg-type] # any number will do
                timeout_graceful_shutdown=2,
                ssl_certfile=options.tls[0] if options.tls else None,
                ssl_keyfile=options.tls[1] if options.tls else None,
            )
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        listener = _listen(self._options.host, self._options.port)
        self.lifespan.state[ON_ACCEPT] = self._accept
        await super().startup([listener])
        scheme = "https" if self._options.tls else "http"
        host = self._options.host
        host = f"[{host}]" if ":" in host else host
        print(f"simnas listening on {scheme}://{host}:{listener.getsockname()[1]}", flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._nas.faults.clear()
        cutting = asyncio.create_task(self._cut_connections())
        await super().shutdown(sockets)
        cutting.cancel()
        self._nas.close()

    async def _cut_connections(self) -> None:
        """What is not answered shortly after the end was asked for is not waited for."""
        await asyncio.sleep(0.5)
        for connection in list(self._connections()):
            connection.drop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As in uvicorn, but the signal is not raised again at the end: being told to stop is no failure."""
        signals = (signal.SIGINT, signal.SIGTERM)
        previous = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _connections(self) -> Set[Connection]:
        return cast(Set[Connection], self.server_state.connections)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


async def _desktop(request: Request) -> Response:
    return desktop()
