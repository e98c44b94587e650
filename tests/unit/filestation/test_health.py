"""Whether the NAS is there is found out within seconds, and nobody waits for one that is not."""

from __future__ import annotations

from typing import Any

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation.health import Health, HealthOptions

pytestmark = pytest.mark.trio


class Nas:
    """Answers probes or not; `moves` is the activity of its calls."""

    def __init__(self) -> None:
        self.answers = True
        self.hangs = False
        self.stranger: remote.RemoteError | None = None  # who answers in its place
        self.probes = 0
        self.moves = 0
        self.changes: list[bool] = []
        self.health = Health(self.probe, lambda: self.moves, HealthOptions())
        self.changed = trio.Event()
        self.health.on_change = self.change

    def change(self, there: bool) -> None:
        self.changes.append(there)
        self.changed.set()
        self.changed = trio.Event()

    async def probe(self) -> None:
        self.probes += 1
        if self.hangs:
            await trio.sleep_forever()
        if self.stranger is not None:
            raise self.stranger
        if not self.answers:
            raise remote.Unreachable("refused")

    async def call(self, seconds: float) -> None:
        with self.health.waiting():
            await trio.sleep(seconds)


async def test_a_slow_nas_that_answers_probes_is_waited_for(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    nas = Nas()
    await nursery.start(nas.health.run)
    await nas.call(19)
    assert nas.probes > 0
    assert nas.changes == []


async def test_a_line_on_which_even_probes_are_late_is_no_nas_that_is_away(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nas = Nas()
    nas.answers, nas.hangs = False, True
    await nursery.start(nas.health.run)
    with nas.health.waiting():
        for _ in range(20):
            await trio.sleep(3)
            nas.moves += 1
    assert nas.changes == []


@pytest.mark.parametrize("hangs", [True, False])
async def test_calls_end_within_5_seconds_once_the_nas_is_gone(
    autojump_clock: MockClock, nursery: trio.Nursery, expect_logs: Any, hangs: bool
) -> None:
    expect_logs("the NAS is away")
    nas = Nas()
    nas.answers, nas.hangs = False, hangs
    await nursery.start(nas.health.run)
    start = trio.current_time()
    with pytest.raises(remote.Unreachable):
        await nas.call(1000)
    assert trio.current_time() - start <= 5
    assert nas.changes == [False]


async def test_new_calls_fail_at_once_while_the_nas_is_away_and_go_on_when_it_is_back(
    autojump_clock: MockClock, nursery: trio.Nursery, expect_logs: Any
) -> None:
    expect_logs("the NAS is away")
    expect_logs("the NAS is back")
    nas = Nas()
    nas.answers = False
    await nursery.start(nas.health.run)
    with pytest.raises(remote.Unreachable):
        await nas.call(1000)
    start = trio.current_time()
    with pytest.raises(remote.Unreachable):
        await nas.call(1)
    assert trio.current_time() == start
    nas.answers = True
    await nas.changed.wait()
    assert trio.current_time() - start <= 3
    await nas.call(1)
    assert nas.changes == [False, True]


async def test_a_restart_shorter_than_3_seconds_is_waited_out(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    nas = Nas()
    nas.answers = False
    await nursery.start(nas.health.run)

    async def restart() -> None:
        await trio.sleep(3)
        nas.answers = True

    nursery.start_soon(restart)
    await nas.call(15)
    assert nas.changes == []


async def test_a_transfer_that_moves_needs_no_probe(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    nas = Nas()
    await nursery.start(nas.health.run)
    with nas.health.waiting():
        for _ in range(100):
            nas.moves += 1
            await trio.sleep(0.2)
    assert nas.probes == 0


async def test_an_idle_mount_asks_nothing(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    nas = Nas()
    await nursery.start(nas.health.run)
    await trio.sleep(10_000)
    assert nas.probes == 0


@pytest.mark.parametrize("hangs", [True, False])
async def test_who_wants_to_know_finds_out_although_nobody_waits_for_the_nas(
    autojump_clock: MockClock, nursery: trio.Nursery, expect_logs: Any, hangs: bool
) -> None:
    expect_logs("the NAS is away")
    expect_logs("the NAS is back")
    nas = Nas()
    await nursery.start(nas.health.run)
    await nas.health.find_out()
    await nas.health.find_out()
    assert (nas.probes, nas.changes) == (1, []), "once is enough for some time"
    nas.answers, nas.hangs = False, hangs
    await trio.sleep(100)
    start = trio.current_time()
    await nas.health.find_out()
    assert trio.current_time() - start <= 5
    assert nas.changes == [False]
    nas.answers, nas.hangs = True, False
    await nas.changed.wait()
    assert trio.current_time() - start <= 10
    assert nas.changes == [False, True], "and its return is noticed"


async def test_two_that_find_out_together_tell_it_once(
    autojump_clock: MockClock, nursery: trio.Nursery, expect_logs: Any
) -> None:
    expect_logs("the NAS is away")
    nas = Nas()
    nas.answers = False
    await nursery.start(nas.health.run)
    nursery.start_soon(nas.health.find_out)
    with pytest.raises(remote.Away):
        await nas.call(1000)
    await trio.sleep(5)
    assert nas.changes == [False]


@pytest.mark.parametrize("stranger", [remote.CertificateRefused("not the pinned one"), remote.NotANas("redirects")])
async def test_a_nas_in_whose_place_somebody_else_answers_is_away_at_once(
    autojump_clock: MockClock, nursery: trio.Nursery, expect_logs: Any, stranger: remote.RemoteError
) -> None:
    expect_logs("the NAS is away .(not the pinned one|redirects)")
    expect_logs("the NAS is back")
    nas = Nas()
    await nursery.start(nas.health.run)
    nas.stranger = stranger
    start = trio.current_time()
    assert await nas.health.is_gone_for(stranger)
    assert trio.current_time() == start
    with pytest.raises(remote.Away):
        await nas.call(1)
    nas.stranger = None
    await nas.changed.wait()
    assert trio.current_time() - start <= 3
    assert nas.changes == [False, True]


async def test_who_meets_a_stranger_while_the_nas_answers_others_is_told_so(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    nas = Nas()
    stranger = remote.NotANas("File Station is switched off")
    assert not await nas.health.is_gone_for(stranger), "and while it is being mounted: who mounts has to know"
    assert nas.probes == 0
    await nursery.start(nas.health.run)
    assert not await nas.health.is_gone_for(stranger)
    assert not await nas.health.is_gone_for(remote.NotFound("no such file"))
    nas.answers = False
    assert not await nas.health.is_gone_for(stranger)
    assert nas.probes == 2
    assert nas.changes == []
