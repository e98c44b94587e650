"""Short work in threads: what `trio.to_thread.run_sync` promises, and what ends with its caller."""

from __future__ import annotations

import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs import threads

pytestmark = pytest.mark.trio


async def test_it_returns_and_raises_what_the_work_does_in_another_thread() -> None:
    limiter = trio.CapacityLimiter(1)
    assert await threads.run_sync(divmod, 7, 2, limiter=limiter) == (3, 1)
    assert await threads.run_sync(threading.get_ident, limiter=limiter) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await threads.run_sync(divmod, 7, 0, limiter=limiter)
    assert limiter.borrowed_tokens == 0


async def test_never_more_at_once_than_the_limiter_allows() -> None:
    limiter, gate = trio.CapacityLimiter(2), threading.Event()
    entered: list[int] = []

    def work(number: int) -> None:
        entered.append(number)
        gate.wait(10)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(lambda number=number: threads.run_sync(work, number, limiter=limiter))
        await wait_all_tasks_blocked(0.05)
        assert len(entered) == 2
        gate.set()
    assert sorted(entered) == [0, 1, 2, 3, 4]
    assert limiter.borrowed_tokens == 0


async def test_it_is_not_abandoned_when_its_caller_is_cancelled_but_can_be_cut_short() -> None:
    limiter, gate = trio.CapacityLimiter(1), threading.Event()
    results: list[bool] = []

    async def call() -> None:
        results.append(await threads.run_sync(gate.wait, 10, limiter=limiter, cut=gate.set))

    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(call)
            await wait_all_tasks_blocked(0.01)
            nursery.cancel_scope.cancel()
    assert results == [True]
    assert limiter.borrowed_tokens == 0


async def test_who_was_cancelled_before_begins_nothing() -> None:
    begun: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await threads.run_sync(begun.append, 1, limiter=trio.CapacityLimiter(1))
    assert scope.cancelled_caught
    assert begun == []


async def test_work_that_came_too_late_for_a_free_place_waits_and_can_be_cancelled_there() -> None:
    limiter, gate = trio.CapacityLimiter(1), threading.Event()
    begun: list[int] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: threads.run_sync(gate.wait, 10, limiter=limiter))
        await wait_all_tasks_blocked(0.01)
        with trio.move_on_after(0.01) as scope:
            await threads.run_sync(begun.append, 1, limiter=limiter)
        gate.set()
    assert scope.cancelled_caught
    assert begun == []
    assert limiter.borrowed_tokens == 0
