"""The long forms of the harnesses in docs/RELIABILITY.md, by name: `scripts/bench --long NAME [--minutes N]`.

The test suite runs the short form of each. A harness prints its own numbers and says whether every promise was kept.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

from tests.benchmarks.servers import REPOSITORY

DEFAULT_MINUTES = 60.0
SOAK_MINUTES = 180.0
CRASHES = 5_000  # of each write mode
KILLS = 150
HOSTILE_INPUTS = 10_000_000

Harness = Callable[[float | None], bool]  # (minutes, for those that run for a time) -> whether every promise was kept


def module(name: str, *arguments: str) -> bool:
    """Run `python -m NAME ARGUMENTS` with this repository's code; it ends with 0 if every promise was kept."""
    python_path = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))
    print(f"## {name} {' '.join(arguments)}", flush=True)
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": python_path}).returncode == 0


def crashes(minutes: float | None) -> bool:
    kept = [
        module("tests.model.crash", "--trials", str(CRASHES), "--write-mode", mode) for mode in ("durable", "writeback")
    ]
    return all(kept)


def kills(minutes: float | None) -> bool:
    return module("tests.mount.kills", str(KILLS))


def model(minutes: float | None) -> bool:
    return module("tests.model.machine", "--minutes", str(minutes or DEFAULT_MINUTES))


def bounded(minutes: float | None) -> bool:
    return module("tests.bounded")


def soak(minutes: float | None) -> bool:
    return module("tests.soak.soak", "--minutes", str(minutes or SOAK_MINUTES))


def two_clients(minutes: float | None) -> bool:
    return module("tests.soak.two_clients", "--minutes", str(minutes or DEFAULT_MINUTES))


def peers(minutes: float | None) -> bool:
    return module("tests.soak.peers")


def many_files(minutes: float | None) -> bool:
    return module("tests.soak.many_files", "--files", "1000000", "--entries", "100000")


def hostile(minutes: float | None) -> bool:
    return module("tests.hostile", "--inputs", str(HOSTILE_INPUTS))


LONG: dict[str, tuple[str, Harness]] = {
    "crashes": (f"{CRASHES:,} SIGKILLs of each write mode: no acknowledged write is lost", crashes),
    "kills": (f"{KILLS} SIGKILLs while names change on both sides: nobody waits for the mount afterwards", kills),
    "bounded": ("five kinds of trouble: no call takes longer than is promised; peers beside it", bounded),
    "model": ("random operations with faults, crashes and remounts: the NAS equals a local directory", model),
    "soak": ("16 programs, and everything goes wrong around them: nothing lost, nothing held", soak),
    "two-clients": ("two machines edit, rename and delete the same files: nothing overwritten in silence", two_clients),
    "peers": ("another client's work, and work before a crash: what synofs and its peers leave of it", peers),
    "many-files": ("1,000,000 files walked and forgotten; a folder of 100,000 read while it changes", many_files),
    "hostile": (f"{HOSTILE_INPUTS:,} answers of a hostile NAS: no crash, no hang, no name that leads out", hostile),
}
