"""`scripts/bench [NAME ...]`, or `python -m tests.benchmarks`: measures, prints tables, writes JSON, draws charts.

Contestants take turns (A B C, C B A, ...), so that a machine that is busy for a while is busy for all of them. The
time that is printed is the median of the turns.
"""

from __future__ import annotations

import argparse
import compileall
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from tests.benchmarks import charts, markdown, report, sittings
from tests.benchmarks.datasets import Data
from tests.benchmarks.goals import TYPICAL_LATENCY_MS, judge
from tests.benchmarks.long import LONG
from tests.benchmarks.mounts import CONTESTANTS
from tests.benchmarks.processes import BenchmarkFailed, drop_page_cache
from tests.benchmarks.servers import REPOSITORY, SERVERS, Server
from tests.benchmarks.stage import Line, Results, Stage
from tests.benchmarks.workloads import WORKLOADS, Workload

LONG_TURN_SECONDS = 10.0
LAPS = f"default: 1 to 3, and 1 for whom one takes more than {LONG_TURN_SECONDS:.0f} s"
FREE_BYTES_WANTED = {False: 3 << 30, True: 8 << 30}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    given = parser.parse_args(arguments)
    given.harnesses = [name for name in given.names if given.long and name in LONG]
    given.names = [name for name in given.names if name not in given.harnesses]
    unknown = [name for name in given.names if name not in WORKLOADS]
    if unknown:
        known = ", ".join([*WORKLOADS, *(LONG if given.long else ())])
        parser.error(f"no workload is called {unknown[0]!r}; there are: {known}")
    everybody = [*CONTESTANTS, *(one.limit.name for one in WORKLOADS.values() if one.limit)]
    strangers = [name for name in (given.only or "").split(",") if name and name not in everybody]
    if strangers:
        parser.error(f"nobody is called {strangers[0]!r}; there are: {', '.join(CONTESTANTS)}")
    if given.harnesses and not given.names:
        return 0 if all([LONG[name][1](given.minutes) for name in given.harnesses]) else 1
    if given.add and not given.json:
        parser.error("--add says to add to the figures of --json FILE; which file?")
    try:
        if given.charts_from:
            for path in charts.draw(sittings.load(given.charts_from), given.charts or REPOSITORY / "docs/charts"):
                print(path)
            return 0
        if given.tables_from:
            print(markdown.document(sittings.load(given.tables_from)), end="")
            return 0
        before = sittings.load(given.json) if given.add and given.json.exists() else None
    except (OSError, ValueError) as failure:
        parser.error(str(failure))
    signal.signal(signal.SIGTERM, _end_in_order)
    compileall.compile_dir(REPOSITORY / "synofs", quiet=1)  # as an installation does
    bench = Bench(given, before)
    try:
        bench.run()
    except KeyboardInterrupt:
        bench.store()
        print("interrupted" + (f"; {given.json} has what was done" if given.json else ""), file=sys.stderr)
        return 130
    finally:
        bench.close()
    return bench.finish()


def _parser() -> argparse.ArgumentParser:
    names = "\n".join(f"  {workload.name:<12} {workload.about}" for workload in WORKLOADS.values())
    harnesses = "\n".join(f"  {name:<12} {about}" for name, (about, _) in LONG.items())
    who = "\n".join(f"  {contestant.name:<12} {contestant.about}" for contestant in CONTESTANTS.values())
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measure synofs, and its peers with the same work.",
        epilog=f"workloads:\n{names}\n\ncontestants:\n{who}\n\nharnesses, with --long:\n{harnesses}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="workloads, or harnesses (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures, after each workload")
    parser.add_argument(
        "--add",
        action="store_true",
        help="keep what FILE has of other workloads and latencies: measure in several sittings",
    )
    parser.add_argument("--peers", action="store_true", help="the same for rclone mount and sshfs")
    parser.add_argument("--only", metavar="CONTESTANT[,...]", help="these contestants alone")
    parser.add_argument("--full", action="store_true", help="the sizes of the goals (quick ones are a tenth)")
    parser.add_argument("--long", action="store_true", help="full, with seven turns each, and the harnesses below")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="for each harness that runs for a time (default: 60; soak: 180)"
    )
    parser.add_argument("--laps", type=int, metavar="N", help=f"turns of each contestant ({LAPS})")
    parser.add_argument("--latency", type=float, nargs="+", metavar="MS", help="round trips (default: 0 20 50)")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw charts (SVG) into it")
    parser.add_argument("--charts-from", type=Path, metavar="JSON", help="draw charts of an earlier run, and no more")
    parser.add_argument(
        "--tables-from", type=Path, metavar="JSON", help="print the tables of an earlier run as Markdown"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="where what is served lies (default: in memory)")
    return parser


def _end_in_order(*_: object) -> NoReturn:
    raise KeyboardInterrupt


class Bench:
    def __init__(self, given: argparse.Namespace, before: sittings.Report | None) -> None:
        """`before`: figures of earlier sittings that are kept, unless they are measured again."""
        self.given = given
        self._before = before
        self._date = time.strftime("%Y-%m-%d")
        self._measured: list[sittings.Pair] = []
        self.full: bool = given.full or given.long
        self.results = Results()
        self._started = time.monotonic()
        self._folders: list[Path] = []
        self.work = self._folder(None)
        self.data = Data(self._folder(given.data or _memory(FREE_BYTES_WANTED[self.full])) / "served")
        self._servers: dict[str, Server] = {}

    def _folder(self, below: Path | None) -> Path:
        folder = Path(tempfile.mkdtemp(prefix="synofs-bench-", dir=below)).resolve()
        self._folders.append(folder)
        return folder

    def run(self) -> None:
        if not drop_page_cache():
            print("Not root: the page cache is not dropped, so what is on this disk may be read from memory.")
        chosen = [WORKLOADS[name] for name in self.given.names] or list(WORKLOADS.values())
        for workload in chosen:
            for line in workload.lines(self.given.latency):
                self._measure(workload, line)
            print(report.table(self.results, workload.name), end="\n\n", flush=True)
        if self.given.long:
            self._long_tests()

    def _measure(self, workload: Workload, line: Line) -> None:
        names = [*self._contestants(workload), *([workload.limit.name] if workload.limit else [])]
        laps = self.given.laps or (7 if self.given.long else workload.laps)
        if not (self.given.laps or self.full or self.given.peers or line.latency_ms == TYPICAL_LATENCY_MS):
            laps = 1  # the quick run tells most where most networks are
        is_bounded = not (self.given.laps or self.given.long)
        pair = (workload.name, line.latency_ms)
        slow: set[str] = set()
        for lap in range(laps):
            for name in names if lap % 2 == 0 else reversed(names):
                if name in slow:
                    continue
                say(f"{workload.name}, {line}, {lap + 1}/{laps}: {name}")
                try:
                    busy_seconds = self._once(workload, line, name)
                    if is_bounded and busy_seconds > LONG_TURN_SECONDS:
                        slow.add(name)
                except (BenchmarkFailed, OSError, subprocess.SubprocessError, ValueError) as failure:
                    say(f"  {name} failed: {failure}")
                    self.results.failed(workload.name, line, name, str(failure))
            if pair not in self._measured:
                self._measured.append(pair)  # once everybody had a turn: what is half done compares nothing
        self.store()
        say("")

    def _contestants(self, workload: Workload) -> list[str]:
        if self.given.only:
            return [name for name in self.given.only.split(",") if name in workload.contestants]
        return [name for name in workload.contestants if self.given.peers or name.startswith("synofs")]

    def _once(self, workload: Workload, line: Line, name: str) -> float:
        """Seconds of work."""
        contestant = CONTESTANTS.get(name)
        server = self._server(contestant.server_kind if contestant else "nas")
        server.line.set(line.latency_ms, line.bandwidth_mbit)
        stage = Stage(workload.name, contestant, name, server, self.data, line, self.work, self.results, full=self.full)
        try:
            if contestant is None:
                assert workload.limit is not None
                workload.limit.run(stage)
            else:
                workload.run(stage)
            return stage.busy_seconds()
        finally:
            shutil.rmtree(stage.work, ignore_errors=True)

    def _server(self, kind: str) -> Server:
        if kind not in self._servers:
            server = SERVERS[kind](self.data.root, self.work / kind)
            server.start()
            self._servers[kind] = server
        return self._servers[kind]

    def _long_tests(self) -> None:
        for name in self.given.harnesses or ([] if self.given.names else LONG):
            if not LONG[name][1](self.given.minutes):
                self.results.failed(name, Line(), "synofs", "the harness found what it should not, see above")
                self._measured.append((name, 0))

    def close(self) -> None:
        for server in self._servers.values():
            server.stop()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self) -> int:
        failed = list(report.failures(self.results))
        if failed:
            print("## Failed", *failed, sep="\n", end="\n\n")
        told = self.store()
        verdicts = [one for one in judge(told["results"]) if one.found]
        if verdicts:
            print("## Goals", report.goals_text(verdicts), sep="\n", end="\n\n")
        part = self._part()
        print(f"{part['command']}: {part['machine']}, {part['minutes']} minutes")
        if self.given.charts:
            charts.draw(told, self.given.charts)
        return 1 if failed else 0

    def store(self) -> sittings.Report:
        """What was measured up to now, to the file, if one was asked for."""
        results = [series.as_json() for series in self.results.series.values()]
        told = sittings.report(self._part(), self._measured, results)
        if self._before is not None:
            told = sittings.merged(self._before, told)
        if self.given.json and self._measured:
            sittings.store(self.given.json, told)
        return told

    def _part(self) -> dict[str, Any]:
        return {
            "command": shlex.join(["scripts/bench", *sys.argv[1:]]),
            "machine": machine(),
            "date": self._date,
            "minutes": round((time.monotonic() - self._started) / 60, 1),
        }


def machine() -> str:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    kernel = ".".join(platform.release().split("-")[0].split(".")[:2])
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {memory:.0f} GiB, Linux {kernel} {platform.machine()}, Python {platform.python_version()}"


def _memory(bytes_wanted: int) -> Path | None:
    """A filesystem in memory with that much room: a disk's speed is nobody's merit here."""
    shm = Path("/dev/shm")
    if os.access(shm, os.W_OK) and shutil.disk_usage(shm).free >= bytes_wanted:
        return shm
    return None


def say(text: str) -> None:
    """Progress, for people alone."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
