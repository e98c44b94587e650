"""Whose turn it is to wait for the kernel's next call.

pyfuse3 serves calls in tasks of one loop: take a lock, wait for the device, give the lock back, read a call, serve it,
begin again. trio's lock goes to the next task at once, so each call wakes two: one that serves it, and one that takes
its place at the device. Most calls are answered from memory, without waiting for anything; their task could have kept
the place. Here it does: the place goes to another task when the step of the one that left it ends, which is when it
waits for something else, or is over. That takes a quarter off the processor time of a call that is answered at once.

pyfuse3 looks up what it needs of trio in its attribute `trio` (its asyncio mode puts another one there, too).
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from types import TracebackType

import pyfuse3
import trio

# So many calls that are there already are served before other tasks run: at some 50 us each, they hardly notice.
_IN_A_ROW = 8


class Turns(trio.abc.Instrument):
    """In the place of pyfuse3's lock, while it is one of trio's instruments."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._poll = select.poll()
        self._fd = -1
        self._in_a_row = 0

    async def __aenter__(self) -> None:
        if self._taken:
            await self._waiting.park()  # who wakes us takes it for us
        else:
            self._taken = True

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._taken = False

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if not self._taken and self._waiting:
            self._taken = True
            self._waiting.unpark()

    async def wait_readable(self, fd: int) -> None:
        """Return when there is a call to read: without looking at other tasks, if it is there already."""
        if fd != self._fd:
            self._fd = fd
            self._poll.register(fd, select.POLLIN)
        if self._in_a_row < _IN_A_ROW and self._poll.poll(0):
            self._in_a_row += 1
            return
        self._in_a_row = 0
        await trio.lowlevel.wait_readable(fd)


class _Instead:
    """A module, with some of its attributes replaced."""

    def __init__(self, module: object, **own: object) -> None:
        self._module = module
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> object:
        return getattr(self._module, name)


@contextlib.contextmanager
def kept_while_answers_are_at_hand() -> Iterator[None]:
    """pyfuse3's loop, if it is begun within, works so."""
    turns = Turns()
    lowlevel = _Instead(trio.lowlevel, wait_readable=turns.wait_readable)
    trio.lowlevel.add_instrument(turns)
    setattr(pyfuse3, "trio", _Instead(trio, Lock=lambda: turns, lowlevel=lowlevel))  # noqa: B010  # it has no such type
    try:
        yield
    finally:
        setattr(pyfuse3, "trio", trio)  # noqa: B010
        trio.lowlevel.remove_instrument(turns)
