"""The short form of the two clients: nothing is overwritten in silence, and what is closed is seen."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.two_clients import run

pytestmark = [pytest.mark.mount, pytest.mark.timeout(200)]

SECONDS = 25.0


def test_on_two_machines_nothing_is_overwritten_in_silence_and_what_was_closed_is_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    seed = int.from_bytes(os.urandom(4))
    tally = run(tmp_path, SECONDS, seed)
    with capsys.disabled():
        print(f"\n{tally} (seed {seed})")
    assert tally.overwritten == []
    assert tally.stale == []
    assert tally.wrong == []
    assert tally.looked > 3
    assert tally.edits > 30
    assert tally.conflicts > 0
