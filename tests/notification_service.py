"""A desktop's notification service on a bus of our own: the D-Bus interface, and a list in place of a screen."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from jeepney import HeaderFields, new_error, new_method_return
from jeepney.io.blocking import DBusConnection

from tests.bus import BusService, serving

NAME = "org.freedesktop.Notifications"


class Shown(NamedTuple):
    number: int
    replaces: int
    summary: str
    body: str
    urgency: int


class NotificationService(BusService):
    def __init__(self, connection: DBusConnection) -> None:
        super().__init__(connection)
        self.shown: list[Shown] = []

    def answer(self, message: Any) -> None:
        self.connection.send(self._reply(message))

    def _reply(self, message: Any) -> Any:
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


def notification_service(address: str) -> AbstractContextManager[NotificationService]:
    return serving(address, NAME, NotificationService)
