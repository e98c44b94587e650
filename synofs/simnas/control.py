"""`/_simnas/`: what tests and benchmarks ask of the simulation itself.

Never counted, never delayed, never hit by a fault, and the proof that this is no real NAS: `GET /_simnas/`
answers `{"simnas": true, ...}`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Set
from typing import cast

import msgspec
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from .connection import Connection
from .faults import IMMEDIATE, Fault
from .nas import Nas


class Control:
    """The control endpoints of one simulated NAS."""

    def __init__(self, nas: Nas, connections: Callable[[], Set[Connection]]) -> None:
        self._nas = nas
        self._connections = connections
        self._refuse_until = 0.0

    def routes(self) -> list[Route]:
        return [
            Route("/_simnas/", self.marker),
            Route("/_simnas/stats", self.stats),
            Route("/_simnas/calls", self.calls),
            Route("/_simnas/stats/reset", self.reset_stats, methods=["POST"]),
            Route("/_simnas/faults", self.faults, methods=["GET", "POST", "DELETE"]),
            Route("/_simnas/faults/{fault_id:int}", self.remove_fault, methods=["DELETE"]),
        ]

    def accept(self) -> bool:
        """Called for every new connection; False while a restart pretends that the NAS is down."""
        self._nas.stats.connections += 1
        return asyncio.get_running_loop().time() >= self._refuse_until

    async def marker(self, request: Request) -> JSONResponse:
        return JSONResponse({"simnas": True, "dsm": self._nas.options.dsm})

    async def stats(self, request: Request) -> JSONResponse:
        return JSONResponse(self._nas.stats.as_json(len(self._nas.sessions)))

    async def calls(self, request: Request) -> JSONResponse:
        """The last calls that gave the text `about`: [seconds since 1970, what, with which end]."""
        return JSONResponse({"calls": self._nas.stats.last(request.query_params.get("about", ""))})

    async def reset_stats(self, request: Request) -> JSONResponse:
        self._nas.stats.reset()
        return JSONResponse({"ok": True})

    async def faults(self, request: Request) -> JSONResponse:
        if request.method == "DELETE":
            self._nas.faults.clear()
        elif request.method == "POST":
            try:
                faults = msgspec.json.decode(await request.body(), type=Fault | list[Fault])
            except msgspec.DecodeError as error:
                return JSONResponse({"error": str(error)}, status_code=400)
            ids = []
            for fault in faults if isinstance(faults, list) else [faults]:
                if fault.kind in IMMEDIATE:
                    self._at_once(fault, request)
                else:
                    ids.append(self._nas.faults.add(fault))
            return JSONResponse({"ids": ids})
        return JSONResponse({"faults": self._nas.faults.as_json()})

    async def remove_fault(self, request: Request) -> JSONResponse:
        self._nas.faults.clear(request.path_params["fault_id"])
        return JSONResponse({"faults": self._nas.faults.as_json()})

    def _at_once(self, fault: Fault, request: Request) -> None:
        nas = self._nas
        match fault.kind:
            case "expire_sids":
                nas.sessions.expire_all(fault.code)
            case "rotate_tokens":
                nas.sessions.rotate_tokens()
            case "drop_idle":
                for connection in list(self._connections()):
                    if connection.idle:
                        connection.drop()
            case "restart":
                nas.sessions.expire_all(fault.code)
                nas.tasks.forget_all()
                nas.slices.clear()
                self._refuse_until = asyncio.get_running_loop().time() + fault.seconds
                own = cast(Connection, request.scope["simnas.connection"])
                for connection in list(self._connections()):
                    if connection is not own:
                        connection.drop()
            case "unblock":
                nas.sessions.unblock()
            case "bandwidth":
                nas.uplink.set(fault.mbit)
                nas.downlink.set(fault.mbit)
            case "volume":
                nas.volume.volume_bytes = fault.bytes
            case "quota":
                nas.volume.quota_bytes = fault.bytes
            case "readonly":
                nas.volume.readonly = fault.on
