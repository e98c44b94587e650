"""From mount to umount with the real command and the real kernel."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from synofs.app.config import Settings
from synofs.app.credentials import Credentials, Secret
from synofs.app.errors import Problem
from synofs.app.order import Order

from .conftest import COMMAND, PASSWORD, PATIENCE_SECONDS, Nas, Synofs, is_running, running_nas, until

pytestmark = pytest.mark.mount

INTERFACE = {
    "state",
    "pending_uploads",
    "failed_uploads",
    "cache_bytes",
    "dirty_bytes",
    "api_calls",
    "bytes_read",
    "bytes_written",
    "pid",
}


def test_mount_returns_once_the_mount_answers_and_umount_leaves_nothing(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas)
        assert (synofs.mountpoint / "docs" / "letter.txt").read_text() == "Dear NAS,\n"
        assert (synofs.mountpoint / "docs" / "big.bin").read_bytes() == (content / "big.bin").read_bytes()
        pid = synofs.status()["pid"]
        done = synofs("umount", synofs.mountpoint)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert not synofs.is_mounted()
        assert os.listdir(synofs.mountpoint) == []
        assert not is_running(pid)  # umount waited for the end of the process
        assert nas.stats()["sessions"] == 0  # which signed out
    assert "mounted http" in synofs.logs()
    assert "unmounted" in synofs.logs()


def test_status_has_what_the_interface_promises(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    (synofs.mountpoint / "docs" / "letter.txt").read_bytes()
    status = synofs.status()
    assert status.keys() >= INTERFACE
    assert status["state"] == "online"
    assert status["api_calls"]["SYNO.FileStation.Download.download"] == 1
    assert status["bytes_read"] == len("Dear NAS,\n")
    assert (status["url"], status["user"], status["mountpoint"]) == (nas.url, "anna", str(synofs.mountpoint))

    everything = synofs("status", "--json").json
    assert [one["pid"] for one in everything if one["mountpoint"] == str(synofs.mountpoint)] == [status["pid"]]
    text = synofs("status", synofs.mountpoint)
    assert "online" in text.out
    assert "\x1b" not in text.out  # piped: plain
    assert synofs("umount", synofs.mountpoint).code == 0


def test_status_tells_that_the_nas_is_away(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, "--dir-ttl", "0.1", "--attr-ttl", "0.1")
        assert synofs.status()["state"] == "online"
    with contextlib.suppress(OSError):
        os.listdir(synofs.mountpoint / "docs" / "2024")
    until(lambda: synofs.status()["state"] == "offline")
    status = synofs.status()
    assert status["offline_since"]
    assert "trouble" in synofs("status", synofs.mountpoint).out
    synofs.expected_in_the_log += ["the NAS is away", "readdir", "opendir", "getattr", "lookup"]
    assert synofs("umount", synofs.mountpoint).code == 0


def test_watching_status_goes_on_until_it_is_interrupted(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    watch = subprocess.Popen(
        [COMMAND, "status", synofs.mountpoint, "--watch", "--json"], stdout=subprocess.PIPE, text=True
    )
    assert watch.stdout is not None
    lines = [watch.stdout.readline() for _ in range(2)]
    watch.send_signal(signal.SIGINT)
    assert watch.wait(PATIENCE_SECONDS) == 0
    watch.stdout.close()
    assert all('"state": "online"' in line for line in lines)
    assert synofs("umount", synofs.mountpoint).code == 0


def test_flush_and_refresh(tmp_path: Path, synofs: Synofs) -> None:
    folder = tmp_path / "changing"
    folder.mkdir()
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, "--dir-ttl", "1h", "--attr-ttl", "1h")
        docs = synofs.mountpoint / "docs"
        assert os.listdir(docs) == []
        (folder / "new.txt").write_text("new")
        assert os.listdir(docs) == []  # believed for an hour
        done = synofs("refresh", docs)
        assert (done.code, done.out, done.err) == (0, "", "")
        assert os.listdir(docs) == ["new.txt"]
        assert synofs("flush", synofs.mountpoint).code == 0
        assert synofs("umount", synofs.mountpoint).code == 0


def test_one_share_as_the_root(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas, "--share", "docs")
    assert sorted(os.listdir(synofs.mountpoint)) == ["2024", "big.bin", "letter.txt"]
    assert synofs("refresh", synofs.mountpoint / "2024").code == 0
    assert synofs("umount", synofs.mountpoint).code == 0


def test_options_in_mounts_own_form(nas: Nas, synofs: Synofs) -> None:
    done = synofs(
        "mount",
        nas.url,
        synofs.mountpoint,
        "-o",
        f"ro,_netdev,nofail,x-systemd.automount,user=anna,password_file={synofs.password_file}",
        "-o",
        "insecure-http,uid=12345,gid=54321,umask=027",
    )
    assert (done.code, done.err) == (0, "")
    status = (synofs.mountpoint / "docs" / "letter.txt").stat()
    assert (status.st_uid, status.st_gid) == (12345, 54321)
    assert status.st_mode & 0o027 == 0
    assert synofs("umount", synofs.mountpoint).code == 0


def test_what_df_and_findmnt_show(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    shown = subprocess.run(
        ["findmnt", "-n", "-o", "SOURCE,FSTYPE", synofs.mountpoint], capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == [nas.url, "fuse.synofs"]
    df = subprocess.run(["df", "--output=source", synofs.mountpoint], capture_output=True, text=True, check=True)
    assert df.stdout.splitlines()[1].split()[0] == nas.url
    local = subprocess.run(["df", "-l", synofs.mountpoint], capture_output=True, text=True, check=False)
    assert nas.url not in local.stdout  # coreutils takes it for a remote filesystem
    assert synofs("umount", synofs.mountpoint).code == 0


# ----- secrets --------------------------------------------------------------------------------------------------


def test_no_secret_is_in_the_process_list_or_the_log(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas, "--log-level", "debug")
    (synofs.mountpoint / "docs" / "letter.txt").read_bytes()
    pid = synofs.status()["pid"]
    for file in ("cmdline", "environ"):
        assert PASSWORD.encode() not in Path(f"/proc/{pid}/{file}").read_bytes()
    log = Path(synofs.status()["log"])
    assert log.stat().st_mode & 0o777 == 0o600
    text = log.read_text()
    assert text
    assert PASSWORD not in text
    assert "_sid=" not in text.replace("_sid=***", "")
    assert synofs("umount", synofs.mountpoint).code == 0


def test_the_password_from_a_file_that_the_environment_names(nas: Nas, synofs: Synofs) -> None:
    synofs.environment["SYNOFS_PASSWORD_FILE"] = str(synofs.password_file)
    assert synofs("mount", nas.url, synofs.mountpoint, "--user", "anna", "--insecure-http").code == 0
    assert synofs("umount", synofs.mountpoint).code == 0


def test_the_password_from_systemd(nas: Nas, synofs: Synofs, tmp_path: Path) -> None:
    (tmp_path / "synofs-password").write_text(PASSWORD)
    synofs.environment["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    assert synofs("mount", nas.url, synofs.mountpoint, "--user", "anna", "--insecure-http").code == 0
    assert synofs("umount", synofs.mountpoint).code == 0


def test_after_login_a_mount_needs_neither_user_nor_password(nas: Nas, synofs: Synofs) -> None:
    done = synofs("login", nas.url, *synofs.sign_in(nas))
    assert done.code == 0
    assert "sign-ins.json" in done.err
    assert synofs("mount", nas.url, synofs.mountpoint, "--insecure-http").code == 0
    assert os.listdir(synofs.mountpoint) == ["docs"]
    assert synofs("umount", synofs.mountpoint).code == 0
    assert synofs("logout", nas.url).code == 0
    again = synofs("mount", nas.url, synofs.mountpoint, "--insecure-http")
    assert again.code == Problem.NO_USER.exit_code


def test_a_refused_login_saves_nothing(nas: Nas, synofs: Synofs) -> None:
    assert synofs("login", nas.url, *synofs.sign_in(nas, "nobody")).code == Problem.WRONG_PASSWORD.exit_code
    assert synofs("logout", nas.url).code == Problem.NO_SAVED_SIGN_IN.exit_code


# ----- ends -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_foreground_in_order(number: signal.Signals, content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        process = synofs.foreground(nas)
        assert os.listdir(synofs.mountpoint) == ["docs"]
        process.send_signal(number)
        _, log = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, log
        assert not synofs.is_mounted()
        assert nas.stats()["sessions"] == 0


def test_a_signal_ends_the_daemon_in_order(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas)
        pid = synofs.status()["pid"]
        pidfd = os.pidfd_open(pid)
        os.kill(pid, signal.SIGTERM)
        assert wait_for_end(pidfd, PATIENCE_SECONDS)
        assert not synofs.is_mounted()
        assert nas.stats()["sessions"] == 0


def test_systemd_is_told(nas: Nas, synofs: Synofs) -> None:
    with tempfile.TemporaryDirectory(prefix="synofs-", dir="/tmp") as directory:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.settimeout(20)
            systemd.bind(f"{directory}/notify")
            process = synofs.foreground(nas, NOTIFY_SOCKET=f"{directory}/notify")
            ready = systemd.recv(4096).decode()
            assert ready.startswith("READY=1\nSTATUS=online")
            assert f"MAINPID={process.pid}" in ready
            process.terminate()
            assert systemd.recv(4096).decode().startswith("STOPPING=1")
            process.communicate(timeout=PATIENCE_SECONDS)
            assert process.returncode == 0


def test_plain_umount_ends_the_daemon_in_order(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas)
        pidfd = os.pidfd_open(synofs.status()["pid"])
        subprocess.run(["fusermount3", "-u", "--", synofs.mountpoint], check=True)
        assert wait_for_end(pidfd, PATIENCE_SECONDS)
        assert nas.stats()["sessions"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a mount namespace")
def test_a_container_that_has_a_copy_of_the_mount_does_not_keep_it_alive(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    pidfd = os.pidfd_open(synofs.status()["pid"])
    container = subprocess.Popen(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo started; exec sleep 600"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with container:
        try:
            assert container.stdout is not None
            assert container.stdout.readline() == "started\n"
            done = synofs("umount", synofs.mountpoint)
            assert (done.code, done.out, done.err) == (0, "", "")
            assert wait_for_end(pidfd, 0), "the process ends before the command does"
            synofs.mount(nas)
            assert synofs("umount", synofs.mountpoint).code == 0
        finally:
            container.kill()


def test_a_mount_in_use_is_not_unmounted_unless_forced(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    pidfd = os.pidfd_open(synofs.status()["pid"])
    with open(synofs.mountpoint / "docs" / "letter.txt"):
        done = synofs("umount", synofs.mountpoint)
        assert (done.code, done.err.count("\n")) == (Problem.MOUNT_BUSY.exit_code, 1)
        assert os.listdir(synofs.mountpoint) == ["docs"]
        assert synofs("umount", synofs.mountpoint, "--force").code == 0
        assert not synofs.is_mounted()
    assert wait_for_end(pidfd, PATIENCE_SECONDS)


def kill(synofs: Synofs) -> None:
    pid = synofs.status()["pid"]
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_for_end(pidfd, PATIENCE_SECONDS)


def test_a_killed_daemon_leaves_no_empty_folder_but_an_error(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    kill(synofs)
    with pytest.raises(OSError, match="not connected") as caught:
        os.listdir(synofs.mountpoint)
    assert caught.value.errno == errno.ENOTCONN
    assert synofs("status", synofs.mountpoint).code == Problem.DAEMON_GONE.exit_code
    mine = [one for one in synofs("status", "--json").json if one["mountpoint"] == str(synofs.mountpoint)]
    assert [one["state"] for one in mine] == ["dead"]
    done = synofs("umount", synofs.mountpoint)
    assert done.code == 0
    assert "cleared" in done.err
    assert not synofs.is_mounted()


CRASHING_DAEMON = """
import sys, trio
from synofs.app import daemon, loopwatch

async def crash(self):
    await trio.sleep(0.1)
    raise ZeroDivisionError("nobody foresaw this")

loopwatch.LoopWatch.run = crash
sys.exit(daemon.main())
"""


def test_a_crash_leaves_no_empty_folder_either(nas: Nas, synofs: Synofs) -> None:
    settings = Settings(nas.url, str(synofs.mountpoint), user="anna", insecure_http=True)
    order = Order(settings, Credentials("anna", Secret(PASSWORD)))
    daemon = subprocess.run(
        [sys.executable, "-c", CRASHING_DAEMON, "1"],
        input=json.dumps(order.to_json()),
        stdout=subprocess.PIPE,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert json.loads(daemon.stdout) == {"ready": True}
    assert daemon.returncode == Problem.INTERNAL.exit_code
    with pytest.raises(OSError, match="not connected"):
        os.listdir(synofs.mountpoint)
    synofs.expected_in_the_log += ["nobody foresaw", "Traceback"]
    assert "ZeroDivisionError" in synofs.logs()
    assert synofs("umount", synofs.mountpoint).code == 0


def test_mounting_again_clears_what_a_killed_daemon_left(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    kill(synofs)
    synofs.mount(nas)
    assert os.listdir(synofs.mountpoint) == ["docs"]
    assert synofs("umount", synofs.mountpoint).code == 0


def wait_for_end(pidfd: int, seconds: float) -> bool:
    try:
        return bool(select.select([pidfd], [], [], seconds)[0])
    finally:
        os.close(pidfd)
