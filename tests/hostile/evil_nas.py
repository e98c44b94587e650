"""A NAS that answers anything, below the client, in virtual time: each answer that it gives is one input."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import trio

from synofs.filestation import transport
from synofs.filestation.transport import BodySink, Request, Response
from tests.hostile import answers

MAX_ANSWERS = 30_000  # to one call of the client: more is an endless loop


class Endless(BaseException):
    """The client does not stop asking. (Not an `Exception`: nothing may catch it.)"""


@dataclass(frozen=True)
class Temper:
    """How bad it is: chances for each answer."""

    evil: float = 0.3  # spoiled in some way
    evil_sign_in: float = 0.02  # the same for answers to sign-ins, without which nothing else is reached
    broken: float = 0.04  # the connection fails in place of an answer
    slow: float = 0.03  # it comes late, or never


@dataclass(eq=False)
class EvilNas:
    """A `Transport` whose answers a seed decides."""

    rng: random.Random
    temper: Temper = field(default_factory=Temper)
    inputs: int = 0
    since_reset: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    last: list[tuple[str, bytes]] = field(default_factory=list)  # for the report of a failure

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        self.inputs += 1
        self.since_reset += 1
        if self.since_reset > MAX_ANSWERS:
            raise Endless
        await trio.lowlevel.checkpoint()
        name, asked = understood(request)
        self.kinds[name] += 1
        if isinstance(request.body, bytes) or request.body is None:
            pass
        else:
            await self._take(request.body)
        if self.rng.random() < self.temper.slow:
            await self._dawdle(request)
        if self.rng.random() < self.temper.broken:
            raise self._failure()
        response = self._answer(name, asked, request)
        self.last = [*self.last[-30:], (name, response.body[:500])]
        if sink is not None and sink.wants(response.head):
            await _stream(response, sink)
            return Response(response.head, b"", streamed=True)
        if len(response.body) > request.max_answer_bytes:
            raise transport.BodyTooBig("too big")
        return response

    async def _take(self, body: transport.RequestBody) -> None:
        left = body.length
        for piece in body.pieces():
            left -= len(piece)
            body.sent(len(piece))
        assert left == 0, "a body has the length that it announces"

    async def _dawdle(self, request: Request) -> None:
        seconds = self.rng.choice((0.01, 1.0, 15.0, 100.0))
        if seconds > request.answer_seconds:
            await trio.sleep(request.answer_seconds)
            raise transport.ReceiveTimeout("no answer came in time")
        await trio.sleep(seconds)

    def _failure(self) -> transport.TransportError:
        kinds: tuple[transport.TransportError, ...] = (
            transport.ConnectFailed("refused"),
            transport.ConnectTimeout("nobody answered"),
            transport.HostUnknown("no address"),
            transport.TlsFailed("no TLS"),
            transport.SendFailed("it hung up", reused=self.rng.random() < 0.5),
            transport.SendTimeout("it stopped reading"),
            transport.ReceiveFailed("it hung up", reused=self.rng.random() < 0.5),
            transport.BodyCut("cut"),
            transport.NotHttp("not HTTP"),
            transport.BodyTooBig("too big"),
            transport.Redirected("elsewhere", target="http://elsewhere"),
        )
        return self.rng.choice(kinds)

    def _answer(self, name: str, asked: Mapping[str, Any], request: Request) -> Response:
        evil = self.temper.evil_sign_in if name.startswith("API.") else self.temper.evil
        return answers.answer_for(self.rng, name, asked, request.headers.get("Range", ""), evil)

    async def aclose(self) -> None:
        pass


async def _stream(response: Response, sink: BodySink) -> None:
    """As the real transport does it: an announced length ends the body, and a shorter body is cut off."""
    length = response.head.content_length
    body = response.body if length is None else response.body[:length]
    for start in range(0, len(body), 1000):
        if not await sink.take(memoryview(body)[start : start + 1000]):
            return
    if length is not None and len(body) < length:
        raise transport.BodyCut("the connection ended within the answer's body")


def understood(request: Request) -> tuple[str, dict[str, Any]]:
    text = request.query
    if isinstance(request.body, bytes):
        text += "&" + request.body.decode("ascii")
    parameters = dict(parse_qsl(text, keep_blank_values=True, errors="surrogateescape"))
    asked: dict[str, Any] = {}
    for key, value in parameters.items():
        try:
            asked[key] = json.loads(value)
        except ValueError:
            asked[key] = value
    return f"{parameters['api'].removeprefix('SYNO.')}.{parameters['method']}", asked
