"""Bodies in both directions over real sockets: whole, in order, bounded."""

from __future__ import annotations

import gzip
import io
import socket
import time
import zlib
from collections.abc import Iterator
from dataclasses import replace

import pytest
import trio

from synofs.filestation import transport
from synofs.filestation.piecequeue import MAX_WAITING_BYTES
from synofs.filestation.transport import Head, Request
from tests.integration.filestation.exchanges import GET, Body, Sink, connected
from tests.integration.filestation.raw_server import Connection, always, noting, serving
from tests.trees import revealing

pytestmark = pytest.mark.trio


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_streamed_body_arrives_whole_and_in_order(size: int, framing: str) -> None:
    content = revealing(size)

    def behaviour(connection: Connection) -> None:
        while connection.request():
            if framing == "length":
                connection.answer(content)
            elif framing == "chunked":
                connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, size, 100_000):
                    piece = content[start : start + 100_000]
                    connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
                connection.send(b"0\r\n\r\n")
            else:
                connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content)
                return

    with serving(behaviour) as server:
        async with connected(server) as http:
            for _ in range(2):
                sink = Sink()
                response = await http.send(GET, sink)
                assert (response.streamed, response.body) == (True, b"")
                assert bytes(sink.data) == content
        assert server.accepted == (2 if framing == "close" else 1)


async def test_enough_is_enough() -> None:
    with serving(always(lambda connection, request: connection.answer(bytes(50_000_000)))) as server:
        async with connected(server) as http:
            sink = Sink(stop_after=100_000)
            await http.send(GET, sink)
            assert 100_000 <= len(sink.data) < 10_000_000
            assert (await http.send(GET, Sink(stop_after=1))).streamed
        assert server.accepted == 2, "a connection with a rest in it is not used again"


async def test_a_busy_receiver_holds_the_sender_back_after_a_few_mib() -> None:
    sent = 0

    def behaviour(connection: Connection) -> None:
        nonlocal sent
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(1000):
            connection.send(bytes(100_000))
            sent += 100_000

    class Busy(Sink):
        async def take(self, piece: memoryview) -> bool:
            settled = -1
            while settled < sent:  # until nothing moves any more
                settled = sent
                await trio.sleep(0.2)
            return False

    with serving(behaviour) as server:
        async with connected(server) as http:
            assert (await http.send(GET, Busy())).streamed
            assert MAX_WAITING_BYTES // 2 < sent < MAX_WAITING_BYTES + 32_000_000, "the queue and the sockets' buffers"


async def test_the_sinks_own_failures_pass_through() -> None:
    class Broken(Sink):
        async def take(self, piece: memoryview) -> bool:
            raise OSError(28, "No space left on device")

    class Choosy(Sink):
        def wants(self, head: Head) -> bool:
            raise ZeroDivisionError

    with serving(always(lambda connection, request: connection.answer(b"x" * 10))) as server:
        async with connected(server) as http:
            with pytest.raises(OSError, match="No space left"):
                await http.send(GET, Broken())
            with pytest.raises(ZeroDivisionError):
                await http.send(GET, Choosy())


async def test_a_body_that_nobody_wants_is_kept_in_memory_within_bounds() -> None:
    with serving(always(lambda connection, request: connection.answer(bytes(2000), status="500 Oh"))) as server:
        async with connected(server) as http:
            response = await http.send(GET, Sink())
            assert (response.streamed, len(response.body)) == (False, 2000)
            with pytest.raises(transport.BodyTooBig):
                await http.send(replace(GET, max_answer_bytes=1999))


async def test_an_endless_answer_is_not_kept() -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        while not connection.stopping.is_set():
            connection.send(bytes(65536))

    with serving(behaviour) as server:
        async with connected(server) as http:
            with pytest.raises(transport.BodyTooBig):
                await http.send(replace(GET, max_answer_bytes=1_000_000))


async def test_gzip_is_unpacked() -> None:
    packed = gzip.compress(b"hello" * 1000)
    with serving(always(lambda c, r: c.answer(packed, "Content-Encoding: gzip"))) as server:
        async with connected(server) as http:
            assert (await http.send(GET)).body == b"hello" * 1000


async def test_a_gzip_bomb_does_not_go_off() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    with serving(always(lambda c, r: c.answer(bomb, "Content-Encoding: gzip"))) as server:
        async with connected(server) as http:
            with pytest.raises(transport.BodyTooBig):
                await http.send(replace(GET, max_answer_bytes=1_000_000))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"no gzip", "gzip"),
        (gzip.compress(b"hello" * 100)[:-20], "gzip"),
        (zlib.compress(b"x"), "deflate"),
        (b"", "br"),
    ],
)
async def test_encodings_that_are_broken_or_unknown(body: bytes, encoding: str) -> None:
    with serving(always(lambda c, r: c.answer(body, f"Content-Encoding: {encoding}"))) as server:
        async with connected(server) as http:
            with pytest.raises(transport.NotHttp):
                await http.send(GET)


async def test_a_sent_body_is_counted_and_exact() -> None:
    seen: list[bytes] = []
    with serving(noting(seen)) as server:
        async with connected(server) as http:
            body = Body(b"abc", memoryview(b"defg"), b"hi")
            await http.send(Request("POST", "/x", body=body))
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    assert sent == b"abcdefghi"
    assert b"content-length: 9" in head.lower()
    assert b"chunked" not in head.lower()
    assert body.sent_bytes == 9


@pytest.mark.parametrize("length", [2, 4])
async def test_a_body_of_another_length_is_never_completed(length: int) -> None:
    got: list[bytes] = []

    def behaviour(connection: Connection) -> None:
        got.append(connection.request())

    with serving(behaviour) as server:
        async with connected(server) as http:
            with pytest.raises(transport.SourceFailed):
                await http.send(Request("POST", "/x", body=Body(b"ab", b"c", length=length)))
    assert got in ([b""], []) or length == 2


async def test_a_source_that_cannot_be_read() -> None:
    class Unreadable(Body):
        def pieces(self) -> Iterator[bytes]:
            yield b"ab"
            raise OSError(5, "Input/output error")

    with serving(always(lambda connection, request: connection.answer())) as server:
        async with connected(server) as http:
            with pytest.raises(transport.SourceFailed, match="Input/output error"):
                await http.send(Request("POST", "/x", body=Unreadable(b"abcd")))


async def test_an_answer_before_the_whole_body_is_read() -> None:
    """As a proxy says 413, and hangs up."""

    def behaviour(connection: Connection) -> None:
        connection.head_only()
        connection.answer(b"too large", "Connection: close", status="413 Request Entity Too Large")
        connection.sock.shutdown(socket.SHUT_WR)
        connection.wait_for_hang_up()

    with serving(behaviour) as server:
        async with connected(server) as http:
            body = Body(*[bytes(1 << 20)] * 30)
            response = await http.send(Request("POST", "/x", body=body))
            assert (response.status, response.body) == (413, b"too large")


async def test_an_upload_that_is_cut_off() -> None:
    def behaviour(connection: Connection) -> None:
        connection.head_only()
        connection.reset()

    with serving(behaviour) as server:
        async with connected(server) as http:
            with pytest.raises(transport.SendFailed):
                await http.send(Request("POST", "/x", body=Body(*[bytes(1 << 20)] * 64)))


async def test_a_download_that_comes_in_many_parts_wakes_its_thread_for_few_of_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At the speed of a line bytes come in thousands of parts a second."""
    calls: list[int] = []
    recv_into = socket.socket.recv_into

    def counted(sock: socket.socket, buffer: memoryview, nbytes: int = 0, flags: int = 0) -> int:
        calls.append(recv_into(sock, buffer, nbytes, flags))
        return calls[-1]

    content = revealing(512 * 1024)

    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}\r\n\r\n".encode())
        for start in range(0, len(content), 4096):
            connection.send(content[start : start + 4096])
            time.sleep(0.001)  # the sender's pace: each part is a packet

    monkeypatch.setattr(socket.socket, "recv_into", counted)
    with serving(behaviour) as server:
        async with connected(server) as http:
            sink = Sink()
            await http.send(GET, sink)
    assert bytes(sink.data) == content
    assert len(calls) <= 8  # of 128 parts: 64, 128, 256 KiB and the rest, after the head


async def test_an_answer_is_not_waited_for_longer_than_it_is_whatever_buffer_python_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Since Python 3.14 it is larger than a piece of a body that is waited for."""
    monkeypatch.setattr(io, "DEFAULT_BUFFER_SIZE", 128 * 1024)
    content = revealing(300_000)
    with serving(always(lambda connection, request: connection.answer(content))) as server:
        async with connected(server) as http:
            with trio.fail_after(5):
                assert (await http.send(GET)).body == content
                sink = Sink()
                await http.send(GET, sink)
                assert bytes(sink.data) == content
        assert server.accepted == 1
