"""A NAS on a real socket whose answers come from `answers`, good ones unless something is put in their place.

What it is sent is remembered, byte by byte: that is what a thief in its place would get.
"""

from __future__ import annotations

import random
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from synofs.filestation.transport import Request, Response
from tests.hostile import answers, raw_answers
from tests.hostile.evil_nas import understood
from tests.integration.filestation.raw_server import Connection, serving

# Returns an answer, raw bytes of one, or None for a good one.
Instead = Callable[[str, Request], Response | bytes | None]


@dataclass(eq=False)
class HttpNas:
    port: int
    evil: float = 0.0  # how likely an answer is spoiled, as JSON or on the wire; may be changed
    received: list[bytes] = field(default_factory=list)

    @property
    def everything(self) -> bytes:
        return b"\n".join(self.received)


def _never(name: str, request: Request) -> None:
    return None


@contextmanager
def http_nas(
    instead: Instead = _never, *, seed: int = 0, context: ssl.SSLContext | None = None, port: int = 0
) -> Iterator[HttpNas]:
    lock = threading.Lock()
    rng = random.Random(seed)

    def answer(sent: bytes) -> Iterator[bytes]:
        request = _request(sent)
        with lock:
            nas.received.append(sent)
            name, asked = understood(request)
            given = instead(name, request)
            if given is None and rng.random() < nas.evil / 10 and not name.startswith("API."):
                yield from raw_answers.stream(rng.randrange(10**9))
                return
            if given is None:
                bad = 0 if name.startswith("API.") else nas.evil
                given = answers.answer_for(rng, name, asked, request.headers.get("range", ""), bad)
        yield given if isinstance(given, bytes) else _on_the_wire(given)

    def behaviour(connection: Connection) -> None:
        while sent := connection.request():
            for piece in answer(sent):
                if piece:
                    connection.send(piece)
                elif connection.stopping.wait(0.02):
                    return

    with serving(behaviour, context, port) as server:
        nas = HttpNas(server.port)
        yield nas


def _request(sent: bytes) -> Request:
    head, _, body = sent.partition(b"\r\n\r\n")
    line, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ", 2)
    path, _, query = target.partition("?")
    headers = {name.strip().lower(): value.strip() for name, _, value in (text.partition(":") for text in lines)}
    is_form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    return Request(method, path, query, headers, body if is_form else b"")


def _on_the_wire(response: Response) -> bytes:
    headers = {"content-length": str(len(response.body)), **response.head.headers}
    lines = [f"HTTP/1.1 {response.status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + response.body


def redirect(location: str, status: int = 307) -> bytes:
    return f"HTTP/1.1 {status} X\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode()
