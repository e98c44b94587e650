"""Processes that a benchmark starts: waited for, looked at, and always ended, by the id they were started with."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

START_SECONDS = 30.0
END_SECONDS = 30.0
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class BenchmarkFailed(Exception):
    """A program did not do its work; the message says which and how."""


class Process:
    """A program in the background, its stderr in a log file."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        self.command = list(command)
        self.log = log
        self._log_file: IO[bytes] = log.open("ab")
        self.popen = subprocess.Popen(
            self.command,
            stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
            stdout=subprocess.PIPE if talks else self._log_file,
            stderr=self._log_file,
            env=None if env is None else {**os.environ, **env},
            start_new_session=True,  # a Ctrl-C is for the benchmark, which ends the others in order
        )
        self.pid = self.popen.pid

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = START_SECONDS) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if self.popen.poll() is not None:
                raise BenchmarkFailed(f"{self.command[0]} ended before {what}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BenchmarkFailed(f"{self.command[0]}: not {what} after {seconds:.0f} s:\n{self.log_tail()}")
            time.sleep(0.002)

    def log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-6:])

    def has_ended(self) -> bool:
        return self.popen.poll() is not None

    def wait(self, seconds: float) -> bool:
        """True if it ended by itself in that time."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.popen.wait(seconds)
        return self.has_ended()

    def stop(self) -> None:
        try:
            for how, seconds in ((signal.SIGTERM, END_SECONDS), (signal.SIGKILL, END_SECONDS)):
                if self.has_ended():
                    break
                self.popen.send_signal(how)
                self.wait(seconds)
        finally:
            for pipe in (self.popen.stdin, self.popen.stdout):
                if pipe is not None:
                    pipe.close()
            self._log_file.close()


def ended_within(pid: int, seconds: float) -> bool:
    """Wait for a child without looking every now and then: `Popen.wait` with a timeout sleeps up to 50 ms too long."""
    fd = os.pidfd_open(pid)
    try:
        return bool(select.select([fd], [], [], seconds)[0])
    finally:
        os.close(fd)


def family(pid: int) -> Iterator[int]:
    """The process and all that it started (sshfs has an ssh)."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from family(int(child))


def cpu_seconds(pid: int) -> float:
    """Time on a processor, in programs and in the kernel, of the process and its children."""
    ticks = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def resident_bytes(pid: int) -> int:
    """Memory of the process that is its own: neither a file's nor shared."""
    total = 0
    for member in family(pid):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{member}/status").read_text().splitlines():
                if line.startswith("RssAnon:"):
                    total += int(line.split()[1]) * 1024
    return total


def drop_page_cache() -> bool:
    """Whether it could be done (root alone may)."""
    os.sync()
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3\n")
    except OSError:
        return False
    return True
