"""logind's side of suspend on a bus of our own: `Inhibit` gives a descriptor, and `PrepareForSleep` is told to all."""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Iterator
from typing import Any

from jeepney import DBusAddress, HeaderFields, MessageType, message_bus, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection, open_dbus_connection

NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"


class LoginService:
    def __init__(self, connection: DBusConnection) -> None:
        self._connection = connection
        self._lock = threading.Lock()
        self._inhibitors: list[int] = []  # our ends; the other end of each is closed when its holder lets go
        self.asked: list[tuple[str, str, str, str]] = []

    def serve(self) -> None:
        """Until the bus ends."""
        with contextlib.suppress(ConnectionError, OSError):
            while True:
                message = self._connection.receive()
                if message.header.message_type is MessageType.method_call:
                    self._answer(message)

    def _answer(self, message: Any) -> None:
        fields = message.header.fields
        asked = (fields.get(HeaderFields.path), fields.get(HeaderFields.interface), fields.get(HeaderFields.member))
        if asked != (PATH, MANAGER, "Inhibit") or fields.get(HeaderFields.signature) != "ssss":
            self._connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))
            return
        ours, theirs = os.pipe()
        self._connection.send(new_method_return(message, "h", (theirs,)))
        os.close(theirs)
        with self._lock:
            self._inhibitors.append(ours)
            self.asked.append(message.body)

    def held(self) -> int:
        """How many inhibitors are held now."""
        with self._lock:
            for end in list(self._inhibitors):
                if select.select([end], [], [], 0)[0]:  # end of file: its holder has let go
                    self._inhibitors.remove(end)
                    os.close(end)
            return len(self._inhibitors)

    def wait_until_held(self, count: int, seconds: float = 20.0) -> float:
        """Returns how long that took."""
        began = time.monotonic()
        while self.held() != count:
            assert time.monotonic() < began + seconds, f"{self.held()} inhibitors, not {count}, after {seconds} s"
            time.sleep(0.02)
        return time.monotonic() - began

    def prepare_for_sleep(self, begins: bool) -> None:
        manager = DBusAddress(PATH, bus_name=None, interface=MANAGER)
        self._connection.send(new_signal(manager, "PrepareForSleep", "b", (begins,)))

    def close(self) -> None:
        for end in self._inhibitors:
            os.close(end)


@contextlib.contextmanager
def login_service(address: str) -> Iterator[LoginService]:
    connection = open_dbus_connection(bus=address, enable_fds=True)
    service = LoginService(connection)
    connection.send_and_get_reply(message_bus.RequestName(NAME))
    thread = threading.Thread(target=service.serve, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        connection.sock.shutdown(2)
        thread.join(5)
        connection.close()
        service.close()
