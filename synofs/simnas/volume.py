"""The volume that holds the shares: free space, quota, read-only state."""

from __future__ import annotations

import os
from typing import Any

from .shares import Share, Shares
from .wire import ApiError


class Volume:
    """Space of the NAS. Without limits of its own it is the real disk.

    A limit makes every question walk the shares, so it is for small ones.
    """

    def __init__(self, shares: Shares, volume_bytes: int | None, quota_bytes: int | None) -> None:
        self._shares = shares
        self.volume_bytes = volume_bytes
        self.quota_bytes = quota_bytes
        self.readonly = False

    @property
    def limited(self) -> bool:
        return self.volume_bytes is not None or self.quota_bytes is not None

    def status(self, share: Share) -> dict[str, Any]:
        """`volume_status` of a share. A quota does not show in it, as on DSM."""
        if self.volume_bytes is None:
            found = os.statvfs(share.root)
            total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        else:
            total, free = self.volume_bytes, max(0, self.volume_bytes - self._used())
        return {"freespace": free, "readonly": self.readonly, "totalspace": total}

    def check_writable(self) -> None:
        if self.readonly:
            raise ApiError(411)

    def room(self) -> tuple[int, int] | None:
        """How many bytes may still be written, and the code for one more; None without a limit."""
        limits = [(self.quota_bytes, 415), (self.volume_bytes, 416)]
        used = self._used() if any(limit is not None for limit, _ in limits) else 0
        return min(((limit - used, code) for limit, code in limits if limit is not None), default=None)

    def check_room(self, count: int) -> None:
        """Refuses `count` more bytes if they do not fit."""
        room = self.room()
        if room is not None and count > room[0]:
            raise ApiError(room[1])

    def _used(self) -> int:
        return sum(_tree_bytes(share.root) for share in self._shares)


def _tree_bytes(root: str) -> int:
    total = 0
    for folder, _, files in os.walk(root):
        for name in files:
            try:
                total += os.lstat(f"{folder}/{name}").st_size
            except FileNotFoundError:
                continue
    return total
