"""Free space, as `df` asks for it: always the last known answer, renewed behind the caller's back."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import trio

from synofs.remote import RemoteError, RemoteStore, Space

TTL_SECONDS = 60.0  # editors poll statfs (s3ql caches 30 s for the same reason)


class SpaceCache:
    def __init__(self, store: RemoteStore, shares: Callable[[], Sequence[str]]) -> None:
        """`shares` names the shares that the mount shows and already knows of."""
        self._store = store
        self._shares = shares
        self._known: Space | None = None
        self._asked_at = float("-inf")

    def last_known(self) -> Space:
        """Never waits. Zeros until the NAS has answered once: `df` leaves such a line out."""
        return self._known or Space(0, 0)

    def is_old(self) -> bool:
        return trio.current_time() > self._asked_at + TTL_SECONDS

    async def renew(self) -> None:
        """Ask the NAS. Several shares of one volume count once; an error keeps the last answer."""
        self._asked_at = trio.current_time()
        try:
            volumes = {await self._store.space(share) for share in self._shares()}
        except RemoteError:
            return
        known = [space for space in volumes if space is not None]
        if known:
            self._known = Space(sum(space.total_bytes for space in known), sum(space.free_bytes for space in known))
