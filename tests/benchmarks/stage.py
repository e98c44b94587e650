"""One contestant doing one piece of work once: the mount, the clock and the counters around it."""

from __future__ import annotations

import math
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.datasets import Data
from tests.benchmarks.mounts import Contestant, Mount
from tests.benchmarks.processes import BenchmarkFailed, drop_page_cache, ended_within
from tests.benchmarks.servers import Server

QUIET_SECONDS = 0.15
SETTLE_SECONDS = 15.0


@dataclass(frozen=True)
class Line:
    """What lies between the mount and its server."""

    latency_ms: float = 0
    bandwidth_mbit: float = 0

    def __str__(self) -> str:
        width = f", {self.bandwidth_mbit / 1000:g} Gbit/s" if self.bandwidth_mbit else ""
        return f"{self.latency_ms:g} ms{width}"


@dataclass
class Measurement:
    """What one step of a workload took, once."""

    seconds: float
    requests: Counter[str] = field(default_factory=Counter)
    bytes_down: int = 0
    bytes_up: int = 0
    connections: int = 0
    cpu_seconds: float = 0.0
    memory_bytes: int | None = None  # added since the mount was fresh
    peak_requests: int = 0  # at once, as the simulated NAS or the line before it saw it
    listings: int = 0  # folders (and pages of them) that it listed; several may go together in one request


@dataclass
class Series:
    """The same step, several times."""

    workload: str
    step: str
    line: Line
    contestant: str
    payload_bytes: int = 0  # what the user got or gave, for a rate
    folders: int = 0  # that were walked
    smaller: str = ""  # what a slow contestant was given instead, such as "111 folders"; it is compared with nobody
    measurements: list[Measurement] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        return statistics.median(m.seconds for m in self.measurements) if self.measurements else math.nan

    @property
    def typical(self) -> Measurement:
        """The measurement whose time is the median (with an even number, the faster of the two in the middle)."""
        ordered = sorted(self.measurements, key=lambda m: m.seconds)
        return ordered[(len(ordered) - 1) // 2]

    def as_json(self) -> dict[str, Any]:
        shown: dict[str, Any] = {
            "workload": self.workload,
            "step": self.step,
            "latency_ms": self.line.latency_ms,
            "bandwidth_mbit": self.line.bandwidth_mbit,
            "contestant": self.contestant,
            "payload_bytes": self.payload_bytes,
            "folders": self.folders,
            "smaller": self.smaller,
            "failures": self.failures,
        }
        if self.measurements:
            typical = self.typical
            shown |= {
                "seconds": self.seconds,
                "all_seconds": [m.seconds for m in self.measurements],
                "requests": dict(typical.requests),
                "bytes_down": typical.bytes_down,
                "bytes_up": typical.bytes_up,
                "connections": typical.connections,
                "cpu_seconds": typical.cpu_seconds,
                "memory_bytes": typical.memory_bytes,
                "peak_requests": max(m.peak_requests for m in self.measurements),
                "listings": typical.listings,
            }
        return shown


class Results:
    def __init__(self) -> None:
        self.series: dict[tuple[str, str, Line, str], Series] = {}

    def of(self, workload: str, step: str, line: Line, contestant: str) -> Series:
        key = (workload, step, line, contestant)
        if key not in self.series:
            self.series[key] = Series(*key)
        return self.series[key]

    def failed(self, workload: str, line: Line, contestant: str, why: str) -> None:
        self.of(workload, "did not end", line, contestant).failures.append(why)

    def find(self, workload: str, step: str, line: Line, contestant: str) -> Series | None:
        series = self.series.get((workload, step, line, contestant))
        return series if series is not None and series.measurements else None


class Stage:
    """What a workload is given: somebody to measure, data to work on, and a place for the figures."""

    def __init__(
        self,
        workload: str,
        contestant: Contestant | None,
        name: str,
        server: Server,
        data: Data,
        line: Line,
        work: Path,
        results: Results,
        *,
        full: bool,
    ) -> None:
        self.workload = workload
        self.contestant = contestant
        self.name = name  # of the contestant, or of the limit that is measured in its place
        self.server = server
        self.data = data
        self.line = line
        self.full = full
        self.timeout = 1200.0 if full else 300.0
        self.work = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=work))
        self.smaller = ""
        self._results = results
        self._mount: Mount | None = None
        self._started: float | None = None
        self._mounts = 0

    def size(self, *, quick: int, full: int) -> int:
        return full if self.full else quick

    def is_slow(self) -> bool:
        """sshfs asks for each file by itself: with the sizes of the goals, some work takes it five minutes and more."""
        return self.full and self.line.latency_ms > 0 and self.name.startswith("sshfs")

    def busy_seconds(self) -> float:
        """Since the data are there and the work has begun."""
        return 0.0 if self._started is None else time.monotonic() - self._started

    def mount(self, folder: str, *options: str, remount: bool = False) -> Mount:
        """Not mounted yet. Its caches are empty, or with `remount` what the mount before has left."""
        assert self.contestant is not None
        if not remount:
            self._mounts += 1
        work = self.work / f"mount-{self._mounts}"
        self.server.refresh(self.data.version)
        drop_page_cache()
        self._mount = Mount(self.contestant, self.server, folder, work, options=options)
        return self._mount

    def watch(self, mount: Mount | None = None) -> Watch:
        self._started = self._started or time.monotonic()
        return Watch(self, mount)

    def run(self, *command: str | Path, output: Path | None = None, ok: Sequence[int] = (0,)) -> None:
        """A program at work, its output to a file that really is written."""
        where = output or self.work / "output"
        with where.open("wb") as out, tempfile.TemporaryFile() as errors:
            program = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=errors
            )
            if not ended_within(program.pid, self.timeout):
                if self._mount is not None:
                    self._mount.kill()  # or the program could not be ended: it waits for the mount
                program.kill()
                program.wait()
                raise BenchmarkFailed(f"{command[0]} was not done after {self.timeout:.0f} s")
            code = program.wait()
            if code not in ok:
                errors.seek(0)
                said = errors.read().decode(errors="replace").strip()[-400:]
                raise BenchmarkFailed(f"{command[0]} ended with {code}: {said}")

    def record(self, step: str, measurement: Measurement, payload_bytes: int, folders: int) -> None:
        series = self._results.of(self.workload, step, self.line, self.name)
        series.payload_bytes = payload_bytes
        series.folders = folders
        series.smaller = self.smaller
        series.measurements.append(measurement)

    def expect(self, what: str, found: object, expected: object) -> None:
        """A contestant that is fast because it did not do the work is not fast."""
        if found != expected:
            raise BenchmarkFailed(f"{what}: {found!r}, not {expected!r}")


class Watch:
    """Clock and counters, from now on."""

    def __init__(self, stage: Stage, mount: Mount | None) -> None:
        self._stage = stage
        self._mount = mount
        self._memory = mount.fresh_memory_bytes if mount is not None else 0
        self._cpu = mount.cpu_seconds() if mount is not None else 0.0
        stage.server.reset_peaks()
        self._line = stage.server.line.stats()
        self._requests = stage.server.requests()
        self._listings = stage.server.listings()
        self._started = time.perf_counter()

    def seconds(self) -> float:
        return time.perf_counter() - self._started

    def record(
        self,
        step: str,
        *,
        seconds: float | None = None,
        payload_bytes: int = 0,
        folders: int = 0,
        settle: bool = True,
    ) -> None:
        """The time up to now (or `seconds`), and the counters once nothing moves any more."""
        taken = self.seconds() if seconds is None else seconds
        if settle:
            self._settle()
        line = self._stage.server.line.stats()
        measurement = Measurement(
            seconds=taken,
            requests=self._stage.server.requests() - self._requests,
            bytes_down=line["bytes_down"] - self._line["bytes_down"],
            bytes_up=line["bytes_up"] - self._line["bytes_up"],
            connections=line["connections"] - self._line["connections"],
            peak_requests=self._stage.server.peak_requests(),
            listings=self._stage.server.listings() - self._listings,
        )
        if self._mount is not None:
            measurement.cpu_seconds = self._mount.cpu_seconds() - self._cpu
            measurement.memory_bytes = self._mount.resident_bytes() - self._memory
        self._stage.record(step, measurement, payload_bytes, folders)

    def _settle(self) -> None:
        """Read-ahead and prefetch that were set off go on for a while: they count, too."""
        quiet = max(QUIET_SECONDS, 4 * self._stage.line.latency_ms / 1000)
        deadline = time.monotonic() + SETTLE_SECONDS
        before = self._stage.server.line.stats()
        while time.monotonic() < deadline:
            time.sleep(quiet)
            after = self._stage.server.line.stats()
            if after == before:
                return
            before = after
