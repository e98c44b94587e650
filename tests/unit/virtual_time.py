"""Time for unit tests: it stands still while anything runs, and jumps when everything waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from trio.testing import MockClock


def run_in_virtual_time(
    test: Callable, *, clock: trio.abc.Clock | None = None, instruments: Sequence[trio.abc.Instrument] = ()
) -> object:
    clock = MockClock(autojump_threshold=0)
    # Like trio's own clock, which starts anywhere above: what was never looked at is old.
    clock.jump(10_000)
    return trio.run(test, clock=clock, instruments=instruments)


in_virtual_time = pytest.mark.trio(run=run_in_virtual_time)
