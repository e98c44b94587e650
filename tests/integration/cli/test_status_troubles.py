"""`synofs status` names what could not be sent, why, and where it is kept."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.errors import Problem

from .conftest import Mounted, until

pytestmark = pytest.mark.mount


def everything_works_again(there: Mounted) -> None:
    urllib.request.urlopen(
        urllib.request.Request(f"{there.nas.url}/_simnas/faults", method="DELETE"), timeout=10
    ).close()


def test_status_names_refused_uploads_why_and_where_they_are(mounted: Callable[..., Mounted]) -> None:
    there = mounted(mount=("--write-mode", "writeback"))
    there.synofs.expected_in_the_log += ["refuses it for good", "refused by the NAS", "flush:"]
    there.fault(kind="error", api="SYNO.FileStation.Upload", code=415)
    (there.docs / "big idea.txt").write_text("worth keeping\n")
    done = there.synofs("flush", there.synofs.mountpoint)
    assert done.code == Problem.UPLOADS_FAILED.exit_code, done.err
    (trouble,) = there.synofs.status()["troubled_uploads"]
    assert trouble["path"] == "/docs/big idea.txt"
    assert "quota" in trouble["why"]
    assert Path(trouble["kept_as"]).read_text() == "worth keeping\n"
    shown = there.synofs("status", there.synofs.mountpoint).out
    assert "/docs/big idea.txt: " in " ".join(shown.split())

    Path(trouble["kept_as"]).unlink()  # somebody has taken care of it
    assert there.synofs.status()["troubled_uploads"] == []


def test_status_tells_what_is_tried_again(mounted: Callable[..., Mounted]) -> None:
    there = mounted(mount=("--write-mode", "writeback"))
    there.synofs.expected_in_the_log += ["503", "again", "busy"]
    there.fault(kind="status", status=503, api="SYNO.FileStation.Upload")
    (there.docs / "later.txt").write_text("later\n")
    until(lambda: bool(there.synofs.status()["troubled_uploads"]))
    (trouble,) = there.synofs.status()["troubled_uploads"]
    assert trouble["path"] == "/docs/later.txt"
    assert trouble["attempts"] >= 1
    assert "will be tried again" in " ".join(there.synofs("status", there.synofs.mountpoint).out.split())
    everything_works_again(there)
    assert there.synofs("flush", there.synofs.mountpoint).code == 0


def test_status_names_a_conflict_and_both_versions(mounted: Callable[..., Mounted]) -> None:
    there = mounted()
    there.synofs.expected_in_the_log += ["conflict", "meanwhile"]
    with open(there.docs / "letter.txt", "w") as file:
        file.write("ours\n")
        file.flush()
        (there.disk / "letter.txt").write_text("theirs, and longer\n")
    (conflict,) = there.synofs.status()["conflicts"]
    assert conflict["path"] == "/docs/letter.txt"
    assert (there.disk / Path(conflict["kept_as"]).name).read_text() == "ours\n"
    shown = " ".join(there.synofs("status", there.synofs.mountpoint).out.split())
    assert "/docs/letter.txt was changed on the NAS meanwhile" in shown
