"""The free space of the NAS as it last said it, for a mount that begins without it.

A cache like the listings': what goes wrong is answered as "not known". One short write(2), waiting for no disk.
"""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

from synofs.remote import Space

log = logging.getLogger(__name__)

_LENGTH = 42  # two numbers of up to 20 digits, a blank and a newline: always the same, so nothing of an older one stays
_FORMAT = "{:>20} {:>20}\n"


class SpaceNote:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: Space | None = None

    def load(self) -> Space | None:
        with contextlib.suppress(OSError, ValueError):
            file = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                total, free = map(int, os.read(file, _LENGTH + 1).split())
            finally:
                os.close(file)
            if 0 <= free <= total < 1 << 63:
                return Space(total, free)
        return None

    def keep(self, space: Space) -> None:
        if space == self._kept:
            return
        try:
            file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(file, _FORMAT.format(*space).encode(), 0)
            finally:
                os.close(file)
        except OSError as error:
            log.debug("the free space is not kept: %s", error)
        else:
            self._kept = space
