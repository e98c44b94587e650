"""HTTP over real sockets: deadlines, broken connections, odd answers."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import trio

from synofs.filestation import transport
from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.transport import Request, TransportOptions
from tests.integration.filestation.exchanges import GET, Body, Sink, connected
from tests.integration.filestation.raw_server import Connection, always, noting, serving

pytestmark = pytest.mark.trio

# ----- plain exchanges --------------------------------------------------------------------------------------------


async def test_a_request_and_its_answer_as_they_are() -> None:
    seen: list[bytes] = []

    def answer(connection: Connection, request: bytes) -> None:
        seen.append(request)
        connection.answer(b"hello", "X-Twice: 1", "X-Twice: 2", "Set-Cookie: id=from-the-nas; path=/")

    with serving(always(answer)) as server:
        async with connected(server, base_path="/nas") as http:
            request = Request("POST", "/webapi/entry.cgi", query="a=%20b", headers={"Cookie": "id=x"}, body=b"c=%2F")
            response = await http.send(request)
            await http.send(GET)
    assert (response.status, response.body, response.head.headers["x-twice"]) == (200, b"hello", "1, 2")
    assert seen[0].startswith(b"POST /nas/webapi/entry.cgi?a=%20b HTTP/1.1\r\n")
    assert b"\r\nCookie: id=x\r\n" in seen[0]
    assert seen[0].endswith(b"\r\n\r\nc=%2F")
    assert b"ookie" not in seen[1], "no cookie of the server's is ever sent back"


class Work(trio.abc.Instrument):
    """What the loop has to do."""

    def __init__(self) -> None:
        self.spawned = self.steps = 0

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        self.spawned += 1

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.steps += 1


@pytest.mark.parametrize("body", [b"c=%2F", Body(b"head", bytes(32 * 1024), b"tail")], ids=["form", "file"])
async def test_a_small_request_goes_in_one_piece_and_takes_no_task_beside_it(
    monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    sent: list[bytes] = []
    sendall = socket.socket.sendall

    def noted(sock: socket.socket, data: bytes) -> None:
        if threading.current_thread() is not threading.main_thread() and not data.startswith(b"HTTP"):
            sent.append(data)
        sendall(sock, data)

    seen: list[bytes] = []
    with serving(noting(seen)) as server:
        async with connected(server) as http:
            await http.send(GET)
            monkeypatch.setattr(socket.socket, "sendall", noted)
            work = Work()
            trio.lowlevel.add_instrument(work)
            await http.send(Request("POST", "/x", body=body))
            trio.lowlevel.remove_instrument(work)
    assert sent == [seen[1]]
    assert work.spawned == 0
    assert work.steps <= 4  # into a thread and back, and what wakes the loop


async def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    seen: list[bytes] = []
    with serving(noting(seen)) as server:
        async with connected(server) as http:
            await http.send(GET)
    assert b"Authorization" not in seen[0]


async def test_a_connection_is_reused() -> None:
    with serving(always(lambda connection, request: connection.answer())) as server:
        async with connected(server) as http:
            for _ in range(5):
                await http.send(GET)
        assert server.accepted == 1


async def test_a_connection_is_ready_for_what_follows_a_download() -> None:
    accepted: list[int] = []
    both = threading.Event()

    def behaviour(connection: Connection) -> None:
        accepted.append(connection.number)
        if len(accepted) == 2:
            both.set()
        while connection.request():
            assert both.wait(20), "nobody opened a second connection while this one was busy"
            connection.answer(b"piece")

    with serving(behaviour) as server:
        async with connected(server) as http, trio.open_nursery() as nursery:
            await http.send(replace(GET, more_follows=True), Sink())
            for _ in range(2):
                nursery.start_soon(http.send, GET)
        assert server.accepted == 2


async def test_a_spare_connection_that_cannot_be_had_is_no_failure() -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        server.refuse()
        time.sleep(0.3)
        connection.answer(b"piece")

    with serving(behaviour) as server:
        async with connected(server) as http:
            assert (await http.send(replace(GET, more_follows=True), Sink())).status == 200


async def test_connections_are_kept_for_all_that_run_at_once(caplog: pytest.LogCaptureFixture) -> None:
    together = threading.Barrier(6)

    def answer(connection: Connection, request: bytes) -> None:
        together.wait(20)
        connection.answer()

    with serving(always(answer)) as server:
        async with connected(server, max_connections=6) as http:
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(http.send, GET)
        assert server.accepted == 6


async def test_a_connection_that_idled_for_too_long_is_not_used() -> None:
    with serving(always(lambda connection, request: connection.answer())) as server:
        async with connected(server, max_idle_seconds=0.0) as http:
            await http.send(GET)
            await http.send(GET)
        assert server.accepted == 2


async def test_a_fresh_connection_on_request() -> None:
    with serving(always(lambda connection, request: connection.answer())) as server:
        async with connected(server) as http:
            await http.send(GET)
            await http.send(replace(GET, fresh_connection=True))
        assert server.accepted == 2


async def test_a_connection_that_the_server_closed_while_it_idled_is_not_used() -> None:
    closed = threading.Event()

    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.answer()
        connection.sock.shutdown(socket.SHUT_RDWR)
        closed.set()

    with serving(behaviour) as server:
        async with connected(server) as http:
            for _ in range(3):
                await http.send(GET)
                assert await trio.to_thread.run_sync(closed.wait, 20)
                closed.clear()
        assert server.accepted == 3


# ----- broken connections -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", [True, False])
async def test_a_reused_connection_that_breaks_is_told_apart(reset: bool) -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.answer()
        connection.request()
        if reset:
            connection.reset()

    with serving(behaviour) as server:
        async with connected(server) as http:
            await http.send(GET)
            with pytest.raises(transport.ReceiveFailed) as caught:
                await http.send(GET)
            assert caught.value.reused
            await http.send(replace(GET, fresh_connection=True))


async def test_a_new_connection_that_breaks() -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.reset()

    with serving(behaviour) as server:
        async with connected(server) as http:
            with pytest.raises(transport.ReceiveFailed) as caught:
                await http.send(GET)
            assert not caught.value.reused


async def test_nobody_listens() -> None:
    with serving(lambda connection: None) as server:
        pass
    async with connected(server) as http:
        with pytest.raises(transport.ConnectFailed, match="refused") as caught:
            await http.send(GET)
        assert not caught.value.reused


async def test_a_name_without_an_address() -> None:
    http = RequestsTransport(TransportOptions("http", "no-such-host.invalid", 1))
    with pytest.raises(transport.HostUnknown, match=r"no-such-host\.invalid"):
        await http.send(GET)


async def test_the_second_address_is_tried_when_the_first_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(always(lambda connection, request: connection.answer())) as server:
        with serving(lambda connection: None) as gone:
            pass
        here = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*here, ("127.0.0.1", gone.port)), (*here, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        async with connected(server) as http:
            assert (await http.send(GET)).status == 200


@pytest.mark.parametrize(
    ("sent", "kind"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", transport.BodyCut),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel", transport.BodyCut),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello", transport.BodyCut),
        (b"SSH-2.0-OpenSSH_9.2\r\n", transport.NotHttp),
        (b"HTTP/1.1 two hundred\r\n\r\n", transport.NotHttp),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, transport.NotHttp),
        (b"HTTP/1.1 200 OK\r\n" + b"X: x\r\n" * 1000 + b"\r\n", transport.NotHttp),
        (b"\x15\x03\x01\x00\x02\x02\x46", transport.NotHttp),
        (b"", transport.ReceiveFailed),
        (b"HTTP/1.1 200 OK\r\n", transport.ReceiveFailed),
    ],
    ids=["short", "chunk cut", "no chunk", "ssh", "status", "long line", "many headers", "tls", "nothing", "head cut"],
)
@pytest.mark.parametrize("streamed", [False, True])
async def test_answers_that_are_not_whole(sent: bytes, kind: type[transport.TransportError], streamed: bool) -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.send(sent)

    with serving(behaviour) as server:
        async with connected(server) as http:
            try:
                response = await http.send(GET, Sink() if streamed else None)
            except kind:
                return
            # A head without an end is taken for a whole one without headers, and an empty body until the end.
            assert kind is transport.ReceiveFailed
            assert response.body == b""


async def test_no_failure_names_the_url() -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.reset()

    with serving(behaviour) as server:
        async with connected(server) as http:
            try:
                await http.send(replace(GET, query="_sid=hunter2"))
            except transport.TransportError as exc:
                error: BaseException | None = exc
            while error is not None:
                assert "hunter2" not in str(error)
                assert "hunter2" not in repr(error)
                error = error.__cause__


async def test_no_log_line_names_the_query(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with serving(always(lambda connection, request: connection.answer())) as server:
        async with connected(server) as http:
            await http.send(replace(GET, query="_sid=hunter2", headers={"Cookie": "id=hunter2"}))
    assert "/webapi/entry.cgi" in caplog.text
    assert "hunter2" not in caplog.text


# ----- deadlines --------------------------------------------------------------------------------------------------


def hang(connection: Connection) -> None:
    connection.request()
    connection.wait_for_hang_up()


def hang_in_head(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-")
    connection.wait_for_hang_up()


def hang_in_body(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome")
    connection.wait_for_hang_up()


def dribble_head(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\n")
    while not connection.stopping.wait(0.02):
        connection.send(b"X")


def dribble_body(connection: Connection) -> None:
    connection.request()
    connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not connection.stopping.wait(0.02):
        connection.send(b"x")


HANGING = [hang, hang_in_head, hang_in_body, dribble_head, dribble_body]


@pytest.mark.parametrize("behaviour", HANGING)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_answer_that_does_not_come_ends_at_the_deadline(behaviour: Any, streamed: bool) -> None:
    with serving(behaviour) as server:
        async with connected(server) as http:
            start = time.monotonic()
            with pytest.raises(transport.ReceiveTimeout):
                await http.send(replace(GET, answer_seconds=0.5, stall_seconds=0.5), Sink() if streamed else None)
            assert 0.4 < time.monotonic() - start < 5


@pytest.mark.parametrize("behaviour", HANGING)
async def test_cancelling_ends_the_thread_and_the_connection(behaviour: Any) -> None:
    with serving(behaviour) as server:
        async with connected(server, max_connections=1) as http:
            for _ in range(3):
                with trio.move_on_after(0.2) as scope:
                    await http.send(GET)
                assert scope.cancelled_caught
            # With one thread and one connection allowed, the next would wait for ever if they were still held.
            assert http._call_threads.borrowed_tokens == 0


async def test_a_stream_may_take_long_as_long_as_it_moves() -> None:
    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n")
        for _ in range(20):
            connection.send(bytes(100_000))
            connection.stopping.wait(0.1)

    with serving(behaviour) as server:
        async with connected(server) as http:
            sink = Sink()
            start = time.monotonic()
            await http.send(replace(GET, answer_seconds=1.0, stall_seconds=1.0), sink)
            assert time.monotonic() - start > 1.5
            assert len(sink.data) == 2_000_000


async def test_what_comes_slowly_is_handed_on_in_small_pieces() -> None:
    """They are what tells that the NAS is there, on a line that is too full for probes."""
    sizes: list[int] = []

    class Noting(Sink):
        async def take(self, piece: memoryview) -> bool:
            sizes.append(len(piece))
            return await super().take(piece)

    def behaviour(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1200000\r\n\r\n")
        for _ in range(30):
            connection.stopping.wait(0.1)
            connection.send(bytes(40_000))

    with serving(behaviour) as server:
        async with connected(server) as http:
            await http.send(GET, Noting())
    assert sum(sizes) == 1_200_000
    assert max(sizes) <= 256 * 1024, sizes


async def test_a_receiver_may_take_its_time() -> None:
    class Slow(Sink):
        async def take(self, piece: memoryview) -> bool:
            await trio.sleep(0.4)
            return await super().take(piece)

    with serving(always(lambda connection, request: connection.answer(bytes(300_000)))) as server:
        async with connected(server) as http:
            sink = Slow()
            await http.send(replace(GET, answer_seconds=0.3, stall_seconds=0.3), sink)
            assert len(sink.data) == 300_000


async def test_a_server_that_stops_reading_ends_an_upload() -> None:
    def behaviour(connection: Connection) -> None:
        connection.head_only()
        connection.stopping.wait(20)

    with serving(behaviour) as server:
        async with connected(server) as http:
            body = Body(*[bytes(1 << 20)] * 64)
            with pytest.raises(transport.SendTimeout):
                await http.send(Request("POST", "/x", body=body, stall_seconds=0.5))
            assert 0 < body.sent_bytes < body.length


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A backlog that is full drops connections without a word, as a machine that is switched off does."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def test_nobody_answers_at_the_address(silent_port: int) -> None:
    options = TransportOptions("http", "127.0.0.1", silent_port, connect_timeout_seconds=0.3)
    http = RequestsTransport(options)
    with pytest.raises(transport.ConnectTimeout):
        await http.send(GET)
    start = time.monotonic()
    with pytest.raises(transport.ConnectTimeout):
        await RequestsTransport(replace(options, connect_timeout_seconds=60)).send(replace(GET, answer_seconds=0.3))
    assert time.monotonic() - start < 5, "the deadline ends a connect, too"


async def test_an_address_where_nobody_answers_does_not_keep_a_probe_from_the_other_one(
    silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IPv6 that leads nowhere, as a name of the NAS may have it: it would count as away for ever."""
    with serving(always(lambda connection, request: connection.answer())) as server:
        here = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
        found = [(*here, ("127.0.0.1", silent_port)), (*here, ("127.0.0.1", server.port))]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
        async with connected(server) as http:
            assert (await http.send(replace(GET, answer_seconds=1.75))).status == 200
            again = replace(GET, answer_seconds=0.3, fresh_connection=True)
            assert (await http.send(again)).status == 200, "the next connection is made where the last one was"


async def test_who_is_slow_to_take_connections_is_waited_for_at_the_second_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with serving(lambda connection: None) as gone, serving(lambda connection: None) as there:
        pass
    here = (socket.AF_INET, socket.SOCK_STREAM, 6, "")
    found = [(*here, ("127.0.0.1", port)) for port in (gone.port, there.port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    tried: list[tuple[Any, float | None]] = []

    def connect(sock: socket.socket, address: Any) -> None:
        tried.append((address[1], sock.gettimeout()))
        raise TimeoutError

    monkeypatch.setattr("synofs.filestation.exchange._Socket.connect", connect, raising=False)
    with pytest.raises(transport.ConnectTimeout):
        await RequestsTransport(TransportOptions("http", "nas.example", 5000, connect_timeout_seconds=7)).send(GET)
    assert tried == [(gone.port, 0.4), (there.port, 0.4), (gone.port, 7), (there.port, 7)]


async def test_a_resolver_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: over.wait(20) and [])
    http = RequestsTransport(TransportOptions("http", "slow.example", 1))
    try:
        with pytest.raises(transport.ConnectTimeout):
            await http.send(replace(GET, answer_seconds=0.2))
    finally:
        over.set()


# ----- redirects --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
async def test_redirects_are_refused_and_name_their_target(status: str) -> None:
    location = "Location: https://user:pw@other.example:5001/webapi/auth.cgi?passwd=hunter2"
    with serving(always(lambda c, r: c.answer(b"", location, status=status))) as server:
        async with connected(server) as http:
            with pytest.raises(transport.Redirected) as caught:
                await http.send(Request("POST", "/webapi/auth.cgi", body=b"passwd=hunter2"))
    assert caught.value.target == "https://other.example:5001"
    assert "https://other.example:5001" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_a_redirect_within_the_host_is_refused_too() -> None:
    with serving(always(lambda c, r: c.answer(b"", "Location: /login", status="302 Found"))) as server:
        async with connected(server) as http:
            with pytest.raises(transport.Redirected, match=rf"127\.0\.0\.1:{server.port}"):
                await http.send(GET)
        assert server.accepted == 1
