"""How many calls are under way at once, and how many of them may move file contents.

Metadata never waits behind bulk: bulk calls may fill only a part of the lanes. When the NAS says that it is too
busy, the number of lanes is halved; every call that goes well brings a small part of a lane back. A waiting call
holds no thread and no connection.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import IntEnum

import trio


class Lane(IntEnum):
    """What a call is to the NAS, and who goes first."""

    SIGN_IN = 0  # everybody else waits for it, so it waits for nobody
    METADATA = 1
    SMALL = 2  # a small file: over as soon as a listing is, so it may use every lane
    BULK = 3
    BACKGROUND = 4  # nobody waits for it: goes when nobody else does, and never takes more than a part of the lanes


@dataclass(frozen=True)
class LaneOptions:
    max_requests: int = 6
    # A clean call gives this part of a lane back: 20 calls make one, as a guess at "slowly".
    regained_per_call: float = 0.05

    @property
    def max_bulk(self) -> int:
        """4 of 6, and the same share of other numbers."""
        return max(1, self.max_requests * 2 // 3)

    @property
    def max_background(self) -> int:
        """3 of 6: whoever comes finds a free lane."""
        return max(1, self.max_requests // 2)


@dataclass(frozen=True)
class LaneState:
    """For people and programs that want to see it."""

    max_requests: int
    allowed: float
    active: int
    waiting: int


class Lanes:
    """`async with lanes.enter(Lane.METADATA): ...` around everything that talks to the NAS."""

    def __init__(self, options: LaneOptions) -> None:
        self._options = options
        self._allowed = float(options.max_requests)
        self._active = {lane: 0 for lane in Lane}
        self._waiting: dict[Lane, deque[_Ticket]] = {lane: deque() for lane in Lane}
        self._arrivals = 0
        self._entered = 0  # how many have entered so far; numbers them
        self._entered_at_last_cut = 0

    def state(self) -> LaneState:
        waiting = sum(len(queue) for queue in self._waiting.values())
        return LaneState(self._options.max_requests, self._allowed, self._active_total, waiting)

    @asynccontextmanager
    async def enter(self, lane: Lane) -> AsyncIterator[Passage]:
        """Waits for a place. The call reports on the `Passage` how the NAS took it."""
        ticket = _Ticket(self._arrivals)
        self._arrivals += 1
        self._waiting[lane].append(ticket)
        self._admit()
        try:
            if ticket.called.is_set():
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await ticket.called.wait()
        except trio.Cancelled:
            if ticket.called.is_set():
                self._leave(lane)
            else:
                self._waiting[lane].remove(ticket)
            raise
        try:
            yield Passage(self, ticket.number)
        finally:
            self._leave(lane)

    def went_well(self) -> None:
        self._allowed = min(self._options.max_requests, self._allowed + self._options.regained_per_call)

    def overloaded(self, number: int) -> None:
        """Halve, but once for all the calls that were under way together: they tell of the same overload."""
        if number >= self._entered_at_last_cut:
            self._allowed = max(1.0, self._allowed / 2)
            self._entered_at_last_cut = self._entered

    # ----- admission: every change of who may go is made here, without an await ---------------------------------

    @property
    def _active_total(self) -> int:
        return sum(self._active.values())

    def _leave(self, lane: Lane) -> None:
        self._active[lane] -= 1
        self._admit()

    def _admit(self) -> None:
        while self._active_total < math.floor(self._allowed):
            lane = self._next_lane()
            if lane is None:
                return
            ticket = self._waiting[lane].popleft()
            ticket.number = self._entered
            self._entered += 1
            self._active[lane] += 1
            ticket.called.set()

    def _next_lane(self) -> Lane | None:
        if self._waiting[Lane.SIGN_IN]:
            return Lane.SIGN_IN
        metadata = self._waiting[Lane.METADATA]
        transfer = self._next_transfer()
        if metadata and transfer is not None and self._active[Lane.SMALL] + self._active[Lane.BULK] == 0:
            # A tree walk that never ends must not keep the only transfer out: who came first goes first.
            first = self._waiting[transfer][0].arrival < metadata[0].arrival
            return transfer if first else Lane.METADATA
        return Lane.METADATA if metadata else transfer or self._next_background()

    def _next_transfer(self) -> Lane | None:
        """Small ones first: they are over soon."""
        if self._waiting[Lane.SMALL]:
            return Lane.SMALL
        bulk_may = self._waiting[Lane.BULK] and self._active[Lane.BULK] < self._allowed_bulk
        return Lane.BULK if bulk_may else None

    def _next_background(self) -> Lane | None:
        may = self._waiting[Lane.BACKGROUND] and self._active[Lane.BACKGROUND] < self._options.max_background
        return Lane.BACKGROUND if may else None

    @property
    def _allowed_bulk(self) -> int:
        share = self._allowed / self._options.max_requests
        return max(1, math.floor(self._options.max_bulk * share))


class _Ticket:
    def __init__(self, arrival: int) -> None:
        self.arrival = arrival
        self.number = -1  # when called: the how-manieth to enter
        self.called = trio.Event()


class Passage:
    """One call's stay in a lane."""

    def __init__(self, lanes: Lanes, number: int) -> None:
        self._lanes = lanes
        self._number = number

    def went_well(self) -> None:
        self._lanes.went_well()

    def overloaded(self) -> None:
        self._lanes.overloaded(self._number)
