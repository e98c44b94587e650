"""Every call path of the client against a NAS that answers anything: a result that holds what it promises, or a
`RemoteError`, and an end."""

from __future__ import annotations

import logging
from collections import Counter

import pytest

from tests.hostile import fuzz
from tests.hostile.call_paths import CALLS

SEEDS = 12_000
PARTS = 4
AT_LEAST_INPUTS = 60_000


@pytest.mark.parametrize("part", range(PARTS))
def test_whatever_is_answered_a_call_ends_as_promised(
    part: int, inputs: Counter[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "synofs.filestation.copying")  # what it leaves on such a NAS is not of interest
    each = SEEDS // PARTS
    outcome = fuzz.run_calls(range(part * each, (part + 1) * each))
    inputs["calls"] += outcome.inputs
    assert not outcome.failures, "\n\n".join(outcome.failures[:3])
    assert outcome.inputs > AT_LEAST_INPUTS / PARTS


def test_each_call_is_seen_to_succeed_and_to_fail(caplog: pytest.LogCaptureFixture) -> None:
    """So the inputs above do reach what they are meant for."""
    caplog.set_level(logging.ERROR, "synofs.filestation.copying")
    ends = fuzz.run_calls(range(len(CALLS) * 100)).ends
    for call in CALLS:
        mine = {end.partition(" ")[2] for end in ends if end.partition(" ")[0] == call.__name__}
        assert mine - {"ok"}, f"{call.__name__} never fails"
        assert "ok" in mine or call.__name__ in NEVER_WELL, f"{call.__name__} never succeeds: {mine}"


# The made NAS keeps nothing, so what has to agree over several answers seldom does.
NEVER_WELL = {"upload_growing", "upload_in_slices", "extract_some", "restore", "move_to_another_name", "copy"}
