"""Answers on a real connection: HTTP that is none, lies about its length or does not end. Each exchange ends within
its time and its memory, in an answer or a `TransportError`, and nothing is sent anywhere but to the one address."""

from __future__ import annotations

import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import trio

from synofs.filestation import transport
from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.transport import Head, Request, TransportOptions
from tests.hostile import answers
from tests.hostile.raw_answers import PIECE
from tests.hostile.raw_nas import raw_nas
from tests.integration.filestation.raw_server import Connection, RawServer, always, serving

pytestmark = pytest.mark.trio

STREAMS = 800
MAX_BYTES = 1024 * 1024
SECONDS = 0.25
PATIENCE_SECONDS = 10.0  # until an exchange counts as hanging, on a machine that is busy with other things
MORE_MEMORY_BYTES = 96 * 1024 * 1024  # server included: it has a bomb of its own to send


class Taker:
    """Takes every second body piece by piece, up to a limit."""

    def __init__(self, number: int) -> None:
        self._takes = number % 2 == 0
        self.taken = 0

    def wants(self, head: Head) -> bool:
        return self._takes and head.status in (200, 206)

    async def take(self, piece: memoryview) -> bool:
        self.taken += len(piece)
        return self.taken < MAX_BYTES


def http_to(server: RawServer) -> RequestsTransport:
    return RequestsTransport(TransportOptions("http", "127.0.0.1", server.port))


def request(number: int = 0, answer_seconds: float = SECONDS) -> Request:
    return Request(
        "GET", f"/{number}", answer_seconds=answer_seconds, stall_seconds=answer_seconds, max_answer_bytes=MAX_BYTES
    )


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


async def test_whatever_comes_on_a_connection(inputs: Counter[str]) -> None:
    before = peak_bytes()
    ends: Counter[str] = Counter()
    numbers = iter(range(STREAMS))
    with raw_nas() as server:
        http = http_to(server)

        async def try_some() -> None:
            for number in numbers:
                taker = Taker(number)
                started = time.monotonic()
                ends[await end_of(http, number, taker)] += 1
                assert taker.taken <= MAX_BYTES + 512 * 1024
                assert time.monotonic() - started < PATIENCE_SECONDS, f"stream {number} hangs"

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(try_some)
        await http.aclose()
    inputs["connections"] += STREAMS
    assert peak_bytes() - before < MORE_MEMORY_BYTES
    assert ends["ok"] > STREAMS / 10
    assert {"NotHttp", "BodyCut", "BodyTooBig", "ReceiveTimeout", "Redirected"} <= set(ends)


async def end_of(http: RequestsTransport, number: int, taker: Taker) -> str:
    try:
        answer = await http.send(request(number), taker)
    except transport.TransportError as exc:
        if not str(exc).isprintable():
            raise AssertionError(f"stream {number}: {exc!r}") from exc
        return type(exc).__name__
    assert len(answer.body) <= MAX_BYTES
    return "ok"


def once(answer: bytes, *, again: bytes = b"") -> Callable[[Connection], None]:
    """Say this, and then the other for as long as somebody listens."""

    def behaviour(connection: Connection) -> None:
        while connection.request():
            connection.send(answer)
            while again and not connection.stopping.is_set():
                connection.send(again)

    return behaviour


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    ("start", "again"),
    [
        pytest.param(OK + b"\r\n", PIECE, id="no length, no end"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + PIECE + b"\r\n", id="chunks"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", PIECE, id="a chunk of less than nothing"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nffffffffffff\r\n", PIECE, id="a chunk of 256 TiB"),
        pytest.param(OK + b"Content-Length: 99999999999999\r\n\r\n", PIECE, id="91 TiB"),
        pytest.param(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", PIECE, id="a length of 5000 digits"),
        pytest.param(OK, b"X: " + b"y" * 60_000 + b"\r\n", id="headers"),
        pytest.param(OK + b"X: ", PIECE, id="a header"),
        pytest.param(b"", PIECE, id="a status line"),
    ],
)
async def test_an_answer_without_end_is_given_up_at_its_limit(start: bytes, again: bytes) -> None:
    before = peak_bytes()
    with serving(once(start, again=again)) as server:
        http = http_to(server)
        # Not for its time: there is plenty. (30 s at the speed of the loopback would be tens of GB.)
        with pytest.raises((transport.AnswerError, transport.BodyCut)):
            await http.send(request(answer_seconds=30))
        await http.aclose()
    assert peak_bytes() - before < 32 * 1024 * 1024


@pytest.mark.parametrize("megabytes", [2, 200])
async def test_a_gzip_bomb_is_not_unpacked_beyond_the_limit(megabytes: int) -> None:
    bomb = answers.bomb(megabytes)
    head = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    before = peak_bytes()
    with serving(once(head + bomb)) as server:
        http = http_to(server)
        with pytest.raises(transport.BodyTooBig):
            await http.send(request(answer_seconds=30))
        await http.aclose()
    assert peak_bytes() - before < 32 * 1024 * 1024


def drip(text: bytes) -> Callable[[Connection], None]:
    """Byte by byte, in good time each, and never to an end."""

    def pieces() -> Iterator[bytes]:
        yield from (text[position : position + 1] for position in range(len(text)))
        while True:
            yield b"x"

    def behaviour(connection: Connection) -> None:
        if connection.request():
            for piece in pieces():
                connection.send(piece)
                if connection.stopping.wait(0.01):
                    return

    return behaviour


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"HTTP/1.1 200 ", id="in the status line"),
        pytest.param(OK + b"X: ", id="in a header"),
        pytest.param(OK + b"Content-Length: 100000\r\n\r\n", id="in the body"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\nfffff\r\n", id="in a chunk"),
        pytest.param(OK + b"Transfer-Encoding: chunked\r\n\r\n", id="in a chunk's length"),
    ],
)
async def test_an_answer_in_drips_ends_with_its_time(text: bytes) -> None:
    with serving(drip(text)) as server:
        http = http_to(server)
        started = time.monotonic()
        with pytest.raises(transport.ReceiveTimeout):
            await http.send(request(answer_seconds=0.5))
        assert time.monotonic() - started < PATIENCE_SECONDS
        await http.aclose()


@pytest.mark.parametrize(
    "lengths",
    [
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip, chunked\r\n",
    ],
)
async def test_a_body_of_two_lengths_is_no_answer(lengths: bytes) -> None:
    with serving(once(OK + lengths + b"\r\n2\r\nok\r\n0\r\n\r\n")) as server:
        http = http_to(server)
        with pytest.raises(transport.NotHttp):
            await http.send(request(answer_seconds=20))
        await http.aclose()


@pytest.mark.parametrize(
    "location", ["http://[", "http://\xff/", "//", "http://x:99999999/", "\x1b[2J", "?_sid=x", "", "x" * 60_000]
)
async def test_a_redirect_to_nonsense_is_refused_like_any_other(location: str) -> None:
    head = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n".encode("latin-1")
    with serving(once(head)) as server:
        http = http_to(server)
        with pytest.raises(transport.Redirected) as caught:
            await http.send(request(answer_seconds=20))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 500
        await http.aclose()


async def test_cookies_are_neither_kept_nor_sent_back() -> None:
    received: list[bytes] = []

    def answer(connection: Connection, sent: bytes) -> None:
        received.append(sent)
        connection.answer(b"ok", "Set-Cookie: id=evil; path=/", "Set-Cookie: a=b; expires=" + "9" * 400)

    with serving(always(answer)) as server:
        http = http_to(server)
        for _ in range(2):
            await http.send(request(answer_seconds=20))
        await http.aclose()
    assert len(received) == 2
    assert not [sent for sent in received if b"cookie" in sent.lower()]
