"""Locks by inode number, made when they are needed and gone when they are free."""

from __future__ import annotations

from types import TracebackType

from synofs.content.quicklock import QuickLock


class NumberedLocks:
    def __init__(self) -> None:
        self._locks: dict[int, QuickLock] = {}
        self._users: dict[int, int] = {}

    def hold(self, *numbers: int) -> _Hold:
        """Hold the locks of these numbers, taken in ascending order, so that two holders cannot block each other."""
        return _Hold(self, sorted(set(numbers)))

    async def acquire(self, number: int) -> None:
        lock = self._locks.get(number)
        if lock is None:
            lock = self._locks[number] = QuickLock()
        self._users[number] = self._users.get(number, 0) + 1
        try:
            await lock.acquire()
        except BaseException:
            self._leave(number)
            raise

    def release(self, number: int) -> None:
        self._locks[number].release()
        self._leave(number)

    def _leave(self, number: int) -> None:
        self._users[number] -= 1
        if self._users[number] == 0:
            del self._users[number], self._locks[number]


class _Hold:
    def __init__(self, locks: NumberedLocks, numbers: list[int]) -> None:
        self._locks = locks
        self._numbers = numbers
        self._held: list[int] = []

    async def __aenter__(self) -> None:
        try:
            for number in self._numbers:
                await self._locks.acquire(number)
                self._held.append(number)
        except BaseException:
            self._release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _release(self) -> None:
        while self._held:
            self._locks.release(self._held.pop())
