"""A transport that answers from a script, and remembers what it was sent."""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import trio

from synofs.filestation.auth import AuthManager, AuthOptions, Credentials
from synofs.filestation.caller import Caller
from synofs.filestation.lanes import LaneOptions, Lanes
from synofs.filestation.retry import RetryOptions
from synofs.filestation.secret import Secret
from synofs.filestation.transport import BodySink, Head, Request, Response
from synofs.filestation.wire import Counters, Wire

Answer = Response | Exception


@dataclass(frozen=True)
class Sent:
    """A request as the NAS understands it."""

    request: Request
    parameters: dict[str, str]

    @property
    def name(self) -> str:
        return f"{self.parameters['api'].removeprefix('SYNO.')}.{self.parameters['method']}"

    @property
    def sid(self) -> str | None:
        cookie = self.request.headers.get("Cookie", "")
        return self.parameters.get("_sid") or cookie.removeprefix("id=") or None

    @property
    def token(self) -> str | None:
        return self.parameters.get("SynoToken") or self.request.headers.get("X-SYNO-TOKEN")


Script = Callable[[Sent], Answer | Awaitable[Answer]]


class ScriptedTransport:
    """`Transport` whose answers a function makes. A streamed body goes to the sink in pieces."""

    def __init__(self, script: Script, piece_bytes: int = 1000) -> None:
        self._script = script
        self._piece_bytes = piece_bytes
        self.sent: list[Sent] = []

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        await trio.lowlevel.checkpoint()
        parameters = dict(parse_qsl(request.query, keep_blank_values=True, errors="surrogateescape"))
        if isinstance(request.body, bytes):
            text = request.body.decode()
            parameters |= parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
        sent = Sent(request, parameters)
        self.sent.append(sent)
        answer = self._script(sent)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        if sink is not None and sink.wants(answer.head):
            for start in range(0, len(answer.body), self._piece_bytes):
                if not await sink.take(memoryview(answer.body)[start : start + self._piece_bytes]):
                    break
            return Response(answer.head, b"", streamed=True)
        return answer

    async def aclose(self) -> None:
        pass

    def names(self) -> list[str]:
        return [sent.name for sent in self.sent]

    def count(self, name: str) -> int:
        return self.names().count(name)


def answer(value: Any, status: int = 200, **headers: str) -> Response:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    names = {name.replace("_", "-"): text for name, text in headers.items()}
    return Response(Head(status, {"content-type": "application/json", **names}), body)


def success(data: Any = None) -> Response:
    return answer({"success": True} if data is None else {"success": True, "data": data})


def failure(code: int, errors: Any = None) -> Response:
    error: dict[str, Any] = {"code": code}
    if errors is not None:
        error["errors"] = errors
    return answer({"success": False, "error": error})


DSM7 = {
    name: {"path": "entry.cgi", "minVersion": 1, "maxVersion": version}
    for name, version in {
        "SYNO.API.Auth": 7,
        "SYNO.FileStation.CheckPermission": 3,
        "SYNO.FileStation.CopyMove": 3,
        "SYNO.FileStation.CreateFolder": 2,
        "SYNO.FileStation.Delete": 2,
        "SYNO.FileStation.Download": 2,
        "SYNO.FileStation.List": 2,
        "SYNO.FileStation.MD5": 2,
        "SYNO.FileStation.Rename": 2,
        "SYNO.FileStation.Thumb": 2,
        "SYNO.FileStation.Upload": 3,
    }.items()
}


class ScriptedNas:
    """The part of a NAS that every script needs: discovery and sessions. The rest is `files`."""

    def __init__(self, files: Script | None = None) -> None:
        self.files = files or (lambda sent: success({"files": [], "total": 0}))
        self.apis: dict[str, Any] = DSM7
        self.live: set[str] = set()
        self.dead_code = 119
        self.sids = 0
        self.on_login: Script | None = None
        self.on_token: Script = lambda sent: failure(119)
        self.accepts: Callable[[Sent], bool] = lambda sent: sent.sid in self.live
        self.transport = ScriptedTransport(self.script)

    def script(self, sent: Sent) -> Answer | Awaitable[Answer]:
        if sent.name == "API.Info.query":
            return success(self.apis)
        if sent.name == "API.Auth.login":
            if self.on_login is not None:
                return self.on_login(sent)
            return success(self.new_session())
        if sent.name == "API.Auth.token":
            return self.on_token(sent)
        if sent.name == "API.Auth.logout":
            self.live.discard(sent.sid or "")
            return success()
        if not self.accepts(sent):
            return failure(self.dead_code)
        return self.files(sent)

    def new_session(self, **more: Any) -> dict[str, Any]:
        self.sids += 1
        self.live.add(f"sid{self.sids}")
        return {"sid": f"sid{self.sids}", "synotoken": f"token{self.sids}", **more}

    @property
    def logins(self) -> int:
        return self.transport.count("API.Auth.login")


def credentials(**more: Any) -> Credentials:
    return Credentials("ann", Secret("pass word"), **more)


def caller_for(
    transport: ScriptedTransport,
    who: Credentials | None = None,
    *,
    deadline_seconds: float = 20.0,
    auth: AuthOptions | None = None,
    max_requests: int = 6,
) -> tuple[Caller, AuthManager, Lanes]:
    lanes = Lanes(LaneOptions(max_requests))
    wire = Wire(transport, lanes, Counters())
    manager = AuthManager(wire, who or credentials(), auth)
    return Caller(wire, manager, RetryOptions(), deadline_seconds), manager, lanes
