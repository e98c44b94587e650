"""The upload queue: what is dirty, what is on its way, what was refused.

The states of an entry, who sets them:

    idle --enqueue--> queued --there is room--> sending --put returned, nothing changed--> (gone: clean)
                         ^                          |--put returned, changed meanwhile--> idle or queued
                         |                          |--temporary failure--> waiting --backoff is over--> queued
                         +--------------------------+--final refusal--> (gone: in the recovery folder)

The queue knows its entries only through the three callables it is given, so it can be tested without files or
network. Temporary failures are retried for ever, with growing pauses; a person's action is needed only for final
ones. Everything changes in trio's thread between two awaits.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from typing import Generic, NamedTuple, TypeVar

import trio

from synofs.remote import Away

log = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class WritebackOptions:
    in_flight: int = 4  # items that `send` works on at once
    first_pause_seconds: float = 1.0
    longest_pause_seconds: float = 300.0
    longest_hold_seconds: float = 2.0  # how long uploads wait for somebody who writes one file after the other


class Outcome(Enum):
    CLEAN = 1  # the NAS has the present content
    DIRTY = 2  # the NAS has some content, but it has changed since; not to be sent now
    AGAIN = 3  # the same, and it is to be sent again


class State(Enum):
    IDLE = "open"
    QUEUED = "queued"
    SENDING = "sending"
    WAITING = "waiting"


class Entry(Generic[_T]):
    """One dirty thing in the queue."""

    __slots__ = ("again", "attempts", "due", "error", "item", "name", "refused", "state", "step")

    def __init__(self, item: _T, name: str) -> None:
        self.item = item
        self.name = name
        self.state = State.IDLE
        self.due = 0.0
        self.attempts = 0
        self.again = False  # asked for while it was being sent
        self.error: Exception | None = None
        self.refused = False  # `error` is the NAS's last word
        self.step = trio.Event()  # set and replaced at each change of state

    def to(self, state: State) -> None:
        self.state = state
        self.step.set()
        self.step = trio.Event()


class _Wait(NamedTuple, Generic[_T]):
    """An entry's pause. `order` decides between equal ones, so that entries are never compared."""

    due: float
    order: int
    entry: Entry[_T]


class Writeback(Generic[_T]):
    def __init__(
        self,
        send: Callable[[_T], Awaitable[Outcome]],
        is_temporary: Callable[[Exception], bool],
        refuse: Callable[[_T, Exception], Awaitable[None]],
        options: WritebackOptions,
    ) -> None:
        self._send = send
        self._is_temporary = is_temporary
        self._refuse = refuse
        self._options = options
        self._entries: dict[int, Entry[_T]] = {}
        self._queued: deque[Entry[_T]] = deque()  # may hold some that have left that state
        self._waiting: list[_Wait[_T]] = []  # those that have failed; a heap; the same holds
        self._lingering: deque[_Wait[_T]] = deque()  # those that linger, in their order; the same holds
        self._order = count()
        self._held_since = self._held_until = float("-inf")
        self._wake = trio.Event()
        self._sending = 0
        self._paused: set[str] = set()  # the reasons

    # ----- asking -----------------------------------------------------------------------------------------------

    @property
    def entries(self) -> list[Entry[_T]]:
        return list(self._entries.values())

    def pending(self) -> int:
        """Everything that is not on the NAS yet."""
        return len(self._entries)

    def unsent(self) -> int:
        """What waits for the NAS, not counting files that are still being written."""
        return sum(entry.state is not State.IDLE for entry in self._entries.values())

    @property
    def paused(self) -> bool:
        return bool(self._paused)

    # ----- changing ---------------------------------------------------------------------------------------------

    def add(self, item: _T, name: str) -> None:
        """Know of a dirty item; it is not sent before `enqueue`."""
        self._entries.setdefault(id(item), Entry(item, name))

    def enqueue(self, item: _T, name: str, *, linger_seconds: float = 0.0) -> None:
        """Send it as soon as there is room, or when it has lingered: a rename or a change of times that follows a
        close at once then costs no second upload."""
        self.add(item, name)
        entry = self._entries[id(item)]
        entry.name = name
        entry.again = entry.state is State.SENDING
        if linger_seconds and entry.state is not State.SENDING:
            self._hold(linger_seconds)
            self._linger(entry, linger_seconds)
            if len(self._lingering) > 1:
                return  # the queue wakes up for another one before
        elif entry.state in (State.IDLE, State.WAITING):
            self._queue(entry)
        self._wake.set()

    def is_coming(self, item: _T) -> bool:
        """It will be sent, and nothing has failed."""
        entry = self._entries.get(id(item))
        return entry is not None and entry.error is None and entry.state in (State.QUEUED, State.WAITING)

    def _hold(self, linger_seconds: float) -> None:
        """Somebody is writing one file after the other: let them have the processor, for a while."""
        now = trio.current_time()
        if now >= self._held_until:
            self._held_since = now
        self._held_until = min(now + linger_seconds, self._held_since + self._options.longest_hold_seconds)

    def discard(self, item: _T) -> None:
        """Nobody wants it any more. An upload under way is the caller's to wait for."""
        entry = self._entries.pop(id(item), None)
        if entry is not None:
            if not entry.refused:
                entry.error = None
            entry.to(State.IDLE)

    def rename(self, item: _T, name: str) -> None:
        """It is called so from now on, in log lines."""
        entry = self._entries.get(id(item))
        if entry is not None:
            entry.name = name

    def retry_all(self) -> None:
        """The NAS is back: do not wait out the pauses."""
        for entry in self._entries.values():
            if entry.state is State.WAITING:
                self._queue(entry)
        self._wake.set()

    def pause(self, why: str = "") -> None:
        """Begin nothing new until `resume` of the same reason."""
        self._paused.add(why)

    def resume(self, why: str = "") -> None:
        self._paused.discard(why)
        self._wake.set()

    async def settle(self, item: _T, *, patience_seconds: float) -> None:
        """Wait until the item has left the queue or went back to idle.

        Raises its last error if it was refused, or if it could not be sent within `patience_seconds` of failures:
        the queue goes on trying, but the caller must not be told that the NAS has it.
        """
        entry = self._entries.get(id(item))
        if entry is None:
            return
        failing_since: float | None = None
        while self._entries.get(id(item)) is entry and entry.state is not State.IDLE:
            if entry.state is State.WAITING and entry.error is not None:
                failing_since = failing_since if failing_since is not None else trio.current_time()
                left = failing_since + patience_seconds - trio.current_time()
                if left <= 0:
                    raise entry.error
                with trio.move_on_after(left):
                    await entry.step.wait()
            else:
                await entry.step.wait()
        if entry.error is not None:
            raise entry.error

    async def drain(self) -> None:
        """Wait until nothing is unsent."""
        while True:
            entry = next((entry for entry in self._entries.values() if entry.state is not State.IDLE), None)
            if entry is None:
                return
            await entry.step.wait()

    # ----- running ----------------------------------------------------------------------------------------------

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                self._wake = trio.Event()
                self._start_due(nursery)
                with trio.move_on_after(self._seconds_to_next()):
                    await self._wake.wait()

    def _start_due(self, nursery: trio.Nursery) -> None:
        if self._paused:
            return
        self._queue_due()
        while self._queued and self._sending < self._options.in_flight:
            entry = self._queued.popleft()
            if entry.state is State.QUEUED and self._entries.get(id(entry.item)) is entry:
                entry.to(State.SENDING)
                self._sending += 1
                nursery.start_soon(self._send_one, entry)

    def _queue_due(self) -> None:
        """Those whose pause is over; while somebody is writing, only those that failed before."""
        now = trio.current_time()
        while self._waiting and self._waiting[0].due <= now:
            self._end_wait(heappop(self._waiting))
        while self._lingering and max(self._lingering[0].due, self._held_until) <= now:
            self._end_wait(self._lingering.popleft())

    def _end_wait(self, wait: _Wait[_T]) -> None:
        """Unless it was queued, discarded or put off meanwhile."""
        if wait.entry.state is State.WAITING and wait.entry.due == wait.due:
            self._queue(wait.entry)

    def _seconds_to_next(self) -> float:
        if self._paused:
            return float("inf")
        due = self._waiting[0].due if self._waiting else float("inf")
        if self._lingering:
            due = min(due, max(self._lingering[0].due, self._held_until))
        return max(0.0, due - trio.current_time())

    def _queue(self, entry: Entry[_T]) -> None:
        entry.to(State.QUEUED)
        self._queued.append(entry)

    async def _send_one(self, entry: Entry[_T]) -> None:
        try:
            outcome = await self._send(entry.item)
        except Exception as error:
            await self._failed(entry, error)
        else:
            entry.error = None
            entry.attempts = 0
            if outcome is Outcome.CLEAN:
                self._leave(entry)
            elif self._entries.get(id(entry.item)) is entry:
                again, entry.again = entry.again or outcome is Outcome.AGAIN, False
                if again:
                    self._queue(entry)
                else:
                    entry.to(State.IDLE)
        finally:
            self._sending -= 1
            self._wake.set()

    async def _failed(self, entry: Entry[_T], error: Exception) -> None:
        entry.error = error
        entry.attempts += 1
        if self._entries.get(id(entry.item)) is not entry:
            return
        if self._is_temporary(error):
            options = self._options
            pause = min(options.longest_pause_seconds, options.first_pause_seconds * 2 ** min(entry.attempts - 1, 30))
            level = logging.WARNING if entry.attempts in (1, 10) else logging.INFO
            if isinstance(error, Away):  # that was said, once, and `synofs status` tells how many files wait
                level = logging.DEBUG
            log.log(
                level, "%s: not sent yet (attempt %d, next in %.0f s): %s", entry.name, entry.attempts, pause, error
            )
            self._wait(entry, pause * random.uniform(0.75, 1.25))
            return
        log.error("%s: the NAS refuses it for good: %s", entry.name, error)
        entry.refused = True  # putting it aside discards it here: who waits is told all the same
        try:
            await self._refuse(entry.item, error)
        except Exception:
            log.exception("%s: it could not be put aside, and stays in the queue", entry.name)
            entry.refused = False
            self._wait(entry, self._options.longest_pause_seconds)
        else:
            self._leave(entry)

    def _wait(self, entry: Entry[_T], seconds: float) -> None:
        entry.due = trio.current_time() + seconds
        entry.to(State.WAITING)
        heappush(self._waiting, _Wait(entry.due, next(self._order), entry))

    def _linger(self, entry: Entry[_T], seconds: float) -> None:
        entry.due = trio.current_time() + seconds
        entry.to(State.WAITING)
        self._lingering.append(_Wait(entry.due, next(self._order), entry))

    def _leave(self, entry: Entry[_T]) -> None:
        if self._entries.get(id(entry.item)) is entry:  # else it became dirty again meanwhile, as a new entry
            del self._entries[id(entry.item)]
        entry.to(State.IDLE)
