"""The first pages of several folders in one request.

DSM's own pages send several calls as one with SYNO.Entry.Request, and others do so for years, but nobody is on record
to have listed folders with it. So it is believed only when each answer has the form of one, it is never used again
when the NAS does not take it, and a folder that it refuses is asked for in the ordinary way.

The calls of one request are run one after the other (`mode=sequential`), so the NAS has no more to do at once than
with one folder a request. How many go together is found by trying: more, as long as the answer does not take long,
because who waits for the first folder waits for the last one.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from synofs.filestation import calls
from synofs.filestation.api_errors import STALE_SESSION, error_for
from synofs.filestation.caller import Caller
from synofs.filestation.listing import Pager
from synofs.filestation.parsing import Compound, Listing
from synofs.remote import BadAnswer, InvalidRequest, OnListed, OnPage, OnPageOf, Unsupported

log = logging.getLogger(__name__)

API = "SYNO.Entry.Request"
FIRST_FOLDERS = 4
MAX_FOLDERS = 16
LONG_SECONDS = 1.0


class ManyLists:
    """Lists folders together; `folders_at_once` says how many are worth it."""

    def __init__(self, caller: Caller, pager: Pager, first_page: int) -> None:
        self._caller = caller
        self._pager = pager
        self._first_page = first_page
        self._works: bool | None = None  # not known before the first answer
        self._trying = False
        self._folders = FIRST_FOLDERS

    @property
    def folders_at_once(self) -> int:
        apis = self._caller.wire.apis
        if self._works is False or self._trying or apis is None or API not in apis:
            return 1
        return self._folders

    async def list_dirs(self, paths: Sequence[str], on_page: OnPageOf, on_listed: OnListed) -> None:
        """See `RemoteStore.list_dirs`."""
        try:
            firsts = await self._first_pages(paths)
        except Exception as exc:  # theirs, like the answers: each folder has one
            for number in range(len(paths)):
                on_listed(number, exc)
            return
        async with trio.open_nursery() as nursery:
            for number, (path, first) in enumerate(zip(paths, firsts, strict=True)):
                nursery.start_soon(self._finish, path, first, partial(on_page, number), partial(on_listed, number))

    async def _finish(self, path: str, first: Listing | None, on_page: OnPage, on_listed: partial[None]) -> None:
        async def fetch(offset: int, limit: int) -> Listing:
            return await self._caller.call(calls.list_folder(path, offset, limit), Listing)

        try:
            await self._pager.list(fetch, on_page, path, first)
        except Exception as exc:
            on_listed(exc)
        else:
            on_listed(None)

    async def _first_pages(self, paths: Sequence[str]) -> list[Listing | None]:
        """A page of each folder, None where it has to be asked for by itself."""
        nothing: list[Listing | None] = [None] * len(paths)
        if len(paths) == 1 or self.folders_at_once == 1:
            return nothing
        asked = [calls.list_folder(path, 0, self._pager.page_size(self._first_page)) for path in paths]
        apis = self._caller.wire.apis
        assert apis is not None
        together = calls.compound([(call, apis.version_of(call)) for call in asked])
        started = trio.current_time()
        self._trying = self._works is None
        try:
            answer = await self._caller.call(together, Compound, check=_session_is_alive)
            firsts = [_listing_of(part.success, part.data) for part in answer.result]
            if len(firsts) != len(paths):
                raise BadAnswer(f"{len(firsts)} answers to {len(paths)} calls")
            if all(first is None for first in firsts):
                raise Unsupported("none of the folders was listed")
        except (InvalidRequest, Unsupported, BadAnswer) as exc:
            self._works = False
            log.info("the NAS does not list several folders in one request (%s); they are asked for one by one", exc)
            return nothing
        finally:
            self._trying = False
        self._works = True
        self._learn(len(paths), trio.current_time() - started)
        return firsts

    def _learn(self, folders: int, seconds: float) -> None:
        if seconds > LONG_SECONDS:
            self._folders = max(2, folders // 2)
        elif folders >= self._folders:
            self._folders = min(MAX_FOLDERS, folders + 2)


def _listing_of(success: bool, listing: Listing | None) -> Listing | None:
    return listing if success and listing is not None and listing.has_records else None


def _session_is_alive(answer: Compound) -> None:
    """A session that ends is told in the parts, too."""
    for part in answer.result:
        error = None if part.success else error_for(API, part.error)
        if error is not None and error.code in STALE_SESSION:
            raise error
