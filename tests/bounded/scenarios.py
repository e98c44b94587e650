"""What happens to a NAS, what programs do meanwhile, and how long the longest of their calls takes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.processes import family
from tests.bounded import caller

REPOSITORY = Path(__file__).parents[2]
JOBS = [job for job in caller.JOBS if job != "warm"]
SLOW_SECONDS = 3.0
SAMPLE_SECONDS = 0.1
KNOWN_AFTER_SECONDS = 8.0  # then a NAS that does not answer has been away for some time
NEW_FOLDERS = 1000


class FaultyLine:
    """`line.py` as a process."""

    def __init__(self, target_port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.bounded.line", f"127.0.0.1:{target_port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def __call__(self, command: str) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline().strip() == command

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def make_tree(root: Path) -> None:
    """What the jobs of caller.py work with."""
    old = (1_600_000_000, 1_600_000_000)
    folders = (
        ("known", 20, 4096), ("unread", 300, 65536), ("mapped", 300, 4096), ("renamed", 300, 10),
        ("removed", 300, 10), ("cut", 300, 1000), ("written", 0, 0), ("folders", 0, 0),
    )  # fmt: skip
    for folder, count, size in folders:
        (root / folder).mkdir(parents=True)
        for number in range(count):
            path = root / folder / f"{number:04}"
            path.write_bytes(os.urandom(size))
            os.utime(path, old)
    for number in range(300):
        (root / "emptied" / f"{number:04}").mkdir(parents=True)
        for start in (0, 1000, 2000, 3000):
            folder_path = root / "new" / f"{start + number:04}"
            folder_path.mkdir(parents=True)
            (folder_path / "a").touch()


# ----- trouble ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _line_does(line: FaultyLine, command: str) -> Iterator[None]:
    line(command)
    try:
        yield
    finally:
        line("pass")


@contextlib.contextmanager
def _stopped(server_pid: int) -> Iterator[None]:
    pids = list(family(server_pid))
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def _flapping(line: FaultyLine) -> Iterator[None]:
    end = threading.Event()

    def flap() -> None:
        commands = ("refuse", "pass", "swallow", "pass")
        seconds = (2.0, 3.0, 6.0, 3.0)
        number = 0
        while not end.is_set():
            line(commands[number % 4])
            end.wait(seconds[number % 4])
            number += 1

    thread = threading.Thread(target=flap)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()
        line("pass")


SCENARIOS: dict[str, Callable[[FaultyLine, int], contextlib.AbstractContextManager[None]]] = {
    "refused": lambda line, server_pid: _line_does(line, "refuse"),
    "black-holed": lambda line, server_pid: _line_does(line, "drop"),
    "stopped": lambda line, server_pid: _stopped(server_pid),
    "slow": lambda line, server_pid: _line_does(line, f"slow {SLOW_SECONDS}"),
    "flapping": lambda line, server_pid: _flapping(line),
}


# ----- watching -----------------------------------------------------------------------------------------------------


@dataclass
class Findings:
    """The longest of each call in seconds, how calls ended, and what never ended."""

    longest: dict[str, float] = field(default_factory=dict)
    late: dict[str, float] = field(default_factory=dict)  # of those that began when it had long been known
    counts: dict[str, int] = field(default_factory=dict)
    ends: dict[str, set[int]] = field(default_factory=lambda: defaultdict(set))
    hung: set[str] = field(default_factory=set)
    longest_d_state: float = 0.0
    recovered_after: float | None = None  # seconds after the end of the trouble

    def take(self, text: str, now: float, late_from: float = float("inf")) -> None:
        name, began, began_at = "", None, 0.0
        for line in text.splitlines():
            kind, name, *values = line.split()
            if kind == "B":
                began = began_at = float(values[0])
                continue
            began = None
            self._longest(name, float(values[0]))
            if began_at >= late_from:
                self.late[name] = max(self.late.get(name, 0.0), float(values[0]))
            self.counts[name] = self.counts.get(name, 0) + 1
            self.ends[name].add(int(values[1]))
        if began is not None:
            self._longest(name, now - began)
            self.hung.add(name)

    def _longest(self, name: str, seconds: float) -> None:
        self.longest[name] = max(self.longest.get(name, 0.0), seconds)


class _DWatch:
    """The longest time that one of some processes was in D state without a break."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._end = threading.Event()
        self.longest = 0.0
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        since: dict[int, float] = {}
        while not self._end.wait(SAMPLE_SECONDS):
            now = time.monotonic()
            for pid in self._pids:
                try:
                    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
                except OSError:
                    state = "gone"
                if state == "D":
                    self.longest = max(self.longest, now - since.setdefault(pid, now))
                else:
                    since.pop(pid, None)

    def stop(self) -> float:
        self._end.set()
        self._thread.join()
        return self.longest


def _started(job: str, root: Path, until: float, out: Path) -> subprocess.Popen[bytes]:
    with out.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", caller.__file__, job, str(root), str(until)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )


def observe(
    root: Path, trouble: contextlib.AbstractContextManager[None], seconds: float, patience_seconds: float,
    give_up: Callable[[], None],
) -> Findings:  # fmt: skip
    """All jobs at once, during the trouble and until their last call has ended; then `patience_seconds` longer, in the
    trouble. What is not answered even after the trouble's end is cut off by `give_up`."""
    findings = Findings()
    with tempfile.TemporaryDirectory() as folder:
        warm = _started("warm", root, 0, Path(folder) / "warm")
        assert warm.wait(120) == 0, "the mount does not work at all"
        with trouble:
            began = time.monotonic()
            until = began + seconds
            outs = {job: Path(folder) / job for job in JOBS}
            processes = {job: _started(job, root, until, out) for job, out in outs.items()}
            watch = _DWatch([process.pid for process in processes.values()])
            _wait(list(processes.values()), seconds + patience_seconds)
            now = time.monotonic()
            findings.longest_d_state = watch.stop()
            for out in outs.values():
                findings.take(out.read_text(), now, began + KNOWN_AFTER_SECONDS)
        if not _wait(list(processes.values()), 30):
            give_up()
        for process in processes.values():
            process.kill()
            process.wait()
    return findings


def _wait(processes: list[subprocess.Popen[bytes]], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(process.poll() is None for process in processes):
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
