"""Time that may be spent on waiting: so much at once, and a small part of all time in the long run."""

from __future__ import annotations

import math

import trio


class Allowance:
    def __init__(self, most_seconds: float, part: float) -> None:
        self._most = self._left = most_seconds
        self._part = part  # of the time that goes by is given back
        self._counted_at = math.inf

    @property
    def seconds(self) -> float:
        """What is left; 0 or less: nothing."""
        now = trio.current_time()
        self._left = min(self._most, self._left + self._part * max(0.0, now - self._counted_at))
        self._counted_at = now
        return self._left

    def spend(self, seconds: float) -> None:
        self._left -= seconds
