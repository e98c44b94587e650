"""Random operations through the real mount, against a plain directory: after every flush the NAS equals the model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.model.machine import FAULTS, run

pytestmark = [pytest.mark.mount, pytest.mark.timeout(600)]

SEQUENCES = 60  # for each write mode, with and without faults


@pytest.mark.parametrize("faults", [[], FAULTS], ids=["calm", "faults"])
@pytest.mark.parametrize("mode", ["durable", "writeback"])
def test_after_every_flush_the_nas_equals_the_model(
    tmp_path: Path, capsys: pytest.CaptureFixture, mode: str, faults: list[dict]
) -> None:
    seed = int.from_bytes(os.urandom(4))
    tally = run(tmp_path, SEQUENCES, seed, mode, faults)
    with capsys.disabled():
        print(f"\n{mode}: {tally} (seed {seed})")
    assert not tally.lost, "\n".join(tally.lost)
    assert tally.operations > SEQUENCES
    assert tally.compared >= SEQUENCES
