"""Two mounts of one NAS on two client machines, in whose folders two people edit, rename and delete the same files.

Every acknowledged edit is in a version that survives, under the name or in a conflict copy, or in a document that was
deleted by name. What one machine has closed, the other one sees once its TTL is over. A cable is pulled at times.

`python -m tests.soak.two_clients --minutes N` runs it alone and prints the numbers. Without root, both mounts are on
this machine, and no cable is pulled.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.live import LiveMount
from tests.mount.harness import simulated_nas
from tests.soak.machines import CAN_MAKE_MACHINES, Machine, machines

DOCUMENTS = 5
TTL_SECONDS = 1.0
GRACE_SECONDS = 0.5  # for a kernel timeout that ends, and two listings


@dataclass
class Tally:
    edits: int = 0
    renames: int = 0
    deleted: int = 0
    conflicts: int = 0
    pulled: int = 0
    looked: int = 0  # at what the other machine had closed a TTL ago
    stale: list[str] = field(default_factory=list)
    overwritten: list[str] = field(default_factory=list)
    in_the_window: list[str] = field(default_factory=list)  # only when closes do not take turns
    wrong: list[str] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        errors = ", ".join(f"{name} {count}" for name, count in self.errors.most_common()) or "none"
        return (
            f"{self.edits} edits, {self.renames} renames, {self.deleted} deletions on two machines; cables pulled "
            f"{self.pulled} times; {self.conflicts} conflict copies kept\n"
            f"{len(self.overwritten)} silent overwrites"
            f" ({len(self.in_the_window)} more between the last look and the swap of another replacement)\n"
            f"{self.looked} looks at what the other machine had closed {TTL_SECONDS} s ago: {len(self.stale)} stale; "
            f"{len(self.wrong)} torn; refused: {errors}"
        )


@contextlib.contextmanager
def two_mounts(folder: Path, mode: str) -> Iterator[tuple[list[LiveMount], list[Machine], Path]]:
    served = folder / "served"
    served.mkdir()
    ttl = str(TTL_SECONDS)
    options = ("--write-mode", mode, "--dir-ttl", ttl, "--attr-ttl", ttl)
    with contextlib.ExitStack() as stack:
        places: list[Machine] = []
        listen: tuple[str, ...] = ()
        if CAN_MAKE_MACHINES:
            address, places = stack.enter_context(machines(2))
            listen = ("--listen", f"{address}:0", "--listen-anywhere")
        nas = stack.enter_context(simulated_nas({"data": served}, *listen))
        mounts = []
        for number in range(2):
            command = places[number].command if places else ()
            mount = LiveMount(nas, folder / f"client{number}", *options, machine=command)
            stack.callback(mount.clean_up)
            mount.start()
            mounts.append(mount)
        yield mounts, places, served


def run(folder: Path, seconds: float, seed: int, mode: str = "durable", *, turns: bool = True) -> Tally:
    rng = random.Random(seed)
    tally = Tally()
    with two_mounts(folder, mode) as (mounts, places, served):
        for number in range(DOCUMENTS):
            (served / f"doc{number}").write_text(f"first {number}\n")
        lock = str(folder / "lock") if turns else ""
        program = str(Path(__file__).with_name("editor.py"))
        pipe = subprocess.PIPE
        editors = [
            subprocess.Popen(
                [sys.executable, "-I", "-S", program, str(mount.root), f"m{number}", f"{seed}-{number}", lock],
                stdin=pipe, stdout=pipe, stderr=pipe, text=True,
            )
            for number, mount in enumerate(mounts)
        ]  # fmt: skip
        try:
            _meanwhile(time.monotonic() + seconds, mounts, places, mode, rng, tally)
        finally:
            reports = [editor.communicate(timeout=120) for editor in editors]
        for editor, (_, complaints) in zip(editors, reports, strict=True):
            assert editor.returncode == 0, complaints
        for mount in mounts:
            mount.flush(120)
            tally.conflicts += int(mount.status()["filesystem"]["conflicts"])
        _judge([json.loads(said) for said, _ in reports], served, tally, strict=turns and mode == "durable")
    return tally


def _meanwhile(
    end: float, mounts: list[LiveMount], places: list[Machine], mode: str, rng: random.Random, tally: Tally
) -> None:
    """Look on one machine for what the other one has closed, and pull a cable now and then."""
    number = 0
    while time.monotonic() < end:
        number += 1
        writer, reader = rng.sample(mounts, 2)
        said = f"{number}\n" * rng.randrange(1, 500)
        try:
            (writer.root / "seen").write_text(said)
            if mode != "durable":
                writer.flush()
        except OSError:
            tally.errors["the watcher's write"] += 1
            continue
        time.sleep(TTL_SECONDS + GRACE_SECONDS)
        found = (reader.root / "seen").read_text()
        tally.looked += 1
        if found != said:
            tally.stale.append(f"look {number}: {found[:20]!r} in place of {said[:20]!r}")
        if places and number % 4 == 0:
            place = rng.choice(places)
            place.plug(in_=False)
            time.sleep(rng.uniform(0.2, 3.0))
            place.plug(in_=True)
            tally.pulled += 1
            time.sleep(1.0)


def _judge(reports: list[dict], served: Path, tally: Tally, *, strict: bool) -> None:
    surviving: set[str] = set()
    for path in served.iterdir():
        if path.is_file():
            surviving.update(line.rstrip() for line in path.read_text().splitlines())
    every = [edit for report in reports for edit in report["edits"]]
    deletions = [deletion for report in reports for deletion in report["deleted"]]
    for report in reports:
        tally.edits += len(report["edits"])
        tally.renames += report["renames"]
        tally.deleted += len(report["deleted"])
        tally.errors.update(report["errors"])
        tally.wrong += report["wrong"]
    for line, name, began, ended, *_ in every:
        if line in surviving or any(name == gone and began <= until for gone, _, until in deletions):
            continue
        others_after = [edit for edit in every if edit[0][:2] != line[:2] and edit[3] >= began]
        others = [edit for edit in others_after if edit[2] <= ended]
        missing = f"{line} of {name}"
        (tally.in_the_window if others and not strict else tally.overwritten).append(missing)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--write-mode", choices=("durable", "writeback"), default="durable")
    parser.add_argument("--race", action="store_true", help="closes do not take turns")
    given = parser.parse_args()
    where = "two network namespaces" if CAN_MAKE_MACHINES else "this machine: not root"
    print(f"seed {given.seed}, {given.minutes:g} minutes, {given.write_mode}, on {where}", flush=True)
    with tempfile.TemporaryDirectory(prefix="synofs-two-") as folder:
        tally = run(Path(folder), given.minutes * 60, given.seed, given.write_mode, turns=not given.race)
    print(tally)
    for text in [*tally.overwritten, *tally.stale, *tally.wrong][:20]:
        print("  ", text)
    return bool(tally.overwritten or tally.stale or tally.wrong)


if __name__ == "__main__":
    sys.exit(main())
