"""What is being served is known, and so is what was; the rest is forgotten."""

from __future__ import annotations

import errno
from types import SimpleNamespace

import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fuse.calls import KEPT_CALLS, Calls
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time


async def test_no_content_and_only_so_many_calls_are_kept() -> None:
    calls = Calls()
    for number in range(2 * KEPT_CALLS):
        calls.end(calls.begin("write", (3, number, b"secret")), 0)
    assert len(calls.last()) == KEPT_CALLS
    assert not any("secret" in call.line() for call in calls.last())
    assert calls.under_way() == []


async def test_a_line_says_who_asked_what_and_how_it_ended() -> None:
    calls = Calls()
    call = calls.begin("lookup", (1, b"a\nb", SimpleNamespace(pid=77)))
    assert "under way" in call.line()
    calls.end(call, errno.ENOENT)
    assert call.line().startswith("lookup 1 ")
    assert "pid 77: ENOENT" in call.line()
    assert "\n" not in call.line()


async def test_who_waits_for_answers_waits_for_those_under_way_and_for_no_others(nursery: trio.Nursery) -> None:
    calls = Calls()
    early = [calls.begin("read", (1, 0)), calls.begin("read", (2, 0))]
    answered = trio.Event()

    async def wait() -> None:
        await calls.answered()
        answered.set()

    nursery.start_soon(wait)
    await wait_all_tasks_blocked()
    late = calls.begin("read", (3, 0))
    calls.end(early[0], 0)
    await wait_all_tasks_blocked()
    assert not answered.is_set()
    calls.end(early[1], errno.EIO)
    await wait_all_tasks_blocked()
    assert answered.is_set()
    calls.end(late, 0)


async def test_several_may_wait_for_answers(nursery: trio.Nursery) -> None:
    calls = Calls()
    call = calls.begin("read", (1, 0))
    told = []

    async def wait(who: str) -> None:
        await calls.answered()
        told.append(who)

    for who in ("one", "two"):
        nursery.start_soon(wait, who)
        await wait_all_tasks_blocked()
    calls.end(call, 0)
    await wait_all_tasks_blocked()
    assert sorted(told) == ["one", "two"]
