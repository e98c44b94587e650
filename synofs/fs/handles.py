"""Open files and directories: what the kernel's handle numbers stand for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import count
from typing import Generic, TypeVar

import trio

from synofs.content.reader import FileReader
from synofs.fs.callers import Caller
from synofs.fs.errors import BadHandle
from synofs.fs.inodes import Inode
from synofs.fs.listing import Listing
from synofs.fs.sparing import FULL, Access
from synofs.remote import Fingerprint


class FileHandle:
    """One open file. `version` is pinned: what is read is that version or an error, never a mix."""

    __slots__ = (
        "access",
        "append",
        "inode",
        "readable",
        "reader",
        "truncates",
        "unanswered_until",
        "version",
        "writable",
    )

    def __init__(
        self,
        inode: Inode,
        version: Fingerprint,
        reader: FileReader,
        flags: int,
        access: Access = FULL,
    ) -> None:
        self.access = access
        self.inode = inode
        self.version = version
        self.reader = reader
        self.writable = flags & os.O_ACCMODE != os.O_RDONLY
        self.readable = flags & os.O_ACCMODE != os.O_WRONLY
        self.append = bool(flags & os.O_APPEND)
        self.truncates = bool(flags & os.O_TRUNC)
        self.unanswered_until = float("-inf")  # a read got no answer: others fail at once until then


class DirHandle:
    """One open directory. A position is an index into `entries`, which the handle keeps even if the directory's
    listing is replaced meanwhile: that makes positions stable, whatever changes on the NAS."""

    __slots__ = ("entries", "inode", "listing", "opened_at", "person")

    def __init__(self, inode: Inode, person: Caller | None) -> None:
        self.inode = inode
        self.opened_at = trio.current_time()
        self.person = person  # who opened it, if it is a program that shows folders to a person
        self.listing: Listing | None = None
        self.entries: list[Inode] = []


_T = TypeVar("_T")


class HandleTable(Generic[_T]):
    """Handle numbers, never reused within a mount, so that a late release cannot hit another file."""

    def __init__(self) -> None:
        self._numbers = count(1)
        self._open: dict[int, _T] = {}

    def add(self, handle: _T) -> int:
        number = next(self._numbers)
        self._open[number] = handle
        return number

    def get(self, number: int) -> _T:
        """Raises `BadHandle`."""
        try:
            return self._open[number]
        except KeyError:
            raise BadHandle(f"handle {number} is not open") from None

    def find(self, number: int) -> _T | None:
        return self._open.get(number)

    def pop(self, number: int) -> _T | None:
        return self._open.pop(number, None)

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[_T]:
        return iter(list(self._open.values()))
