"""The far sides: the simulated NAS, rclone's WebDAV server and sshd, each behind a line of its own.

All serve the same directories: every folder below the data's root is a share of the NAS, a folder of the others.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.benchmarks.processes import BenchmarkFailed, Process

USER = "bench"
PASSWORD = "bench mark"
REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def accepts(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def rclone() -> str | None:
    """The rclone beside this Python (from PyPI), or the system's."""
    beside = Path(sys.executable).parent / "rclone"
    return str(beside) if beside.exists() else shutil.which("rclone")


def sshd() -> str | None:
    return shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class Line:
    """The delay proxy in front of a server."""

    def __init__(self, target_port: int, log: Path) -> None:
        command = [sys.executable, "-P", "-m", "tests.benchmarks.proxy", "--to", f"127.0.0.1:{target_port}"]
        self._process = Process(command, log, env={"PYTHONPATH": _python_path()}, talks=True)
        first = self._read_line()
        self.port = int(first.rpartition(":")[2])

    def _read_line(self) -> str:
        assert self._process.popen.stdout is not None
        line = self._process.popen.stdout.readline().decode()
        if not line:
            raise BenchmarkFailed(f"the proxy ended:\n{self._process.log_tail()}")
        return line

    def _ask(self, **command: Any) -> dict[str, Any]:
        assert self._process.popen.stdin is not None
        self._process.popen.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.popen.stdin.flush()
        answer: dict[str, Any] = json.loads(self._read_line())
        return answer

    def set(self, latency_ms: float, bandwidth_mbit: float) -> None:
        self._ask(latency_ms=latency_ms, bandwidth_mbit=bandwidth_mbit)

    def stats(self) -> dict[str, Any]:
        return self._ask(stats=True)

    def reset_peaks(self) -> None:
        self._ask(reset_peaks=True)

    def stop(self) -> None:
        self._process.stop()


class Server(ABC):
    """A server of the directories below `root`, and the line in front of it."""

    kind: str

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        self.process: Process | None = None
        self._line: Line | None = None
        self.port = 0

    @property
    def line(self) -> Line:
        assert self._line is not None
        return self._line

    def start(self, line: Callable[[int], Any] | None = None) -> None:
        """`line` makes another line to a port than the delay proxy."""
        try:
            self._start()
            self._line = Line(self.port, self.work / "line.log") if line is None else line(self.port)
        except BaseException:
            self.stop()
            raise

    @abstractmethod
    def _start(self) -> None: ...

    def refresh(self, version: int) -> None:
        """The data has been changed behind the server's back; `version` is new each time."""
        return

    def requests(self) -> Counter[str]:
        """What was asked so far, by kind."""
        return Counter(self.line.stats()["requests"])

    def reset_peaks(self) -> None:
        """Start to look again for the highest number of requests at once."""
        return

    def peak_requests(self) -> int:
        return 0  # it is not told

    def listings(self) -> int:
        return 0  # it is not told

    def stop(self) -> None:
        if self._line is not None:
            self._line.stop()
        if self.process is not None:
            self.process.stop()


class SimulatedNas(Server):
    kind = "nas"

    def _start(self) -> None:
        shares = [f"--share={share.name}={share}" for share in sorted(self.root.iterdir())]
        command = [sys.executable, "-P", "-m", "synofs.simnas", "--listen", "127.0.0.1:0", *shares]
        command += ["--account", f"{USER}:{PASSWORD}", "--auto-block", "0"]
        self.process = Process(command, self.work / "simnas.log", env={"PYTHONPATH": _python_path()}, talks=True)
        assert self.process.popen.stdout is not None
        first = self.process.popen.stdout.readline().decode()
        if "listening on" not in first:
            raise BenchmarkFailed(f"the simulated NAS did not start:\n{self.process.log_tail()}")
        self.port = int(first.rstrip().rpartition(":")[2])
        self.password_file = self.work / "password"
        self.password_file.touch(0o600)
        self.password_file.write_text(PASSWORD + "\n")

    def stats(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_simnas/stats", timeout=30) as answer:
            stats: dict[str, Any] = json.load(answer)
        return stats

    def reset_peaks(self) -> None:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/_simnas/stats/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()
        self.line.reset_peaks()

    def peak_requests(self) -> int:
        """What it worked on at once, or what had been sent and not answered, if that is more: with a latency most of
        them are on their way."""
        return max(int(self.stats().get("peak_concurrency", 0)), int(self.line.stats()["peak_waiting"]))

    def listings(self) -> int:
        """Folders, or pages of them, that were listed, alone or together with others."""
        stats = self.stats()
        names = ("SYNO.FileStation.List.list", "SYNO.FileStation.List.list_share")
        return sum(stats[kind].get(name, 0) for kind in ("calls", "nested") for name in names)

    def requests(self) -> Counter[str]:
        return Counter({name.removeprefix("SYNO.FileStation."): n for name, n in self.stats()["calls"].items()})

    def sign_in(self) -> str:
        """A session of our own, past the line; the sid."""
        form = urllib.parse.urlencode(
            {
                "api": "SYNO.API.Auth",
                "version": "6",
                "method": "login",
                "account": USER,
                "passwd": PASSWORD,
                "session": "FileStation",
                "format": "sid",
            }
        ).encode()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/webapi/entry.cgi", form, timeout=30) as answer:
            sid: str = json.load(answer)["data"]["sid"]
        return sid

    def page_target(self, sid: str, folder: str, offset: int, limit: int) -> str:
        """Path and query of one page of a folder, with what a mount wants to know of each entry."""
        query = {
            "api": "SYNO.FileStation.List",
            "version": "2",
            "method": "list",
            "folder_path": json.dumps(folder),
            "offset": str(offset),
            "limit": str(limit),
            "sort_by": "name",
            "sort_direction": "asc",
            "additional": json.dumps(["size", "time", "perm"]),
            "_sid": sid,
        }
        return "/webapi/entry.cgi?" + urllib.parse.urlencode(query)

    def download_target(self, sid: str, path: str) -> str:
        """Path and query of the download of a file."""
        query = {
            "api": "SYNO.FileStation.Download",
            "version": "2",
            "method": "download",
            "mode": "download",
            "path": json.dumps([path]),
            "_sid": sid,
        }
        return "/webapi/entry.cgi?" + urllib.parse.urlencode(query)


class WebDav(Server):
    kind = "webdav"
    _version = -1

    def _start(self) -> None:
        self.port = free_port()
        self._serve()

    def _serve(self) -> None:
        program = rclone()
        if program is None:
            raise BenchmarkFailed("rclone is missing; scripts/bench installs it")
        command = [program, "serve", "webdav", str(self.root), "--addr", f"127.0.0.1:{self.port}", "--config", ""]
        self.process = Process(command, self.work / "webdav.log")
        self.process.wait_until(lambda: accepts(self.port), "listening")

    def refresh(self, version: int) -> None:
        """It believes for five minutes what it has seen, and is slow if told not to: a new one has seen nothing."""
        if version != self._version and self.process is not None:
            self._version = version
            self.process.stop()
            self._serve()


class Sshd(Server):
    """An sshd of its own, for this user, with keys of its own, on a port of its own."""

    kind = "ssh"

    def _start(self) -> None:
        program = sshd()
        if program is None or shutil.which("ssh-keygen") is None:
            raise BenchmarkFailed("sshd is missing; scripts/bench installs it")
        for name in ("host_key", "user_key"):
            key = self.work / name
            if not key.exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
        (self.work / "authorized_keys").write_text((self.work / "user_key.pub").read_text())
        self.port = free_port()
        settings = {
            "ListenAddress": "127.0.0.1",
            "Port": str(self.port),
            "HostKey": str(self.work / "host_key"),
            "AuthorizedKeysFile": str(self.work / "authorized_keys"),
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "Subsystem": "sftp internal-sftp",
        }
        config = self.work / "sshd_config"
        config.write_text("".join(f"{key} {value}\n" for key, value in settings.items()))
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd, started by root, locks itself in
        self.process = Process([program, "-D", "-e", "-f", str(config)], self.work / "sshd.log")
        self.process.wait_until(lambda: accepts(self.port), "listening")

    def requests(self) -> Counter[str]:
        """Encrypted, so nobody can count them. Times that the client spoke after the server had: the requests that
        were waited for, if one is sent at a time."""
        return Counter({"round trips": self.line.stats()["turns"]})


def _python_path() -> str:
    """This repository before all, so that the code beside this file is what is measured."""
    return os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))


SERVERS: dict[str, type[Server]] = {server.kind: server for server in (SimulatedNas, WebDav, Sshd)}
