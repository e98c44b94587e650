"""The long form's work, in portions for processes of their own."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from tests.hostile import fuzz
from tests.hostile.decoders import decode_made_answer

FIRST_SEED = 1_000_000  # the test suite has those below

Job = tuple[str, int, int]  # kind, first seed, number of seeds


def jobs() -> Iterator[Job]:
    """Without end, each some seconds of work; a seed of the calls makes six inputs, one of the filesystem forty."""
    seed = FIRST_SEED
    while True:
        for kind, count in (("decoders", 20_000), ("calls", 4_000), ("filesystem", 200)):
            yield kind, seed, count
        seed += 20_000


def work(job: Job) -> tuple[str, int, list[str]]:
    """The kind, the inputs that it took, and what went wrong."""
    logging.disable(logging.CRITICAL)  # what the filesystem has to say of such a NAS fills disks
    kind, first, count = job
    seeds = range(first, first + count)
    if kind == "decoders":
        failures = []
        for seed in seeds:
            try:
                decode_made_answer(seed)
            except Exception as exc:
                failures.append(f"seed {seed}, decoders: {exc!r}")
        return kind, count, failures
    outcome = fuzz.run_calls(seeds) if kind == "calls" else fuzz.run_filesystems(seeds)
    return kind, outcome.inputs, outcome.failures
