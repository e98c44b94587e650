"""How much of a file thumbnailers and indexers may read: what tells its kind, not what fills the line.

A thumbnailer of photographs wants all of each; of a folder with 200 of them that is a gigabyte, for pictures that the
NAS has made already. An indexer or a thumbnailer of videos and documents finds what it needs at the start and at the
end. What lies between is refused, as is a file of which nothing may be read, with EACCES: programs take that for a
file that is none of their business, and go on with the next one.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from synofs.content.readahead import GENTLE, KIB, MIB, NO_READAHEAD, ReadAheadOptions
from synofs.fs.callers import Caller, Callers, Kind
from synofs.fs.errors import AccessDenied
from synofs.fs.inodes import Inode

# Those that DSM makes thumbnails of; raw formats of cameras among them.
IMAGE_SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".png", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".heic", ".heif", ".avif",
    ".arw", ".cr2", ".cr3", ".crw", ".dng", ".erf", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf", ".pef", ".raf",
    ".raw", ".rw2", ".sr2", ".srw", ".x3f",
})  # fmt: skip


def is_image(name: bytes) -> bool:
    return os.path.splitext(os.fsdecode(name))[1].lower() in IMAGE_SUFFIXES


class Thumbnails(Enum):
    """Where a file manager's thumbnails of pictures come from."""

    NAS = "nas"  # the NAS makes them, and they are put where file managers look
    OFF = "off"  # nowhere: thumbnailers may read nothing
    ORIGINAL = "original"  # from the files themselves, read through the mount as on a local disk


@dataclass(frozen=True, slots=True)
class SparingOptions:
    head_bytes: int = 1 * MIB  # what file(1) looks at; covers the index of most videos and documents
    tail_bytes: int = 64 * KIB  # where zip, PDF and some videos have theirs
    preview_bytes: int = 64 * KIB  # where cameras keep a thumbnail of their own
    picture_bytes: int = 8 * MIB  # of a picture that the NAS has no thumbnail of


class Desktop(Protocol):
    """Whoever brings thumbnails to the desktop."""

    def visited(self, directory: Inode, caller: Caller, opened_at: float) -> None:
        """A file manager has just read the folder's listing, which it opened at that time. Never waits."""

    def looked_at(self, picture: Inode, caller: Caller) -> bool:
        """A thumbnailer wants to read a picture. True: the NAS has no thumbnail of it. Never waits."""


@dataclass(frozen=True, slots=True)
class Access:
    """How one handle reads."""

    readahead: ReadAheadOptions | None = None  # None: as the reader does it
    head_bytes: int | None = None  # may read so much of the start, and of the end; None: everything
    tail_bytes: int = 0

    def check(self, inode: Inode, offset: int) -> None:
        """Raises `AccessDenied`. A read that begins within the bounds may go beyond: the kernel asks for more than
        the program does."""
        if self.head_bytes is not None and self.head_bytes <= offset < inode.size - self.tail_bytes:
            raise AccessDenied(inode.path())

    def shows_interest(self, inode: Inode, offset: int, length: int) -> bool:
        """Does this read tell that the next files will be read as well?"""
        if self.head_bytes is not None:
            return False
        # Who sniffs reads the first bytes only; who copies comes to the end.
        return offset == 0 if self.readahead is None else offset + length >= inode.size


FULL = Access()


class Sparing:
    """Decides what a caller may read of a file."""

    def __init__(
        self, thumbnails: Thumbnails, desktop: Desktop | None, callers: Callers, options: SparingOptions
    ) -> None:
        self._thumbnails = thumbnails
        self._desktop = desktop
        self._callers = callers
        self._options = options
        self._gentle = Access(GENTLE)
        self._preview = Access(GENTLE, options.preview_bytes)
        self._bounded = Access(NO_READAHEAD, options.head_bytes, options.tail_bytes)

    def access(self, inode: Inode, caller: Caller | None) -> Access:
        """Raises `AccessDenied` when nothing may be read."""
        if self._thumbnails is Thumbnails.ORIGINAL or caller is None or inode.staged is not None:
            return FULL
        kind = self._callers.kind(caller)
        if kind is Kind.FILE_MANAGER:
            return self._gentle
        if kind is Kind.PREVIEWER and self._thumbnails is Thumbnails.NAS and self._desktop is not None:
            none_there = is_image(inode.name) and self._desktop.looked_at(inode, caller)
            return self._gentle if none_there and inode.size <= self._options.picture_bytes else self._preview
        if kind in (Kind.THUMBNAILER, Kind.PREVIEWER):
            if self._thumbnails is Thumbnails.OFF or self._desktop is None:
                raise AccessDenied(inode.path())
            if is_image(inode.name):
                none_there = self._desktop.looked_at(inode, caller)
                if not none_there or inode.size > self._options.picture_bytes:
                    raise AccessDenied(inode.path())
                return FULL
        return self._bounded if kind in (Kind.THUMBNAILER, Kind.INDEXER) else FULL

    def person(self, caller: Caller | None) -> Caller | None:
        """The caller, if it is a program that shows folders to a person and somebody wants to know."""
        if self._desktop is None or self._callers.kind(caller) is not Kind.FILE_MANAGER:
            return None
        return caller

    def visited(self, directory: Inode, person: Caller | None, opened_at: float) -> None:
        """A person's program has read the folder's listing."""
        if self._desktop is not None and person is not None:
            self._desktop.visited(directory, person, opened_at)
