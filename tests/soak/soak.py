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
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.live import LiveMount, tree_of
from tests.mount.harness import Nas, simulated_nas, wait_until
from tests.soak.disk import Disk
from tests.soak.watching import Watch, drop_caches, held, held_things
from tests.soak.worker import content, fits, told

PROCESSES = 16
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
    remount: float = 900.0
    last_life: float = 0.5  # of the time: so much goes by without a remount, for what grows slowly


MOST_CONNECTIONS = 8  # the pool keeps idle ones: --max-requests, and two more
STORY_LINES = 60
TROUBLE = ("session expired", "faults changed", "NAS restarted", "disk full", "remounted")

SHORT = Rhythm(session=5.0, faults=4.0, restart=16.0, full_disk=19.0, remount=14.0, last_life=0.0)


@dataclass
class Tally:
    steps: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    acknowledged_bytes: int = 0
    files: int = 0
    doubtful: int = 0
    kept: int = 0  # in the recovery folder, of these
    read_after_a_remount: int = 0  # how often one of these was read then
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
            f"({self.kept} in the recovery folder; {self.read_after_a_remount} reads after a remount)\n"
            f"RSS: {self.peak_rss_kib / 1024:.0f} MiB at most; at five moments of each life, in MiB (of that, what was "
            f"read): {self.memory}; slope of the rest, in KiB/min: {slopes}\n"
            f"held when all was removed (and at the start): {held}\n"
            f"{len(self.lost)} lost or wrong, {len(self.leaked)} leaks"
        )


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
        self._look_for_leaks(before, reports)
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
        last_remount = end - rhythm.last_life * seconds
        events = {name: event for name, event in events.items() if name in self.trouble}
        due = {name: now + pause * self.rng.uniform(0.5, 1.0) for name, (pause, _) in events.items()}
        while (now := time.monotonic()) < end:
            for name, (pause, act) in events.items():
                if now >= due[name] and not (name == "remounted" and now > last_remount):
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
            tally.read_after_a_remount += report["read_after_a_remount"]
            tally.longest = max(tally.longest, (report["longest_seconds"], report["longest_step"]))
            who = Path(report["folder"]).name
            for text, names in report["wrong"]:
                self._lose(f"{who}: {text}", report, names)
            found = {
                os.path.relpath(name, who): data for name, data in on_the_nas.items() if name.startswith(f"{who}/")
            }
            for name, text in self._differences(report, found):
                self._lose(f"{who}/{name}: {text}", report, [name])
            for name in (*report["files"], *report["doubtful"]):
                if (shown := content_of(self.mount.root / who / name)) != found.get(name):
                    text = f"the mount shows {told(shown)}, the NAS has {told(found.get(name))}"
                    self._lose(f"{who}/{name}: {text}", report, [name])
            for path in (self.served / who).rglob(".synofs-*-mv/*"):
                self._lose(f"{path}: left in a folder that is never shown", report, [path.name])

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

    def _look_for_leaks(self, before: dict[str, int], reports: list[dict]) -> None:
        """Everything is removed through the mount; when the kernel has forgotten it, all is as it was."""
        for report in reports:
            name = Path(report["folder"]).name
            try:
                shutil.rmtree(self.mount.root / name)
            except OSError as error:
                left = [path for path in (self.served / name).rglob("*") if path.parent.name == error.filename]
                names = [os.path.relpath(path, self.served / name) for path in left]
                self._lose(f"rm -r {name}: {error}, {names}", report, names)
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


def content_of(path: Path) -> bytes | None:
    with contextlib.suppress(FileNotFoundError):
        return path.read_bytes()
    return None


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
