"""Counters: what was asked of the simulated NAS since the start or the last reset."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_KEPT_CALLS = 20_000
_ABOUT_CHARACTERS = 2_000
_TRANSFERS = ("SYNO.FileStation.Download.download", "SYNO.FileStation.Upload.upload")


class Stats:
    """Counts of API calls (refused ones too), of body bytes, and the highest number of calls at one time."""

    def __init__(self) -> None:
        self.connections = 0
        self._running = 0
        self._running_transfers = 0
        self._last: deque[tuple[float, str]] = deque(maxlen=_KEPT_CALLS)
        self.reset()

    def reset(self) -> None:
        self.calls: Counter[str] = Counter()
        self.nested: Counter[str] = Counter()  # within a compound call, which is counted above
        self.disk_turns = 0  # pieces of work that a thread was given, each some 0.1 ms of processor time by itself
        self.bytes_sent = 0
        self.bytes_received = 0
        self.connections = 0
        self.peak_concurrency = self._running
        self.peak_transfers = self._running_transfers

    @contextmanager
    def call(self, name: str) -> Iterator[None]:
        """Counts one call, running until the end of the block."""
        transfer = name in _TRANSFERS
        self.calls[name] += 1
        self._running += 1
        self._running_transfers += transfer
        self.peak_concurrency = max(self.peak_concurrency, self._running)
        self.peak_transfers = max(self.peak_transfers, self._running_transfers)
        try:
            yield
        finally:
            self._running -= 1
            self._running_transfers -= transfer

    def ended(self, began_at: float, name: str, about: str, outcome: str) -> None:
        """Remember a call, of those that came last. `began_at`: seconds since 1970; `about`: the texts it gave."""
        took = time.time() - began_at
        self._last.append((began_at, f"{name} {about[:_ABOUT_CHARACTERS]}: {outcome}, {took * 1000:.0f} ms"))

    def last(self, about: str) -> list[tuple[float, str]]:
        """When calls began that gave this text, and how they ended."""
        return [call for call in self._last if about in call[1]]

    def as_json(self, sessions: int) -> dict[str, Any]:
        return {
            "calls": dict(sorted(self.calls.items())),
            "nested": dict(sorted(self.nested.items())),
            "disk_turns": self.disk_turns,
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "sessions": sessions,
            "connections": self.connections,
            "peak_concurrency": self.peak_concurrency,
            "peak_transfers": self.peak_transfers,
        }
