"""`synofs doctor` finds what is wrong, `synofs demo` shows what is right, and neither leaves anything behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.doctor import name_of
from synofs.app.doctor_nas import CHECKS, sign_out
from synofs.app.doctor_write import WRITE_CHECKS
from synofs.app.errors import Problem

from .conftest import COMMAND, PASSWORD, PATIENCE_SECONDS, Done, Nas, Synofs, is_running, running_nas

pytestmark = pytest.mark.mount

ROOT = Path(__file__).parents[3]


def verdicts(done: Done, group: str = "the NAS") -> dict[str, str]:
    return {one["check"]: one["verdict"] for one in done.json if one["group"] == group}


def test_all_checks_pass_on_the_simulated_nas(nas: Nas, synofs: Synofs) -> None:
    done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--json")
    assert set(verdicts(done).values()) == {"pass"}, done.out
    assert len(verdicts(done)) == len(CHECKS) + 1  # and the sign-out
    assert not any(name.startswith("write") for name in verdicts(done))
    assert done.code == 0


def test_nothing_secret_and_nothing_private_is_printed(nas: Nas, synofs: Synofs) -> None:
    for words in ((), ("--json",)):
        out = synofs("doctor", nas.url, *synofs.sign_in(nas), *words).out
        for private in (PASSWORD, "anna", "letter.txt", "Gewicht", str(nas.folder)):
            assert private not in out


def test_without_an_account_the_rest_is_still_checked(nas: Nas, synofs: Synofs) -> None:
    done = synofs("doctor", nas.url, "--insecure-http", "--json")
    found = verdicts(done)
    assert found["api-map"] == found["api-versions"] == "pass"
    assert found["sign-in"] == found["ranged-download"] == "skip"
    assert done.code == 0


def test_each_failure_has_its_fix(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--page-cap", "2", "--quirk", "device-id=absent") as nas:
        done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--json")
    found = verdicts(done)
    assert found["page-cap"] == "fail"
    assert found["device-token"] == "skip"
    assert all(one["fix"] for one in done.json if one["verdict"] == "fail")
    assert done.code == Problem.CHECKS_FAILED.exit_code
    assert done.err.count("\n") == 1


def test_a_refused_sign_in_is_tried_once(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", "anna:other") as nas:
        done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--json")
        assert verdicts(done)["sign-in"] == "fail"
        assert nas.stats()["calls"]["SYNO.API.Auth.login"] == 1


def test_a_certificate_is_told_with_its_fingerprint(
    content: Path, synofs: Synofs, certificate: Callable[[], tuple[Path, Path, str]]
) -> None:
    cert, key, fingerprint = certificate()
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--tls", str(cert), str(key)) as nas:
        done = synofs("doctor", nas.url, *synofs.sign_in(nas))
        assert done.code == Problem.CHECKS_FAILED.exit_code
        assert f"--fingerprint {fingerprint}" in done.out
        pinned = synofs("doctor", nas.url, *synofs.sign_in(nas), "--fingerprint", fingerprint)
        assert pinned.code == 0, pinned.out


def test_the_doctor_signs_out(nas: Nas, synofs: Synofs) -> None:
    before = nas.stats()["sessions"]
    synofs("doctor", nas.url, *synofs.sign_in(nas))
    assert nas.stats()["sessions"] == before


@pytest.mark.parametrize("dsm", ["6", "7"])
def test_writing_is_tried_in_a_folder_that_is_removed_again(content: Path, synofs: Synofs, dsm: str) -> None:
    before = sorted(os.walk(content))
    quirk = ("--quirk", "tiny-tasks=never")
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--dsm", dsm, *quirk) as nas:
        done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--write", "/docs", "--json")
    found = {name: verdict for name, verdict in verdicts(done).items() if name.startswith("write")}
    assert set(found.values()) == {"pass"}, done.out
    assert len(found) == len(WRITE_CHECKS)
    assert sorted(os.walk(content)) == before


def post_fault(nas: Nas, fault: dict[str, object]) -> None:
    request = urllib.request.Request(f"{nas.url}/_simnas/faults", json.dumps(fault).encode(), method="POST")
    urllib.request.urlopen(request, timeout=10).close()


@pytest.mark.parametrize(
    ("quirk", "check"),
    [("tiny-tasks=always", "write-md5"), ("late-tasks=yes", ""), ("overwrite-absent=1805", "")],
)
def test_where_builds_differ_a_check_passes_or_says_what_it_could_not_see(
    content: Path, synofs: Synofs, quirk: str, check: str
) -> None:
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--quirk", "tiny-tasks=never", "--quirk", quirk) as nas:
        # Who asks at once sees the task at work, and it is told of after all.
        post_fault(nas, {"kind": "delay", "api": "SYNO.FileStation.MD5", "method": "status", "seconds": 0.2})
        done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--write", "docs", "--json")
    failed = {name for name, verdict in verdicts(done).items() if verdict != "pass"}
    assert failed == ({check} if check else set()), done.out


def test_uploads_that_fail_fail_their_check_and_leave_nothing(content: Path, synofs: Synofs) -> None:
    fault = {"kind": "error", "method": "upload", "code": 1803, "times": 1000}
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        post_fault(nas, fault)
        done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--write", "/docs", "--json")
    found = verdicts(done)
    assert found["write-upload"] == found["write-slices"] == "fail"
    assert found["write-move"] == "skip"
    assert found["write-removed"] == "pass"
    assert not any(name.startswith(".synofs-doctor-") for name in os.listdir(content))
    assert done.code == Problem.CHECKS_FAILED.exit_code


def test_a_folder_that_cannot_be_written_to_fails_once_and_the_rest_is_skipped(nas: Nas, synofs: Synofs) -> None:
    done = synofs("doctor", nas.url, *synofs.sign_in(nas), "--write", "/no-such-share", "--json")
    found = {name: verdict for name, verdict in verdicts(done).items() if name.startswith("write")}
    assert found.pop("write-folder") == "fail"
    assert set(found.values()) == {"skip"}


def test_every_assumption_that_the_documentation_gives_to_the_doctor_is_checked() -> None:
    text = (ROOT / "docs" / "FILESTATION.md").read_text()
    promised = set(re.findall(r"\| `([a-z0-9-]+)`[^|]*\|$", text, re.MULTILINE))
    assert {"api-map", "write-move"} <= promised
    assert promised <= {name_of(check) for check in (*CHECKS, *WRITE_CHECKS, sign_out)}


# ----- demo -----------------------------------------------------------------------------------------------------


def test_the_demo_shows_checks_and_cleans_up(synofs: Synofs) -> None:
    done = synofs("demo", "--once", timeout=180)
    assert done.code == 0, done.err
    assert "photos" in done.out
    assert "\x1b" not in done.out
    assert re.search(r"compared \d+ files .* all the same", done.err)
    folder = re.search(r"mounted \S+ on (\S+)", done.err)
    assert folder is not None
    assert not os.path.exists(folder[1])
    assert synofs.logs() == ""  # its log is gone with the rest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_demo_stays_until_it_is_interrupted(number: signal.Signals, synofs: Synofs, tmp_path: Path) -> None:
    folder = tmp_path / "made for it"
    process = subprocess.Popen(
        [COMMAND, "demo", folder], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C" in line:
            break
    assert (folder / "documents" / "letter.txt").read_text().startswith("Dear NAS")
    status = json.loads(synofs("status", folder, "--json").out)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (0, Problem.INTERRUPTED.exit_code), err
    assert "cleaned up" in err
    assert not folder.exists()
    assert not is_running(status["pid"])


def test_the_demo_does_not_hide_what_is_in_a_folder(synofs: Synofs) -> None:
    (synofs.mountpoint / "precious.txt").touch()
    done = synofs("demo", synofs.mountpoint, "--once")
    assert done.code == Problem.MOUNTPOINT_NOT_EMPTY.exit_code
    assert (synofs.mountpoint / "precious.txt").exists()
