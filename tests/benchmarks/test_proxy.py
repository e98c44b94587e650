"""The delay proxy keeps its word: what is slow in a benchmark is slow because the line was asked to be."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class Proxy:
    def __init__(self, target: int, *options: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.proxy", "--to", f"127.0.0.1:{target}", *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self._line().rpartition(":")[2])

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def ask(self, **command: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.stdin.close()  # type: ignore[union-attr]
        self.process.wait(10)
        self.process.stdout.close()  # type: ignore[union-attr]


def serve(handle: Callable[[socket.socket], None]) -> tuple[socket.socket, int]:
    """A server that gives each connection to `handle`, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))

    def one(client: socket.socket) -> None:
        with client:
            with suppress(OSError):  # the other side may go first: these tests look at what it saw
                handle(client)

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=one, args=(client,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener, listener.getsockname()[1]


def echo(client: socket.socket) -> None:
    while data := client.recv(65536):
        client.sendall(data)


def receive(client: socket.socket, size: int) -> bytes:
    received = b""
    while len(received) < size and (data := client.recv(1 << 20)):
        received += data
    return received


@pytest.fixture
def start() -> Iterator[Callable[..., Proxy]]:
    with ExitStack() as stack:

        def started(handle: Callable[[socket.socket], None], *options: str) -> Proxy:
            listener, port = serve(handle)
            stack.callback(listener.close)
            return stack.enter_context(Proxy(port, *options))

        yield started


def test_requests_that_wait_at_once_are_counted_until_their_answers_come(start: Callable[..., Proxy]) -> None:
    proxy = start(echo, "--latency-ms", "100")
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(5)]
        for client in clients[:3]:
            client.sendall(b"GET /1 HTTP/1.1\r\n\r\n")
        for client in clients[:3]:
            client.recv(100)
        assert proxy.ask(stats=True)["peak_waiting"] == 3
        proxy.ask(reset_peaks=True)
        for client in clients:
            client.sendall(b"GET /2 HTTP/1.1\r\n\r\n")
            client.recv(100)
        assert proxy.ask(stats=True)["peak_waiting"] == 1
        clients[0].sendall(b"GET /3 HTTP/1.1\r\n\r\n")
        clients[0].close()
        deadline = time.monotonic() + 10
        while proxy.ask(stats=True)["peak_waiting"] and time.monotonic() < deadline:
            proxy.ask(reset_peaks=True)
        assert proxy.ask(stats=True)["peak_waiting"] == 0, "who has gone waits no longer"


def test_a_request_costs_exactly_one_round_trip(start: Callable[..., Proxy]) -> None:
    proxy = start(echo, "--latency-ms", "40")
    taken = []
    with proxy.connect() as client:
        for number in range(8):
            began = time.monotonic()
            client.sendall(b"GET /%d HTTP/1.1\r\n\r\n" % number)
            client.recv(100)
            taken.append(time.monotonic() - began)
    stats = proxy.ask(stats=True)
    assert stats["turns"] == 8
    assert stats["requests"] == {"GET": 8}
    assert stats["connections"] == 1
    # The first opened the connection, which costs a round trip of its own.
    assert taken[0] >= 0.080
    assert all(seconds >= 0.040 for seconds in taken[1:])
    assert min(taken[1:]) < 0.060, "one round trip, not two"


def test_the_size_of_an_answer_does_not_change_its_round_trip(start: Callable[..., Proxy]) -> None:
    size = 3_000_000

    def answer(client: socket.socket) -> None:
        while client.recv(100):
            client.sendall(b"x" * size)

    proxy = start(answer, "--latency-ms", "100")
    taken = []
    with proxy.connect() as client:
        for _ in range(4):
            began = time.monotonic()
            client.sendall(b"POST ")
            assert len(receive(client, size)) == size
            taken.append(time.monotonic() - began)
    assert min(taken) >= 0.100
    assert min(taken[1:]) < 0.190
    assert proxy.ask(stats=True)["requests"] == {"POST": 4}


def test_requests_on_many_connections_wait_at_the_same_time(start: Callable[..., Proxy]) -> None:
    proxy = start(echo, "--latency-ms", "100")
    with ExitStack() as stack:
        clients = [stack.enter_context(proxy.connect()) for _ in range(20)]
        for _ in range(2):
            began = time.monotonic()
            for client in clients:
                client.sendall(b"hello")
            for client in clients:
                client.recv(100)
            taken = time.monotonic() - began
            assert taken >= 0.1
    assert taken < 1.0, "20 at once are not 20 in a row"


def test_all_connections_share_the_bandwidth(start: Callable[..., Proxy]) -> None:
    size = 1_000_000

    def answer(client: socket.socket) -> None:
        client.recv(100)
        client.sendall(b"x" * size)

    proxy = start(answer, "--bandwidth-mbit", "80")
    received = []

    def fetch() -> None:
        with proxy.connect() as client:
            client.sendall(b"go")
            received.append(len(receive(client, size)))

    began = time.monotonic()
    threads = [threading.Thread(target=fetch) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.monotonic() - began
    assert received == [size] * 4
    assert 0.39 <= taken < 1.2  # 4 MB at 10 MB/s


def test_bytes_arrive_as_they_were_sent_in_both_directions(start: Callable[..., Proxy]) -> None:
    proxy = start(echo, "--latency-ms", "2")
    sent = bytes(range(256)) * 20_000
    with proxy.connect() as client:
        sender = threading.Thread(target=client.sendall, args=(sent,))
        sender.start()
        assert receive(client, len(sent)) == sent
        sender.join()
    stats = proxy.ask(stats=True)
    assert stats["bytes_up"] == stats["bytes_down"] == len(sent)
    proxy.ask(reset=True)
    assert proxy.ask(stats=True)["bytes_down"] == 0


def test_the_end_of_one_direction_leaves_the_other_open(start: Callable[..., Proxy]) -> None:
    def count(client: socket.socket) -> None:
        size = 0
        while data := client.recv(65536):
            size += len(data)
        client.sendall(b"%d" % size)

    proxy = start(count, "--latency-ms", "4")
    with proxy.connect() as client:
        client.sendall(b"x" * 100_000)
        client.shutdown(socket.SHUT_WR)
        assert receive(client, 100) == b"100000"


def test_a_server_that_hangs_up_is_told_to_the_client(start: Callable[..., Proxy]) -> None:
    proxy = start(lambda client: client.close(), "--latency-ms", "4")
    with proxy.connect() as client:
        assert client.recv(10) == b""


def test_a_port_where_nobody_listens_ends_the_connection() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Proxy(port) as proxy, proxy.connect() as client:
        with suppress(ConnectionResetError):
            assert client.recv(10) == b""


def test_the_line_can_be_changed_while_it_is_in_use(start: Callable[..., Proxy]) -> None:
    proxy = start(echo)
    with proxy.connect() as client:
        client.sendall(b"at once")
        client.recv(100)
        assert proxy.ask(latency_ms=60)["latency_ms"] == 60
        began = time.monotonic()
        client.sendall(b"later")
        client.recv(100)
        assert time.monotonic() - began >= 0.06
