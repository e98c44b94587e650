"""What synofs means to reach, and what a run says about it.

A goal that needs a peer, a latency or a size that was not measured is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.benchmarks.stage import Line, Results, Series

MAX_REQUESTS = 6
GIGABIT = 1000


@dataclass(frozen=True)
class Verdict:
    goal: str
    is_met: bool
    found: str

    @property
    def word(self) -> str:
        return "met" if self.is_met else "MISSED"


class _Figures:
    """The results of one run, asked by workload and pattern of the step."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def steps(self, workload: str, pattern: str, contestant: str = "synofs") -> Iterator[tuple[Line, str, Series]]:
        for (name, step, line, who), series in self._results.series.items():
            if name == workload and who == contestant and series.measurements and re.search(pattern, step):
                yield line, step, series

    def other(self, series: Series, contestant: str) -> Series | None:
        return self._results.find(series.workload, series.step, series.line, contestant)

    def best(self, series: Series, *contestants: str) -> Series | None:
        found = [other for name in contestants if (other := self.other(series, name)) is not None]
        return min(found, key=lambda other: other.seconds, default=None)


def judge(results: Results) -> list[Verdict]:
    figures = _Figures(results)
    return [verdict for check in CHECKS for verdict in check(figures)]


def _ratio(goal: str, series: Series, other: Series | None, at_least: float) -> Iterator[Verdict]:
    """`other` takes at least so many times as long."""
    if other is not None:
        ratio = other.seconds / series.seconds
        found = f"{ratio:.2f} x ({series.seconds:.3g} s, {other.contestant} {other.seconds:.3g} s)"
        yield Verdict(f"{series.step}, {series.line}: {goal}", ratio >= at_least, found)


def _walk(figures: _Figures) -> Iterator[Verdict]:
    for line, step, series in figures.steps("walk", "cold"):
        lists = series.typical.listings
        folders = series.folders
        if folders:
            yield Verdict(f"{step}, {line}: list calls <= folders + 2", lists <= folders + 2, f"{lists} for {folders}")
        if line.latency_ms:
            yield from _ratio(">= 4 x as fast as rclone's defaults", series, figures.other(series, "rclone"), 4)
            yield from _ratio(">= 4 x as fast as sshfs's defaults", series, figures.other(series, "sshfs"), 4)
            limit = lists * line.latency_ms / 1000 / MAX_REQUESTS
            if not limit:
                continue
            found = f"{series.seconds / limit:.2f} x ({series.seconds:.3g} s, {limit:.3g} s)"
            goal = f"{step}, {line}: within 2 x of calls x latency / {MAX_REQUESTS}"
            yield Verdict(goal, series.seconds <= 2 * limit, found)
            peak = series.typical.peak_requests
            yield Verdict(f"{step}, {line}: at most {MAX_REQUESTS} requests at once", peak <= MAX_REQUESTS, str(peak))
    for line, _, series in figures.steps("walk", "cold", "synofs-16"):
        if line.latency_ms:
            tuned = figures.other(series, "rclone-tuned")
            yield from _ratio("with 16 at once no slower than rclone's pre-crawl", series, tuned, 1)
    for _, _, series in figures.steps("ls", "ls"):
        lists = series.typical.listings
        yield Verdict("one ls causes no crawl: at most 2 list calls", lists <= 2, str(lists))
    for line, step, series in figures.steps("walk", "again"):
        yield from _no_requests(line, step, series)
        peer = figures.best(series, "rclone", "rclone-tuned", "sshfs", "sshfs-cached")
        yield from _ratio("warm, no slower than the best peer", series, peer, 1)


def _no_requests(line: Line, step: str, series: Series) -> Iterator[Verdict]:
    count = series.typical.requests.total()
    yield Verdict(f"{step}, {line}: no requests", count == 0, str(count))


def _folder(figures: _Figures) -> Iterator[Verdict]:
    for line, step, series in figures.steps("folder", r"all 100,000"):
        memory = series.typical.memory_bytes or 0
        yield Verdict(f"{step}, {line}: <= 100 MB added", memory <= 100e6, f"{memory / 1e6:.0f} MB")
    for line, step, series in figures.steps("folder", r"ls -f of 100,000"):
        yield Verdict(f"{step}, {line}: <= 0.25 s", series.seconds <= 0.25, f"{series.seconds:.3g} s")
    for line, step, series in figures.steps("folder-half", r"ls -l of 50,000"):
        yield Verdict(f"{step}, {line}: <= 0.6 s", series.seconds <= 0.6, f"{series.seconds:.3g} s")
    for line, step, series in figures.steps("folder", r"ls -l of 10,000,"):
        yield Verdict(f"{step}, {line}: <= 0.1 s", series.seconds <= 0.1, f"{series.seconds:.3g} s")
    for line, step, series in figures.steps("folder", "again"):
        yield from _no_requests(line, step, series)


def _read(figures: _Figures) -> Iterator[Verdict]:
    for line, _, series in figures.steps("read", "MiB"):
        curl = figures.other(series, "curl")
        if line.bandwidth_mbit:
            yield from _ratio(">= 99 % of curl", series, curl, 0.99)
        else:
            yield from _ratio(">= 0.6 x curl", series, curl, 0.6)
            yield from _ratio(">= 1.2 x rclone", series, figures.best(series, "rclone", "rclone-tuned"), 1.2)


def _write(figures: _Figures) -> Iterator[Verdict]:
    for line, _, series in figures.steps("write", r"^\d+ MiB, on the server"):
        if line.bandwidth_mbit:
            yield from _ratio(">= 95 % of curl's upload", series, figures.other(series, "curl"), 0.95)
            yield from _ratio("faster than sshfs", series, figures.other(series, "sshfs"), 1)
        else:
            rate = series.payload_bytes / series.seconds / 1e6
            yield Verdict(f"{series.step}, {line}: >= 200 MB/s", rate >= 200, f"{rate:.0f} MB/s")


def _random(figures: _Figures) -> Iterator[Verdict]:
    for line, step, series in figures.steps("random", "^4 KiB"):
        limit = figures.other(series, "one request")
        if line.bandwidth_mbit:
            yield from _ratio("<= 1.2 x one ranged request", series, limit, 1 / 1.2)
        moved = series.typical.bytes_down
        yield Verdict(f"{step}, {line}: moves <= 10 MB", moved <= 10e6, f"{moved / 1e6:.1f} MB")


def _small_files(figures: _Figures) -> Iterator[Verdict]:
    peers = ("rclone", "rclone-tuned", "sshfs")
    for line, _, series in figures.steps("copy-out", "cp"):
        if line.latency_ms:
            yield from _ratio(">= 4 x as fast as the best peer", series, figures.best(series, *peers), 4)
    for line, step, series in figures.steps("copy-in", "on the server", "synofs-wb"):
        files = int(re.search(r"of (\d+) files", step)[1])  # type: ignore[index]
        if not line.latency_ms:
            continue
        yield from _ratio("writeback: >= 4 x as fast as rclone's default", series, figures.other(series, "rclone"), 4)
        uploads = series.typical.requests["Upload.upload"]
        yield Verdict(f"{step}, {line}: one upload for each file", uploads == files, str(uploads))
        others = series.typical.requests.total() - uploads
        yield Verdict(f"{step}, {line}: few other calls (<= 8)", others <= 8, f"{others}")
        limit = files * line.latency_ms / 1000 / 4 * 1.5  # 4 of the 6 may be uploads
        yield Verdict(
            f"{step}, {line}: <= files x latency / 4 lanes x 1.5",
            series.seconds <= limit,
            f"{series.seconds:.3g} s, {limit:.3g} s",
        )
    for line, step, series in figures.steps("copy-in", "cp returns", "synofs-wb"):
        if line.latency_ms:
            yield Verdict(f"{step}, {line}: within 2 s", series.seconds <= 2, f"{series.seconds:.3g} s")
            yield from _ratio(
                "writeback: returns as fast as rclone's default", series, figures.other(series, "rclone"), 1
            )
    for line, _, series in figures.steps("copy-in", "on the server", "synofs-wb-16"):
        if line.latency_ms:
            yield from _ratio(
                "16 at once: no slower than rclone tuned", series, figures.other(series, "rclone-tuned"), 1
            )


def _local(figures: _Figures) -> Iterator[Verdict]:
    for line, step, series in figures.steps("disk-cache", "cached"):
        down = series.typical.bytes_down
        yield Verdict(f"{step}, {line}: from the disk", down < 1e6, f"{down / 1e6:.1f} MB over the line")
        peer = figures.best(series, "rclone", "rclone-tuned")
        yield from _ratio("no slower than rclone's cached read", series, peer, 1)
    for line, step, series in figures.steps("ready", "mounted"):
        yield Verdict(f"{step}, {line}: < 1 s", series.seconds < 1, f"{series.seconds:.3g} s")
    for line, step, series in figures.steps("revalidate", "after the TTL"):
        cold = figures._results.find("revalidate", "find, cold", line, "synofs")
        if cold is not None:
            new, old = series.typical.requests.total(), cold.typical.requests.total()
            yield Verdict(f"{step}, {line}: fewer requests than a new walk", new < old, f"{new} and {old}")
    for pattern in ("git status, again", "grep -r, again"):
        for _, _, series in figures.steps("source", pattern):
            peer = figures.best(series, "rclone", "rclone-tuned", "sshfs", "sshfs-cached")
            yield from _ratio("no slower than the best peer", series, peer, 1)
    for line, step, series in figures.steps("source", "git status, again"):
        yield from _no_requests(line, step, series)


CHECKS: tuple[Callable[[_Figures], Iterator[Verdict]], ...] = (
    _walk,
    _folder,
    _read,
    _write,
    _random,
    _small_files,
    _local,
)
