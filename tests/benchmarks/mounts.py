"""The contestants: how each mounts one folder of a server through the line, fresh and with empty caches.

Peers run as their users run them: with defaults, and as their best user would tune them.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.processes import BenchmarkFailed, Process, cpu_seconds, resident_bytes
from tests.benchmarks.servers import REPOSITORY, Server, SimulatedNas, rclone

UNMOUNT_SECONDS = 60.0
KILLED_SECONDS = 10.0
RUN_SYNOFS = "import sys; from synofs.cli.main import main; sys.exit(main())"

RCLONE_TUNED = (
    *("--webdav-pacer-min-sleep", "0"),
    *("--transfers", "16"),
    *("--checkers", "16"),
    *("--vfs-write-back", "0s"),
    "--vfs-refresh",
    *("--vfs-read-chunk-streams", "4"),
    *("--vfs-read-chunk-size", "4M"),
)


@dataclass(frozen=True)
class Contestant:
    name: str
    server_kind: str
    about: str
    command: Callable[[Server, str, Path, Path], list[str]]  # (server, share, mountpoint, work) -> argv


def _synofs(*options: str) -> Callable[[Server, str, Path, Path], list[str]]:
    def command(server: Server, share: str, mountpoint: Path, work: Path) -> list[str]:
        assert isinstance(server, SimulatedNas)
        return [
            *(sys.executable, "-P", "-c", RUN_SYNOFS),
            *("mount", f"http://bench@127.0.0.1:{server.line.port}", str(mountpoint)),
            *("--insecure-http", "--foreground", "--password-file", str(server.password_file)),
            *("--share", share, "--cache-dir", str(work / "cache"), "--log-level", "warning"),
            *options,
        ]

    return command


def _rclone(*options: str) -> Callable[[Server, str, Path, Path], list[str]]:
    def command(server: Server, share: str, mountpoint: Path, work: Path) -> list[str]:
        program = rclone()
        if program is None:
            raise BenchmarkFailed("rclone is missing; scripts/bench installs it")
        return [
            *(program, "mount", f":webdav:{share}", str(mountpoint)),
            *("--webdav-url", f"http://127.0.0.1:{server.line.port}", "--webdav-vendor", "other"),
            *("--config", "", "--cache-dir", str(work / "cache"), "--vfs-cache-mode", "full"),
            *options,
        ]

    return command


def _sshfs(*options: str) -> Callable[[Server, str, Path, Path], list[str]]:
    def command(server: Server, share: str, mountpoint: Path, work: Path) -> list[str]:
        ssh = {
            "IdentityFile": server.work / "user_key",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
        }
        given = [f"{name}={value}" for name, value in ssh.items()] + [*options]
        source = f"{getpass.getuser()}@127.0.0.1:{server.root / share}"
        command = ["sshfs", source, str(mountpoint), "-f", "-F", "/dev/null", "-p", str(server.line.port)]
        for option in given:
            command += ["-o", option]
        return command

    return command


CONTESTANTS = {
    contestant.name: contestant
    for contestant in (
        Contestant("synofs", "nas", "defaults (durable, 6 requests at once)", _synofs()),
        Contestant("synofs-16", "nas", "--max-requests 16", _synofs("--max-requests", "16")),
        Contestant("synofs-wb", "nas", "--write-mode writeback", _synofs("--write-mode", "writeback")),
        Contestant(
            "synofs-wb-16",
            "nas",
            "--write-mode writeback --max-requests 16",
            _synofs("--write-mode", "writeback", "--max-requests", "16"),
        ),
        Contestant("rclone", "webdav", "--vfs-cache-mode full", _rclone()),
        Contestant(
            "rclone-tuned", "webdav", " ".join(("--vfs-cache-mode full", *RCLONE_TUNED)), _rclone(*RCLONE_TUNED)
        ),
        Contestant("sshfs", "ssh", "defaults", _sshfs()),
        Contestant(
            "sshfs-cached",
            "ssh",
            "-o dcache_timeout=3600 -o dcache_max_size=2000000",
            _sshfs("dcache_timeout=3600", "dcache_max_size=2000000"),
        ),
    )
}


class Mount:
    """The share that holds `folder`, mounted; in a `with`, so that it never stays. `path` is the folder in it."""

    def __init__(
        self, contestant: Contestant, server: Server, folder: str, work: Path, *, options: tuple[str, ...] = ()
    ):
        self.contestant = contestant
        self.server = server
        self.share, _, below = folder.partition("/")
        self.work = work
        self.mountpoint = work / "mnt"
        self.path = self.mountpoint / below
        self.served = server.root / folder
        self.fresh_memory_bytes = 0
        self._options = options
        self._process: Process | None = None

    def __enter__(self) -> Mount:
        self.mountpoint.mkdir(parents=True, exist_ok=True)
        command = self.contestant.command(self.server, self.share, self.mountpoint, self.work)
        # A unix socket's path has at most 107 bytes, so this one cannot lie below `work`, which may be deep down.
        self._runtime = Path(tempfile.mkdtemp(prefix="synofs-bench-", dir="/tmp"))
        env = _own_home(self.work, self._runtime)
        self._process = Process([*command, *self._options], self.work / "mount.log", env=env)
        try:
            self._process.wait_until(lambda: is_mounted(self.mountpoint), "mounted")
            os.stat(self.mountpoint)
            self.fresh_memory_bytes = self.resident_bytes()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_seconds(self) -> float:
        return cpu_seconds(self.pid)

    def resident_bytes(self) -> int:
        return resident_bytes(self.pid)

    def log_text(self) -> str:
        return (self.work / "mount.log").read_text(errors="replace")

    def kill(self) -> bool:
        """At once: whoever waits for the mount gets an error. False if that took more than the kill: a thread of the
        daemon that waits in the kernel for a folder, which a program holds that waits for the daemon, is not killed,
        and all of them hang until somebody ends the connection."""
        if self._process is None:
            return True
        self._process.popen.kill()
        if self._process.wait(KILLED_SECONDS):
            return True
        subprocess.run(["umount", "-f", str(self.mountpoint)], capture_output=True)
        self._process.popen.wait(UNMOUNT_SECONDS)
        return False

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        try:
            if not process.has_ended():
                subprocess.run(
                    ["fusermount3", "-u", str(self.mountpoint)], capture_output=True, timeout=UNMOUNT_SECONDS
                )
                process.wait(UNMOUNT_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.stop()
            if is_mounted(self.mountpoint):
                subprocess.run(["fusermount3", "-u", "-z", str(self.mountpoint)], capture_output=True)
            shutil.rmtree(self._runtime, ignore_errors=True)


def is_mounted(path: Path) -> bool:
    wanted = str(path).encode().replace(b" ", b"\\040")
    return any(line.split(b" ")[4] == wanted for line in Path("/proc/self/mountinfo").read_bytes().splitlines())


def _own_home(work: Path, runtime: Path) -> Mapping[str, str]:
    """No configuration, login or cache of the user's, and nothing left in them."""
    home = work / "home"
    variables = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME")
    places = {name: home / name.lower() for name in variables}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    python_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    return {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "PYTHONPATH": python_path,
        **{name: str(place) for name, place in places.items()},
    }
