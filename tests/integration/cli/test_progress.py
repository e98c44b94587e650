"""Whatever takes longer than a second shows how far it is, on a terminal; and Ctrl-C ends the wait, not the mount."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, Mounted, Synofs, on_a_terminal, until

pytestmark = pytest.mark.mount

SLOW = ("--bandwidth-mbit", "64")  # 8 MB/s


@pytest.fixture
def sending(mounted: Callable[..., Mounted]) -> Mounted:
    """A mount that has a few seconds of upload before it."""
    slow = mounted(*SLOW, mount=("--write-mode", "writeback"))
    (slow.docs / "video.bin").write_bytes(b"v" * 32_000_000)
    assert slow.synofs.status()["pending_uploads"] == 1
    return slow


def plain(shown: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize("command", ["flush", "umount"])
def test_waiting_for_uploads_shows_how_far_they_are(sending: Mounted, command: str) -> None:
    shown = plain(on_a_terminal(command, sending.synofs.mountpoint))
    told = re.findall(r"1 left, ([0-9.]+ [KMi]*B) of 30\.5 MiB", shown)
    assert len(set(told)) > 1, "it moves"
    assert (sending.disk / "video.bin").stat().st_size == 32_000_000


def test_in_a_pipe_nothing_is_shown(sending: Mounted) -> None:
    done = sending.synofs("flush", sending.synofs.mountpoint)
    assert (done.code, done.out, done.err) == (0, "", "")


def test_what_is_quick_shows_nothing_at_all(mounted: Callable[..., Mounted]) -> None:
    assert on_a_terminal("flush", mounted().synofs.mountpoint) == ""


def test_ctrl_c_ends_the_wait_and_leaves_the_mount(sending: Mounted) -> None:
    umount = subprocess.Popen([COMMAND, "umount", sending.synofs.mountpoint], stderr=subprocess.PIPE, text=True)
    with pytest.raises(subprocess.TimeoutExpired):
        umount.wait(1.5)
    umount.send_signal(signal.SIGINT)
    _, said = umount.communicate(timeout=10)
    assert umount.returncode == Problem.INTERRUPTED.exit_code
    assert "uploads go on" in said
    until((sending.disk / "video.bin").exists)
    until(lambda: sending.synofs.status()["pending_uploads"] == 0)
    assert sending.synofs.is_mounted()


def test_a_host_that_keeps_silent_is_shown_to_be_waited_for(synofs: Synofs) -> None:
    synofs.password_file.write_text("secret\n")
    words = ("--user", "anna", "--password-file", synofs.password_file, "--insecure-http")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        shown = on_a_terminal("mount", url, synofs.mountpoint, *words, code=Problem.TIMED_OUT.exit_code)
    assert "connecting to 127.0.0.1" in plain(shown)
