"""Whatever takes longer than a second shows how far it is, on a terminal; and Ctrl-C ends the wait, not the mount."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from collections.abc import Callable

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, PATIENCE_SECONDS, Mounted, Synofs, on_a_terminal, until

pytestmark = pytest.mark.mount

SLOW = ("--bandwidth-mbit", "4")  # a minute for what is sent here; none waits for its end at that
LEFT = re.compile(r"1 left, ([0-9.]+ [KMi]*B) of 30\.5 MiB")


@pytest.fixture
def sending(mounted: Callable[..., Mounted]) -> Mounted:
    """A mount with an upload before it that goes on until the test lets it end."""
    slow = mounted(*SLOW, mount=("--write-mode", "writeback"))
    (slow.docs / "video.bin").write_bytes(b"v" * 32_000_000)
    assert slow.synofs.status()["pending_uploads"] == 1
    return slow


def let_it_end(sending: Mounted) -> None:
    sending.fault(kind="bandwidth", mbit=0)


def plain(shown: str) -> str:
    """Without colours."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize("command", ["flush", "umount"])
def test_waiting_for_uploads_shows_how_far_they_are(sending: Mounted, command: str) -> None:
    def watch(shown: str, process: object) -> None:
        if len(set(LEFT.findall(shown))) > 1:
            let_it_end(sending)

    shown = plain(on_a_terminal(command, sending.synofs.mountpoint, watch=watch))
    assert len(set(LEFT.findall(shown))) > 1, "it moves"
    assert (sending.disk / "video.bin").stat().st_size == 32_000_000


def test_in_a_pipe_nothing_is_shown(sending: Mounted) -> None:
    def watch(shown: str, process: object) -> None:
        if LEFT.search(shown):
            let_it_end(sending)

    command = [COMMAND, "flush", sending.synofs.mountpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as piped:
        # Beside it one that shows something: by then, so would this one.
        on_a_terminal("flush", sending.synofs.mountpoint, watch=watch)
        assert piped.communicate(timeout=PATIENCE_SECONDS)[0] == b""
    assert piped.returncode == 0


def test_what_is_quick_shows_nothing_at_all(mounted: Callable[..., Mounted]) -> None:
    assert on_a_terminal("flush", mounted().synofs.mountpoint) == ""


def test_ctrl_c_ends_the_wait_and_leaves_the_mount(sending: Mounted) -> None:
    interrupted = False

    def watch(shown: str, process: subprocess.Popen[bytes]) -> None:
        nonlocal interrupted
        if LEFT.search(shown) and not interrupted:
            interrupted = True
            process.send_signal(signal.SIGINT)

    said = on_a_terminal("umount", sending.synofs.mountpoint, code=Problem.INTERRUPTED.exit_code, watch=watch)
    assert "uploads go on" in plain(said)
    assert not (sending.disk / "video.bin").exists()
    let_it_end(sending)
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
