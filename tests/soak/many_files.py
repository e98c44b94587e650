"""Very many files: a tree is walked and forgotten in bounded memory, and a folder of very many entries shows each that
was there throughout exactly once, while another client adds and removes.

`python -m tests.soak.many_files --files N --entries N --rounds N` prints the numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.model.live import LiveMount, live_mount
from tests.mount.harness import wait_until
from tests.soak.watching import drop_caches, resident_kib

PER_FOLDER = 1000
MOST_CACHED_ENTRIES = 400_000  # fs/listing.py: the least recently used listings go first
# An inode, its place in a listing, the answer it came in, and what the allocator keeps. The kernel may hold each.
MOST_BYTES_PER_FILE = 2500
FEW_INODES = 50  # the root, the folders of the other part, what the desktop looks at
PASSING = 50  # names of the other client that are there at any time
PAUSE_SECONDS = 0.002  # of the other client


@dataclass
class Tally:
    files: int = 0
    walk_seconds: float = 0.0
    rss_before_kib: int = 0
    rss_most_kib: int = 0
    inodes_walked: int = 0
    cached_walked: int = 0
    inodes_unused: int = 0  # when the kernel had given back what nobody uses
    inodes_removed: int = 0  # when the tree was gone
    entries: int = 0
    rounds: int = 0
    changes: int = 0
    wrong: list[str] = field(default_factory=list)

    @property
    def bytes_per_file(self) -> float:
        return 1024 * (self.rss_most_kib - self.rss_before_kib) / max(1, self.files)

    def __str__(self) -> str:
        return (
            f"{self.files:,} files walked in {self.walk_seconds:.1f} s: RSS {self.rss_before_kib / 1024:.0f} -> "
            f"{self.rss_most_kib / 1024:.0f} MiB ({self.bytes_per_file:.0f} bytes for each); {self.inodes_walked:,} "
            f"inodes, {self.inodes_unused:,} when the kernel had forgotten them ({self.cached_walked:,} are in cached "
            f"listings), {self.inodes_removed:,} when they were removed\n"
            f"a folder of {self.entries:,}, read {self.rounds} times during {self.changes:,} changes: "
            f"{len(self.wrong)} wrong"
        )


def counter(mount: LiveMount, name: str) -> int:
    return int(mount.status()["filesystem"][name])


def walk(mount: LiveMount, served: Path, files: int, tally: Tally) -> None:
    assert mount.pid is not None
    tally.rss_before_kib = resident_kib(mount.pid)
    started = time.monotonic()
    for folder, _, names in os.walk(mount.root / "tree"):
        tally.files += len(names)
        for name in names:
            os.stat(f"{folder}/{name}")
    tally.walk_seconds = time.monotonic() - started
    tally.rss_most_kib = resident_kib(mount.pid)
    tally.inodes_walked, tally.cached_walked = counter(mount, "inodes"), counter(mount, "cached_entries")
    if tally.files != files:
        tally.wrong.append(f"{tally.files} of {files} files were seen")
    if tally.cached_walked > MOST_CACHED_ENTRIES + PER_FOLDER:
        tally.wrong.append(f"{tally.cached_walked} entries are in cached listings")
    if os.geteuid() == 0:  # nobody else can have the kernel forget
        _look_at_unused(mount, tally)
    shutil.rmtree(served / "tree")
    mount.refresh()
    tally.inodes_removed = _fewest(mount, FEW_INODES)
    if tally.inodes_removed > FEW_INODES:
        tally.wrong.append(f"{tally.inodes_removed} inodes are left of a tree that was removed")


def _look_at_unused(mount: LiveMount, tally: Tally) -> None:
    """What neither the kernel nor a cached listing needs is let go. A listing is held with its folder."""
    most = tally.cached_walked + tally.files // PER_FOLDER + FEW_INODES
    tally.inodes_unused = _fewest(mount, most)
    if tally.inodes_unused > most:
        tally.wrong.append(f"{tally.inodes_unused} inodes, {most} of them in use")


def _fewest(mount: LiveMount, enough: int) -> int:
    """The number of inodes once the kernel has given back what it does not need; it does so by the way."""

    def are_few() -> bool:
        drop_caches()
        return counter(mount, "inodes") <= enough

    with contextlib.suppress(AssertionError):  # the caller judges
        wait_until(are_few, 60)
    return counter(mount, "inodes")


def read_while_it_changes(mount: LiveMount, folder: Path, entries: int, rounds: int, tally: Tally) -> None:
    end = threading.Event()

    def change() -> None:
        number = 0
        while not end.wait(PAUSE_SECONDS):
            (folder / f"passing{number}").touch()
            if number >= PASSING:
                (folder / f"passing{number - PASSING}").unlink()
            number += 1
            tally.changes += 2

    other = threading.Thread(target=change)
    other.start()
    try:
        for round_ in range(rounds):
            mount.refresh()
            seen = Counter(entry.name for entry in os.scandir(mount.root / "wide"))
            there = sum(not name.startswith("passing") for name in seen)
            if there != entries:
                tally.wrong.append(f"round {round_}: {there} of {entries} names")
            tally.wrong += [f"round {round_}: {name} {count} times" for name, count in seen.items() if count > 1]
            tally.rounds += 1
    finally:
        end.set()
        other.join()


def run(folder: Path, files: int, entries: int, rounds: int) -> Tally:
    tally = Tally(entries=entries)
    with live_mount(folder) as (mount, served):
        for number in range(0, files, PER_FOLDER):
            place = served / "tree" / f"d{number // PER_FOLDER}"
            place.mkdir(parents=True)
            for name in range(min(PER_FOLDER, files - number)):
                os.close(os.open(place / f"f{name}", os.O_CREAT))
        mount.refresh()
        walk(mount, served, files, tally)
        (served / "wide").mkdir()
        for name in range(entries):
            os.close(os.open(served / "wide" / f"name {name}", os.O_CREAT))
        mount.refresh()
        read_while_it_changes(mount, served / "wide", entries, rounds, tally)
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="synofs-many-") as folder:
        tally = run(Path(folder), given.files, given.entries, given.rounds)
    print(tally)
    for text in tally.wrong[:20]:
        print("  ", text)
    return bool(tally.wrong or tally.bytes_per_file > MOST_BYTES_PER_FILE)


if __name__ == "__main__":
    sys.exit(main())
