"""logind's side of suspend on a bus of our own: `Inhibit` gives a descriptor, and `PrepareForSleep` is told to all."""

from __future__ import annotations

import os
import select
import threading
import time
from contextlib import AbstractContextManager
from typing import Any

from jeepney import DBusAddress, HeaderFields, new_error, new_method_return, new_signal
from jeepney.io.blocking import DBusConnection

from tests.bus import BusService, serving

NAME = "org.freedesktop.login1"
PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"


class LoginService(BusService):
    def __init__(self, connection: DBusConnection) -> None:
        super().__init__(connection)
        self._lock = threading.Lock()
        self._inhibitors: list[int] = []  # our ends; the other end of each is closed when its holder lets go
        self.asked: list[tuple[str, str, str, str]] = []

    def answer(self, message: Any) -> None:
        fields = message.header.fields
        asked = (fields.get(HeaderFields.path), fields.get(HeaderFields.interface), fields.get(HeaderFields.member))
        if asked != (PATH, MANAGER, "Inhibit") or fields.get(HeaderFields.signature) != "ssss":
            self.connection.send(new_error(message, "org.freedesktop.DBus.Error.UnknownMethod"))
            return
        ours, theirs = os.pipe()
        self.connection.send(new_method_return(message, "h", (theirs,)))
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
        self.connection.send(new_signal(manager, "PrepareForSleep", "b", (begins,)))

    def close(self) -> None:
        for end in self._inhibitors:
            os.close(end)


def login_service(address: str) -> AbstractContextManager[LoginService]:
    return serving(address, NAME, LoginService, descriptors=True)
