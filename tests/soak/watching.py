"""What a mount holds, and how much memory it takes while the soak works on it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from pathlib import Path

from synofs.app.errors import Failure
from tests.model.live import LiveMount

SHORTEST_LIFE_SECONDS = 120.0  # to tell its memory
SHORTEST_JUDGED_SECONDS = 2400.0  # what fills up to a bound has done so after the first half of it


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
            if samples[-1][0] - samples[0][0] >= SHORTEST_JUDGED_SECONDS:
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


def drop_caches() -> None:
    """Have the kernel forget names and inodes that nobody uses. Root alone can; otherwise they expire."""
    with contextlib.suppress(PermissionError):
        Path("/proc/sys/vm/drop_caches").write_text("2")
