"""`synofs umount --force`: an end, whatever the process is doing, and word of what is left."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from synofs.app import forced
from synofs.app.errors import Problem
from synofs.app.identity import mount_id
from synofs.app.mounts import MountEntry
from tests.integration.cli.conftest import COMMAND, PASSWORD, Nas, Synofs, running_nas, until
from tests.integration.cli.test_notices import faults

pytestmark = pytest.mark.mount

LOOK = "import os, sys; os.listdir(sys.argv[1])"


@pytest.fixture
def own_nas(tmp_path: Path) -> Iterator[Nas]:
    folder = tmp_path / "volume"
    (folder / "new").mkdir(parents=True)
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        yield nas


def unmount_by(words: str, mountpoint: Path, *before: str) -> subprocess.CompletedProcess[str]:
    program, *options = words.split()
    command = [*before, COMMAND.with_name(program), *options, mountpoint]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("words", ["synofs umount --force", "umount.synofs -f"])
def test_a_process_that_is_stopped_frees_its_folder_and_whoever_waits_for_it(
    words: str, own_nas: Nas, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += ["not sent yet", "upload"]
    docs, cache = synofs.mountpoint / "docs", synofs.directory / "cache"
    synofs.mount(own_nas, "--write-mode", "writeback", "--cache-dir", cache)
    faults(own_nas, {"kind": "hang", "method": "upload"})
    (docs / "unsent").write_text("safe here")
    pid = synofs.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    looker = subprocess.Popen([sys.executable, "-I", "-S", "-c", LOOK, docs / "new"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _waits(looker.pid))
        done = unmount_by(words, synofs.mountpoint)
        assert done.returncode == 0
        assert not synofs.is_mounted()
        if os.geteuid() == 0 or os.access(forced.CONNECTIONS, os.W_OK):
            assert looker.wait(20) != 0
        assert f"freed {synofs.mountpoint}" in done.stderr
        assert f"process {pid} is stopped" in done.stderr
        assert f"kill -9 {pid}" in done.stderr
        assert "1 file is not sent yet (/docs/unsent); it lies in " in done.stderr
        assert str(next(cache.rglob("journal.db")).parent) in done.stderr
    finally:
        os.kill(pid, signal.SIGKILL)
        looker.kill()
        looker.wait(20)
    faults(own_nas)
    synofs.mount(own_nas, "--write-mode", "writeback", "--cache-dir", cache)
    until(lambda: (own_nas.folder / "unsent").exists())
    assert synofs("umount", synofs.mountpoint).code == 0
    assert (own_nas.folder / "unsent").read_text() == "safe here"


@pytest.mark.parametrize("words", ["synofs umount --force", "umount.synofs -f"])
def test_a_process_that_was_killed_is_cleared_away(words: str, own_nas: Nas, synofs: Synofs) -> None:
    synofs.mount(own_nas)
    os.kill(synofs.status()["pid"], signal.SIGKILL)
    until(lambda: synofs("status", synofs.mountpoint).code == Problem.DAEMON_GONE.exit_code)
    done = unmount_by(words, synofs.mountpoint)
    assert (done.returncode, "whose synofs process had ended" in done.stderr) == (0, True)
    assert not synofs.is_mounted()


def test_a_process_that_cannot_be_asked_is_not_said_to_have_ended(own_nas: Nas, synofs: Synofs) -> None:
    """Somebody has removed its socket, as whoever tidies up /run or /tmp may do."""
    synofs.mount(own_nas)
    process = os.pidfd_open(synofs.status()["pid"])
    Path(os.environ["XDG_RUNTIME_DIR"], "synofs", f"{mount_id(str(synofs.mountpoint))}.sock").unlink()
    done = unmount_by("synofs umount --force", synofs.mountpoint)
    assert done.returncode == 0
    assert f"freed {synofs.mountpoint}, whose process does not answer" in done.stderr
    assert "had ended" not in done.stderr
    assert not synofs.is_mounted()
    assert select.select([process], [], [], 20)[0], "it goes on without its folder"
    os.close(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount fusectl")
@pytest.mark.parametrize("words", ["synofs umount --force", "umount.synofs -f"])
def test_where_fusectl_is_mounted_the_connection_is_ended_by_it(words: str, own_nas: Nas, synofs: Synofs) -> None:
    """In a mount namespace of its own, so that no other process sees fusectl, or that the folder was unmounted."""
    synofs.mount(own_nas)
    docs, pid = synofs.mountpoint / "docs", synofs.status()["pid"]
    os.kill(pid, signal.SIGSTOP)
    looker = subprocess.Popen([sys.executable, "-I", "-S", "-c", LOOK, docs / "new"], stderr=subprocess.PIPE)
    try:
        until(lambda: _waits(looker.pid))
        with_fusectl = f'mount -t fusectl none {forced.CONNECTIONS} && exec "$@"'
        done = unmount_by(words, synofs.mountpoint, "unshare", "-m", "sh", "-c", with_fusectl, "-")
        assert done.returncode == 0
        assert "programs that waited for it got an error" in done.stderr
        _, complaint = looker.communicate(timeout=20)
        assert b"Software caused connection abort" in complaint
    finally:
        os.kill(pid, signal.SIGKILL)
        looker.kill()
        looker.wait(20)
    assert synofs("umount", synofs.mountpoint).code == 0


def _waits(pid: int) -> bool:
    """For an answer of the daemon, as far as we may know."""
    asleep = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] in "DS"
    try:
        return asleep and b"request_wait_answer" in Path(f"/proc/{pid}/stack").read_bytes()
    except PermissionError:
        return asleep


def test_a_process_that_answers_says_what_is_not_sent_and_sends_it_later(own_nas: Nas, synofs: Synofs) -> None:
    synofs.expected_in_the_log += ["not sent yet", "upload"]
    synofs.mount(own_nas, "--write-mode", "writeback")
    assert os.listdir(synofs.mountpoint / "docs") == ["new"]
    faults(own_nas, {"kind": "hang", "method": "upload"})
    for number in range(5):
        (synofs.mountpoint / "docs" / f"unsent {number}").write_text("safe here")
    pidfd = os.pidfd_open(synofs.status()["pid"])
    done = synofs("umount", synofs.mountpoint, "--force")
    assert done.code == 0
    assert not synofs.is_mounted()
    assert "5 files are not sent yet" in done.err
    assert "freed" not in done.err
    faults(own_nas)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    until(lambda: not _is_held(synofs))
    synofs.mount(own_nas, "--write-mode", "writeback")
    until(lambda: len(list(own_nas.folder.glob("unsent *"))) == 5)
    assert synofs("umount", synofs.mountpoint).code == 0


def _is_held(synofs: Synofs) -> bool:
    """Is the cache of a process that was killed still locked?"""
    locks = Path(os.environ["XDG_CACHE_HOME"]).rglob("lock")
    inodes = {f":{lock.stat().st_ino} " for lock in locks}
    return any(inode in line for line in Path("/proc/locks").read_text().splitlines() for inode in inodes)


def test_the_connection_is_ended_by_way_of_fusectl_where_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forced, "CONNECTIONS", tmp_path)
    entry = MountEntry("/mnt/nas", "https://nas:5001", "fuse.synofs", os.getuid(), 51)
    assert not forced.abort(entry)
    (tmp_path / "51").mkdir()
    assert forced.abort(entry)
    assert (tmp_path / "51" / "abort").read_text() == "1"
