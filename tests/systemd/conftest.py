"""One container and one simulated NAS for all tests here. The NAS can be switched off, and keeps its address."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.systemd.container import CHECKOUT, Container, build_wheel, prepared_root, until, why_not

PASSWORD = "open sesame"


class Nas:
    """A simulated NAS; `folder` is what its share "docs" holds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._process: subprocess.Popen[str] | None = None

    def switch_on(self) -> None:
        arguments = ["--listen", f"127.0.0.1:{self._port}", "--auto-block", "0"]
        arguments += ["--share", f"docs={self.folder}", "--account", f"anna:{PASSWORD}"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "synofs.simnas", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=CHECKOUT,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith("simnas listening on"), "the simulated NAS did not start"

    def switch_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()
            self._process = None

    def ask(self, path: str, body: Any = None, method: str | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simnas/{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)


@pytest.fixture(scope="session")
def nas(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    folder = tmp_path_factory.mktemp("docs")
    (folder / "letter.txt").write_text("Dear NAS,\n")
    nas = Nas(folder)
    nas.switch_on()
    yield nas
    nas.switch_off()


@pytest.fixture(scope="session")
def machine(nas: Nas) -> Iterator[Container]:
    """A machine with synofs, a profile `nas` (always there) and a profile `demand` (for on demand), and a user anna."""
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    # Not below pytest's folder, which is swept for mounts at the end and removed with all that is in it.
    folder = Path(tempfile.mkdtemp(prefix="synofs-machine-", dir="/var/tmp"))
    machine = None
    try:
        machine = Container(prepared_root(), folder)
        machine.install(build_wheel(folder))
        machine.write("/etc/synofs/config.toml", profiles(nas))
        machine.write("/etc/credstore/synofs-nas", PASSWORD + "\n", mode=0o600)
        machine.write("/etc/synofs/demand.password", PASSWORD + "\n", mode=0o600)
        for mountpoint in ("mnt/nas", "mnt/on demand", "mnt/fstab"):
            (machine.root / mountpoint).mkdir()
        machine.switch_on()
        machine.run("useradd", "--create-home", "anna")
        yield machine
    finally:
        if machine is not None:
            machine.switch_off()
        shutil.rmtree(folder)


def profiles(nas: Nas) -> str:
    return f"""
[profiles.nas]
nas = "{nas.url}"
user = "anna"
insecure-http = true
mountpoint = "/mnt/nas"
allow-other = true
write-mode = "writeback"
drain-timeout = 3

[profiles.demand]
nas = "{nas.url}"
user = "anna"
insecure-http = true
mountpoint = "/mnt/on demand"
password-file = "/etc/synofs/demand.password"
share = "docs"
"""


@pytest.fixture(autouse=True)
def _the_nas_is_on(nas: Nas, machine: Container) -> None:
    """A test that failed while it had the NAS off, or with a fault on it, leaves the next one a NAS that works."""
    try:
        nas.ask("faults", method="DELETE")
    except OSError:
        nas.switch_off()
        nas.switch_on()
    until("the NAS answers", lambda: nas.ask("stats"))
