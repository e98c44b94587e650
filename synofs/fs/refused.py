"""Names that the NAS lists and that no program here could open: counted, and logged once for each folder."""

from __future__ import annotations

import logging

from synofs.fs.inodes import Inode
from synofs.fs.names import printable

log = logging.getLogger(__name__)

_MAX_TOLD = 1000


class RefusedNames:
    def __init__(self) -> None:
        self.count = 0
        self._told: set[str] = set()  # folders

    def add(self, directory: Inode, name: str) -> None:
        self.count += 1
        path = directory.path()
        if path not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(path)
            log.warning(
                "%s: the NAS lists a name that no program here could open (%s); it is left out",
                printable(path),
                ascii(name)[:80],
            )
