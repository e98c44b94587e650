"""A simulated NAS and a mount of it, each a process of its own, for tests on the real kernel.

Nothing here touches a mount from the process that serves it. Every wait has a deadline, every process is ended by
its pid, every mount is unmounted whatever happens, and a mount that logged a warning nobody announced fails its test.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

PASSWORD = "correct horse"
USER = "tester"
PAGE = 5000  # the client's, and its first page
FIRST_PAGE = 1000


def wait_until(condition: Callable[[], Any], seconds: float = 15.0, what: str = "") -> Any:
    """The condition's first true answer; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what or condition}"
        time.sleep(0.02)


class Nas:
    """A running simulated NAS."""

    def __init__(self, process: subprocess.Popen[bytes], url: str) -> None:
        self.process = process
        self.url = url

    def _ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simnas/{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def reset(self) -> None:
        self._ask("POST", "stats/reset")

    @property
    def stats(self) -> dict[str, Any]:
        return self._ask("GET", "stats")

    @property
    def calls(self) -> dict[str, int]:
        """What was asked since the last reset, by short name: `list`, `getinfo`, `download`, `list_share`, `login`."""
        return {name.rpartition(".")[2]: count for name, count in self.stats["calls"].items()}

    def last_calls(self, about: str) -> list[tuple[float, str]]:
        """When (seconds since 1970) the last calls came that gave this text, what they were, and how they ended."""
        return [tuple(call) for call in self._ask("GET", f"calls?about={urllib.parse.quote(about)}")["calls"]]

    @property
    def listings(self) -> int:
        """Folders, or pages of them, that were listed, alone or together with others."""
        stats = self.stats
        names = ("SYNO.FileStation.List.list", "SYNO.FileStation.List.list_share")
        return sum(stats[kind].get(name, 0) for kind in ("calls", "nested") for name in names)

    def fault(self, kind: str, **fields: object) -> None:
        self._ask("POST", "faults", {"kind": kind, **fields})

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")


@contextlib.contextmanager
def simulated_nas(shares: dict[str, Path], *options: str, account_flags: str = "") -> Iterator[Nas]:
    """Serve these directories."""
    command = [sys.executable, "-m", "synofs.simnas", "--listen", "127.0.0.1:0"]
    for name, directory in shares.items():
        command += ["--share", f"{name}={directory}"]
    command += ["--account", f"{USER}:{PASSWORD}{account_flags}", *options]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], 20)
            line = process.stdout.readline().decode() if ready else ""
            match = re.search(r"listening on (\S+)", line)
            if match is None:
                errors.seek(0)
                raise AssertionError(f"no simulated NAS: {line!r}\n{errors.read().decode()}")
            yield Nas(process, match[1])
        finally:
            end(process)


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> None:
    """Ask it to end, then make it."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(seconds)
    if process.poll() is None:
        process.kill()
        process.wait(seconds)
    if process.stdout is not None:
        process.stdout.close()


class Mount:
    """A running mount."""

    def __init__(self, mountpoint: Path, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.mountpoint = mountpoint
        self.path = mountpoint  # or the folder in it that a test works with
        self.process = process
        self.log_file = log_file
        self.expected: list[str] = []
        self.may_log_anything = False  # for work whose trouble is left to chance

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def expect_logs(self, *patterns: str) -> None:
        """The mount will log this at WARNING or above; anything else that loud fails the test."""
        self.expected += patterns

    def check_log(self) -> None:
        if self.may_log_anything:
            return
        loud = [line for line in self.log.splitlines() if re.match(r"(WARNING|ERROR|CRITICAL)\b|Traceback", line)]
        unexpected = [line for line in loud if not any(re.search(pattern, line) for pattern in self.expected)]
        assert not unexpected, f"the mount logged:\n{self.log}"
        unmet = [pattern for pattern in self.expected if not any(re.search(pattern, line) for line in loud)]
        assert not unmet, f"announced and not logged: {unmet}"


def is_mounted(path: Path) -> bool:
    mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
    return any(line.split(" ")[4].replace("\\040", " ") == str(path) for line in mountinfo.splitlines())


@contextlib.contextmanager
def mounted(
    nas: Nas, *options: str, share: str | None = "data", at: Path | None = None, writable: bool = False
) -> Iterator[Mount]:
    """`synofs mount` with these options, read-only unless `writable`; it shows `share`, or all shares."""
    command = [str(Path(sys.executable).parent / "synofs"), "mount", nas.url, "{mountpoint}", "--user", USER]
    command += ["--password-file", "{password}", "--insecure-http", "--foreground"]
    command += ["--read-only"] if not writable else []
    command += ["--share", share] if share else []
    with _running(command + list(options), at) as mount:
        yield mount


@contextlib.contextmanager
def mounted_by_runner(nas: Nas, *options: str) -> Iterator[Mount]:
    """The same, assembled by `runner.py`: with a deadline of choice, and with bugs where a test wants them."""
    runner = Path(__file__).with_name("runner.py")
    command = [sys.executable, str(runner), nas.url, "{mountpoint}", USER, "{password}", *options]
    with _running(command, None) as mount:
        yield mount


@contextlib.contextmanager
def _running(command: Sequence[str], at: Path | None) -> Iterator[Mount]:
    with tempfile.TemporaryDirectory(prefix="mount-") as directory:
        own = Path(directory)
        mountpoint = at or own / "mnt"
        mountpoint.mkdir(exist_ok=True)
        mountpoint = mountpoint.resolve()
        password = own / "password"
        password.write_text(PASSWORD)
        password.chmod(0o600)
        # A cache of its own: the one of an earlier mount would answer in the NAS's place.
        environment = os.environ | {"XDG_CACHE_HOME": str(own / "cache"), "XDG_STATE_HOME": str(own / "state")}
        command = [part.format(mountpoint=mountpoint, password=password) if "{" in part else part for part in command]
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
        mount = Mount(mountpoint, process, own / "log")
        try:
            wait_until(lambda: is_mounted(mountpoint) or process.poll() is not None, what="the mount")
            assert process.poll() is None, f"no mount:\n{mount.log}"
            yield mount
        finally:
            unmount(mountpoint)
            # A container that was started meanwhile keeps a copy of the mount; then only a signal ends the process.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            end(process)
        assert process.returncode == 0, f"the mount ended with {process.returncode}:\n{mount.log}"
        mount.check_log()


def unmount(mountpoint: Path, seconds: float = 10.0) -> None:
    """Also while somebody's program still has it open for a moment; in the end by force."""
    deadline = time.monotonic() + seconds
    lazy: list[str] = []
    holders: list[str] = []
    while is_mounted(mountpoint):
        if time.monotonic() > deadline:
            lazy, holders = ["-z"], users_of(mountpoint)
        subprocess.run(["fusermount3", "-u", *lazy, "--", str(mountpoint)], stderr=subprocess.DEVNULL, check=False)
        if is_mounted(mountpoint):
            assert time.monotonic() < deadline + seconds, f"{mountpoint} cannot be unmounted"
            time.sleep(0.05)
    assert not lazy, f"{mountpoint} was in use until the end, by {holders}"


def users_of(mountpoint: Path) -> list[str]:
    """The processes that have something open below a mountpoint."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            links = [process / "cwd", process / "root", *(process / "fd").iterdir()]
            if any(os.readlink(link).startswith(str(mountpoint)) for link in links):
                found.append(f"{process.name} {(process / 'cmdline').read_text().replace(chr(0), ' ')}")
    return found


def run(*command: str | bytes | Path, cwd: Path | None = None, seconds: float = 60.0) -> bytes:
    """What a program prints; it has to succeed and to say nothing on stderr."""
    environment = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, timeout=seconds, env=environment, check=False)
    assert done.returncode == 0, f"{command}: {done.returncode}\n{done.stderr.decode(errors='replace')}"
    assert done.stderr == b"", f"{command}: {done.stderr.decode(errors='replace')}"
    return done.stdout


def processes_in_d_state(children_of: int) -> list[int]:
    """Processes below a pid that the kernel does not let go."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = status.read_text().rpartition(")")[2].split()
            if fields[0] == "D" and int(fields[1]) == children_of:
                found.append(int(status.parent.name))
    return found


def guard_of(mount: Mount) -> int | None:
    """The pid of the process that ends the kernel's connection if that of the mount is killed; None: not there yet."""
    pid = mount.process.pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        if Path(f"/proc/{child}/comm").read_text() == "synofs-guard\n":
            return int(child)
    return None


def waits_for_an_answer(pid: int) -> bool:
    """Whether a program waits for the process of a mount. As root; else nobody may know."""
    with contextlib.suppress(OSError):
        return b"request_wait_answer" in Path(f"/proc/{pid}/stack").read_bytes()
    return False


def stuck_threads(pid: int) -> list[int]:
    """Threads of a process, were it killed, that the kernel does not let go."""
    found = []
    for status in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            if status.read_text().rpartition(") ")[2][0] == "D":
                found.append(int(status.parent.name))
    return found


def end_connection(mountpoint: Path) -> None:
    """Should a test have failed that killed the process of a mount, nobody waits for it any more."""
    subprocess.run(["umount", "-i", "-c", "-l", "-f", "--", mountpoint], capture_output=True, check=False)


def kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGKILL)
