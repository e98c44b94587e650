"""A session bus with a desktop's notification service on it: the D-Bus interface, and a list in place of a screen."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from jeepney import HeaderFields, MessageType, message_bus, new_error, new_method_return
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.Notifications"


class Shown(NamedTuple):
    number: int
    replaces: int
    summary: str
    body: str
    urgency: int


class NotificationService:
    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self.shown: list[Shown] = []

    def serve(self) -> None:
        """Until the bus ends."""
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                message = self._connection.receive()
                if message.header.message_type is MessageType.method_call:
                    self._connection.send(self._answer(message))

    def _answer(self, message: Any) -> Any:
        fields = message.header.fields
        asked = (fields.get(HeaderFields.interface), fields.get(HeaderFields.member))
        if asked != (NAME, "Notify") or fields.get(HeaderFields.signature) != "susssasa{sv}i":
            return new_error(message, "org.freedesktop.DBus.Error.UnknownMethod")
        _application, replaces, _icon, summary, body, _actions, hints, _milliseconds = message.body
        number = replaces or len(self.shown) + 1
        self.shown.append(Shown(number, replaces, summary, body, hints["urgency"][1]))
        return new_method_return(message, "u", (number,))

    def wait_for(self, count: int, seconds: float = 15.0) -> list[Shown]:
        deadline = time.monotonic() + seconds
        while len(self.shown) < count:
            assert time.monotonic() < deadline, f"only {self.shown} in {seconds} s"
            time.sleep(0.05)
        return self.shown


@contextlib.contextmanager
def session_bus() -> Iterator[str]:
    """The address of a bus of our own."""
    with subprocess.Popen(
        ["dbus-daemon", "--session", "--nofork", "--print-address=1"], stdout=subprocess.PIPE, text=True
    ) as bus:
        try:
            assert bus.stdout is not None
            yield bus.stdout.readline().strip()
        finally:
            bus.terminate()


@contextlib.contextmanager
def notification_service(address: str) -> Iterator[NotificationService]:
    connection = open_dbus_connection(bus=address)
    service = NotificationService(connection)
    connection.send_and_get_reply(message_bus.RequestName(NAME))
    thread = threading.Thread(target=service.serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        connection.sock.shutdown(2)
        thread.join(5)
        connection.close()
