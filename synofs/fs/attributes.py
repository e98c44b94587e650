"""The attribute cache: how old an inode's attributes may be, and the cheapest way to renew them.

Attributes come with listings, so most of the time there is nothing to ask. When they are older than the TTL, one
request renews many: the listing of the parent where that costs one page, else one `getinfo` for the inode and the
siblings that follow it (programs ask for attributes in the order of the listing).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import trio

from synofs.fs.errors import NoEntry
from synofs.fs.inodes import Change, Inode, InodeTable
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.remote import RemoteEntry, RemoteStore, Unavailable


@dataclass(frozen=True, slots=True)
class AttributeOptions:
    attr_ttl_seconds: float = 30.0
    serve_stale: bool = True  # while the NAS is away, known attributes stay in use
    batch: int = 100  # paths in one getinfo
    relist_up_to: int = 1_000  # a parent with so many entries is listed anew instead


class _Renewal:
    """Asking the NAS for one inode's attributes, whoever waits for it."""

    def __init__(self) -> None:
        self.begun_at = trio.current_time()
        self.ended = trio.Event()
        self.error: Exception | None = None

    async def wait(self) -> None:
        if not self.ended.is_set():
            await self.ended.wait()


class Attributes:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        store: RemoteStore,
        notifier: Notifier,
        options: AttributeOptions,
    ) -> None:
        self._table = table
        self._listings = listings
        self._store = store
        self._notifier = notifier
        self._options = options
        self._renewals: dict[int, _Renewal] = {}  # inode number -> the one that goes on whoever waits
        self._under_way: dict[int, trio.Event] = {}  # inode number -> set when its renewal has ended

    def remaining_seconds(self, inode: Inode) -> float:
        """How long the attributes may still be believed."""
        return max(0.0, inode.checked_at + self._options.attr_ttl_seconds - trio.current_time())

    def are_fresh(self, inode: Inode, for_seconds: float = 0.0) -> bool:
        """Within their TTL, or not the NAS's to tell."""
        return inode.parent is None or inode.staged is not None or self.remaining_seconds(inode) > for_seconds

    async def renew_if_old(self, inode: Inode) -> None:
        """Return with attributes within their TTL. Raises `NoEntry` when the NAS no longer has the file.

        When the NAS cannot be asked, or takes too long (fs/staleness.py), attributes that are known stay in use.
        """
        if self.are_fresh(inode):
            return
        staleness = self._listings.staleness
        try:
            if not (self._options.serve_stale and staleness.allows(inode.checked_at + self._options.attr_ttl_seconds)):
                await self.renew(inode)
                return
            joined = self._renewals.get(inode.number)
            if joined is not None and not (await staleness.wait(joined.begun_at, joined.wait) and joined.error):
                return
            renewal = self._renewals.get(inode.number) or self._begin_renewal(inode)
            if await staleness.wait(renewal.begun_at, renewal.wait) and renewal.error is not None:
                raise renewal.error
        except Unavailable:
            if not self._options.serve_stale:
                raise
            staleness.answers += 1

    def _begin_renewal(self, inode: Inode) -> _Renewal:
        renewal = self._renewals[inode.number] = _Renewal()

        async def renew() -> None:
            try:
                await self.renew(inode)
            except Exception as error:  # whoever still waits raises it
                renewal.error = error
            finally:
                del self._renewals[inode.number]
                renewal.ended.set()

        self._listings.spawn(renew)
        return renewal

    async def renew(self, inode: Inode) -> None:
        """Ask the NAS now. Raises `NoEntry`, or the store's error."""
        parent = inode.parent
        if parent is None:
            return
        if parent.parent is None and parent.path() == "/":
            await self._relist(parent, inode)  # shares are known to list_share only
            return
        listing = parent.listing
        if listing is not None and listing.complete and len(listing.entries) <= self._options.relist_up_to:
            await self._relist(parent, inode)
            return
        pending = self._under_way.get(inode.number)
        if pending is not None:
            await pending.wait()
            if inode.gone:
                raise NoEntry(inode.path())
            if self.remaining_seconds(inode) > 0:
                return
        await self._ask(self._batch(inode))
        if inode.gone:
            raise NoEntry(inode.path())

    async def _relist(self, parent: Inode, inode: Inode) -> None:
        listing = self._listings.reload(parent)
        load = listing.load
        await self._listings.finish(listing)
        answered = load is not None and load.error is None
        if answered and inode.parent is parent and listing.by_name.get(inode.name) is not inode:
            inode.gone = True  # it went while no listing held it, so no reload has noticed
        if inode.gone:
            raise NoEntry(inode.path())

    def _batch(self, inode: Inode) -> list[Inode]:
        """The inode and those after it in its listing whose attributes are old too."""
        parent = inode.parent
        listing = parent.listing if parent is not None else None
        if listing is None:
            return [inode]
        try:
            start = listing.entries.index(inode)
        except ValueError:
            return [inode]
        old = (
            sibling
            for sibling in islice(listing.entries, start + 1, start + 4 * self._options.batch)
            if not sibling.gone and self.remaining_seconds(sibling) == 0 and sibling.number not in self._under_way
        )
        return [inode, *islice(old, self._options.batch - 1)]

    async def _ask(self, inodes: list[Inode]) -> None:
        asked_at = trio.current_time()
        ended = trio.Event()
        paths = [inode.path() for inode in inodes]
        for inode in inodes:
            self._under_way[inode.number] = ended
        try:
            entries = await self._store.get_entries(paths)
        finally:
            for inode in inodes:
                if self._under_way.get(inode.number) is ended:
                    del self._under_way[inode.number]
            ended.set()
        for inode, path, entry in zip(inodes, paths, entries, strict=True):
            if inode.path() == path:  # else it was renamed meanwhile, and the answer is of something else
                self.take(inode, entry, asked_at)

    def take(self, inode: Inode, entry: RemoteEntry | None, asked_at: float) -> None:
        """Believe an answer that was asked for at `asked_at`, unless a later one is known."""
        if inode.checked_at > asked_at or inode.staged is not None:
            return
        if entry is None or entry.is_dir != inode.is_dir:
            inode.gone = True
            if inode.parent is not None:
                self._listings.expire(inode.parent)
                self._notifier.entry_gone(inode.parent, inode)
            return
        change = self._table.update(inode, entry, asked_at)
        if change is Change.CONTENT:
            self._notifier.content_changed(inode)
        elif change is Change.ATTRIBUTES:
            self._notifier.attributes_changed(inode)
