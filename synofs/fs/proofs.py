"""Is an old listing still true? Asked for many folders with one `getinfo`.

It tells the attributes of every entry. That no name came or went, the folder's own times tell: a change of names sets
mtime and ctime; mtime may be set back, ctime may not. Both must be what they were when the names were asked for, and
lie before that moment by the NAS's clock, because times have whole seconds. A folder that is touched for another
reason, as DSM does when it makes thumbnails, is listed anew for nothing.

That is how Linux keeps the times of its own filesystems. Not all that a NAS shows is one: a stick that was in another
machine, a cloud's folder, another server's share. So without times there is no proof, and no listing is proved for more
than a few TTLs in a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from synofs.fs.inodes import Inode
from synofs.fs.listing import Listing, OwnTimes
from synofs.remote import RemoteEntry, RemoteStore

MAX_TTLS = 4  # without a listing
# `Date` has whole seconds and is as old as the way of an answer; the NAS's file times have whole seconds, too.
_CLOCK_MARGIN_SECONDS = 3.0


class Answer(NamedTuple):
    """What the NAS says of a folder and of the entries that its old listing has."""

    listing: Listing
    entries: list[Inode]
    own: RemoteEntry | None
    rest: list[RemoteEntry | None]

    def proves_it(self) -> bool:
        listing, own = self.listing, self.own
        load = listing.load
        if own is None or load is None or load.changes or listing.entries != self.entries:
            return False
        if listing.listed_at_nas is None or times_of(own) is None or times_of(own) != listing.own_times:
            return False
        if max(own.mtime_ns, own.ctime_ns) > (listing.listed_at_nas - _CLOCK_MARGIN_SECONDS) * 1e9:
            return False
        return all(
            entry is not None and entry.is_dir is inode.is_dir and inode.staged is None
            for inode, entry in zip(self.entries, self.rest, strict=True)
        )


def asked_at(clock_before: float | None, clock_after: float | None, took_seconds: float) -> float | None:
    """When names were asked for, by the NAS's clock, which may have been set meanwhile: the earlier of what it says."""
    if clock_before is None or clock_after is None:
        return None
    return min(clock_before, clock_after - took_seconds)


def cost(listing: Listing | None, now: float, ttl_seconds: float) -> int:
    """How many paths a `getinfo` must name to prove this old listing; 0 if that cannot be done."""
    if listing is None or not listing.complete or listing.listed_at_nas is None or listing.own_times is None:
        return 0
    return 1 + len(listing.entries) if now < listing.listed_at + MAX_TTLS * ttl_seconds else 0


async def ask(store: RemoteStore, listings: Sequence[Listing]) -> list[Answer]:
    """Raises what the store raises."""
    asked = [(listing, list(listing.entries)) for listing in listings]
    paths = [inode.path() for listing, entries in asked for inode in (listing.directory, *entries)]
    found = iter(await store.get_entries(paths))
    return [Answer(listing, entries, next(found), list(islice(found, len(entries)))) for listing, entries in asked]


def times_of(folder: Inode | RemoteEntry) -> OwnTimes | None:
    """None: it has none that could move."""
    return (folder.mtime_ns, folder.ctime_ns) if folder.mtime_ns and folder.ctime_ns else None
