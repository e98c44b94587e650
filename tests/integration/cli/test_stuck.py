"""A bug that stops the loop is noticed, written down, and ended by systemd; nothing that was written is lost."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import COMMAND, PASSWORD, Nas, Synofs, running_nas, until
from tests.integration.cli.test_notices import faults

pytestmark = pytest.mark.mount

WATCHDOG_SECONDS = 3


@pytest.fixture
def own_nas(tmp_path: Path) -> Iterator[Nas]:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "file").write_text("content")
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        yield nas


class Systemd:
    """Listens where a service tells how it is."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def heard(self, seconds: float) -> list[str]:
        """All lines that come within that time."""
        lines: list[str] = []
        end = time.monotonic() + seconds
        while select.select([self._sock], [], [], max(0.0, end - time.monotonic()))[0]:
            lines += self._sock.recv(65536).decode().splitlines()
        return lines


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Systemd]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        yield Systemd(sock)


def test_a_stuck_loop_is_written_down_and_ended_by_systemd_and_unsent_files_survive(
    own_nas: Nas, synofs: Synofs, systemd: Systemd, tmp_path: Path
) -> None:
    docs = synofs.mountpoint / "docs"
    options = [*synofs.sign_in(own_nas), "--foreground", "--write-mode", "writeback"]
    command = [sys.executable, Path(__file__).with_name("stuck.py"), "mount", own_nas.url, synofs.mountpoint, *options]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([os.getcwd(), os.environ.get("PYTHONPATH", "")]),
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": str(WATCHDOG_SECONDS * 1_000_000),
    }
    log = tmp_path / "stderr"
    with log.open("wb") as stderr, contextlib.ExitStack() as stack:
        daemon = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr, env=environment)
        )
        stack.callback(daemon.kill)
        until(synofs.is_mounted)
        until(lambda: "WATCHDOG=1" in systemd.heard(1))
        faults(own_nas, {"kind": "hang", "method": "upload"})
        (docs / "unsent").write_text("safe here")

        victim = stack.enter_context(subprocess.Popen(["stat", str(docs / "stuck")], stderr=subprocess.DEVNULL))
        until(lambda: "the loop has stood still" in log.read_text(), 30)
        systemd.heard(0.5)
        assert "WATCHDOG=1" not in systemd.heard(1.5 * WATCHDOG_SECONDS), "systemd must not be told that all is well"
        assert "wait_for_ever" in log.read_text(), "the culprit is named"

        daemon.send_signal(signal.SIGUSR1)
        until(lambda: "Current thread" in log.read_text())

        daemon.send_signal(signal.SIGABRT)  # what systemd does then
        assert daemon.wait(20) == -signal.SIGABRT
        assert victim.wait(20) == 1, "whoever waited gets an error"
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(docs)

    faults(own_nas)
    assert synofs("umount", synofs.mountpoint, "--dead").code == 0
    synofs.mount(own_nas, "--write-mode", "writeback")
    until(lambda: (own_nas.folder / "unsent").exists())
    assert synofs("flush", synofs.mountpoint).code == 0
    assert (own_nas.folder / "unsent").read_text() == "safe here"
    assert synofs("umount", synofs.mountpoint).code == 0


def test_a_signal_writes_down_what_every_task_waits_for_and_another_one_what_is_queued(
    own_nas: Nas, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += ["not sent yet", "the NAS", "flush:"]
    synofs.mount(own_nas, "--write-mode", "writeback", "--access-log")
    faults(own_nas, {"kind": "error", "code": 402, "method": "upload"})
    (synofs.mountpoint / "docs" / "unsent").write_text("safe here")
    until(lambda: synofs.status()["pending_uploads"] == 1)
    pid = synofs.status()["pid"]
    os.kill(pid, signal.SIGUSR1)
    until(lambda: "the stacks of all tasks" in synofs.logs() and "File " in synofs.logs())
    assert re.search(r"health\.py:\d+ run: ", synofs.logs())
    os.kill(pid, signal.SIGUSR2)
    until(lambda: '"uploads": [' in synofs.logs())
    assert '"path": "/docs/unsent"' in synofs.logs()

    told = synofs("status", "--debug", synofs.mountpoint).json
    assert told["inside"]["uploads"][0]["path"] == "/docs/unsent"
    assert any(line.startswith("create ") for line in told["inside"]["last_calls"])
    assert any("health.py" in line for line in told["stacks"])

    folder = Path(os.environ["XDG_STATE_HOME"]) / "synofs"
    (access,) = folder.glob("*.access.log")
    assert re.search(r"create \d+ unsent pid \d+: ok, ", access.read_text())
    assert access.stat().st_mode & 0o777 == 0o600
    faults(own_nas)
    until(lambda: synofs.status()["pending_uploads"] == 0)
    assert synofs("umount", synofs.mountpoint).code == 0


def ignores(pid: int, number: int) -> bool:
    (mask,) = re.findall(r"^SigIgn:\s*(\w+)$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    return bool(int(mask, 16) >> (number - 1) & 1)


def test_the_same_signals_end_no_mount_that_has_just_begun(own_nas: Nas, synofs: Synofs, tmp_path: Path) -> None:
    faults(own_nas, {"kind": "hang", "method": "query"})
    command = [COMMAND, "mount", own_nas.url, synofs.mountpoint, *synofs.sign_in(own_nas), "--foreground"]
    log = tmp_path / "stderr"
    with log.open("wb") as stderr, subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr) as mount:
        until(lambda: ignores(mount.pid, signal.SIGUSR2))
        mount.send_signal(signal.SIGUSR2)

        def tells_its_stacks() -> bool:
            mount.send_signal(signal.SIGUSR1)
            return "most recent call first" in log.read_text()

        until(tells_its_stacks)
        assert not synofs.is_mounted()
        faults(own_nas)
        until(synofs.is_mounted)
        mount.send_signal(signal.SIGTERM)
        assert mount.wait(20) == 0
