"""Who may call the NAS, and how many at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.filestation.lanes import Lane, LaneOptions, Lanes


class Crowd:
    """Tasks that enter lanes and stay until they are let go."""

    def __init__(self, lanes: Lanes, nursery: trio.Nursery) -> None:
        self.lanes = lanes
        self.nursery = nursery
        self.inside: list[str] = []
        self.entered: list[str] = []
        self._exits: dict[str, trio.Event] = {}

    async def enter(self, name: str, lane: Lane) -> None:
        self._exits[name] = trio.Event()
        self.nursery.start_soon(self._stay, name, lane)
        await wait_all_tasks_blocked()

    async def _stay(self, name: str, lane: Lane) -> None:
        async with self.lanes.enter(lane) as passage:
            self.entered.append(name)
            self.inside.append(name)
            await self._exits[name].wait()
            passage.went_well()
            self.inside.remove(name)

    async def leave(self, name: str) -> None:
        self._exits[name].set()
        await wait_all_tasks_blocked()


@asynccontextmanager
async def crowd(max_requests: int) -> AsyncIterator[Crowd]:
    async with trio.open_nursery() as nursery:
        yield Crowd(Lanes(LaneOptions(max_requests)), nursery)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("max_requests", "bulk"), [(1, 1), (2, 1), (3, 2), (6, 4), (9, 6), (12, 8)])
def test_bulk_has_its_share_of_the_lanes(max_requests: int, bulk: int) -> None:
    assert LaneOptions(max_requests).max_bulk == bulk


@pytest.mark.trio
async def test_no_more_than_max_requests_are_inside() -> None:
    async with crowd(6) as people:
        for number in range(10):
            await people.enter(f"m{number}", Lane.METADATA)
        assert people.inside == [f"m{number}" for number in range(6)]
        await people.leave("m2")
        assert people.inside[-1] == "m6"
        assert len(people.inside) == 6
        assert people.lanes.state().waiting == 3


@pytest.mark.trio
async def test_metadata_does_not_wait_behind_bulk() -> None:
    async with crowd(6) as people:
        for number in range(8):
            await people.enter(f"b{number}", Lane.BULK)
        assert people.inside == ["b0", "b1", "b2", "b3"]
        await people.enter("m0", Lane.METADATA)
        await people.enter("m1", Lane.METADATA)
        assert people.inside[-2:] == ["m0", "m1"]


@pytest.mark.trio
async def test_waiting_metadata_goes_before_waiting_bulk() -> None:
    async with crowd(3) as people:
        for name, lane in [("b0", Lane.BULK), ("m0", Lane.METADATA), ("m1", Lane.METADATA)]:
            await people.enter(name, lane)
        await people.enter("b1", Lane.BULK)
        await people.enter("m2", Lane.METADATA)
        await people.leave("m0")
        assert people.entered[-1] == "m2"


@pytest.mark.trio
async def test_a_tree_walk_without_end_does_not_starve_the_only_transfer() -> None:
    async with crowd(1) as people:
        await people.enter("m0", Lane.METADATA)
        await people.enter("b0", Lane.BULK)
        await people.enter("m1", Lane.METADATA)
        await people.leave("m0")
        assert people.inside == ["b0"]


@pytest.mark.trio
async def test_background_goes_when_nobody_else_waits_and_leaves_lanes_free() -> None:
    async with crowd(4) as people:
        for number in range(4):
            await people.enter(f"m{number}", Lane.METADATA)
        for number in range(3):
            await people.enter(f"g{number}", Lane.BACKGROUND)
        await people.enter("b0", Lane.BULK)
        await people.leave("m0")
        assert people.entered[-1] == "b0"
        for name in ("m1", "m2", "m3"):
            await people.leave(name)
        assert people.inside == ["b0", "g0", "g1"]
        await people.enter("m4", Lane.METADATA)
        assert people.inside[-1] == "m4"


@pytest.mark.trio
async def test_a_sign_in_goes_first() -> None:
    async with crowd(1) as people:
        await people.enter("m0", Lane.METADATA)
        await people.enter("m1", Lane.METADATA)
        await people.enter("s0", Lane.SIGN_IN)
        await people.leave("m0")
        assert people.inside == ["s0"]


@pytest.mark.trio
async def test_giving_up_while_waiting_leaves_the_queue() -> None:
    async with crowd(1) as people:
        await people.enter("m0", Lane.METADATA)
        with trio.move_on_after(0):
            async with people.lanes.enter(Lane.METADATA):
                raise AssertionError("there was no room")
        assert people.lanes.state().waiting == 0
        await people.leave("m0")
        await people.enter("m1", Lane.METADATA)
        assert people.inside == ["m1"]


@pytest.mark.trio
async def test_a_place_given_to_one_who_is_cancelled_at_that_moment_is_not_lost() -> None:
    lanes = Lanes(LaneOptions(1))
    with trio.CancelScope() as scope:
        scope.cancel()
        async with lanes.enter(Lane.METADATA):
            raise AssertionError("cancelled before it went in")
    assert scope.cancelled_caught
    assert lanes.state().active == 0


# ----- load -------------------------------------------------------------------------------------------------------


@pytest.mark.trio
async def test_overload_halves_the_lanes_once_for_all_that_were_inside() -> None:
    lanes = Lanes(LaneOptions(6))
    async with lanes.enter(Lane.METADATA) as first, lanes.enter(Lane.METADATA) as second:
        first.overloaded()
        assert lanes.state().allowed == 3
        second.overloaded()
        assert lanes.state().allowed == 3
    async with lanes.enter(Lane.METADATA) as later:
        later.overloaded()
    assert lanes.state().allowed == 1.5


@pytest.mark.trio
async def test_one_lane_is_always_left() -> None:
    lanes = Lanes(LaneOptions(6))
    for _ in range(10):
        async with lanes.enter(Lane.METADATA) as passage:
            passage.overloaded()
    assert lanes.state().allowed == 1
    async with crowd(6) as people:
        people.lanes = lanes
        await people.enter("b0", Lane.BULK)
        assert people.inside == ["b0"]


@pytest.mark.trio
async def test_lanes_come_back_slowly_and_not_beyond_the_maximum() -> None:
    lanes = Lanes(LaneOptions(6))
    async with lanes.enter(Lane.METADATA) as passage:
        passage.overloaded()
    for _ in range(20):
        async with lanes.enter(Lane.METADATA) as passage:
            passage.went_well()
    assert lanes.state().allowed == pytest.approx(4)
    for _ in range(100):
        async with lanes.enter(Lane.METADATA) as passage:
            passage.went_well()
    assert lanes.state().allowed == 6


@pytest.mark.trio
async def test_bulk_shrinks_with_the_lanes() -> None:
    async with crowd(6) as people:
        async with people.lanes.enter(Lane.METADATA) as passage:
            passage.overloaded()
        for number in range(4):
            await people.enter(f"b{number}", Lane.BULK)
        assert people.inside == ["b0", "b1"]
        await people.enter("m0", Lane.METADATA)
        assert people.inside == ["b0", "b1", "m0"]


@pytest.mark.trio
async def test_small_files_may_use_every_lane_but_let_metadata_first() -> None:
    async with crowd(max_requests=2) as all_:
        await all_.enter("small 1", Lane.SMALL)
        await all_.enter("small 2", Lane.SMALL)
        assert all_.inside == ["small 1", "small 2"]
        await all_.enter("bulk", Lane.BULK)
        await all_.enter("small 3", Lane.SMALL)
        await all_.enter("listing", Lane.METADATA)
        await all_.leave("small 1")
        assert all_.inside == ["small 2", "listing"]
        await all_.leave("small 2")
        assert all_.inside == ["listing", "small 3"]
        await all_.leave("small 3")
        assert all_.inside == ["listing", "bulk"]
