"""The filesystem over a NAS that answers anything: only possible names get to the kernel, and only known failures."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from tests.hostile import fuzz

SEEDS = 600


def test_nothing_impossible_gets_to_the_kernel(inputs: Counter[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "synofs.fs.refused")  # it says which names are left out
    outcome = fuzz.run_filesystems(range(SEEDS))
    inputs["filesystem"] += outcome.inputs
    assert not outcome.failures, "\n\n".join(outcome.failures[:3])
    for verb in ("readdir", "lookup", "getattr", "read"):
        assert outcome.ends[f"{verb} ok"] > 100, outcome.ends
