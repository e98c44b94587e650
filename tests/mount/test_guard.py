"""The process that ends the kernel's connection when that of a mount is killed: it holds nothing, and stays alone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.harness import Mount, Nas, guard_of, mounted, wait_until

pytestmark = pytest.mark.mount


@pytest.fixture
def watched(served: Path, start_nas: Callable[..., Nas]):
    with mounted(start_nas(served)) as mount:
        yield mount, wait_until(lambda: guard_of(mount), what="the guard")


def test_it_inherits_nothing_and_keeps_out_of_the_way(watched: tuple[Mount, int]) -> None:
    mount, guard = watched
    about = Path(f"/proc/{guard}")
    held = {os.readlink(link) for link in (about / "fd").iterdir()}
    assert {target for target in held if not target.endswith("/abort")} == {"/dev/null"}
    assert (about / "environ").read_bytes() == b""
    assert os.readlink(about / "cwd") == "/"
    assert os.getsid(guard) == guard != os.getsid(mount.process.pid)
    assert str(mount.mountpoint) in (about / "cmdline").read_text()


def test_it_is_there_whatever_the_folder_is_called(served: Path, start_nas: Callable[..., Nas], tmp_path: Path) -> None:
    with mounted(start_nas(served), at=tmp_path / "Fotos für München") as mount:
        wait_until(lambda: guard_of(mount), what="the guard")


def test_it_goes_with_the_mount(watched: tuple[Mount, int]) -> None:
    mount, guard = watched
    mount.process.terminate()
    mount.process.wait(10)
    assert not Path(f"/proc/{guard}").exists()


def test_it_goes_when_the_process_is_killed(watched: tuple[Mount, int]) -> None:
    mount, guard = watched
    mount.process.kill()
    mount.process.wait(5)
    mount.process.returncode = 0  # on purpose
    wait_until(lambda: not Path(f"/proc/{guard}").exists(), 5)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_a_signal_that_is_meant_for_the_mount_changes_nothing(number: int, watched: tuple[Mount, int]) -> None:
    mount, guard = watched
    os.kill(guard, number)
    time.sleep(0.3)
    assert guard_of(mount) == guard
    os.statvfs(mount.mountpoint)  # which only the process of the mount can answer


def test_another_one_follows_the_one_that_was_killed(watched: tuple[Mount, int]) -> None:
    mount, guard = watched
    mount.expect_logs("the process that watches over this one ended")
    os.kill(guard, signal.SIGKILL)
    wait_until(lambda: guard_of(mount) not in (None, guard), what="another guard")
    os.statvfs(mount.mountpoint)
