"""The real command against a simulated NAS: both are processes of their own, as for a user."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

COMMAND = Path(sysconfig.get_path("scripts")) / "synofs"
PASSWORD = "open sesame %&+ü"


@dataclass(frozen=True)
class Nas:
    """A running simulated NAS."""

    url: str
    folder: Path  # what its share "docs" holds

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}/_simnas/{path}", timeout=10) as answer:
            return json.load(answer)

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self.get("stats")
        return stats

    def add_fault(self, fault: dict[str, object]) -> None:
        request = urllib.request.Request(f"{self.url}/_simnas/faults", json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()


def ended_with_its_process(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def running_nas(folder: Path, *arguments: str) -> Iterator[Nas]:
    process = subprocess.Popen(
        [sys.executable, "-m", "synofs.simnas", "--listen", "127.0.0.1:0", "--share", f"docs={folder}", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().rpartition(" ")[2].strip()
        assert url.startswith("http"), "the simulated NAS did not start"
        yield Nas(url, folder)
    finally:
        ended_with_its_process(process)


@pytest.fixture(scope="session")
def content(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "letter.txt").write_text("Dear NAS,\n")
    (folder / "2024").mkdir()
    (folder / "2024" / "Größe & [Gewicht].txt").write_text("40 t\n")
    (folder / "big.bin").write_bytes(bytes(range(256)) * 4096)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        os.utime(file, (1_600_000_000, 1_600_000_000))  # a version of this very second is not kept for long
    return folder


@pytest.fixture(scope="session")
def nas(content: Path) -> Iterator[Nas]:
    """One for all tests that change nothing on it. The accounts named refuse-N are refused with code N."""
    accounts = [f"anna:{PASSWORD}", f"otto:{PASSWORD}:otp=GEZDGNBVGY3TQOJQ", f"nofs:{PASSWORD}:noapp"]
    accounts += [f"refuse-{code}:{PASSWORD}:refuse={code}" for code in (401, 406, 408, 409, 410)]
    arguments = [word for account in accounts for word in ("--account", account)]
    with running_nas(content, "--auto-block", "0", *arguments) as nas:
        yield nas


PATIENCE_SECONDS = 90.0  # of what happens at once, where the machine has time for it


def until(true: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    give_up_at = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up_at, "it did not happen in time"
        time.sleep(0.05)


@dataclass
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Synofs:
    """Runs the command, and knows what it left."""

    directory: Path
    mountpoint: Path
    password_file: Path
    environment: dict[str, str] = field(default_factory=dict)
    expected_in_the_log: list[str] = field(default_factory=list)  # of warnings

    def __call__(self, *words: object, before: tuple[str, ...] = (), timeout: float = 180) -> Done:
        started = time.monotonic()
        done = subprocess.run(
            [*before, COMMAND, *map(str, words)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=self.directory,
            env={**os.environ, **self.environment},
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert PASSWORD not in done.stdout + done.stderr
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - started)

    def sign_in(self, nas: Nas, user: str = "anna") -> list[str]:
        words = ["--user", user, "--password-file", str(self.password_file)]
        return words if nas.url.startswith("https") else [*words, "--insecure-http"]

    def mount(self, nas: Nas, *more: object) -> Done:
        """Mount, and expect it to work."""
        done = self("mount", nas.url, self.mountpoint, *self.sign_in(nas), *more)
        assert (done.code, done.out, done.err) == (0, "", "")
        return done

    def status(self) -> dict[str, Any]:
        done = self("status", self.mountpoint, "--json")
        assert done.code == 0, done.err
        status: dict[str, Any] = done.json
        return status

    def is_mounted(self) -> bool:
        escaped = str(self.mountpoint).replace(" ", "\\040")
        return any(line.split(" ")[4] == escaped for line in Path("/proc/self/mountinfo").read_text().splitlines())

    def logs(self) -> str:
        folder = Path(os.environ["XDG_STATE_HOME"]) / "synofs"
        return "".join(file.read_text() for file in sorted(folder.glob("*.log*"))) if folder.exists() else ""

    def foreground(self, nas: Nas, **environment: str) -> subprocess.Popen[str]:
        """Start in the foreground; returns once it is mounted."""
        process = subprocess.Popen(
            [COMMAND, "mount", nas.url, self.mountpoint, *self.sign_in(nas), "--foreground"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert process.stderr is not None
        for line in process.stderr:
            if "mounted" in line:
                return process
        raise AssertionError(f"it ended with {process.wait()}")


@pytest.fixture
def synofs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Synofs]:
    """A home of its own for each test; afterwards nothing is mounted and no unexpected warning is in the log."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    password_file = tmp_path / "password"
    password_file.write_text(PASSWORD + "\n")
    mountpoint = tmp_path / "my nas"
    mountpoint.mkdir()
    command = Synofs(tmp_path, mountpoint, password_file)
    try:
        yield command
        left = command.is_mounted()
    finally:
        if command.is_mounted():
            pid = daemon_pid(command)
            subprocess.run(["fusermount3", "-u", "-z", "--", str(mountpoint)], check=False)
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    assert not left, "the test left its mount behind"
    logs = command.logs()
    assert PASSWORD not in logs
    loud = [line for line in logs.splitlines() if re.search(r" (WARNING|ERROR|CRITICAL) |Traceback", line)]
    expected = [" ERROR synofs.app.daemon: ", *command.expected_in_the_log]
    assert not [line for line in loud if not any(word in line for word in expected)], loud


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for yet does not run any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except FileNotFoundError:
        return False


def daemon_pid(command: Synofs) -> int | None:
    with contextlib.suppress(Exception):
        return int(command.status()["pid"])
    return None


Watch = Callable[[str, subprocess.Popen[bytes]], object]  # (shown so far, the command): after each piece


def on_a_terminal(*words: object, typed: str = "", code: int = 0, watch: Watch = lambda shown, process: None) -> str:
    """What a command shows to a person."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen([COMMAND, *map(str, words)], stdin=theirs, stdout=theirs, stderr=theirs)
        os.write(ours, typed.encode())
        shown = b""
        os.close(theirs)
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            shown += piece
            watch(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode(errors="replace")), process)
        assert process.wait(PATIENCE_SECONDS) == code, shown
        return shown.decode()
    finally:
        os.close(ours)


@dataclass
class Mounted:
    """A NAS whose share "docs" may be changed, and its mount."""

    nas: Nas
    synofs: Synofs

    @property
    def docs(self) -> Path:
        """The share, through the mount."""
        return self.synofs.mountpoint / "docs"

    @property
    def disk(self) -> Path:
        """The share, on the NAS's disk."""
        return self.nas.folder

    def moved_bytes(self) -> tuple[int, int]:
        status = self.synofs.status()
        return status["bytes_read"], status["bytes_written"]

    def calls(self, name: str) -> int:
        return int(self.nas.stats()["calls"].get(f"SYNO.FileStation.{name}", 0))

    def fault(self, **fault: object) -> None:
        """Have the NAS misbehave; `python -m synofs.simnas --help` lists how."""
        request = urllib.request.Request(f"{self.nas.url}/_simnas/faults", json.dumps(fault).encode(), method="POST")
        urllib.request.urlopen(request, timeout=10).close()

    def clear_faults(self) -> None:
        request = urllib.request.Request(f"{self.nas.url}/_simnas/faults", method="DELETE")
        urllib.request.urlopen(request, timeout=10).close()

    def task_of_another_program(self) -> str:
        """The id of a task that the same account started elsewhere, and that has ended there."""
        session = self.api("SYNO.API.Auth", 7, "login", account="anna", passwd=PASSWORD, session="FileStation")
        start = {"path": '["/docs"]', "_sid": session["sid"]}
        task: str = self.api("SYNO.FileStation.DirSize", 2, "start", **start)["taskid"]
        until(lambda: self.calls("DirSize.start") > 0)
        return task

    def api(self, api: str, version: int, method: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(
            {"api": api, "version": version, "method": method, **parameters}, quote_via=urllib.parse.quote
        )
        with urllib.request.urlopen(f"{self.nas.url}/webapi/entry.cgi?{query}", timeout=10) as answer:
            return json.load(answer)["data"]

    def running(self, **report: object) -> str:
        """The answer that a task is still under way."""
        return json.dumps({"success": True, "data": {"finished": False, **report}})

    def stays_running(self, api: str) -> None:
        """Tasks of this API do not come to an end any more."""
        self.fault(kind="body", api=api, method="status", body=self.running(progress=0.5))


@pytest.fixture
def mounted(tmp_path: Path, synofs: Synofs) -> Iterator[Callable[..., Mounted]]:
    """Starts a NAS with these options and mounts it with those."""
    folder = tmp_path / "disk"
    (folder / "2024").mkdir(parents=True)
    (folder / "letter.txt").write_text("Dear NAS,\n")
    (folder / "2024" / "Größe & [Gewicht].txt").write_text("40 t\n")
    (folder / "2024" / "big.bin").write_bytes(bytes(range(256)) * 4096)

    with contextlib.ExitStack() as stack:

        def start(*nas_options: str, mount: tuple[object, ...] = (), user: str = f"anna:{PASSWORD}") -> Mounted:
            nas = stack.enter_context(running_nas(folder, "--account", user, *nas_options))
            synofs.mount(nas, *mount)
            stack.callback(lambda: synofs("umount", synofs.mountpoint, "--timeout", 20))
            return Mounted(nas, synofs)

        yield start


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[], tuple[Path, Path, str]]:
    """A self-signed certificate as DSM ships one: certificate, key, SHA-256 fingerprint."""

    def make() -> tuple[Path, Path, str]:
        import datetime

        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import ec
        from cryptography.x509.oid import NameOID

        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "synology")])
        now = datetime.datetime.now(datetime.UTC)
        signed = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        certificate_file, key_file = tmp_path / "cert.pem", tmp_path / "key.pem"
        certificate_file.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return certificate_file, key_file, signed.fingerprint(hashes.SHA256()).hex()

    return make
