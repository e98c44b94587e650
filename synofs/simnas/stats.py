"""Counters: what was asked of the simulated NAS since the start or the last reset."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRANSFERS = ("SYNO.FileStation.Download.download", "SYNO.FileStation.Upload.upload")


class Stats:
    """Counts of API calls (refused ones too), of body bytes, and the highest number of calls at one time."""

    def __init__(self) -> None:
        self.connections = 0
        self._running = 0
        self._running_transfers = 0
        self.reset()

    def reset(self) -> None:
        self.calls: Counter[str] = Counter()
        self.nested: Counter[str] = Counter()  # within a compound call, which is counted above
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

    def as_json(self, sessions: int) -> dict[str, Any]:
        return {
            "calls": dict(sorted(self.calls.items())),
            "nested": dict(sorted(self.nested.items())),
            "bytes_sent": self.bytes_sent,
            "bytes_received": self.bytes_received,
            "sessions": sessions,
            "connections": self.connections,
            "peak_concurrency": self.peak_concurrency,
            "peak_transfers": self.peak_transfers,
        }
