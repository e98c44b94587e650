"""Free space, as `df` asks for it: always the last known answer, renewed behind the caller's back."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import trio

from synofs.content.spacenote import SpaceNote
from synofs.remote import RemoteError, RemoteStore, Space

log = logging.getLogger(__name__)

TTL_SECONDS = 60.0  # editors poll statfs (s3ql caches 30 s for the same reason)


class SpaceCache:
    def __init__(self, store: RemoteStore, share: str | None, note: SpaceNote | None = None) -> None:
        """`share`: the only one that the mount shows. `note`: what an earlier mount knew."""
        self._store = store
        self._share = share
        self._note = note
        self._known = note.load() if note is not None else None
        self._asked_at = float("-inf")

    def last_known(self) -> Space:
        """Never waits. Zeros until the NAS has answered once to this mount or an earlier one: `df` leaves them out."""
        return self._known or Space(0, 0)

    def take_turn(self) -> bool:
        """Whether the caller shall renew it now. True to one caller only."""
        if trio.current_time() <= self._asked_at + TTL_SECONDS:
            return False
        self._asked_at = trio.current_time()
        return True

    async def renew(self) -> None:
        """Ask the NAS; an error keeps the last answer."""
        try:
            self.learn(await self._store.spaces())
        except RemoteError:
            return
        except Exception:  # nobody waits for this answer; here it would end the mount
            log.exception("asking for free space failed in a way nobody foresaw")

    def learn(self, spaces: Mapping[str, Space]) -> None:
        """What the NAS has just said of its shares. Several shares of one volume count once."""
        volumes: list[Space] = []
        for share, space in spaces.items():
            shown = self._share in (None, share)
            if shown and not any(_same_volume(space, other) for other in volumes):
                volumes.append(space)
        if volumes:
            self._asked_at = trio.current_time()
            self._known = Space(sum(space.total_bytes for space in volumes), sum(space.free_bytes for space in volumes))
            if self._note is not None:
                self._note.keep(self._known)


def _same_volume(one: Space, other: Space) -> bool:
    """The NAS gives volumes no name here. It looks at one after the other, so the free space may have moved."""
    return one.total_bytes == other.total_bytes and abs(one.free_bytes - other.free_bytes) <= one.total_bytes // 1000
