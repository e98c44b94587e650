"""A link of limited speed, shared by all connections."""

from __future__ import annotations

import asyncio


class Link:
    """One direction of a link: `pass_bytes` returns when the bytes would have gone through.

    The bytes queue in the order of the calls, so that connections share the link fairly if they send in small
    pieces of similar size.
    """

    def __init__(self, mbit_per_second: float) -> None:
        self.set(mbit_per_second)

    def set(self, mbit_per_second: float) -> None:
        """From the next piece on; 0: no limit."""
        self._bytes_per_second = mbit_per_second * 125_000
        self._free_at = 0.0

    @property
    def limited(self) -> bool:
        return self._bytes_per_second > 0

    async def pass_bytes(self, count: int) -> None:
        if not self.limited or not count:
            return
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + count / self._bytes_per_second
        await asyncio.sleep(self._free_at - now)
