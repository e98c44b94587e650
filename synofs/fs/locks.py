"""Locks by inode number, made when they are needed and gone when they are free."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio


class NumberedLocks:
    def __init__(self) -> None:
        self._locks: dict[int, trio.Lock] = {}
        self._users: dict[int, int] = {}

    @asynccontextmanager
    async def hold(self, *numbers: int) -> AsyncIterator[None]:
        """Hold the locks of these numbers, taken in ascending order, so that two holders cannot block each other."""
        async with AsyncExitStack() as stack:
            for number in sorted(set(numbers)):
                await stack.enter_async_context(self._one(number))
            yield

    @asynccontextmanager
    async def _one(self, number: int) -> AsyncIterator[None]:
        lock = self._locks.setdefault(number, trio.Lock())
        self._users[number] = self._users.get(number, 0) + 1
        try:
            async with lock:
                yield
        finally:
            self._users[number] -= 1
            if self._users[number] == 0:
                del self._users[number], self._locks[number]
