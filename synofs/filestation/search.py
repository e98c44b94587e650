"""The NAS's own search: it walks its disks, or asks its index, and only the hits travel.

A search lives until it is cleaned away, and one that is left behind goes on burning the NAS's CPU: so it is stopped
and cleaned however the search here ends. A search whose id the NAS does not understand, or that it has discarded,
looks finished but has no total; it is started again.
"""

from __future__ import annotations

import fnmatch
import logging
import posixpath
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal, NamedTuple

import msgspec
import trio

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.calls import ApiCall
from synofs.filestation.parsing import Empty, Record, entry_of, is_missing
from synofs.filestation.tasks import Started, poll_delays
from synofs.remote import BadAnswer, RemoteEntry, RemoteError, TimedOut, Unavailable

log = logging.getLogger(__name__)

PAGE = 500
TRIES = 5
STOP_SECONDS = 3.0
LONGEST_SECONDS = 3600.0  # a walk over a whole NAS without an index, on a guess
MAX_HITS = 1_000_000
MAX_EMPTY_PAGES = 10  # in a row: all hits on that many pages gone is not to be believed


class SearchFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a hit has to be. Without a wildcard (`*`, `?`) the pattern is a part of the name; case does not matter."""

    pattern: str = ""
    kind: Literal["all", "file", "dir"] = "all"
    recursive: bool = True
    size_from: int | None = None
    size_to: int | None = None
    mtime_from: int | None = None  # seconds since 1970
    mtime_to: int | None = None


class Hit(NamedTuple):
    path: str
    entry: RemoteEntry


OnHits = Callable[[Sequence[Hit]], Awaitable[None]]


class Finds(msgspec.Struct, frozen=True):
    """A page of hits. No `total`: the NAS does not know the search."""

    files: list[Record] = []
    finished: bool = False
    total: int | None = None


class Search:
    """Searches below folders."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def find(self, folder: str, wanted: SearchFilter, on_hits: OnHits) -> int:
        """Find entries below a folder; `on_hits` gets each of them once, in any order. Returns how many there were."""
        told: set[str] = set()
        for _ in range(TRIES):
            taskid = (await self._caller.call(_start(folder, wanted), Started)).taskid
            if not taskid:
                raise BadAnswer("the NAS started a search without an id", path=folder)
            try:
                if await self._collect(folder, taskid, wanted, told, on_hits):
                    return len(told)
            finally:
                await self._forget(taskid)
        raise Unavailable("the NAS discards every search", path=folder)

    async def _collect(self, folder: str, taskid: str, wanted: SearchFilter, told: set[str], on_hits: OnHits) -> bool:
        """Hand on what is found, while it is found and then to the last page. False: the NAS lost the search."""
        matches = _matcher(wanted.pattern)

        async def tell(page: Finds) -> None:
            hits = []
            for record in page.files:
                if record.path is None or is_missing(record) or record.path in told:
                    continue
                if matches(posixpath.basename(record.path)):
                    told.add(record.path)
                    hits.append(Hit(record.path, entry_of(record)))
            if hits:
                await on_hits(hits)

        give_up_at = trio.current_time() + LONGEST_SECONDS
        for delay in poll_delays():
            await trio.sleep(delay)
            page = await self._page(folder, taskid, 0)
            if trio.current_time() > give_up_at:
                raise TimedOut("the NAS: its search does not end", path=folder)
            if page.total is None and page.finished:
                return False
            await tell(page)
            if page.finished:
                break
        offset = max(len(page.files), 1)
        empty_pages = 0
        while page.total is not None and offset < page.total:
            page = await self._page(folder, taskid, offset)
            empty_pages = 0 if page.files else empty_pages + 1
            if empty_pages > MAX_EMPTY_PAGES or offset > MAX_HITS or trio.current_time() > give_up_at:
                raise BadAnswer("the NAS's list of hits does not end", path=folder)
            if page.total is None:
                return False
            await tell(page)
            # Hits that are gone by now leave gaps in a page, and some builds send less than was asked for.
            offset += len(page.files) or PAGE
        return True

    async def _page(self, folder: str, taskid: str, offset: int) -> Finds:
        return await self._caller.call(calls.search_list(folder, taskid, offset, PAGE), Finds)

    async def _forget(self, taskid: str) -> None:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
            for method in ("stop", "clean"):
                try:
                    await self._caller.call(calls.search_end(method, taskid), Empty)
                except RemoteError as exc:
                    log.debug("search %s failed: %s", method, exc)


def _start(folder: str, wanted: SearchFilter) -> ApiCall:
    return calls.search_start(
        folder,
        recursive=wanted.recursive,
        pattern=sent_pattern(wanted.pattern) or None,
        filetype=wanted.kind,
        size_from=wanted.size_from,
        size_to=wanted.size_to,
        mtime_from=wanted.mtime_from,
        mtime_to=wanted.mtime_to,
    )


def sent_pattern(pattern: str) -> str:
    """The pattern as every build understands it. It takes spaces or commas for separators, and perhaps brackets for
    sets; each of these is sent as a wildcard, and the hits are looked at here."""
    sent = re.sub(r"[\s,\[\]!\\]", "?", pattern)
    return sent if sent == pattern or _has_wildcard(pattern) else f"*{sent}*"


def _has_wildcard(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _matcher(pattern: str) -> Callable[[str], object]:
    if not pattern:
        return lambda name: True
    glob = pattern if _has_wildcard(pattern) else f"*{pattern}*"
    literal = glob.replace("[", "[[]")
    return re.compile(fnmatch.translate(literal), re.IGNORECASE).match
