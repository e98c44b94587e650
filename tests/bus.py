"""A D-Bus bus of our own, and services on it that stand in for those of a desktop."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from jeepney import MessageType, message_bus
from jeepney.io.blocking import DBusConnection, open_dbus_connection


class BusService:
    """Answers method calls, in a thread of its own, until the bus ends."""

    def __init__(self, connection: DBusConnection) -> None:
        self.connection = connection

    def answer(self, message: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Let go of what it holds."""

    def serve(self) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                message = self.connection.receive()
                if message.header.message_type is MessageType.method_call:
                    self.answer(message)


_Service = TypeVar("_Service", bound=BusService)


@contextlib.contextmanager
def session_bus() -> Iterator[str]:
    """Its address."""
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
    ) as bus:
        try:
            assert bus.stdout is not None
            yield bus.stdout.readline().strip()
        finally:
            bus.terminate()


@contextlib.contextmanager
def serving(
    address: str, name: str, make: Callable[[DBusConnection], _Service], *, descriptors: bool = False
) -> Iterator[_Service]:
    """A service with that name on the bus. `descriptors`: it passes some."""
    connection = open_dbus_connection(bus=address, enable_fds=descriptors)
    service = make(connection)
    connection.send_and_get_reply(message_bus.RequestName(name))
    thread = threading.Thread(target=service.serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        connection.sock.shutdown(2)
        thread.join(5)
        connection.close()
        service.close()
