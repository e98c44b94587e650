"""An old answer in place of a late one: what was listed before is shown while a slow NAS is asked for news of it.

Somebody who looks waits a moment for the NAS. If it takes longer, what is known is shown, as long as it is not older
than the user allows; the question goes on, and what it finds changed is told to the kernel. Having waited once, nobody
waits again until the NAS has answered in time: an `ls -l` of a thousand files waits for one moment, not for a thousand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

_SLOW_SECONDS = 10.0  # for so long after a wait in vain the NAS counts as slow


@dataclass(frozen=True, slots=True)
class StaleOptions:
    max_seconds: float = 3600.0  # how old an answer may be, beyond its TTL; 0: always wait
    wait_seconds: float = 2.0  # a moment


class Staleness:
    """One for all listings and attributes of a mount."""

    def __init__(self, options: StaleOptions | None = None) -> None:
        self.options = options or StaleOptions()
        self.answers = 0  # that were old
        self._slow_until = float("-inf")

    def allows(self, fresh_until: float) -> bool:
        """May an answer still be shown whose TTL ended at that time?"""
        return self.options.max_seconds > 0 and trio.current_time() < fresh_until + self.options.max_seconds

    async def wait(self, begun_at: float, renewal: Callable[[], Awaitable[None]]) -> bool:
        """Wait a moment for a renewal that began at that time; False if it takes longer. What it raises comes through.
        The renewal must be one that goes on when nobody waits for it."""
        now = trio.current_time()
        until = now if now < self._slow_until else begun_at + self.options.wait_seconds
        with trio.move_on_at(until) as limit:
            await renewal()
        if limit.cancelled_caught:
            self._slow_until = now + _SLOW_SECONDS
            self.answers += 1
            return False
        self._slow_until = float("-inf")
        return True
