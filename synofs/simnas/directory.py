"""The names in a directory, sorted, as the pages of a listing need them.

Every call reads the directory anew: there is no snapshot between the pages of a listing, as on DSM. Reading and
sorting 100,000 names for each page of 1,000 would make the server quadratic, so the sorted names are kept for as
long as the directory's mtime and ctime prove that nothing has changed.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from typing import NamedTuple

from .shares import SPOOL_PREFIX, Share, remove_stale_spool

_KEPT_DIRECTORIES = 16

# A change within the clock tick of the last one leaves mtime as it is, so a fresh mtime proves nothing.
_SETTLED_NS = 100_000_000


class Name(NamedTuple):
    """A visible entry."""

    name: str
    is_dir: bool


class _Kept(NamedTuple):
    stamp: tuple[int, int, int, int]
    names: list[Name]


class DirectoryReader:
    """Reads directories. Safe to use from several threads."""

    def __init__(self, *, hide_not_utf8: bool) -> None:
        self._hide_not_utf8 = hide_not_utf8
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def names(self, share: Share, real: str) -> list[Name]:
        """The names List shows, sorted by name. The list is shared: do not change it."""
        before = _stamp(real)
        with self._lock:
            kept = self._kept.get(real)
            if kept is not None and kept.stamp == before:
                self._kept.move_to_end(real)
                return kept.names
        names, has_links = self._read(share, real)
        names.sort(key=lambda entry: (entry.name.casefold(), entry.name))
        # The target of a link may come and go without a change to this directory.
        settled = time.time_ns() - max(before[2], before[3]) > _SETTLED_NS
        if settled and not has_links and _stamp(real) == before:
            with self._lock:
                self._kept[real] = _Kept(before, names)
                while len(self._kept) > _KEPT_DIRECTORIES:
                    self._kept.popitem(last=False)
        return names

    def _read(self, share: Share, real: str) -> tuple[list[Name], bool]:
        names: list[Name] = []
        has_links = False
        with os.scandir(real) as entries:
            for entry in entries:
                if entry.name.startswith(SPOOL_PREFIX):
                    remove_stale_spool(entry.path)
                    continue
                if self._hide_not_utf8 and _is_not_utf8(entry.name):
                    continue
                is_link = entry.is_symlink()
                has_links = has_links or is_link
                if is_link and not share.contains(os.path.realpath(entry.path)):
                    continue
                kind = _is_dir(entry)
                if kind is not None:
                    names.append(Name(entry.name, kind))
        return names, has_links


def _is_dir(entry: os.DirEntry[str]) -> bool | None:
    """Folder or file; None for what is neither, and for a link that leads nowhere."""
    try:
        if entry.is_dir():
            return True
        return False if entry.is_file() else None
    except OSError:
        return None


def _stamp(real: str) -> tuple[int, int, int, int]:
    found = os.stat(real)
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _is_not_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return True
    return False
