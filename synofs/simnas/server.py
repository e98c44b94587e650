"""The server process: ASGI application, listening socket, start and end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from typing import cast

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from .announcement import Announcement
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
        self._stop = asyncio.Event()
        self._announced: Announcement | None = None
        control = Control(self._nas, self._connections)
        self._accept = control.accept
        pages = Starlette(routes=[*control.routes(), Route("/", _desktop)])
        super().__init__(
            uvicorn.Config(
                _application(WebApi(self._nas), pages),
                http=Connection,
                loop="asyncio",  # uvloop, which would be taken where it is installed, has no sendfile
                ws="none",
                lifespan="off",
                log_level="error",
                access_log=False,
                proxy_headers=False,
                server_header=False,
                headers=[("server", "nginx")],
                timeout_keep_alive=options.idle_seconds,  # type: ignore[arg-type] # any number will do
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
        port = listener.getsockname()[1]
        if self._options.announce is not None:
            self._announced = Announcement(self._options, port)
            await self._announced.start()
        print(f"simnas listening on {scheme}://{host}:{port}", flush=True)

    async def main_loop(self) -> None:
        """Until a signal comes. The tick keeps the Date header right."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what is being answered, for a moment, and cuts the rest."""
        for server in self.servers:
            server.close()
        if self._announced is not None:
            await self._announced.end()
        self._nas.faults.clear()
        for connection in list(self._connections()):
            connection.shutdown()
        await self._wait_for_answers(0.5)
        for connection in list(self._connections()):
            connection.drop()
        await self._wait_for_answers(1)
        # What still sleeps (latency, a delay) has nobody to answer; uvicorn would report its end as an error.
        logging.getLogger("uvicorn.error").disabled = True
        for task in self.server_state.tasks:
            task.cancel()
        await self._wait_for_answers(1)
        self._nas.close()

    async def _wait_for_answers(self, seconds: float) -> None:
        if self.server_state.tasks:
            await asyncio.wait(set(self.server_state.tasks), timeout=seconds)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Being told to stop is no failure: unlike uvicorn's, this does not raise the signal again at the end."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGINT, signal.SIGTERM)
        for number in signals:
            loop.add_signal_handler(number, self._told_to_stop)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _told_to_stop(self) -> None:
        self.should_exit = True
        self._stop.set()

    def _connections(self) -> Set[Connection]:
        return cast(Set[Connection], self.server_state.connections)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that name their protocol.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _application(web_api: WebApi, pages: Starlette) -> ASGIApp:
    """`/webapi/` without the router and its middleware, which cost as much as a small call itself."""

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await (web_api if scope["path"].startswith("/webapi/") else pages)(scope, receive, send)

    return application


async def _desktop(request: Request) -> Response:
    return desktop()
