"""A local disk that can be made full."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

DISK_MEGABYTES = 1600  # of the cache folder: the floor of the block cache is 1 GiB


class Disk:
    """The cache folder as a disk of its own, in memory, that can be made full; or one that `command` mounts."""

    def __init__(self, folder: Path, command: tuple[str, ...] = ()) -> None:
        options = f"size={DISK_MEGABYTES}m,mode=700"
        self._command = command or ("mount", "-t", "tmpfs", "-o", options, "soak")
        self.folder = folder
        self.is_own = os.geteuid() == 0

    def __enter__(self) -> Disk:
        if self.is_own:
            subprocess.run([*self._command, str(self.folder)], check=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.is_own:
            subprocess.run(["umount", "-l", str(self.folder)], check=True)

    def fill(self) -> None:
        """Nothing more fits."""
        for attempt in range(50):  # it cannot shrink below what is written at the same time
            found = os.statvfs(self.folder)
            used_kib = (found.f_blocks - found.f_bfree) * found.f_frsize // 1024
            with contextlib.suppress(subprocess.CalledProcessError):
                self._resize(f"{used_kib + 4 + 64 * attempt}k")
                return

    def empty(self) -> None:
        self._resize(f"{DISK_MEGABYTES}m")

    def _resize(self, size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(self.folder)], check=True, stderr=subprocess.DEVNULL)
