"""A loop that stands still is noticed by a thread, and one that is merely busy is not."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

import pytest
import trio

from synofs.app import loopwatch
from synofs.app.loopwatch import LoopWatch

pytestmark = pytest.mark.trio


async def test_a_loop_that_stands_still_is_told_once_with_the_stacks_of_all_threads(
    expect_logs: Callable[..., None], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_logs("the loop has stood still")
    expect_logs("the loop goes on")
    monkeypatch.setattr(loopwatch, "PAUSE_SECONDS", 0.02)
    told, goes_on = threading.Event(), threading.Event()
    handler = logging.Handler()
    handler.emit = lambda record: (told if record.levelno == logging.CRITICAL else goes_on).set()  # type: ignore
    loopwatch.log.addHandler(handler)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(LoopWatch(stuck_seconds=0.1).run)
            await trio.sleep(0.1)
            stand_still_until(told)
            with trio.fail_after(20):
                await trio.to_thread.run_sync(goes_on.wait)
            nursery.cancel_scope.cancel()
    finally:
        loopwatch.log.removeHandler(handler)
        await_end_of_thread()
    (critical,) = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert "stand_still_until" in critical.message


def stand_still_until(told: threading.Event) -> None:
    assert told.wait(20)
    time.sleep(0.1)


async def test_the_thread_ends_with_the_task() -> None:
    with trio.move_on_after(0.1):
        await LoopWatch().run()
    await_end_of_thread()


def await_end_of_thread() -> None:
    for thread in threading.enumerate():
        if thread.name == "loop watch":
            thread.join(20)
            assert not thread.is_alive()
