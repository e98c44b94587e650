"""SIGKILL of the process behind a mount: whoever waits for it gets an error within seconds, whatever it waits for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synofs.fuse.connection import CONNECTIONS
from tests.mount.harness import (
    Nas,
    end_connection,
    guard_of,
    is_mounted,
    mounted,
    mounted_by_runner,
    run,
    stuck_threads,
    wait_until,
    waits_for_an_answer,
)
from tests.mount.kills import OPTIONS, all_end, changes, kill_often

pytestmark = pytest.mark.mount

SYNOFS = Path(sys.executable).parent / "synofs"
SECONDS = 5.0
KILLS = 3
TRIES = 20
ABORTED = {errno.ECONNABORTED, errno.ENOTCONN, errno.EIO}  # EIO: the kernel's word for a page that did not come
BEGIN = "import mmap, os, sys; path = sys.argv[1]; print('begun', flush=True)\ntry:\n "
END = "\nexcept OSError as error: sys.exit(error.errno)"
WAITS = {
    "listing": ("os.listdir(path + '/folder')", ABORTED),
    "lookup": ("os.stat(path + '/folder/name')", ABORTED),
    "read": ("open(path + '/read', 'rb').read()", ABORTED),
    "page of a mapped file": (
        "mmap.mmap(os.open(path + '/mapped', os.O_RDONLY), 0, prot=mmap.PROT_READ)[70_000]",
        {-signal.SIGBUS},
    ),
    "fsync": ("file = open(path + '/new', 'wb', 0); file.write(b'x'); os.fsync(file.fileno())", ABORTED),
    "close": (
        "file = os.open(path + '/closed', os.O_WRONLY | os.O_CREAT); os.write(file, b'x'); os.close(file)",
        ABORTED,
    ),
    "mkdir": ("os.mkdir(path + '/made')", ABORTED),
    "rename": ("os.rename(path + '/old', path + '/renamed')", ABORTED),
    "second in a folder that the kernel has locked": ("os.mkdir(path + '/made too')", ABORTED),
}


@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped before"])
def test_whoever_waits_for_a_process_that_is_killed_gets_an_error_within_seconds(
    stopped: bool, served: Path, start_nas: Callable[..., Nas]
) -> None:
    (served / "folder").mkdir()
    for name in ("read", "mapped", "old", "open"):
        (served / name).write_bytes(bytes(200_000))
    nas = start_nas(served)
    with mounted(nas, writable=True) as mount:
        mount.path = mount.mountpoint / served.name
        run("ls", str(mount.path))
        idle = os.open(mount / "open", os.O_RDONLY)
        for method in ("list", "download", "upload", "create", "rename"):
            nas.fault("hang", method=method)
        waiting = {
            what: subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BEGIN + doing + END, mount.path], stdout=subprocess.PIPE
            )
            for what, (doing, _) in WAITS.items()
        }
        try:
            for process in waiting.values():
                assert process.stdout is not None
                assert process.stdout.readline() == b"begun\n"
            time.sleep(1)
            if stopped:
                os.kill(mount.process.pid, signal.SIGSTOP)
            assert [what for what, process in waiting.items() if process.poll() is not None] == []
            mount.process.kill()
            killed_at = time.monotonic()
            ended = {what: process.wait(SECONDS) for what, process in waiting.items()}
            assert time.monotonic() - killed_at < SECONDS
        finally:
            for process in waiting.values():
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        assert {what: code for what, code in ended.items() if code not in WAITS[what][1]} == {}
        mount.process.wait(SECONDS)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.read(idle, 1)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.close(idle)
        mount.process.returncode = 0  # on purpose


@pytest.fixture(params=["through fusectl", "by force"])
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """How the kernel can be told, on a machine where this is all there is."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount fusectl or to do without")
    is_there = os.listdir(CONNECTIONS.parent) and is_mounted(CONNECTIONS)
    if is_there == (request.param == "through fusectl"):
        yield
    elif is_there:
        pytest.skip("fusectl is mounted on this machine")
    else:
        run("mount", "-t", "fusectl", "none", CONNECTIONS)
        yield
        run("umount", CONNECTIONS)


def test_a_process_that_is_killed_while_it_waits_in_the_kernel_for_a_folder_ends_and_so_do_all_waits(
    way: None, served: Path, start_nas: Callable[..., Nas]
) -> None:
    """The folder is locked by a program that waits for an answer of the NAS; the kernel is told of a name in it."""
    (served / "folder").mkdir()
    nas = start_nas(served)
    with mounted_by_runner(nas, "--careless") as mount:
        folder = mount / served.name / "folder"
        os.stat(folder)
        for method in ("list", "getinfo"):
            nas.fault("hang", method=method)
        command = [sys.executable, "-I", "-S", "-c", BEGIN + "os.stat(path)" + END]
        looks = [subprocess.Popen([*command, folder / name], stdout=subprocess.DEVNULL) for name in ("new", "other")]
        try:
            wait_until(lambda: any(waits_for_an_answer(look.pid) for look in looks), what="a program that waits")
            mount.process.send_signal(signal.SIGUSR1)
            wait_until(lambda: stuck_threads(mount.process.pid), what="a thread that waits for the folder")
            mount.process.kill()
            assert {look.wait(SECONDS) for look in looks} <= ABORTED
            mount.process.wait(SECONDS)
            assert is_mounted(mount.mountpoint), "an empty folder would look as if all files had been deleted"
            with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
                os.listdir(folder)
        finally:
            if mount.process.poll() is None:
                end_connection(mount.mountpoint)
            for look in looks:
                look.kill()
                look.wait()
        mount.process.returncode = 0  # on purpose


def test_whenever_it_is_killed_while_names_change_nobody_waits(served: Path, start_nas: Callable[..., Nas]) -> None:
    """Without fuse/guard.py, half of the kills hung."""
    assert kill_often(start_nas(served), served, KILLS, served.name) == 0


def test_where_the_guard_is_killed_too_a_folder_that_hangs_is_cleared_like_a_dead_one(
    served: Path, start_nas: Callable[..., Nas]
) -> None:
    """As by `systemctl kill -s KILL`. About half of these kills hang; `--dead` is what systemd's units call."""
    nas = start_nas(served)
    has_hung = False
    for _ in range(TRIES):
        with mounted(nas, *OPTIONS, writable=True) as mount:
            mount.path /= served.name
            guard = wait_until(lambda mount=mount: guard_of(mount), what="the guard")
            with changes(mount, served) as programs:
                os.kill(guard, signal.SIGKILL)
                mount.process.kill()
                has_hung = not all_end(mount, programs)
                subprocess.run([SYNOFS, "umount", "--dead", mount.mountpoint], timeout=30, check=True)
                assert all_end(mount, programs)
                assert not is_mounted(mount.mountpoint)
        if has_hung:
            return
    pytest.fail(f"none of {TRIES} kills hung")
