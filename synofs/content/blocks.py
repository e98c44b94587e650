"""Clean bytes of remote files in memory: a least-recently-used cache of pieces, bounded in bytes.

A piece is what one step of a download delivered: a stretch of one version of a file, of any length. The key names
the version, so a changed file simply has no pieces. Pieces of one key never overlap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

from synofs.remote import Fingerprint


class ContentKey(NamedTuple):
    inode: int
    version: Fingerprint


class _Pieces:
    __slots__ = ("data", "starts")

    def __init__(self) -> None:
        self.starts: list[int] = []
        self.data: dict[int, memoryview] = {}


class BlockCache:
    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._files: dict[ContentKey, _Pieces] = {}
        self._recent: OrderedDict[tuple[ContentKey, int], int] = OrderedDict()  # piece -> its length
        self.bytes_used = 0

    def find(self, key: ContentKey, offset: int) -> tuple[int, memoryview] | None:
        """The piece that holds `offset`, with its start."""
        pieces = self._files.get(key)
        if pieces is None:
            return None
        index = bisect_right(pieces.starts, offset) - 1
        if index < 0:
            return None
        start = pieces.starts[index]
        data = pieces.data[start]
        if offset >= start + len(data):
            return None
        self._recent.move_to_end((key, start))
        return start, data

    def gaps(self, key: ContentKey, start: int, end: int) -> list[tuple[int, int]]:
        """The parts of [start, end) that are not here, in order."""
        if start >= end:
            return []
        pieces = self._files.get(key)
        if pieces is None:
            return [(start, end)]
        found: list[tuple[int, int]] = []
        position = start
        index = max(0, bisect_right(pieces.starts, start) - 1)
        for piece_start in pieces.starts[index:]:
            if piece_start >= end:
                break
            if piece_start > position:
                found.append((position, piece_start))
            position = max(position, piece_start + len(pieces.data[piece_start]))
        if position < end:
            found.append((position, end))
        return found

    def add(self, key: ContentKey, offset: int, data: memoryview) -> None:
        """Keep the parts of `data` that are not here yet."""
        for start, end in self.gaps(key, offset, offset + len(data)):
            pieces = self._files.setdefault(key, _Pieces())
            pieces.starts.insert(bisect_right(pieces.starts, start), start)
            pieces.data[start] = data[start - offset : end - offset]
            self._recent[key, start] = end - start
            self.bytes_used += end - start
        while self.bytes_used > self._max_bytes and self._recent:
            self._remove(*next(iter(self._recent)))

    def has_any(self, key: ContentKey) -> bool:
        return key in self._files

    def drop(self, key: ContentKey) -> None:
        """Forget one version of a file."""
        pieces = self._files.get(key)
        for start in list(pieces.starts) if pieces is not None else ():
            self._remove(key, start)

    def _remove(self, key: ContentKey, start: int) -> None:
        pieces = self._files[key]
        del pieces.starts[bisect_right(pieces.starts, start) - 1]
        del pieces.data[start]
        self.bytes_used -= self._recent.pop((key, start))
        if not pieces.starts:
            del self._files[key]
