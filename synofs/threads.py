"""Short work in threads, many times a second: what `trio.to_thread.run_sync` does, for less.

A hop by trio takes half as long again, for a name of the thread that changes twice, a copy of the context, and ways
back into the loop; and what should end when its caller is cancelled needs a task beside it. Files that are written one
after the other take a hop each for the disk and one for the NAS.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import trio

if TYPE_CHECKING:
    from outcome import Outcome

_Args = TypeVarTuple("_Args")
_T = TypeVar("_T")


async def run_sync(
    work: Callable[[*_Args], _T], *args: *_Args, limiter: trio.CapacityLimiter, cut: Callable[[], None] | None = None
) -> _T:
    """Run `work` in a thread and return what it returns. Never abandoned: when the caller is cancelled, `cut` is called
    in its place, which may make the work end sooner, and the cancellation is noticed at its next checkpoint.

    In the thread, `trio.from_thread` needs the loop's token.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    borrower = object()
    try:
        limiter.acquire_on_behalf_of_nowait(borrower)
    except trio.WouldBlock:
        await limiter.acquire_on_behalf_of(borrower)
    try:
        task, token = trio.lowlevel.current_task(), trio.lowlevel.current_trio_token()

        def deliver(result: Outcome[_T]) -> None:
            token.run_sync_soon(trio.lowlevel.reschedule, task, result)

        def abort(_: Any) -> trio.lowlevel.Abort:
            if cut is not None:
                cut()
            return trio.lowlevel.Abort.FAILED

        trio.lowlevel.start_thread_soon(partial(work, *args), deliver)
        result: _T = await trio.lowlevel.wait_task_rescheduled(abort)
        return result
    finally:
        limiter.release_on_behalf_of(borrower)
