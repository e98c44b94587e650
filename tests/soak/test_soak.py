"""The short form of the soak: everything at once, for less than a minute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.soak.soak import SHORT, run

pytestmark = [pytest.mark.mount, pytest.mark.timeout(400)]

SECONDS = 45.0
MOST_RSS_KIB = 512 * 1024  # lives are too short to judge a slope


def test_what_was_acknowledged_is_there_and_nothing_is_held_whatever_goes_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    seed = int.from_bytes(os.urandom(4))
    tally = run(tmp_path, SECONDS, seed, SHORT)
    with capsys.disabled():
        print(f"\n{tally} (seed {seed})")
    assert tally.lost == [], "\n".join([*tally.lost, *tally.stories])
    assert tally.leaked == [], "\n".join([*tally.leaked, *tally.stories])
    assert tally.peak_rss_kib < MOST_RSS_KIB
    assert sum(tally.steps.values()) > 500
    assert tally.events["remounted"] > 0
    assert tally.read_after_a_remount > 0
