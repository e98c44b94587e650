"""A task that fails is begun anew, and takes nothing else along."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import trio

from synofs.app.supervision import kept_alive
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


async def test_what_fails_begins_anew_less_and_less_often(expect_logs: Callable[..., None]) -> None:
    expect_logs("the example failed")
    began: list[float] = []

    async def work() -> None:
        began.append(trio.current_time())
        raise ZeroDivisionError

    with trio.move_on_after(600):
        await kept_alive(work, "the example")
    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert pauses[0] == 1
    assert pauses[-1] == 60
    assert pauses == sorted(pauses)


async def test_what_returns_is_done_and_what_is_cancelled_is_cancelled() -> None:
    async def work() -> None:
        await trio.sleep(1)

    with trio.fail_after(10):
        await kept_alive(work, "the example")
    with trio.move_on_after(1) as limit:
        await kept_alive(trio.sleep_forever, "the example")
    assert limit.cancelled_caught


async def test_the_end_of_the_program_is_no_failure() -> None:
    async def work() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await kept_alive(work, "the example")
