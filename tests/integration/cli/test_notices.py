"""What a person at the desktop is told, over a real session bus."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bus import session_bus
from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, running_nas
from tests.notification_service import NotificationService, notification_service

pytestmark = pytest.mark.mount


@pytest.fixture
def bus(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with session_bus() as address:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        yield address


@pytest.fixture
def screen(bus: str) -> Iterator[NotificationService]:
    with notification_service(bus) as service:
        yield service


@pytest.fixture
def own_nas(tmp_path: Path) -> Iterator[Nas]:
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "plan.txt").write_text("one\n")
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        yield nas


def faults(nas: Nas, *found: dict[str, object]) -> None:
    """Replace the NAS's faults."""
    for method, body in [("DELETE", b""), *(("POST", json.dumps(fault).encode()) for fault in found)]:
        request = urllib.request.Request(f"{nas.url}/_simnas/faults", body or None, method=method)
        urllib.request.urlopen(request, timeout=10).close()


def test_a_conflict_is_told_with_the_name_of_our_version(
    own_nas: Nas, synofs: Synofs, screen: NotificationService
) -> None:
    synofs.expected_in_the_log += ["changed it meanwhile", "changed on the NAS while"]
    synofs.mount(own_nas)
    with (synofs.mountpoint / "docs" / "plan.txt").open("a") as file:
        file.write("two\n")
        file.flush()
        (own_nas.folder / "plan.txt").write_text("theirs, and longer\n")
    (shown,) = screen.wait_for(1)
    assert shown.summary == "Changed by somebody else: plan.txt"
    assert "plan (conflict" in shown.body
    synofs("umount", synofs.mountpoint)


def test_a_refused_upload_is_told_and_stays_until_it_is_read(
    own_nas: Nas, synofs: Synofs, screen: NotificationService
) -> None:
    synofs.expected_in_the_log += ["refuses it for good", "refused by the NAS", "flush:", "quota"]
    synofs.mount(own_nas)
    faults(own_nas, {"kind": "quota", "bytes": 1})
    with pytest.raises(OSError, match="uota"):
        (synofs.mountpoint / "docs" / "<b>big.txt").write_text("too much\n")
    (shown,) = screen.wait_for(1)
    assert shown.summary == "Not saved on 127.0.0.1: <b>big.txt"
    assert "is kept in" in shown.body
    assert shown.urgency == 2
    synofs("umount", synofs.mountpoint)


def test_a_nas_that_goes_and_comes_back_is_told_and_when_all_is_sent(
    own_nas: Nas, synofs: Synofs, screen: NotificationService
) -> None:
    synofs.expected_in_the_log += ["not sent yet", "does not answer", "the NAS", "WARNING"]
    synofs.mount(own_nas, "--write-mode", "writeback")
    (synofs.mountpoint / "docs" / "plan.txt").read_text()  # so that it is known
    faults(own_nas, {"kind": "drop"})
    (synofs.mountpoint / "docs" / "plan.txt").write_text("written while it was away\n")
    away = screen.wait_for(1)[0]
    assert away.summary == "127.0.0.1 does not answer"
    assert "1 file is waiting to be sent" in away.body
    faults(own_nas)
    screen.wait_for(3)
    told = {shown.summary: shown for shown in screen.shown}
    assert told["127.0.0.1 is back"].replaces == away.number
    assert told["Safe to power off"].body == "Everything is on 127.0.0.1."
    assert (own_nas.folder / "plan.txt").read_text() == "written while it was away\n"
    assert synofs("umount", synofs.mountpoint).code == 0


def test_a_mount_that_begins_without_the_nas_tells_it(
    own_nas: Nas, synofs: Synofs, screen: NotificationService
) -> None:
    synofs.expected_in_the_log += ["the NAS", "WARNING"]
    synofs.mount(own_nas)
    assert os.listdir(synofs.mountpoint) == ["docs"]
    assert synofs("umount", synofs.mountpoint).code == 0
    faults(own_nas, {"kind": "drop"})
    synofs.mount(own_nas)
    assert screen.wait_for(1)[0].summary == "127.0.0.1 does not answer"
    faults(own_nas)
    assert screen.wait_for(2)[1].summary == "127.0.0.1 is back"
    assert synofs("umount", synofs.mountpoint).code == 0


def test_without_a_session_bus_or_anybody_on_it_nothing_is_different(
    own_nas: Nas, synofs: Synofs, monkeypatch: pytest.MonkeyPatch, bus: str
) -> None:
    synofs.expected_in_the_log += ["changed it meanwhile", "changed on the NAS while"]
    for address in (bus, "unix:path=/nonexistent/bus", ""):
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", address)
        synofs.mount(own_nas)
        with (synofs.mountpoint / "docs" / "plan.txt").open("a") as file:
            file.write("two\n")
            file.flush()
            (own_nas.folder / "plan.txt").write_text(f"theirs, and longer {address}\n")
        assert synofs("umount", synofs.mountpoint).code == 0
    assert len(list(own_nas.folder.glob("plan (conflict*"))) == 3
