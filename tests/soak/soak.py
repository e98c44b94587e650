"""The soak: 16 programs work on one mount, and everything goes wrong around them.

Faults strike, sessions expire, the NAS restarts, the local disk fills up, the mount is killed and mounted again, in
both write modes. When the programs have stopped, and all is flushed: what was acknowledged is on the NAS and nothing
else, and the mount holds no more inodes, handles, threads, descriptors, connections and sessions than at the start.

`python -m tests.soak.soak --minutes N` runs it alone and prints the numbers. As root, the cache folder is a disk of its
own, which fills up; otherwise that part is left out.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from synofs.app.errors import Failure
from tests.model.live import LiveMount, tree_of
from tests.mount.harness import Nas, simulated_nas, wait_until
from tests.soak.worker import content, fits, told

PROCESSES = 16
DISK_MEGABYTES = 1600  # of the cache folder: the floor of the block cache is 1 GiB
CACHE = "64M"
MODES = ("writeback", "durable")
CALM_SECONDS = 90.0  # for threads, connections and inodes to go, once nobody needs them

# Most calls succeed: what is tried again for ever is to come through in the end.
FAULTS = (
    {"kind": "drop", "probability": 0.03},
    {"kind": "drop", "probability": 0.03, "when": "request", "after_bytes": 1000, "method": "upload"},
    {"kind": "drop", "probability": 0.05, "after_bytes": 3000, "method": "download", "reset": True},
    {"kind": "error", "probability": 0.05, "code": 402, "method": "upload"},
    {"kind": "error", "probability": 0.03, "code": 119},
    {"kind": "status", "probability": 0.03, "status": 502},
    {"kind": "status", "probability": 0.02, "status": 502, "when": "after"},
    {"kind": "delay", "probability": 0.10, "seconds": 0.5},
    {"kind": "truncate", "probability": 0.05, "bytes": 700, "method": "download"},
)


@dataclass(frozen=True)
class Rhythm:
    """Seconds between two events of a kind."""

    session: float = 30.0
    faults: float = 20.0
    restart: float = 120.0
    full_disk: float = 180.0
    remount: float = 300.0


MOST_CONNECTIONS = 8  # the pool keeps idle ones: --max-requests, and two more
STORY_LINES = 60
SHORTEST_LIFE_SECONDS = 120.0  # to judge its memory by
TROUBLE = ("session expired", "faults changed", "NAS restarted", "disk full", "remounted")

SHORT = Rhythm(session=5.0, faults=4.0, restart=16.0, full_disk=19.0, remount=14.0)


@dataclass
class Tally:
    steps: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    acknowledged_bytes: int = 0
    files: int = 0
    doubtful: int = 0
    kept: int = 0  # in the recovery folder, of these
    longest: tuple[float, str] = (0.0, "")
    lost: list[str] = field(default_factory=list)
    stories: list[str] = field(default_factory=list)  # of what was lost, and of what leaked
    leaked: list[str] = field(default_factory=list)
    slopes: list[float] = field(default_factory=list)  # KiB per minute, of each life of the mount
    peak_rss_kib: int = 0
    memory: str = ""
    held_first: dict[str, int] = field(default_factory=dict)
    held_last: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        def told(counts: Counter[str]) -> str:
            return ", ".join(f"{name} {count}" for name, count in counts.most_common())

        slopes = ", ".join(f"{slope:+.0f}" for slope in self.slopes) or "lives too short"
        held = ", ".join(f"{name} {count} ({self.held_first[name]})" for name, count in self.held_last.items())
        return (
            f"{sum(self.steps.values())} steps of {PROCESSES} processes ({told(self.steps)}); "
            f"{self.acknowledged_bytes / 2**20:.0f} MiB acknowledged\n"
            f"events: {told(self.events)}\nerrors that programs saw: {told(self.errors)}\n"
            f"longest step: {self.longest[0]:.1f} s ({self.longest[1]})\n"
            f"files at the end: {self.files}, and {self.doubtful} whose last call had failed "
            f"({self.kept} in the recovery folder)\n"
            f"RSS: {self.peak_rss_kib / 1024:.0f} MiB at most; at five moments of each life, in MiB (of that, what was "
            f"read): {self.memory}; slope of the rest, in KiB/min: {slopes}\n"
            f"held when all was removed (and at the start): {held}\n"
            f"{len(self.lost)} lost or wrong, {len(self.leaked)} leaks"
        )


class Watch(threading.Thread):
    """Samples the daemon's memory every two seconds, and how much of it is the cache of what was read: that one fills
    up to its bound, and is no leak."""

    def __init__(self, mount: LiveMount) -> None:
        super().__init__(daemon=True)
        self._mount = mount
        self._end = threading.Event()
        self.lives: dict[int, list[tuple[float, int, int]]] = {}  # pid -> (seconds, KiB, KiB of the cache)

    def run(self) -> None:
        while not self._end.wait(2.0):
            pid = self._mount.pid
            if pid is None:
                continue
            try:
                cached = self._mount.status()["filesystem"]["memory_cache_bytes"] // 1024
                self.lives.setdefault(pid, []).append((time.monotonic(), resident_kib(pid), cached))
            except (AssertionError, Failure, LookupError, OSError, StopIteration, ValueError):
                continue  # it is being mounted anew

    def stop(self) -> None:
        self._end.set()
        self.join()

    @property
    def peak_kib(self) -> int:
        return max(kib for life in self.lives.values() for _, kib, _ in life)

    def told(self) -> str:
        """Of each life that was long enough: MiB at five moments, and how much of that was the cache."""
        lives = []
        for life in self.lives.values():
            if life[-1][0] - life[0][0] >= SHORTEST_LIFE_SECONDS:
                moments = [life[(len(life) - 1) * quarter // 4] for quarter in range(5)]
                lives.append(", ".join(f"{kib // 1024} ({cached // 1024})" for _, kib, cached in moments))
        return "; ".join(lives) or "lives too short"

    def slopes(self) -> list[float]:
        """Least squares over the second half of each life that was long enough, of what is not the cache, in KiB per
        minute."""
        found = []
        for samples in self.lives.values():
            if samples[-1][0] - samples[0][0] >= SHORTEST_LIFE_SECONDS:
                half = [(seconds, kib - cached) for seconds, kib, cached in samples[len(samples) // 2 :]]
                mean_x = sum(x for x, _ in half) / len(half)
                mean_y = sum(y for _, y in half) / len(half)
                spread = sum((x - mean_x) ** 2 for x, _ in half)
                found.append(60 * sum((x - mean_x) * (y - mean_y) for x, y in half) / spread)
        return found


def resident_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])


def held(mount: LiveMount) -> dict[str, int]:
    """What a mount holds at this moment. Databases are left out: they are opened when they are first used."""
    counters = mount.status()["filesystem"]
    names = ("inodes", "open_files", "open_directories", "pending_uploads")
    kinds = Counter(kind for kind, _ in descriptors(mount))
    return {name: counters.get(name, 0) for name in names} | {
        "threads": len(os.listdir(f"/proc/{mount.pid}/task")),
        "connections": kinds["connection"],
        "other sockets": kinds["socket"],
        "files": kinds["file"],
    }


def descriptors(mount: LiveMount) -> list[tuple[str, str]]:
    """What kind each is of, and what it is."""
    tables = [Path(f"/proc/{mount.pid}/net/{name}") for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    connections = {f"socket:[{fields[9]}]" for fields in lines}
    found = []
    for link in Path(f"/proc/{mount.pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            name = os.readlink(link)
            is_socket = name.startswith("socket:")
            # One that a full disk made worthless goes on without a name until the end.
            is_database = name.removesuffix(" (deleted)").endswith((".db", ".db-wal", ".db-shm"))
            kind = ("connection" if name in connections else "socket") if is_socket else "file"
            found.append(("database" if is_database else kind, name))
    return found


def held_things(mount: LiveMount) -> list[object]:
    """Which they are: inodes with their counts, descriptors, threads."""
    inside = mount.debug()["inside"]
    threads = [path.read_text().strip() for path in Path(f"/proc/{mount.pid}/task").glob("*/comm")]
    return [
        *inside["inodes"][:10],
        *inside["calls_under_way"],
        *inside["uploads"][:10],
        {"descriptors": Counter(name for kind, name in descriptors(mount) if kind != "database")},
        {"threads": Counter(threads)},
    ]


class Disk:
    """The cache folder as a disk of its own, in memory, that can be made full; or one that `command` mounts."""

    def __init__(self, folder: Path, command: tuple[str, ...] = ()) -> None:
        options = f"size={DISK_MEGABYTES}m,mode=700"
        self._command = command or ("mount", "-t", "tmpfs", "-o", options, "soak")
        self.folder = folder
        self.is_own = os.geteuid() == 0

    def __enter__(self) -> Disk:
        if self.is_own:
            subprocess.run([*self._command, str(self.folder)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_own:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self) -> None:
        """Nothing more fits."""
        for attempt in range(50):  # it cannot shrink below what is written at the same time
            found = os.statvfs(self.folder)
            used_kib = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
            with contextlib.suppress(subprocess.CalledProcessError):
                self._resize(f"{used_kib + 4 + 64 * attempt}k")
                return

    def empty(self) -> None:
        self._resize(f"{DISK_MEGABYTES}m")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True, stderr=subprocess.DEVNULL)


class Soak:
    def __init__(self, folder: Path, nas: Nas, served: Path, seed: int, rhythm: Rhythm, trouble: Sequence[str]) -> None:
        self.nas = nas
        self.served = served
        self.rng = random.Random(seed)
        self.rhythm = rhythm
        self.trouble = trouble
        self.tally = Tally()
        self.epoch_file = folder / "epoch"
        self.epoch = 0
        self.mount = LiveMount(nas, folder / "client")
        self.seed = seed
        self.lives = 0
        self.happened: deque[tuple[float, str]] = deque(maxlen=20_000)

    def run(self, seconds: float) -> Tally:
        try:
            with Disk(self.mount.cache) as disk:
                try:
                    self._run(seconds, disk)
                finally:
                    self.mount.clean_up()
        finally:
            self._end_faults()
        return self.tally

    def _run(self, seconds: float, disk: Disk) -> None:
        self._start()
        os.listdir(self.mount.root)
        before = held(self.mount)
        watch = Watch(self.mount)
        watch.start()
        with self._workers() as workers:
            self._trouble(seconds, disk, workers)
            self._calm(disk)
            reports = [self._report(worker) for worker in workers]
        with contextlib.suppress(AssertionError):  # what has failed is told below
            self.mount.flush(300)
        self._compare(reports)
        watch.stop()
        self.tally.slopes, self.tally.peak_rss_kib, self.tally.memory = watch.slopes(), watch.peak_kib, watch.told()
        self._judge_unsent(reports)
        self._look_for_leaks(before)
        self._end_of_session()

    # ----- the mount, and what happens to it --------------------------------------------------------------------

    def _start(self) -> None:
        mode = MODES[self.lives % len(MODES)]
        self.lives += 1
        self.mount.options = ("--write-mode", mode, "--cache-size", CACHE, "--dir-ttl", "5", "--attr-ttl", "5")
        self._tell(f"to be mounted, {mode}")
        self.mount.start()
        self._tell("mounted")
        self._set_epoch(self.epoch + self.epoch % 2)

    def _tell(self, what: str) -> None:
        self.happened.append((time.time(), what))

    def _set_epoch(self, number: int) -> None:
        """Even while it is mounted; programs compare it."""
        self.epoch = number
        new = self.epoch_file.with_suffix(".new")
        new.write_text(str(number))
        new.replace(self.epoch_file)

    def _trouble(self, seconds: float, disk: Disk, workers: list[subprocess.Popen[str]]) -> None:
        rhythm = self.rhythm
        events = {
            "session expired": (rhythm.session, self._expire),
            "faults changed": (rhythm.faults, self._change_faults),
            "NAS restarted": (rhythm.restart, self._restart),
            "remounted": (rhythm.remount, self._remount),
        }
        if disk.is_own:
            events["disk full"] = (rhythm.full_disk, lambda: self._fill(disk))
        now = time.monotonic()
        end = now + seconds
        events = {name: event for name, event in events.items() if name in self.trouble}
        due = {name: now + pause * self.rng.uniform(0.5, 1.0) for name, (pause, _) in events.items()}
        while (now := time.monotonic()) < end:
            for name, (pause, act) in events.items():
                if now >= due[name]:
                    self._tell(name)
                    act()
                    self.tally.events[name] += 1
                    due[name] = time.monotonic() + pause * self.rng.uniform(0.8, 1.2)
            dead = [worker for worker in workers if worker.poll() is not None]
            assert not dead, f"a program ended with {dead[0].returncode}: {dead[0].stderr and dead[0].stderr.read()}"
            time.sleep(0.1)

    def _expire(self) -> None:
        with contextlib.suppress(OSError):  # while it restarts
            self.nas.fault("expire_sids")

    def _restart(self) -> None:
        with contextlib.suppress(OSError):
            self.nas.fault("restart", seconds=self.rng.uniform(0.0, 3.0))

    def _change_faults(self) -> None:
        with contextlib.suppress(OSError):  # while it restarts
            self.nas.clear_faults()
            for fault in self.rng.sample(FAULTS, 2):
                self._tell(f"fault: {fault}")
                self.nas.fault(seed=self.rng.randrange(1000), **fault)

    def _fill(self, disk: Disk) -> None:
        disk.fill()
        time.sleep(2.0)
        disk.empty()
        self._tell("there is room again")

    def _remount(self) -> None:
        """By a crash, or in order while everybody goes on working."""
        self._set_epoch(self.epoch + 1)
        if self.rng.random() < 0.5:
            self.tally.events["of these, killed"] += 1
            self._tell("killed")
            self.mount.kill()
        else:
            self.mount.stop()
        self._end_faults()
        self._start()

    def _end_faults(self) -> None:
        def done() -> bool:
            try:
                self.nas.clear_faults()
            except OSError:  # it restarts
                return False
            return True

        wait_until(done, 20, "the NAS's restart")

    def _calm(self, disk: Disk) -> None:
        self._end_faults()
        if disk.is_own:
            disk.empty()

    # ----- programs ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _workers(self) -> Iterator[list[subprocess.Popen[str]]]:
        program = str(Path(__file__).with_name("worker.py"))
        workers = []
        try:
            for number in range(PROCESSES):
                folder = self.mount.root / f"w{number}"
                folder.mkdir()
                command = [sys.executable, "-I", "-S", program, str(folder), f"{self.seed}-{number}"]
                pipe = subprocess.PIPE
                workers.append(
                    subprocess.Popen([*command, str(self.epoch_file)], stdin=pipe, stdout=pipe, stderr=pipe, text=True)
                )
            yield workers
        finally:
            for worker in workers:
                if worker.poll() is None:
                    worker.kill()
                worker.communicate()

    def _report(self, worker: subprocess.Popen[str]) -> dict:
        said, complaints = worker.communicate(timeout=120)
        assert worker.returncode == 0, f"a program ended with {worker.returncode}: {complaints}"
        return json.loads(said)

    # ----- what is left -----------------------------------------------------------------------------------------

    def _compare(self, reports: list[dict]) -> None:
        tally = self.tally
        on_the_nas = tree_of(self.served)
        self.mount.refresh()
        for report in reports:
            tally.steps.update(report["done"])
            tally.errors.update(report["errors"])
            tally.acknowledged_bytes += report["bytes_acknowledged"]
            tally.files += len(report["files"])
            tally.doubtful += len(report["doubtful"])
            tally.longest = max(tally.longest, (report["longest_seconds"], report["longest_step"]))
            who = Path(report["folder"]).name
            for text, names in report["wrong"]:
                self._lose(f"{who}: {text}", report, names)
            found = {
                os.path.relpath(name, who): data for name, data in on_the_nas.items() if name.startswith(f"{who}/")
            }
            for name, text in self._differences(report, found):
                self._lose(f"{who}/{name}: {text}", report, [name])
            for name, segments in report["files"].items():
                if (self.mount.root / who / name).read_bytes() != content(segments):
                    self._lose(f"{who}/{name}: the mount shows something else than the NAS has", report, [name])

    def _lose(self, text: str, report: dict, names: list[str]) -> None:
        self.tally.lost.append(text)
        self.tally.stories.append("\n".join([text, *self._story(report, names)]))

    def _story(self, report: dict, names: list[str]) -> list[str]:
        """What the program did with these names, what the NAS was asked about them, and what happened around it."""
        who = Path(report["folder"]).name
        names = _had_before([_without_conflict(name) for name in names], report["history"])
        lines = [
            (when, f"{who}: {what}")
            for when, what, concerned in report["history"]
            if any(_concerns(one, other) for one in concerned for other in names)
        ]
        for name in {os.path.basename(name) for name in names}:
            lines += [
                (when, f"NAS: {_shorter(what, f'/{who}/', name)}")
                for when, what in self.nas.last_calls(name)
                if f"/{who}/" in what and re.search(rf"\b{name}\b", what)
            ]
        if lines:
            first, last = min(lines)[0] - 1, max(lines)[0] + 1
            lines += [(when, f"- {what}") for when, what in self.happened if first < when < last]
        told = [f"      {time.strftime('%H:%M:%S', time.localtime(when))}.{when % 1 * 1000:03.0f} {what}"
                for when, what in sorted(lines)[-STORY_LINES:]]  # fmt: skip
        bases = {os.path.basename(name) for name in names}
        logged = [
            line for line in self.mount.log.splitlines() if f"/{who}/" in line and bases & set(_WORD.findall(line))
        ]
        return [*told, *(f"      the mount's log: {line}" for line in logged[-STORY_LINES:])]

    def _differences(self, report: dict, found: dict[str, bytes | None]) -> Iterator[tuple[str, str]]:
        files, doubtful = report["files"], report["doubtful"]
        for name, segments in files.items():
            if name not in found:
                yield name, "acknowledged, and not there"
            elif found[name] != content(segments):
                yield name, f"other content than acknowledged: {told(found[name])}, not {segments}"
        for name, doubt in doubtful.items():
            if not fits(found.get(name), doubt):
                possible = doubt["between"] or doubt["mixed"]
                yield name, f"{doubt['why']}; then {told(found.get(name))}, in none of the states {possible}"
        for old, new in report["moved"]:
            if found.get(old) is None and found.get(new) is None:
                yield old, f"neither under its name nor under {new} after a rename that failed"
        for name, data in found.items():
            if data is not None and name not in files and name not in doubtful:
                yield name, f"removed or never made, and there: {told(data)}"

    def _judge_unsent(self, reports: list[dict]) -> None:
        """All is sent. An edit may be kept in the recovery folder if its program was told of a failure: after an
        unlink whose answer was lost, the rest of the file is gone from the NAS."""
        told = {
            f"/{self.mount.share}/{Path(report['folder']).name}/{name}"
            for report in reports
            for name in report["doubtful"]
        }
        for upload in self.mount.status()["troubled_uploads"]:
            if "kept_as" in upload and upload["path"] in told and "removed on the NAS" in upload["why"]:
                self.tally.kept += 1
            else:
                self.tally.lost.append(f"{upload['path']}: not sent, {upload['why']}")
        if pending := self.mount.status()["pending_uploads"]:
            self.tally.lost.append(f"{pending} files were not sent")

    def _look_for_leaks(self, before: dict[str, int]) -> None:
        """Everything is removed through the mount; when the kernel has forgotten it, all is as it was."""
        for name in os.listdir(self.mount.root):
            shutil.rmtree(self.mount.root / name)
        with contextlib.suppress(AssertionError):  # it tells of what was refused before, too
            self.mount.flush()
        allowed = before | {
            "threads": before["threads"] + 3,  # kept for a while for the next call, and looking takes some
            "connections": MOST_CONNECTIONS,
        }

        def more() -> dict[str, int]:
            drop_caches()
            os.listdir(self.mount.root)
            now = held(self.mount)
            return {name: count for name, count in now.items() if count > allowed[name]}

        end = time.monotonic() + CALM_SECONDS
        while (left := more()) and time.monotonic() < end:
            time.sleep(1.0)
        self.tally.held_first, self.tally.held_last = before, held(self.mount)
        self.tally.leaked += [f"{name}: {count}, {before[name]} at the start" for name, count in left.items()]
        if left:
            self.tally.stories += [f"left over: {json.dumps(one)}" for one in held_things(self.mount)]
        if names := tree_of(self.served):
            self.tally.leaked.append(f"left on the NAS after everything was removed: {sorted(names)[:5]}")

    def _end_of_session(self) -> None:
        """Sessions of killed daemons are ended by the NAS; those of the living by themselves."""
        self.nas.fault("expire_sids")
        os.listdir(self.mount.root)
        self.mount.refresh()
        os.listdir(self.mount.root)
        while_mounted = self.nas.stats["sessions"]
        self.mount.stop()
        with contextlib.suppress(AssertionError):
            wait_until(lambda: self.nas.stats["sessions"] == 0, 15)
        after = self.nas.stats["sessions"]
        if while_mounted > 1 or after:
            self.tally.leaked.append(f"sessions on the NAS: {while_mounted} while mounted, {after} afterwards")
        hidden = [path.name for path in self.served.rglob(".synofs-*")]
        if hidden:
            self.tally.leaked.append(f"hidden names left on the NAS: {hidden[:5]}")


_WORD = re.compile(r"\w+")
_CONFLICT = re.compile(r" \(conflict [^)]*\)")


def _without_conflict(name: str) -> str:
    """The name that a conflict copy was to have: what happened, happened to that one."""
    return _CONFLICT.sub("", name)


def _had_before(names: list[str], history: list) -> list[str]:
    """And the names that the same file had before it was renamed."""
    found = {os.path.basename(name) for name in names}
    for _, what, concerned in reversed(history):
        if what.startswith("rename") and found & {os.path.basename(name) for name in concerned[1:]}:
            found.add(os.path.basename(concerned[0]))
    return [*names, *found]


def _concerns(one: str, other: str) -> bool:
    """The same name, wherever it is (a rename may leave it in its old folder for a while), or the folder of it."""
    return os.path.basename(one) == os.path.basename(other) or one == os.path.dirname(other)


def _shorter(text: str, *parts: str) -> str:
    """A call about many paths, cut down to what counts."""
    first, *others = text.replace(",", "\n").split("\n")
    kept = [part for part in others if part.endswith(" ms") or all(one in part for one in parts)]
    return "; ".join([first[:200], *kept])


def drop_caches() -> None:
    """Have the kernel forget names and inodes that nobody uses. Root alone can; otherwise they expire."""
    with contextlib.suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("2")


def run(folder: Path, seconds: float, seed: int, rhythm: Rhythm, trouble: Sequence[str] = TROUBLE) -> Tally:
    served = folder / "served"
    served.mkdir()
    with simulated_nas({"data": served}, "--idle-seconds", "3", "--auto-block", "0") as nas:
        return Soak(folder, nas, served, seed, rhythm, trouble).run(seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", action="store_true", help="leave the log and the NAS's files for a closer look")
    parser.add_argument("--short", action="store_true", help="with the rhythm of the test suite")
    parser.add_argument("--trouble", choices=TROUBLE, nargs="*", default=TROUBLE, help="these kinds alone")
    given = parser.parse_args()
    print(f"seed {given.seed}, {given.minutes:g} minutes", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="synofs-soak-"))
    try:
        tally = run(folder, given.minutes * 60, given.seed, SHORT if given.short else Rhythm(), given.trouble)
    finally:
        if given.keep:
            print(f"kept: {folder}")
        else:
            shutil.rmtree(folder)
    print(tally)
    for text in [*tally.lost, *tally.leaked][:40]:
        print("  ", text)
    for story in tally.stories[:20]:
        print("  ", story)
    steep = [slope for slope in tally.slopes if slope > MOST_KIB_PER_MINUTE]
    if steep:
        print(f"   memory grows: {steep} KiB/min")
    return bool(tally.lost or tally.leaked or steep)


MOST_KIB_PER_MINUTE = 200.0  # judged over the second half of a life, in the long form alone


if __name__ == "__main__":
    sys.exit(main())
