"""Tell systemd how the daemon is doing (sd_notify(3)), when systemd started it and asked to be told."""

from __future__ import annotations

import os
import socket


class Notifier:
    """Sends datagrams to `$NOTIFY_SOCKET`; without one, does nothing. A lost message is no reason to fail."""

    def __init__(self, address: str | None) -> None:
        self._address = address

    @classmethod
    def from_environment(cls) -> Notifier:
        return cls(os.environ.get("NOTIFY_SOCKET"))

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}\nMAINPID={os.getpid()}")

    def status(self, status: str) -> None:
        self._send(f"STATUS={status}")

    def stopping(self, status: str, within_seconds: float) -> None:
        """The end may take so long, were it more than the unit allows."""
        self._send(f"STOPPING=1\nSTATUS={status}\nEXTEND_TIMEOUT_USEC={within_seconds * 1e6:.0f}")

    def alive(self) -> None:
        self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A leading @ stands for the NUL byte of the abstract namespace.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.connect(address)
                sock.send(message.encode())
        except OSError:
            return


def watchdog_seconds() -> float | None:
    """How often systemd wants to hear from this process, at the latest; None: it does not (sd_watchdog_enabled(3))."""
    microseconds, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not microseconds.isdigit() or microseconds == "0" or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1e6
