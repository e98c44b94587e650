"""How long a call is waited for that changes the NAS.

Looking at something has a deadline, and that is all. A change may take its time: an upload goes on for hours, a disk
spins up, a folder is moved to another volume. Ending it half-way would leave its outcome unknown, so it is waited for
as long as the NAS shows signs of life; and not at all once the NAS is known to be away.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import trio

from synofs.fs.errors import DeadlineExceeded
from synofs.remote import Away

_LOOK_SECONDS = 0.25


class NasState(Protocol):
    @property
    def away(self) -> bool:
        """Nobody need wait for it."""

    def activity(self) -> int:
        """Grows with everything that comes from the NAS, or goes to it."""


@dataclass(frozen=True, slots=True)
class PatienceOptions:
    silent_seconds: float = 60.0  # since the last sign of life
    away_seconds: float = 0.75  # once it is away: what fails because of that shall say so in its own words


class _Wait:
    def __init__(self, scope: trio.CancelScope, activity: int) -> None:
        self.scope = scope
        self.activity = activity
        self.moved_at = trio.current_time()
        self.away_at: float | None = None
        self.verdict: Exception | None = None


class Patience:
    """Without a `nas`, or while `run` is not running, everything is waited for."""

    def __init__(self, options: PatienceOptions | None = None) -> None:
        self.options = options or PatienceOptions()
        self.nas: NasState | None = None
        self._waits: set[_Wait] = set()
        self._somebody = trio.Event()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what may wait for the NAS. Raises `Away` or `DeadlineExceeded` when that has no point."""
        wait = _Wait(trio.CancelScope(), self._activity())
        self._waits.add(wait)
        self._somebody.set()
        try:
            with wait.scope:
                yield
        finally:
            self._waits.discard(wait)
        if wait.scope.cancelled_caught and wait.verdict is not None:
            raise wait.verdict

    def _activity(self) -> int:
        return self.nas.activity() if self.nas is not None else 0

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        task_status.started()
        while True:
            if not self._waits or self.nas is None:
                self._somebody = trio.Event()
                await self._somebody.wait()
            await trio.sleep(_LOOK_SECONDS)
            if self.nas is not None:
                self._look(self.nas)

    def _look(self, nas: NasState) -> None:
        now, activity, away = trio.current_time(), nas.activity(), nas.away
        for wait in list(self._waits):
            if activity != wait.activity:
                wait.activity, wait.moved_at = activity, now
            if not away:
                wait.away_at = None
            elif wait.away_at is None:
                wait.away_at = now
            if wait.away_at is not None and now - wait.away_at >= self.options.away_seconds:
                wait.verdict = Away("the NAS is away")
            elif now - wait.moved_at >= self.options.silent_seconds:
                wait.verdict = DeadlineExceeded(f"no sign of life for {self.options.silent_seconds:.0f} s")
            else:
                continue
            wait.scope.cancel()

    async def end_when_away(self, scope: trio.CancelScope, seconds: float) -> None:
        """Cancel the scope when the NAS has been away for so long without a break."""
        away_at: float | None = None
        while not scope.cancel_called:
            if self.nas is None or not self.nas.away:
                away_at = None
            elif away_at is None:
                away_at = trio.current_time()
            elif trio.current_time() - away_at >= seconds:
                scope.cancel()
            await trio.sleep(_LOOK_SECONDS)
