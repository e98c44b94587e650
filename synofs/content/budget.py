"""How much of the local disk unsent data may take. Ask before writing, not after: the writer gets ENOSPC, and the
disk never fills up. Nothing here ever removes anything: unsent data is the only copy there is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from synofs.content.errors import LocalDiskFull

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class BudgetOptions:
    max_dirty_bytes: int = 20 * GIB
    floor_bytes: int = 256 * 1024**2  # free space that is left to everybody else
    check_every_bytes: int = 16 * 1024**2  # how much may be written between two looks at the disk


class DiskBudget:
    def __init__(self, folder: Path, options: BudgetOptions) -> None:
        self._folder = folder
        self._options = options
        self._unchecked_bytes = options.check_every_bytes  # look at the first write
        self.dirty_bytes = 0

    def reserve(self, grow_bytes: int, write_bytes: int = 0) -> None:
        """Account for files that grow by `grow_bytes`, and for `write_bytes` that are about to be written (into holes,
        perhaps). Raises `LocalDiskFull` and accounts for nothing."""
        options = self._options
        if grow_bytes > 0 and self.dirty_bytes + grow_bytes > options.max_dirty_bytes:
            raise LocalDiskFull(
                f"{self.dirty_bytes:,} bytes wait for the NAS, and --cache-size allows {options.max_dirty_bytes:,}"
            )
        coming = max(grow_bytes, write_bytes)
        if coming > 0 and self._unchecked_bytes + coming >= options.check_every_bytes:
            free = os.statvfs(self._folder)
            if free.f_bavail * free.f_frsize < options.floor_bytes + coming:
                raise LocalDiskFull(f"the disk that holds {self._folder} is almost full")
            self._unchecked_bytes = 0
        self._unchecked_bytes += coming
        self.dirty_bytes += max(0, grow_bytes)

    def give_back(self, shrink_bytes: int) -> None:
        self.dirty_bytes = max(0, self.dirty_bytes - shrink_bytes)
