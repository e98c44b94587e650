"""A server that says exactly what a test tells it to, byte by byte."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

Behaviour = Callable[["Connection"], None]


class Connection:
    """One accepted connection, in its own thread."""

    def __init__(self, sock: socket.socket, number: int, stopping: threading.Event) -> None:
        self.sock = sock
        self.number = number  # of this connection, from 0
        self.stopping = stopping
        self._buffer = b""

    def request(self) -> bytes:
        """The next request's head and body; b"" when the client hangs up."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return b""
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        while len(self._buffer) < length:
            if not self._more():
                return b""
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head + b"\r\n\r\n" + body

    def head_only(self) -> bytes:
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                return b""
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return head

    def _more(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def answer(self, body: bytes = b"ok", *headers: str, status: str = "200 OK") -> None:
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """End with a TCP reset in place of a farewell."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_hang_up(self) -> bool:
        """True when the client ends the connection, False when the server is stopped before."""
        self.sock.settimeout(20)
        try:
            while self.sock.recv(65536):
                pass
        except TimeoutError:
            return False
        except OSError:
            return True
        return True


class RawServer:
    def __init__(self, behaviour: Behaviour, context: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._behaviour = behaviour
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.hung_up = threading.Event()  # a behaviour saw the client end its connection
        self.failures: list[BaseException] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._sockets: list[socket.socket] = []
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            number, self.accepted = self.accepted, self.accepted + 1
            self._sockets.append(sock)
            thread = threading.Thread(target=self._serve, args=(sock, number))
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            with contextlib.ExitStack() as stack:
                stack.enter_context(sock)
                if self._context is not None:
                    sock = stack.enter_context(self._context.wrap_socket(sock, server_side=True))
                self._behaviour(Connection(sock, number, self._stopping))
        except OSError:
            pass  # the client went away
        except BaseException as exc:
            self.failures.append(exc)

    def refuse(self) -> None:
        """Take no more connections."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def stop(self) -> None:
        self._stopping.set()
        self.refuse()
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        assert not self.failures, self.failures


@contextlib.contextmanager
def serving(behaviour: Behaviour, context: ssl.SSLContext | None = None, port: int = 0) -> Iterator[RawServer]:
    server = RawServer(behaviour, context, port)
    try:
        yield server
    finally:
        server.stop()


def noting(seen: list[bytes]) -> Behaviour:
    """Notes each request, and answers that all is well."""

    def answer(connection: Connection, request: bytes) -> None:
        seen.append(request)
        connection.answer()

    return always(answer)


def always(answer: Callable[[Connection, bytes], Any]) -> Behaviour:
    """Answers every request on a connection until the client hangs up."""

    def behaviour(connection: Connection) -> None:
        while request := connection.request():
            answer(connection, request)

    return behaviour
