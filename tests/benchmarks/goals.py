"""What synofs means to reach, and what the figures of one or several sittings say about it.

One entry for each goal, in the order in which they are printed. What is compared was measured in the same sitting, on
the same line, with the same data; where a peer, a latency or a size is lacking, a goal is "not measured".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Figure = Mapping[str, Any]  # one entry of the JSON's "results"

MAX_REQUESTS = {"synofs": 6, "synofs-wb": 6, "synofs-16": 16, "synofs-wb-16": 16}
DEFAULT_PEERS = ("rclone", "sshfs")
PEERS = ("rclone", "rclone-tuned", "sshfs", "sshfs-cached")
TYPICAL_LATENCY_MS = 20
WALKED_FOLDERS = 1_000  # or more: a smaller tree's depth weighs more than its folders
UNMEASURED = "not measured"


@dataclass(frozen=True)
class Found:
    text: str
    is_met: bool


@dataclass(frozen=True)
class Verdict:
    goal: str
    found: tuple[Found, ...]

    @property
    def word(self) -> str:
        """Met is what all figures keep."""
        if not self.found:
            return UNMEASURED
        return "met" if all(one.is_met for one in self.found) else "missed"

    def text(self, missed: str = "{} (missed)") -> str:
        """`missed` marks a figure that misses the goal, where others meet it."""
        is_mixed = len({one.is_met for one in self.found}) > 1
        return "; ".join(missed.format(one.text) if is_mixed and not one.is_met else one.text for one in self.found)


class Figures:
    """Figures by what was done, on which line and by whom."""

    def __init__(self, results: Iterable[Figure]) -> None:
        """Without those who failed, and without those who were given less to do."""
        self._all = [one for one in results if one.get("seconds") is not None and not one.get("smaller")]

    def steps(self, workload: str, pattern: str, *contestants: str) -> Iterator[Figure]:
        wanted = contestants or ("synofs",)
        for one in self._all:
            if one["workload"] == workload and one["contestant"] in wanted and re.search(pattern, one["step"]):
                yield one

    def by(self, contestant: str) -> Iterator[Figure]:
        return (one for one in self._all if one["contestant"] == contestant)

    def far(self, workload: str, pattern: str, *contestants: str) -> Iterator[Figure]:
        """Where there is a latency."""
        return (one for one in self.steps(workload, pattern, *contestants) if one["latency_ms"])

    def typical(self, workload: str, pattern: str, *contestants: str) -> Iterator[Figure]:
        """Where most networks are, if that was measured; the goals of what moves bytes are for that."""
        return (one for one in self.steps(workload, pattern, *contestants) if one["latency_ms"] == TYPICAL_LATENCY_MS)

    def other(self, figure: Figure, contestant: str, step: str | None = None) -> Figure | None:
        """The same work by somebody else, or another step of it."""
        wanted = (figure["workload"], step or figure["step"], figure["latency_ms"], contestant)
        keys = ("workload", "step", "latency_ms", "contestant")
        return next((one for one in self._all if tuple(one[key] for key in keys) == wanted), None)

    def best(self, figure: Figure, *contestants: str) -> Figure | None:
        found = [other for name in contestants if (other := self.other(figure, name)) is not None]
        return min(found, key=lambda other: float(other["seconds"]), default=None)


Check = Callable[[Figures], Iterator[Found]]


@dataclass(frozen=True)
class Goal:
    text: str
    check: Check


def judge(results: Iterable[Figure]) -> list[Verdict]:
    """A verdict for each goal."""
    figures = Figures(results)
    return [Verdict(goal.text, tuple(goal.check(figures))) for goal in GOALS]


def _where(one: Figure) -> str:
    width = f", {one['bandwidth_mbit'] / 1000:g} Gbit/s" if one["bandwidth_mbit"] else ""
    who = "" if one["contestant"] == "synofs" else f"{one['contestant']}: "
    return f"{who}{one['step']} ({one['latency_ms']:g} ms{width})"


def _requests(one: Figure) -> int:
    return int(sum(one["requests"].values()))


def _as_fast(one: Figure, other: Figure | None, times: float) -> Iterator[Found]:
    """`other` takes at least `times` as long."""
    if other is not None:
        ratio = other["seconds"] / one["seconds"]
        took = f"{one['seconds']:.3g} s, {other['contestant']} {other['seconds']:.3g} s"
        yield Found(f"{_where(one)}: {ratio:.3g} x ({took})", ratio >= times)


def _within(one: Figure, seconds: float) -> Found:
    return Found(f"{_where(one)}: {one['seconds']:.3g} s", one["seconds"] <= seconds)


# ----- walks and listings -----------------------------------------------------------------------------------------


def _walk_beside_defaults(figures: Figures) -> Iterator[Found]:
    for one in figures.far("walk", "cold"):
        for peer in DEFAULT_PEERS:
            yield from _as_fast(one, figures.other(one, peer), 4)


def _walk_beside_a_crawl(figures: Figures) -> Iterator[Found]:
    for one in figures.far("walk", "cold", "synofs-16"):
        yield from _as_fast(one, figures.other(one, "rclone-tuned"), 1)


def _walk_beside_the_limit(figures: Figures) -> Iterator[Found]:
    for one in figures.far("walk", "cold", "synofs", "synofs-16"):
        limit = one["folders"] * one["latency_ms"] / 1000 / MAX_REQUESTS[one["contestant"]]
        if limit and one["folders"] >= WALKED_FOLDERS:
            text = f"{_where(one)}: {one['seconds'] / limit:.2g} x ({one['seconds']:.3g} s, {limit:.3g} s)"
            yield Found(text, one["seconds"] <= 2 * limit)


def _one_listing(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("ls", ""):
        yield Found(f"{one['listings']} list calls", one["listings"] <= 2)


def _list_calls(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("walk", "cold"):
        if one["listings"]:
            text = f"{_where(one)}: {one['listings']} for {one['folders']}"
            yield Found(text, one["listings"] <= one["folders"] + 2)


def _first_entry(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("folder", "^first of 100,000"):
        page = figures.other(one, "one page")
        if page is not None:
            times = one["seconds"] / page["seconds"]
            text = f"{_where(one)}: {times:.2g} pages ({one['seconds']:.3g} s, one page {page['seconds']:.3g} s)"
            yield Found(text, times <= 2)


def _big_folder_again(figures: Figures) -> Iterator[Found]:
    return (_within(one, 0.25) for one in figures.steps("folder", "^ls -f of 100,000"))


def _big_folder_memory(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("folder", "^all 100,000"):
        if one["memory_bytes"] is not None:
            text = f"{_where(one)}: {one['memory_bytes'] / 1e6:.0f} MB"
            yield Found(text, one["memory_bytes"] <= 100e6)


def _half_folder_again(figures: Figures) -> Iterator[Found]:
    """A folder twice as big, if only that was measured: it proves the goal, but cannot prove that it is missed."""
    exact = list(figures.steps("folder-half", "^ls -l of 50,000"))
    for one in exact or figures.steps("folder", "^ls -l of 100,000"):
        if exact or one["seconds"] <= 0.6:
            yield _within(one, 0.6)


def _warm_requests(figures: Figures) -> Iterator[Found]:
    for one in (*figures.steps("walk", "again"), *figures.steps("folder", "again"), *_git_again(figures)):
        yield Found(f"{_where(one)}: {_requests(one)}", not one["requests"])


def _warm_beside_peers(figures: Figures) -> Iterator[Found]:
    for one in (*figures.steps("walk", "again"), *figures.steps("folder", "^ls -l .*again"), *_git_again(figures)):
        yield from _as_fast(one, figures.best(one, *PEERS), 1)


def _git_again(figures: Figures) -> Iterator[Figure]:
    return figures.steps("source", "git status, again")


def _revalidation(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("revalidate", "after the TTL"):
        cold = figures.other(one, "synofs", one["step"].replace("after the TTL", "cold"))
        if cold is not None:
            text = f"{_where(one)}: {_requests(one)} requests, {_requests(cold)} when new"
            yield Found(text, _requests(one) < _requests(cold))


# ----- big files --------------------------------------------------------------------------------------------------


def _read_beside_curl(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("read", "MiB"):
        yield from _of_curl(one, figures.other(one, "curl"), 0.99)


def _write_beside_curl(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("write", "^512 MiB, on the server"):
        yield from _of_curl(one, figures.other(one, "curl"), 0.95)


def _of_curl(one: Figure, curl: Figure | None, share: float) -> Iterator[Found]:
    if curl is not None:
        ratio = curl["seconds"] / one["seconds"]
        text = f"{_where(one)}: {ratio:.1%} ({one['seconds']:.3g} s, curl {curl['seconds']:.3g} s)"
        yield Found(text.replace("%", " %"), ratio >= share)


def _read_without_latency(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("read", "^[0-9]+ MiB"):
        if not one["latency_ms"]:
            yield from _as_fast(one, figures.best(one, "rclone", "rclone-tuned"), 1.2)


def _write_beside_sshfs(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("write", "^512 MiB, on the server"):
        yield from _as_fast(one, figures.other(one, "sshfs"), 1)


def _random_beside_one_request(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("random", "^4 KiB"):
        yield from _as_fast(one, figures.other(one, "one request"), 1 / 1.2)


def _random_bytes(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("random", "^4 KiB, one of 200"):
        yield Found(f"{_where(one)}: {one['bytes_down'] / 1e6:.1f} MB", one["bytes_down"] <= 10e6)


# ----- small files ------------------------------------------------------------------------------------------------


def _small_out(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("copy-out", "files out"):
        yield from _as_fast(one, figures.best(one, *PEERS), 4)


def _small_in_returns(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("copy-in", "cp returns", "synofs-wb"):
        yield from _as_fast(one, figures.other(one, "rclone"), 1)


def _small_in_durable(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("copy-in", "on the server", "synofs-wb"):
        yield from _as_fast(one, figures.other(one, "rclone"), 4)


def _small_in_beside_tuned(figures: Figures) -> Iterator[Found]:
    for one in figures.typical("copy-in", "on the server", "synofs-wb-16"):
        yield from _as_fast(one, figures.other(one, "rclone-tuned"), 1)


def _small_in_requests(figures: Figures) -> Iterator[Found]:
    """A handful more is what the mount asks whatever is copied."""
    for one in figures.steps("copy-in", "on the server", "synofs-wb", "synofs-wb-16"):
        files = int(re.findall(r"of (\d+) files", one["step"])[0])
        yield Found(f"{_where(one)}: {_requests(one)} for {files} files", files <= _requests(one) <= files + 8)


# ----- this machine -----------------------------------------------------------------------------------------------


def _cached_read(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("disk-cache", "cached"):
        yield from _as_fast(one, figures.best(one, "rclone", "rclone-tuned"), 1)


def _cached_bytes(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("disk-cache", "cached"):
        yield Found(f"{_where(one)}: {one['bytes_down'] / 1e6:.1f} MB", one["bytes_down"] < 1e6)


def _ready(figures: Figures) -> Iterator[Found]:
    return (_within(one, 1) for one in figures.steps("ready", "mounted with 500,000"))


def _processor_time(figures: Figures) -> Iterator[Found]:
    for one in figures.steps("read", "^[0-9]+ MiB"):
        yield Found(f"{one['cpu_seconds'] / one['payload_bytes'] * 2**30:.2f} s per GiB of {_where(one)}", True)
    for one in figures.steps("folder", "^all "):
        entries = int(re.findall(r"[\d,]+", one["step"])[0].replace(",", ""))
        yield Found(f"{one['cpu_seconds'] / entries * 10_000:.3f} s per 10,000 of {_where(one)}", True)


def _load(figures: Figures) -> Iterator[Found]:
    """The most that any workload had under way, for each limit."""
    for name, limit in MAX_REQUESTS.items():
        peak = max((one["peak_requests"] for one in figures.by(name)), default=0)
        if peak:
            yield Found(f"{name}: {peak} of {limit}", peak <= limit)


GOALS = (
    Goal("cold `find`, `ls -lR`: at least 4 x as fast as the defaults of rclone and of sshfs", _walk_beside_defaults),
    Goal("the same with 16 requests at once: no slower than rclone's pre-crawl", _walk_beside_a_crawl),
    Goal("the same: within 2 x of folders x latency / requests at once", _walk_beside_the_limit),
    Goal("one `ls` causes no crawl: at most 2 list calls", _one_listing),
    Goal("list calls of a walk: at most folders + 2", _list_calls),
    Goal("100,000 entries: the first within the time of 2 pages", _first_entry),
    Goal("100,000 entries: `ls -f`, warm, at most 0.25 s", _big_folder_again),
    Goal("100,000 entries: at most 100 MB of memory", _big_folder_memory),
    Goal("50,000 entries: `ls -l`, warm, at most 0.6 s", _half_folder_again),
    Goal("sequential read, 1 Gbit/s, 20 ms: at least 99 % of curl", _read_beside_curl),
    Goal("sequential read, no latency, no limit: at least 1.2 x rclone", _read_without_latency),
    Goal("sequential write of 512 MiB, durable, 1 Gbit/s, 20 ms: at least 95 % of curl's upload", _write_beside_curl),
    Goal("the same: faster than sshfs", _write_beside_sshfs),
    Goal("random 4 KiB, cold, 20 ms: at most 1.2 x one ranged request", _random_beside_one_request),
    Goal("200 of them (0.8 MB): at most 10 MB moved", _random_bytes),
    Goal("small files out, 20 ms: at least 4 x as fast as the best peer", _small_out),
    Goal("small files in, 20 ms, writeback: `cp` returns as soon as with rclone's defaults", _small_in_returns),
    Goal("the same, durable: at least 4 x as fast as rclone's defaults", _small_in_durable),
    Goal("the same, 16 at once: no slower than rclone, tuned", _small_in_beside_tuned),
    Goal("the same: 1 request for each file", _small_in_requests),
    Goal("warm `find`, `ls`, `git status`: 0 requests", _warm_requests),
    Goal("the same: at least as fast as the best peer", _warm_beside_peers),
    Goal("`rsync -an`, `git status` after the TTL: fewer requests than when new", _revalidation),
    Goal("disk cache, after a remount: at least as fast as rclone's", _cached_read),
    Goal("the same: nothing over the line", _cached_bytes),
    Goal("a mount is ready in less than 1 s with 500,000 files in its cache", _ready),
    Goal("processor time is measured", _processor_time),
    Goal("never more requests at once than `--max-requests`", _load),
)
