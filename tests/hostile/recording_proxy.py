"""A TCP proxy that keeps a copy of what it carries, to know which secrets there are and where they travel."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Recording:
    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.sent = b""  # to the NAS
        self.received = b""  # from it
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
                theirs = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                return
            self._sockets += [ours, theirs]
            for source, target, kept in ((ours, theirs, "sent"), (theirs, ours, "received")):
                thread = threading.Thread(target=self._carry, args=(source, target, kept))
                self._threads.append(thread)
                thread.start()

    def _carry(self, source: socket.socket, target: socket.socket, kept: str) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(65536):
                with self._lock:
                    setattr(self, kept, getattr(self, kept) + piece)
                target.sendall(piece)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def stop(self) -> None:
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(10)


@contextmanager
def recording(target_port: int) -> Iterator[Recording]:
    proxy = Recording(target_port)
    try:
        yield proxy
    finally:
        proxy.stop()
