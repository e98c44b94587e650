"""Recognising that somebody walks a tree, and listing its next directories ahead of them.

A walk asks for one directory after the other, so it pays a round trip for each. Once two steps in a row look like a
walk (each directory is next to or below the last one, and the walker did not stop to think), the directories that
come next in pre-order are listed ahead, a few at a time. How many may wait unused grows with those that are used: when
nobody follows, nothing more is asked for, and what was in vain is a small multiple of what was not. A folder that was
not foreseen makes room for one more, in place of one that nobody may come to: else a walker with an order of its own
(breadth-first, or several side by side) would soon be on its own, with all of the window in the wrong place.

What is not a walk: one `ls`, however deep its path (a descent by lookups alone opens nothing), and a person who
clicks through folders (they think longer than `think_seconds`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import trio

from synofs.fs.inodes import Inode
from synofs.fs.listings import Listings


@dataclass(frozen=True, slots=True)
class WalkOptions:
    steps: int = 2  # so many steps in a row make a walk
    think_seconds: float = 0.25  # a program asks for the next directory sooner, a person later
    follow_seconds: float = 10.0  # who has not moved for so long is not waited for: huge folders are given up
    first_window: int = 8
    wider_by: int = 4  # with each folder that is used
    max_window: int = 256
    loads_at_once: int = 5  # one of the NAS's six requests stays free for who is waiting
    batch_paths: int = 100  # in one `getinfo` that proves old listings
    max_scan: int = 2_000  # directories looked at to find the next ones
    max_walks: int = 4


_MANY = 100  # folders: to look at fewer costs nothing


class _Walk:
    __slots__ = (
        "ahead",
        "at_ease",
        "by_number",
        "last",
        "moved_at",
        "read",
        "returns",
        "root",
        "served_at",
        "steps",
        "window",
    )

    def __init__(self, directory: Inode, read: bool) -> None:
        self.root = directory  # the walk is within it, as far as is known
        self.read = read  # a directory was read; until then there were lookups only, on the way to the root
        self.last = directory
        self.served_at = 0.0
        self.moved_at = 0.0
        self.steps = 0
        self.window = 0
        self.at_ease = 0  # for so many steps all that comes next is known to be here
        self.returns = False  # what comes next was listed before
        self.by_number = False  # the order in which this walker visits the folders of one directory
        self.ahead: set[int] = set()  # listed for this walk and not used yet


class WalkPrefetch:
    """Lists the next directories of a walk ahead. Those that were listed before are proved, many with one request,
    where that takes fewer requests than to list them."""

    def __init__(self, listings: Listings, options: WalkOptions) -> None:
        self._listings = listings
        self._options = options
        self._walks: list[_Walk] = []
        self._loading = 0

    def arrive(self, directory: Inode, *, reading: bool) -> None:
        """Somebody is about to use a directory's listing: to read it, or to look up a name in it."""
        walk = self._walk_of(directory)
        if walk is None:
            self._walks.append(_Walk(directory, reading))
            del self._walks[: -self._options.max_walks]
            return
        if reading and not walk.read:
            walk.read, walk.root = True, directory
        if walk.last is directory:
            return
        descent = directory.parent is walk.last
        thought = trio.current_time() - walk.served_at
        self._learn_order(walk, directory)
        walk.last, walk.moved_at = directory, trio.current_time()
        if directory.number in walk.ahead:
            walk.ahead.discard(directory.number)
            walk.window = min(self._options.max_window, walk.window + self._options.wider_by)
        elif thought > self._options.think_seconds:
            walk.steps = walk.window = 0
            walk.root = directory
            walk.ahead.clear()
            return
        elif walk.window and self._listings.wants_load(directory):
            walk.window = min(self._options.max_window, walk.window + 1)
        if reading or not descent:
            walk.steps += 1
        if walk.steps >= self._options.steps:
            walk.window = max(walk.window, self._options.first_window)
            walk.at_ease = 0 if self._listings.wants_load(directory) else max(0, walk.at_ease - 1)
            if not walk.at_ease:
                self._fill(walk)

    def served(self, directory: Inode) -> None:
        """The listing is there: from here on the walker thinks, and what is below is known."""
        for walk in self._walks:
            if walk.last is directory:
                walk.served_at = trio.current_time()
                if walk.window and not walk.at_ease:
                    self._fill(walk)

    def _walk_of(self, directory: Inode) -> _Walk | None:
        """The walk whose last step this may follow: below it, beside it, or beside one of its parents."""
        for walk in reversed(self._walks):
            if directory is walk.last or directory.parent is walk.last or directory.number in walk.ahead:
                return walk
            above_root = False
            node: Inode | None = walk.last
            while node is not None and node.parent is not None:
                above_root = above_root or node is walk.root
                if node.parent is directory.parent:
                    if above_root:  # the walk is wider than it seemed
                        walk.root = node.parent
                    return walk
                node = node.parent
        return None

    def _learn_order(self, walk: _Walk, directory: Inode) -> None:
        """From the first folder of a directory that is visited, or from the next beside the last one."""
        listing = directory.parent.listing if directory.parent is not None else None
        if listing is None:
            return
        for by_number in (walk.by_number, not walk.by_number):
            order = listing.in_order(folders=True, by_number=by_number)
            if order.place(directory) == order.place(walk.last) + 1:
                walk.by_number = by_number
                return

    def _fill(self, walk: _Walk) -> None:
        # What is below the walker comes first. While that is not known, half of the window is kept for it.
        room = walk.window if self._listings.is_complete(walk.last) else walk.window // 2
        together = self._folders_together(walk)
        # Each step of the walker makes room for one folder: better to wait for more, and ask for them together.
        if self._loading >= self._options.loads_at_once or (walk.ahead and len(walk.ahead) + together > room):
            return
        unlisted: list[Inode] = []
        old: list[Inode] = []
        paths = 0
        for directory in self._next_unlisted(walk):
            if not unlisted and not old:
                walk.returns = self._listings.is_complete(directory)
                together = self._folders_together(walk)
            cost = self._listings.revalidation_cost(directory)
            if 0 < cost * max(2, self._listings.folders_at_once) <= self._options.batch_paths:
                if paths + cost > self._options.batch_paths:
                    break
                old.append(directory)
                walk.ahead.add(directory.number)
                paths += cost
            else:
                unlisted.append(directory)
            if len(unlisted) >= together:
                self._list(walk, unlisted)
                unlisted = []
            if self._loading >= self._options.loads_at_once or len(walk.ahead) + len(unlisted) >= room:
                break
        if unlisted and self._loading <= self._options.loads_at_once // 2:
            self._list(walk, unlisted)
        if old:
            self._loading += 1
            self._listings.revalidate(old, lambda: self._loaded(walk))

    def _list(self, walk: _Walk, directories: list[Inode]) -> None:
        self._loading += 1
        walk.ahead.update(directory.number for directory in directories)
        self._listings.prefetch(directories, lambda: self._loaded(walk), lambda: self._goes_on(walk))

    def _goes_on(self, walk: _Walk) -> bool:
        return walk in self._walks and trio.current_time() < walk.moved_at + self._options.follow_seconds

    def _folders_together(self, walk: _Walk) -> int:
        """Few while the window is small: requests go side by side first, for their answers come sooner. Not where the
        whole way is known: there the window is soon wide."""
        side_by_side = 2 if walk.returns else self._options.loads_at_once
        return max(1, min(self._listings.folders_at_once, walk.window // side_by_side))

    def _loaded(self, walk: _Walk) -> None:
        self._loading -= 1
        if walk in self._walks and walk.window:
            self._fill(walk)

    def _next_unlisted(self, walk: _Walk) -> Iterator[Inode]:
        """Directories that follow the walker in pre-order and have no fresh listing, up to the walk's root."""
        seen = found = 0
        for directory in islice(_following(walk.last, walk.root, walk.by_number), self._options.max_scan):
            seen += 1
            if not directory.gone and directory.number not in walk.ahead and self._listings.wants_load(directory):
                found += 1
                yield directory
        if not found and not walk.ahead and seen >= _MANY:
            walk.at_ease = seen // 2  # a second walk over the same tree would look at all of it at each step


def _following(start: Inode, root: Inode, by_number: bool) -> Iterator[Inode]:
    """Pre-order of what is known of the tree: below `start`, then what comes after it, up to `root`."""
    yield from _below(start, by_number)
    node = start
    while node is not root and node.parent is not None:
        listing = node.parent.listing
        if listing is not None:
            siblings = listing.in_order(folders=True, by_number=by_number)
            place = siblings.place(node)
            if place >= 0:
                for following in range(place + 1, len(siblings.inodes)):
                    yield siblings.inodes[following]
                    yield from _below(siblings.inodes[following], by_number)
        node = node.parent


def _below(directory: Inode, by_number: bool) -> Iterator[Inode]:
    if directory.listing is not None:
        for child in directory.listing.in_order(folders=True, by_number=by_number).inodes:
            yield child
            yield from _below(child, by_number)
