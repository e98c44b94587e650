"""What is known of one directory, and a listing on its way: the values of `fs.listings` and `fs.loading`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import trio

from synofs.fs.inodes import Inode


class Notifier(Protocol):
    """Tells the kernel what changed on the NAS. Never blocks and never fails."""

    def content_changed(self, inode: Inode) -> None:
        """Another version of the file is on the NAS: cached pages and attributes are void."""

    def attributes_changed(self, inode: Inode) -> None:
        """Only attributes changed (access rights, times)."""

    def attributes_before_answer(self, inode: Inode) -> None:
        """The call that is about to be answered shall go on with the present attributes: at the size that it knows,
        the kernel cuts off what is read. The inode is in use, so that the kernel waits for nobody."""

    def entry_appeared(self, parent: Inode, name: bytes) -> None:
        """The name may be cached as missing."""

    def entry_gone(self, parent: Inode, inode: Inode) -> None:
        """The name is gone."""


OwnTimes = tuple[int, int]  # mtime and ctime of a folder, in nanoseconds


@dataclass(frozen=True, slots=True)
class ListingOptions:
    dir_ttl_seconds: float = 30.0
    serve_stale: bool = True  # while the NAS is away, show what was there when it was last seen
    max_entries: int = 400_000  # of all cached listings together; the least recently used go first
    poll_recent_seconds: float = 120.0  # a directory used within this time is polled ...
    poll_max_directories: int = 8  # ... if it is among so many
    poll_max_entries: int = 5_000  # ... and costs one page


NOTHING = Inode(0, None, b"", is_dir=False)  # in the place of an entry that went while readers follow the list
NOTHING.gone = True


class Load:
    """A listing on its way. `step` is set and replaced whenever entries were added or the load has ended."""

    __slots__ = (
        "by_name",
        "changes",
        "done",
        "entries",
        "error",
        "given_up",
        "is_wanted",
        "listed_at_nas",
        "outdated",
        "own_times",
        "pages",
        "started_at",
        "step",
    )

    def __init__(self, started_at: float) -> None:
        self.started_at = started_at
        self.step = trio.Event()
        self.pages = 0
        self.entries: list[Inode] = []
        self.by_name: dict[bytes, Inode] = {}
        self.listed_at_nas: float | None = None  # by the NAS's clock, when its names were asked for
        self.own_times: OwnTimes | None = None  # the folder's, before its names were asked for
        self.changes: dict[bytes, Inode | None] = {}  # made here since the request was sent; it may not know of them
        self.is_wanted: Callable[[], bool] = lambda: True  # asked before each further page
        self.given_up = False  # it was not: it ends without the rest, and is not to be joined
        self.outdated = False  # something has happened since it began that it may not know of
        self.done = False
        self.error: Exception | None = None

    def advance(self) -> None:
        self.step.set()
        self.step = trio.Event()


class GivenUp(Exception):
    """Nobody wants the rest of a folder that was being listed ahead."""


class Order:
    """Some of a directory's entries in one order, with their places in it."""

    __slots__ = ("_places", "inodes", "length", "made_from")

    def __init__(self, entries: list[Inode], *, folders: bool, by_number: bool) -> None:
        self.made_from = entries
        self.length = len(entries)  # a list that is still growing makes a new order
        self.inodes = [inode for inode in entries if inode.is_dir is folders]
        if by_number:
            self.inodes.sort(key=lambda inode: inode.number)
        self._places = {inode.number: place for place, inode in enumerate(self.inodes)}

    def place(self, inode: Inode | None) -> int:
        """-1 if it is not among them."""
        return self._places.get(inode.number, -1) if inode is not None else -1


class Listing:
    """What is known of one directory. `entries` only grows while loading and is replaced as a whole later."""

    __slots__ = (
        "ahead",
        "by_name",
        "checked_at",
        "complete",
        "directory",
        "entries",
        "error",
        "listed_at",
        "listed_at_nas",
        "load",
        "ordered",
        "own_times",
        "use_count",
        "used_at",
    )

    def __init__(self, directory: Inode) -> None:
        self.directory = directory
        self.entries: list[Inode] = []
        self.by_name: dict[bytes, Inode] = {}
        self.listed_at = 0.0  # when its names were asked for ...
        self.listed_at_nas: float | None = None  # ... by the NAS's clock
        self.own_times: OwnTimes | None = None  # the folder's, before that
        self.checked_at = 0.0  # when the request was sent: what happened on the NAS later is not in it
        self.complete = False
        self.load: Load | None = None
        self.error: Exception | None = None  # why a first load ended before the last page
        self.used_at = 0.0
        self.use_count = 0
        self.ahead = False  # listed ahead of a walk, and not used yet
        self.ordered: dict[tuple[bool, bool], Order] = {}

    def be_ahead(self, is_wanted: Callable[[], bool]) -> None:
        """The load is for somebody who is expected; whoever comes wants all of it."""
        times, self.ahead = self.use_count, True
        if self.load is not None:
            self.load.is_wanted = lambda: self.use_count > times or is_wanted()

    def expire(self) -> None:
        """The next use asks the NAS again; what was asked before now does not count."""
        self.checked_at = float("-inf")
        if self.load is not None:
            self.load.outdated = True

    def is_in_use(self, since: float) -> bool:
        """Did somebody come back to it after that time?"""
        return self.complete and self.use_count > 1 and self.used_at > since

    def in_order(self, *, folders: bool, by_number: bool) -> Order:
        """The folders, or the files, in the order in which programs visit them: that of the listing, or by inode
        number (coreutils' cp sorts so, for the sake of local disks). Kept until the entries are replaced."""
        key = (folders, by_number)
        kept = self.ordered.get(key)
        if kept is None or kept.made_from is not self.entries or kept.length != len(self.entries):
            kept = self.ordered[key] = Order(self.entries, folders=folders, by_number=by_number)
        return kept
