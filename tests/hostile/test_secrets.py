"""A whole life at debug level, and then a search through every byte that was written for each of its secrets."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import pytest

from synofs.simnas.totp import totp
from tests.hostile.recording_proxy import Recording, recording
from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, daemon_pid, running_nas, until
from tests.integration.cli.test_login import SECRET, dialogue

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]

OTHER_PASSWORD = "wrong horse %&+ö"
LINK_PASSWORD = "l1nk-w0rd"


class Life:
    """What was said and written in the course of it."""

    def __init__(self, synofs: Synofs, nas: Nas, proxy: Recording, folder: Path) -> None:
        self.synofs = synofs
        self.nas = nas
        self.url = f"http://127.0.0.1:{proxy.port}"
        self.proxy = proxy
        self.folder = folder  # below which all lies that it writes
        self.said = ""
        self.processes = b""

    def run(self, *words: object, code: int | None = 0) -> str:
        done = self.synofs(*words)
        self.said += done.out + done.err
        assert code is None or done.code == code, (words, done)
        return done.out

    def log_in(self) -> None:
        code, shown = dialogue(
            ["login", self.url, "--insecure-http", "--keep-in", "file"],
            [
                ("User on", "otto"),
                ("Password of otto", PASSWORD),
                ("One-time code of otto", "000000"),
                ("not accepted.*One-time code of otto", totp(SECRET)),
            ],
        )
        self.said += shown
        assert code == 0, shown

    def fault(self, **fault: object) -> None:
        request = urllib.request.Request(f"{self.nas.url}/_simnas/faults", json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def no_faults(self) -> None:
        request = urllib.request.Request(f"{self.nas.url}/_simnas/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def look_at_processes(self) -> None:
        """Arguments and environment of every process: those of the mount's are among them."""
        pid = daemon_pid(self.synofs)
        assert pid is not None
        for process in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                arguments = (process / "cmdline").read_bytes()
                if b"synofs.simnas" not in arguments:  # it is told its accounts there
                    self.processes += arguments + (process / "environ").read_bytes()
        assert b"synofs.app.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()

    def secrets(self) -> dict[str, str]:
        """All that there were: those that were given, and those that travelled."""
        found = {
            "password": PASSWORD,
            "a wrong password": OTHER_PASSWORD,
            "the secret of the codes": SECRET,
            "a link's password": LINK_PASSWORD,
        }
        received = self.proxy.received.decode("utf-8", "replace")
        for name in ("sid", "synotoken", "device_id", "did"):
            values = set(re.findall(rf'"{name}"\s*:\s*"([^"]+)"', received))
            found |= {f"{name} {number}": value for number, value in enumerate(sorted(values))}
        return found

    def written(self) -> dict[str, bytes]:
        """Every file that it has written, by where it lies."""
        return {
            str(path): path.read_bytes()
            for path in self.folder.rglob("*")
            if path.is_file() and not path.is_symlink() and not path.is_relative_to(self.folder / "disk")
        }


def forms_of(secret: str) -> set[bytes]:
    texts = {secret, quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}
    return {text.encode() for text in texts}


@pytest.fixture
def life(tmp_path: Path, synofs: Synofs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Life]:
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "letter.txt").write_text("Dear NAS,\n")
    (disk / "big.bin").write_bytes(bytes(range(256)) * 8192)
    for name in ("TMPDIR", "XDG_DATA_HOME"):
        folder = tmp_path / name
        folder.mkdir(mode=0o700)
        monkeypatch.setenv(name, str(folder))
    account = f"otto:{PASSWORD}:otp={SECRET}"
    with running_nas(disk, "--account", account, "--auto-block", "0") as nas:
        port = urlsplit(nas.url).port
        assert port is not None
        with recording(port) as proxy:
            yield Life(synofs, nas, proxy, tmp_path)


def test_no_secret_is_in_any_byte_that_a_whole_life_writes(life: Life) -> None:
    synofs, url = life.synofs, life.url
    synofs.expected_in_the_log += [" WARNING ", "Fatal Python error", "Current thread"]

    # It is introduced, with a code that is wrong at first,
    life.log_in()
    mounting = ("mount", url, synofs.mountpoint, "--insecure-http", "--log-level", "debug", "--access-log")

    # is refused,
    wrong = synofs.directory / "wrong-password"
    wrong.write_text(OTHER_PASSWORD)
    life.run(*mounting, "--user", "otto", "--password-file", wrong, code=None)

    # works,
    life.run(*mounting)
    life.look_at_processes()
    docs = synofs.mountpoint / "docs"
    assert (docs / "letter.txt").read_text() == "Dear NAS,\n"
    (docs / "new.txt").write_text("new")
    (docs / "new.txt").rename(docs / "renamed.txt")
    (docs / "copy.bin").write_bytes((docs / "big.bin").read_bytes())
    link_password = synofs.directory / "link-password"
    link_password.write_text(LINK_PASSWORD)
    life.run("share", docs / "letter.txt", "--password-file", link_password)
    life.run("share", "list", synofs.mountpoint)
    life.run("search", "letter", docs)
    life.run("md5", docs / "big.bin")

    # meets with trouble,
    for fault in (
        {"kind": "error", "code": 119, "times": 3},
        {"kind": "status", "status": 503, "times": 3},
        {"kind": "body", "body": '{"success": "', "times": 3},
        {"kind": "error", "code": 119, "api": "Download", "times": 6},
        {"kind": "error", "code": 119, "api": "Upload", "times": 3},
    ):
        life.fault(**fault)
        with suppress(OSError):
            (docs / f"file {time.monotonic_ns()}").write_bytes(b"x" * 1000)
        with suppress(OSError):
            shutil.copyfile(docs / "big.bin", synofs.directory / "fetched")
        with suppress(OSError):
            os.listdir(docs)
    life.no_faults()

    # is looked at,
    pid = daemon_pid(synofs)
    assert pid is not None
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        os.kill(pid, number)
    life.run("status", synofs.mountpoint)
    life.run("status", synofs.mountpoint, "--debug")
    life.run("doctor", url, "--insecure-http", code=None)
    life.look_at_processes()
    assert re.search(r"Max core file size\s+0\s+0", Path(f"/proc/{pid}/limits").read_text()), "no core dumps"

    # crashes,
    os.kill(pid, signal.SIGABRT)
    until(lambda: "Fatal Python error: Aborted" in synofs.logs())
    life.run("umount", synofs.mountpoint, "--force", code=None)
    subprocess.run(["fusermount3", "-uzq", "--", synofs.mountpoint], check=False)

    # comes back, and is sent away. Between the two its sign-in is still kept.
    life.run(*mounting)
    assert (docs / "letter.txt").read_text() == "Dear NAS,\n"
    life.run("umount", synofs.mountpoint)
    kept = Path(os.environ["XDG_CONFIG_HOME"], "synofs", "sign-ins.json")
    before_logout = life.written()
    assert kept.stat().st_mode & 0o777 == 0o600
    life.run("logout", url)

    secrets = life.secrets()
    assert {name.split()[0] for name in secrets} >= {"password", "sid", "synotoken", "device_id"}
    given = {str(kept), str(synofs.password_file), str(wrong), str(link_password)}
    for name, secret in secrets.items():
        forms = forms_of(secret)
        assert not [form for form in forms if form in life.said.encode()], f"{name} was said"
        assert not [form for form in forms if form in life.processes], f"{name} is in a process's arguments"
        for where, content in [*before_logout.items(), *life.written().items()]:
            if where not in given:
                assert not [form for form in forms if form in content], f"{name} is in {where}"
        in_urls = [line for line in re.findall(rb"(?:GET|POST) (\S+) HTTP/1", life.proxy.sent)]
        assert in_urls
        if not name.startswith(("sid", "synotoken")):
            assert not [line for line in in_urls if any(form in line for form in forms)], f"{name} is in a URL"
    logs = synofs.logs()
    for word in ("DEBUG", "signed in as otto", "Fatal Python error", "Current thread"):
        assert word in logs


def test_the_session_is_in_no_url_of_a_nas_that_takes_it_as_a_cookie(life: Life) -> None:
    """Proxies and servers log URLs. (Where the cookie is not taken, downloads and uploads have it in theirs.)"""
    synofs, docs = life.synofs, life.synofs.mountpoint / "docs"
    life.log_in()
    life.run("mount", life.url, synofs.mountpoint, "--insecure-http")
    (docs / "copy.bin").write_bytes((docs / "big.bin").read_bytes())
    life.run("umount", synofs.mountpoint)
    lines = re.findall(rb"(?:GET|POST) (\S+) HTTP/1", life.proxy.sent)
    assert any(b"Download" in line for line in lines)
    assert any(b"Upload" in line for line in lines)
    for name, secret in life.secrets().items():
        assert not [line for line in lines if any(form in line for form in forms_of(secret))], f"{name} is in a URL"
