"""A laptop that goes to sleep in the middle of everything, with a logind of our own on a bus of our own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus import session_bus
from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, running_nas, until
from tests.integration.cli.test_notices import faults
from tests.login_service import LoginService, login_service

pytestmark = pytest.mark.mount

LOUD = ["not sent yet", "the NAS is away", "the NAS went away", "readdir:", "read:", "flush:", "lookup:", "open:"]
SAVE = """
import sys
file = open(sys.argv[1], "w")
file.write("safe")
try: file.close()
except OSError as e: sys.exit(e.errno)
"""
LIST = "import os, sys\ntry: os.listdir(sys.argv[1])\nexcept OSError as e: sys.exit(e.errno)"


@pytest.fixture
def own_nas(tmp_path: Path) -> Iterator[Nas]:
    folder = tmp_path / "volume"
    (folder / "slow").mkdir(parents=True)
    (folder / "other").mkdir()
    (folder / "other" / "file").write_text("content")
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        yield nas


@pytest.fixture
def logind(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoginService]:
    with session_bus() as address, login_service(address) as service:
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        yield service


def started(*command: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-I", "-S", "-c", *map(str, command)])


def test_sleep_waits_until_everybody_is_answered_and_uploads_rest_meanwhile(
    own_nas: Nas, synofs: Synofs, logind: LoginService
) -> None:
    synofs.expected_in_the_log += LOUD
    docs = synofs.mountpoint / "docs"
    synofs.mount(own_nas, "--write-mode", "writeback")
    logind.wait_until_held(1)
    assert logind.asked[0][0] == "sleep"
    assert logind.asked[0][3] == "delay"
    assert os.listdir(docs)
    faults(own_nas, {"kind": "hang", "path": "slow"})
    before = own_nas.stats()["calls"].get("SYNO.FileStation.List.list", 0)
    with started(LIST, docs / "slow") as reader:
        until(lambda: own_nas.stats()["calls"].get("SYNO.FileStation.List.list", 0) > before)
        assert reader.poll() is None
        logind.prepare_for_sleep(True)
        logind.wait_until_held(0, seconds=5)  # logind waits no longer
        assert reader.wait(5) == errno.EHOSTUNREACH

    (docs / "written while it falls asleep").write_text("safe here")
    assert sorted(os.listdir(docs)) == ["other", "slow", "written while it falls asleep"], "what is known is shown"
    assert synofs.status()["pending_uploads"] == 1

    faults(own_nas, {"kind": "expire_sids"}, {"kind": "drop_idle"})
    logins = own_nas.stats()["calls"]["SYNO.API.Auth.login"]
    logind.prepare_for_sleep(False)
    logind.wait_until_held(1)
    assert os.listdir(docs / "other") == ["file"], "the first answer is a right one"
    assert own_nas.stats()["calls"]["SYNO.API.Auth.login"] == logins + 1
    assert synofs("flush", synofs.mountpoint).code == 0
    assert (own_nas.folder / "written while it falls asleep").read_text() == "safe here"
    assert synofs("umount", synofs.mountpoint).code == 0
    logind.wait_until_held(0)


def test_a_close_that_waits_for_its_upload_is_answered_and_the_file_sent_after_the_sleep(
    own_nas: Nas, synofs: Synofs, logind: LoginService
) -> None:
    synofs.expected_in_the_log += LOUD
    docs = synofs.mountpoint / "docs"
    synofs.mount(own_nas)
    logind.wait_until_held(1)
    faults(own_nas, {"kind": "hang", "method": "upload"})
    with started(SAVE, docs / "file") as writer:
        until(lambda: own_nas.stats()["calls"].get("SYNO.FileStation.Upload.upload", 0) > 0)
        logind.prepare_for_sleep(True)
        logind.wait_until_held(0, seconds=5)
        assert writer.wait(5) == errno.EHOSTUNREACH
    faults(own_nas)
    logind.prepare_for_sleep(False)
    until(lambda: (own_nas.folder / "file").exists() and (own_nas.folder / "file").read_text() == "safe")
    assert synofs("umount", synofs.mountpoint).code == 0


def test_a_sleep_that_only_somebody_else_tells_of_is_none(
    own_nas: Nas, synofs: Synofs, logind: LoginService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a system bus, anybody may send a signal to anybody."""
    from jeepney import DBusAddress, new_signal
    from jeepney.io.blocking import open_dbus_connection

    synofs.mount(own_nas)
    logind.wait_until_held(1)
    address = DBusAddress("/org/freedesktop/login1", None, "org.freedesktop.login1.Manager")
    with open_dbus_connection(os.environ["DBUS_SYSTEM_BUS_ADDRESS"]) as liar:
        liar.send(new_signal(address, "PrepareForSleep", "b", (True,)))
        assert os.listdir(synofs.mountpoint / "docs" / "other") == ["file"]
    assert logind.held() == 1
    assert synofs("umount", synofs.mountpoint).code == 0


@pytest.mark.parametrize("there_is", ["a bus without logind", "no bus"])
def test_without_logind_everything_else_works(
    own_nas: Nas, synofs: Synofs, monkeypatch: pytest.MonkeyPatch, there_is: str
) -> None:
    with session_bus() as address:
        if there_is == "no bus":
            address = "unix:path=/nonexistent/bus"
        monkeypatch.setenv("DBUS_SYSTEM_BUS_ADDRESS", address)
        synofs.mount(own_nas)
        assert (synofs.mountpoint / "docs" / "other" / "file").read_text() == "content"
        assert synofs("umount", synofs.mountpoint).code == 0
