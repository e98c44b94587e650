"""A whole folder from many pages, without holes and without doubles, while the folder changes.

Paging gives no point-in-time view: every page is cut from the folder as it is at that moment. So consecutive pages
overlap by one entry, and a page counts only if it holds something that was delivered before. Why that is enough:

    The NAS sorts by name, so two entries that are there throughout are in the same order in every snapshot. Call
    D what has been delivered, and suppose that D holds every lasting entry up to its last one, `max D` (true for
    the first page, which starts at 0). Let P be a stretch of a later snapshot that holds some B of D. A lasting
    entry between `max D` and the end of P comes after B, for B <= max D, and before the end of P; P is a
    stretch without gaps, so it is in P. Hence D and what follows the last known name in P again hold every lasting
    entry up to the end of P. What follows the last known name has not been delivered, so nothing comes twice.

If a page holds nothing known, entries before it have gone and it starts too far on: it is asked for again from
further back. A last check covers what the proof takes for granted, a sort that orders every two names the same way
each time: if no page told of a change, as many entries must have come as the NAS counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from synofs.filestation.parsing import Listing, entry_of
from synofs.filestation.transport import BodyTooBig
from synofs.remote import BadAnswer, OnPage

MAX_SWEEPS = 4
QUIET_ENDS = 2  # pages with nothing behind what is known: nothing is there, whatever the total says

FetchPage = Callable[[int, int], Awaitable[Listing]]


@dataclass(frozen=True)
class PagingOptions:
    first_page: int = 1000  # small, for a quick first answer; most folders are smaller anyway
    page: int = 5000
    ahead: int = 3  # pages under way or in memory at once
    max_tries: int = 4  # in a row without anything new
    first_step_back: int = 64
    max_entries: int = 1_000_000  # of one folder, which take some 350 MB
    max_pages: int = 20_000  # asked for in one listing: 50 new entries on each make as many entries as above


class Pager:
    """Lists folders; remembers how many entries the NAS is willing to send at once."""

    def __init__(self, options: PagingOptions) -> None:
        self._options = options
        self.cap: int | None = None

    def page_size(self, wanted: int) -> int:
        return wanted if self.cap is None else min(wanted, self.cap)

    async def list(self, fetch: FetchPage, on_page: OnPage, path: str, first: Listing | None = None) -> None:
        """`first`: the first page, if it is here already."""
        await _Walk(self, self._options, fetch, on_page, path).run(first)


@dataclass(eq=False)
class _Page:
    """A page that was asked for, and came or not."""

    offset: int
    limit: int
    arrived: trio.Event
    listing: Listing | None = None
    error: Exception | None = None


class _Walk:
    """One listing."""

    def __init__(self, pager: Pager, options: PagingOptions, fetch: FetchPage, on_page: OnPage, path: str) -> None:
        self._pager = pager
        self._options = options
        self._fetch = fetch
        self._on_page = on_page
        self._path = path
        self._delivered: set[str] = set()
        self._end = 0  # just behind the last page that counts, in the numbering of its snapshot
        self._total = 0
        self._most = 0  # entries that can be believed in
        self._complete = False
        self._pages = 0
        self._totals: set[int | None] = set()
        self._barren_tries = 0
        self._quiet_ends = 0

    @property
    def _is_changing(self) -> bool:
        return len(self._totals) > 1

    async def run(self, first_listing: Listing | None) -> None:
        limit = self._pager.page_size(self._options.first_page)
        if first_listing is None:
            first = await self._get(0, limit)
        else:
            first = _Page(0, limit, trio.Event(), first_listing)
        believable = 100_000 + 4 * (first.listing.total or 0) if first.listing else 0
        self._most = min(believable, self._options.max_entries)
        self._use(first)
        while not self._complete:
            if self._barren_tries > self._options.max_tries:
                await self._take_all_at_once()
            elif self._barren_tries:
                await self._step_back()
            else:
                await self._go_on()
        if len(self._totals) == 1 and self._totals != {None} and len(self._delivered) < self._total:
            await self._take_all_at_once()

    # ----- asking -----------------------------------------------------------------------------------------------

    async def _ask(self, offset: int, limit: int) -> Listing:
        self._pages += 1
        if self._pages > self._options.max_pages:
            raise BadAnswer("the NAS's listing of the folder does not end", path=self._path)
        listing = await self._fetch(offset, limit)
        if not listing.has_records and listing.total != 0:
            # Taken for an empty folder, it would have a mirror job delete its copy.
            raise BadAnswer("the NAS's answer is no listing", path=self._path)
        return listing

    async def _get(self, offset: int, limit: int) -> _Page:
        page = _Page(offset, limit, trio.Event())
        page.listing = await self._ask(offset, limit)
        return page

    async def _get_into(self, page: _Page) -> None:
        try:
            page.listing = await self._ask(page.offset, page.limit)
        except Exception as exc:  # raised where the page is used, not through the nursery
            page.error = exc
        page.arrived.set()

    async def _go_on(self) -> None:
        """Several pages at once, used in order, until one does not fit or the end is there."""
        error: Exception | None = None
        async with trio.open_nursery() as nursery:
            under_way: deque[_Page] = deque()
            limit = self._pager.page_size(self._options.page)
            offset = self._end - 1
            while True:
                while len(under_way) < self._options.ahead and (not under_way or offset < self._total - 1):
                    under_way.append(_Page(offset, limit, trio.Event()))
                    nursery.start_soon(self._get_into, under_way[-1])
                    offset += limit - 1
                page = under_way.popleft()
                await page.arrived.wait()
                error = page.error
                try:
                    if error is not None or not self._use(page) or self._complete:
                        break
                except Exception as exc:
                    error = exc
                    break
                if self._end != page.offset + limit:  # capped: the pages behind it start at the wrong places
                    break
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error

    async def _step_back(self) -> None:
        """What was the boundary is not where it was: look for it, or for something else known, before."""
        limit = self._pager.page_size(self._options.page)
        back = min(self._options.first_step_back * 16 ** (self._barren_tries - 1), limit // 2)
        self._use(await self._get(max(0, self._end - 1 - back), limit))

    async def _take_all_at_once(self) -> None:
        """The last resort: one snapshot; or, if the NAS does not send so much at once, pages until they bring nothing
        new. A page from the start on may miss what shifts past it, but hardly the same name each time."""
        if not await self._take_one_snapshot():
            for _ in range(MAX_SWEEPS):  # while somebody makes names without a pause, each brings something new
                if not await self._sweep():
                    break
            if len(self._delivered) < self._total and not self._is_changing:
                raise BadAnswer("the NAS does not list all of the folder", path=self._path)
        self._complete = True

    async def _take_one_snapshot(self) -> bool:
        """Returns whether it was all of the folder."""
        try:
            listing = await self._ask(0, 0)
        except BadAnswer as exc:
            if isinstance(exc.__cause__, BodyTooBig):
                return False
            raise
        self._deliver(listing, 0)
        return listing.total is None or len(listing.records) >= listing.total

    async def _sweep(self) -> bool:
        """Ask for all pages once more. Returns whether one of them held something new."""
        limit = self._pager.page_size(self._options.page)
        offset, new = 0, False
        while True:
            listing = (await self._get(offset, limit)).listing
            assert listing is not None
            new = self._deliver(listing, 0) or new
            self._total = listing.total or 0
            self._totals.add(listing.total)
            offset += len(listing.records)
            if offset > self._most:
                raise BadAnswer("the NAS's listing of the folder does not end", path=self._path)
            if not listing.records or (listing.total is not None and offset >= listing.total):
                return new

    # ----- using ------------------------------------------------------------------------------------------------

    def _use(self, page: _Page) -> bool:
        """Deliver what is new and certain. False: the page proves nothing, or brings nothing."""
        listing = page.listing
        assert listing is not None
        records = listing.records
        new_from = 0
        if page.offset > 0:
            known = (i for i in range(len(records) - 1, -1, -1) if records[i].name in self._delivered)
            last_known = next(known, None)
            if last_known is None:
                self._barren_tries += 1
                return False
            new_from = last_known + 1
        brought = self._deliver(listing, new_from)
        end = page.offset + len(records)
        total = listing.total
        self._totals.add(total)
        self._complete = len(records) < page.limit if total is None else end >= total
        due = page.limit if total is None else min(page.limit, total - page.offset)
        much_is_missing = len(records) < due - due // 10
        if not self._complete and not brought:
            self._barren_tries += 1
            # What goes between being counted and being looked at is in the total and not in the page.
            to_the_end = total is not None and page.offset + page.limit >= total and not much_is_missing
            self._quiet_ends += new_from == len(records) and self._is_changing and to_the_end
            self._complete = self._quiet_ends >= QUIET_ENDS
            return self._complete
        if due == page.limit and much_is_missing and not self._complete:
            # It sends much less than there is: that is as much as this NAS sends at once.
            self._pager.cap = max(len(records), 2)
        self._end = end
        self._total = end + page.limit if total is None else total
        self._barren_tries = 0
        return True

    def _deliver(self, listing: Listing, start: int) -> bool:
        fresh = []
        most = max(self._most, min(len(listing.records), self._options.max_entries))
        for record in listing.records[start:]:
            entry = entry_of(record)
            if entry.name not in self._delivered:
                self._delivered.add(entry.name)
                fresh.append(entry)
                if len(self._delivered) > most:
                    raise BadAnswer("the NAS's listing of the folder does not end", path=self._path)
        if fresh:
            self._on_page(fresh)
        return bool(fresh)
