"""systemd is told what it asked for, and its absence is no trouble."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from synofs.app.sdnotify import Notifier, watchdog_seconds


@pytest.mark.parametrize("kind", ["file", "abstract"])
def test_messages_arrive(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # keeps the path short enough for a socket
    name = f"synofs-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(name if kind == "file" else "\0" + name)
        monkeypatch.setenv("NOTIFY_SOCKET", name if kind == "file" else "@" + name)
        notifier = Notifier.from_environment()
        notifier.ready("online")
        assert sock.recv(1000).decode().split("\n") == ["READY=1", "STATUS=online", f"MAINPID={os.getpid()}"]
        notifier.status("3 uploads pending")
        assert sock.recv(1000) == b"STATUS=3 uploads pending"
        notifier.stopping("unmounting", within_seconds=90.5)
        assert sock.recv(1000) == b"STOPPING=1\nSTATUS=unmounting\nEXTEND_TIMEOUT_USEC=90500000"
        notifier.alive()
        assert sock.recv(1000) == b"WATCHDOG=1"


def test_without_systemd_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    Notifier.from_environment().ready("online")
    monkeypatch.setenv("NOTIFY_SOCKET", "/nonexistent/socket")
    Notifier.from_environment().ready("online")


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("60000000", "us", 60.0), ("1500000", None, 1.5), ("60000000", "1", None), ("0", None, None), (None, None, None)],
)
def test_the_watchdog_counts_for_the_process_that_it_was_set_for(
    microseconds: str | None, pid: str | None, seconds: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WATCHDOG_USEC", microseconds), ("WATCHDOG_PID", str(os.getpid()) if pid == "us" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_seconds() == seconds
