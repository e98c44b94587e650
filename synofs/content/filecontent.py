"""What is known of one version of a file: bytes on their way, bytes that wait for their proof, bytes on the disk.

Plain state of `Reader`, which alone changes it, between two awaits in trio's thread.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import trio

from synofs.content.blocks import ContentKey
from synofs.content.blockstore import CachedFile, Stretch
from synofs.content.ranges import RangeSet
from synofs.remote import RemoteError

if TYPE_CHECKING:
    from synofs.content.reader import FileReader

PathOf = Callable[[], str]


class Fetch:
    """A download of [start, end) under way. `step` is set and replaced whenever bytes came or it ended."""

    __slots__ = ("end", "error", "first", "followed", "position", "scope", "sent", "start", "step", "waiting")

    def __init__(self, start: int, end: int, first: bool, sent: int) -> None:
        self.start = start
        self.end = end
        self.position = start  # bytes before this have come
        self.first = first
        self.followed = False  # what comes after it was asked for, if it is wanted
        self.sent = sent
        self.error: Exception | None = None
        self.scope = trio.CancelScope()
        self.step = trio.Event()
        self.waiting = 0  # reads that wait for it

    def advance(self) -> None:
        self.step.set()
        self.step = trio.Event()


class Held(NamedTuple):
    """Bytes that wait for the proof that they are of the right version."""

    offset: int
    data: memoryview
    came: int

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class Proof:
    """The question whether the file is still of its version, on its way."""

    __slots__ = ("ended", "error", "hurry", "is_asked")

    def __init__(self) -> None:
        self.is_asked = False
        self.hurry = trio.Event()  # ask now
        self.ended = trio.Event()
        self.error: Exception | None = None


class OnDisk:
    """What the disk cache has of one version of a file."""

    __slots__ = ("_ranges", "file")

    def __init__(self, file: CachedFile | None) -> None:
        self.file = file
        self._ranges = RangeSet()
        self._index()

    def _index(self) -> None:
        self._ranges = RangeSet()
        for stretch in self.file.stretches if self.file is not None else ():
            self._ranges.add(stretch.start, stretch.start + stretch.length)

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        return self._ranges.gaps(start, end)

    def at(self, position: int) -> Stretch | None:
        if self.file is None:
            return None
        index = bisect_right(self.file.stretches, position, key=lambda stretch: stretch.start) - 1
        if index < 0:
            return None
        stretch = self.file.stretches[index]
        return stretch if position < stretch.start + stretch.length else None

    def lose(self, stretch: Stretch) -> None:
        """It was damaged."""
        if self.file is not None:
            self.file.stretches = [other for other in self.file.stretches if other != stretch]
            self._index()


class FileContent:
    """One version of one file, as far as it is here or on its way."""

    __slots__ = (
        "asked",
        "asked_at",
        "error",
        "fetches",
        "held",
        "in_a_hurry",
        "key",
        "on_disk",
        "path_of",
        "proof",
        "proved",
        "readers",
        "seen",
        "served",
        "unasked_bytes",
    )

    def __init__(self, key: ContentKey, path_of: PathOf, seen: bool) -> None:
        self.key = key
        self.path_of = path_of
        self.seen = seen  # bytes of this version may have been handed out: any others need a proof
        self.served = False  # bytes of this version were, or may have been, handed to the kernel
        self.readers: set[FileReader] = set()
        self.fetches: list[Fetch] = []
        self.held: list[Held] = []
        self.asked = 0  # the moment of the last question
        self.unasked_bytes = 0  # held, and came after it
        self.proof: Proof | None = None  # the one that bytes wait for
        self.in_a_hurry = False  # bytes came for which it is to be asked again at once
        self.proved = 0  # bytes that came before this moment are of the right version
        self.asked_at = float("-inf")  # the time of the last question
        self.error: RemoteError | None = None  # the version is no more; no read can succeed
        self.on_disk: OnDisk | None = None  # None: nobody has looked yet

    @property
    def size(self) -> int:
        return self.key.version.size

    def fetch_at(self, position: int) -> Fetch | None:
        """The download that will bring the byte at `position`."""
        for fetch in self.fetches:
            if fetch.position <= position < fetch.end:
                return fetch
        return None

    def to_come(self, start: int, end: int) -> int:
        """Bytes of downloads under way within [start, end) that are not here yet."""
        return sum(max(0, min(end, fetch.end) - max(start, fetch.position)) for fetch in self.fetches)

    def hold(self, held: Held) -> None:
        self.held.append(held)
        if held.came > self.asked:
            self.unasked_bytes += len(held.data)

    def let_go(self, before: int) -> list[Held]:
        """What came before that moment waits no longer."""
        gone = [held for held in self.held if held.came < before]
        self.held = [held for held in self.held if held.came >= before]
        return gone

    def held_at(self, position: int) -> Held | None:
        for held in self.held:
            if held.offset <= position < held.end:
                return held
        return None
