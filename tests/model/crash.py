"""The crash harness: writers write, the daemon is killed, and whatever was acknowledged must be on the NAS.

A trial: writers append numbered records to files and make new ones; each acknowledgement (a close, an fsync or a write
that returned) is reported through a pipe before the next step. At a random moment the daemon gets SIGKILL. The next
mount recovers, and when it has flushed, the NAS is compared with what was acknowledged: every acknowledged record has
to be there, in order and whole. A third program saves documents as editors do, and makes, renames and removes files:
each document is at its last acknowledged save, what was removed stays away, and nobody finds a conflict. A fourth one
empties files and writes them anew, while they are being sent.

`python -m tests.model.crash --trials 500` runs it alone and prints the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.live import LiveMount, live_mount, python

# Records are 64 bytes: file, number, padding. A writer reports "kind file number" after each acknowledgement.
WRITER = r"""
import os, sys, random
root, who, seed = sys.argv[1:]
rng = random.Random(seed)
def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())
def record(name, number): return f"{name} {number:08d}".ljust(63, ".").encode() + b"\n"
numbers = {}
try:
    for step in range(100000):
        name = f"{who}-{rng.randrange(4)}" if rng.random() < 0.6 else f"{who}-new-{seed}-{step}"
        fd = os.open(os.path.join(root, name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        for _ in range(rng.choice((1, 1, 2, 20))):
            number = numbers.get(name, 0)
            os.write(fd, record(name, number))
            numbers[name] = number + 1
            say("written", name, number)
        if rng.random() < 0.1:
            os.fsync(fd)
            say("synced", name, numbers[name] - 1)
        os.close(fd)
        say("closed", name, numbers[name] - 1)
except OSError as error:
    say("stopped", error.errno)
"""


# An editor and a tidy program: saves are a temporary file, renamed over the document; other files are made, renamed and
# removed. Reports "saved name number" and "removed name" after each acknowledgement.
SAVER = r"""
import os, sys, random
root, who, seed = sys.argv[1:]
rng = random.Random(seed)
def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())
try:
    for number in range(100000):
        name = f"{who}-doc{rng.randrange(2)}"
        temporary = os.path.join(root, f"{who}-{number}.tmp")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        os.write(fd, f"{name} {number:08d}\n".encode() * 50)
        if rng.random() < 0.5:
            os.fsync(fd)
        os.close(fd)
        os.rename(temporary, os.path.join(root, name))
        say("saved", name, number)
        if rng.random() < 0.3:
            old = os.path.join(root, f"{who}-x{number}")
            with open(old, "wb") as file:
                file.write(b"x")
            new = old + rng.choice(("", "-renamed"))
            os.rename(old, new)
            os.unlink(new)
            say("removed", os.path.basename(old))
            say("removed", os.path.basename(new))
except OSError as error:
    say("stopped", error.errno)
"""


# Reports "emptied name number" before and "rewritten name number" after it has written a file anew. A thread has it
# sent meanwhile.
REWRITER = r"""
import os, sys, random, threading, time
root, who, seed = sys.argv[1:]
rng = random.Random(seed)
def say(*words): os.write(1, (" ".join(map(str, words)) + "\n").encode())
def send():
    try:
        while True:
            fd = os.open(path, os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
    except OSError:
        pass
try:
    for number in range(100000):
        name = f"{who}-note{number // 20}"
        path = os.path.join(root, name)
        say("emptied", name, number)
        with open(path, "wb") as file:
            file.write(f"{name} {number:08d}\n".encode() * 5000)
        say("rewritten", name, number)
        if not number:
            threading.Thread(target=send).start()
        time.sleep(rng.choice((0, 0, 0.01, 0.05)))
except OSError as error:
    say("stopped", error.errno)
"""


@dataclass
class Tally:
    trials: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"{self.trials} trials, {self.acknowledged} acknowledged writes, {len(self.lost)} lost"


ANSWERS = frozenset({"written", "synced", "closed"})


class Writers:
    """Some writer processes and what they were told is safe: by `answers`, and by renames and removals."""

    def __init__(
        self, root: Path, count: int, seed: str, answers: frozenset[str] = ANSWERS, *, rewrite: bool = False
    ) -> None:
        self._answers = answers
        self.last: dict[str, int] = {}  # file -> number of its last acknowledged record
        self.saved: dict[str, int] = {}  # document -> number of its last acknowledged save
        self.removed: set[str] = set()
        self.emptied: dict[str, int] = {}  # file -> number of the last time that it was begun anew
        self.rewritten: dict[str, int] = {}  # file -> the same, of those that were acknowledged
        self.acknowledged = 0
        self._processes = [python(WRITER, str(root), f"w{number}", f"{seed}-{number}") for number in range(count)]
        self._processes.append(python(SAVER, str(root), "s", f"{seed}-s"))
        if rewrite:
            self._processes.append(python(REWRITER, str(root), "r", f"{seed}-r"))
        self._threads = [threading.Thread(target=self._listen, args=(process,)) for process in self._processes]
        for thread in self._threads:
            thread.start()

    def _listen(self, process) -> None:
        for line in process.stdout:
            match line.decode().split():
                case [what, name, number] if what in self._answers:
                    self.last[name] = max(self.last.get(name, -1), int(number))
                    self.acknowledged += what == "written"
                case ["saved", name, number]:
                    self.saved[name] = int(number)
                    self.acknowledged += 1
                case ["emptied", name, number]:
                    self.emptied[name] = int(number)
                case ["rewritten", name, number]:
                    self.rewritten[name] = int(number)
                    self.acknowledged += 1
                case ["removed", name]:
                    self.removed.add(name)
                    self.acknowledged += 1

    def finish(self) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            process.wait(30)
        for thread in self._threads:
            thread.join(30)
        for process in self._processes:
            process.stdout.close()
            process.stderr.close()


def lost_records(served: Path, last: dict[str, int]) -> list[str]:
    """What of the acknowledged is not on the NAS."""
    lost = []
    for name, number in sorted(last.items()):
        try:
            data = (served / name).read_bytes()
        except FileNotFoundError:
            lost.append(f"{name}: the file is not there")
            continue
        expected = b"".join(f"{name} {n:08d}".ljust(63, ".").encode() + b"\n" for n in range(number + 1))
        if not data.startswith(expected):
            lost.append(f"{name}: {number + 1} records were acknowledged, {len(data)} bytes are there")
    return lost


def lost_saves(served: Path, saved: dict[str, int], removed: set[str]) -> list[str]:
    """Documents that are not at their last acknowledged save (or a later one), and files that came back."""
    lost = []
    for name, number in sorted(saved.items()):
        try:
            lines = set((served / name).read_bytes().splitlines(keepends=True))
        except FileNotFoundError:
            lost.append(f"{name}: the document is not there")
            continue
        found = [int(line.split()[1]) for line in lines] if len(lines) == 1 else []
        if not found or found[0] < number or (served / name).stat().st_size != 50 * len(lines.pop()):
            lost.append(f"{name}: save {number} was acknowledged, {found} is there")
    lost += [f"{name}: it was removed, and is there" for name in sorted(removed) if (served / name).exists()]
    return lost + [f"{path.name}: a conflict" for path in served.iterdir() if "(conflict" in path.name]


def lost_rewrites(served: Path, emptied: dict[str, int], rewritten: dict[str, int]) -> list[str]:
    """Files that are neither at their last acknowledged content nor at a beginning of the one that was under way."""
    lost = []
    for name, begun in sorted(emptied.items()):
        found = (served / name).read_bytes() if (served / name).exists() else None
        done = rewritten.get(name)
        known = [f"{name} {number:08d}\n".encode() * 5000 for number in (begun, done) if number is not None]
        if found is None:
            if done is not None:
                lost.append(f"{name}: the file is not there")
        elif found not in known and (begun == done or not known[0].startswith(found)):
            lost.append(f"{name}: {len(found)} bytes of {found[:40]!r} are there, {done} was acknowledged")
    return lost


def run(folder: Path, trials: int, seed: int, *options: str, kills_per_check: int = 10) -> Tally:
    """`trials` kills; every `kills_per_check` of them everything is flushed and compared."""
    rng = random.Random(seed)
    tally = Tally()
    with live_mount(folder, *options) as (mount, served):
        while tally.trials < trials:
            unchecked = {}
            for _ in range(min(kills_per_check, trials - tally.trials)):
                name = f"trial{tally.trials}"
                unchecked[name] = one_kill(mount, name, rng, tally)
            mount.flush()
            for name, writers in unchecked.items():
                lost = lost_records(served / name, writers.last)
                lost += lost_saves(served / name, writers.saved, writers.removed)
                lost += lost_rewrites(served / name, writers.emptied, writers.rewritten)
                tally.lost += [f"{name}/{text}" for text in lost]
    return tally


def one_kill(mount: LiveMount, folder: str, rng: random.Random, tally: Tally) -> Writers:
    """Returns what was acknowledged in `folder` before the daemon was killed. The mount is up again then."""
    (mount.root / folder).mkdir()
    writers = Writers(mount.root / folder, count=2, seed=f"{rng.random()}", rewrite=True)
    time.sleep(rng.uniform(0.03, rng.choice((0.2, 0.2, 0.8))))
    mount.kill()
    writers.finish()
    tally.trials += 1
    tally.acknowledged += writers.acknowledged
    mount.start()
    return writers


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--write-mode", choices=("durable", "writeback"), default="writeback")
    words = parser.parse_args()
    print(f"seed {words.seed}")
    with tempfile.TemporaryDirectory() as folder:
        tally = run(Path(folder), words.trials, words.seed, "--write-mode", words.write_mode)
    print(tally)
    for text in tally.lost[:20]:
        print("  lost:", text)
    return bool(tally.lost)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    sys.exit(main())
