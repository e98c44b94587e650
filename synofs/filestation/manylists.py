"""The first pages of several folders in one request.

DSM's own pages send several calls as one with SYNO.Entry.Request, and others do so for years, but nobody is on record
to have listed folders with it. So it is believed only when each answer has the form of one and its entries lie in the
folder that was asked for in its place; it is never used again when the NAS does not take it; and a folder that it
refuses, or all of them if it refuses the request, is asked for in the ordinary way.

The calls of one request are run one after the other (`mode=sequential`), so the NAS has no more to do at once than
with one folder a request. How many go together is found by trying: more, as long as the answer does not take long,
because who waits for the first folder waits for the last one. A request that takes too long is given up, and each of
its folders gets the time that it would have had alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial

import trio

from synofs.filestation import calls
from synofs.filestation.api_errors import STALE_SESSION, error_of_code
from synofs.filestation.caller import Caller
from synofs.filestation.listing import Pager
from synofs.filestation.parsing import Compound, Listing, Part
from synofs.remote import (
    BadAnswer,
    CertificateRefused,
    NotANas,
    OnListed,
    OnPage,
    OnPageOf,
    Overloaded,
    RemoteError,
    TimedOut,
    Unreachable,
    Unsupported,
)

log = logging.getLogger(__name__)

API = "SYNO.Entry.Request"
FIRST_FOLDERS = 4
MAX_FOLDERS = 16
LONG_SECONDS = 1.0
MAX_SECONDS = 5.0
ALONE_SECONDS = 30.0  # after a request that took longer than that
MAX_REFUSALS = 2  # in a row, once it has worked

# What would be said to each folder that is asked for by itself, too.
_SAID_TO_ALL = (Unreachable, Overloaded, CertificateRefused, NotANas)
_FIRST_CODE_OF_FILES = 400  # what is below says that the request was not understood


class ManyLists:
    """Lists folders together; `folders_at_once` says how many are worth it."""

    def __init__(self, caller: Caller, pager: Pager, first_page: int) -> None:
        self._caller = caller
        self._pager = pager
        self._first_page = first_page
        self._works: bool | None = None  # not known before the first answer
        self._trying = False
        self._refusals = 0
        self._folders = FIRST_FOLDERS
        self._alone_until = float("-inf")

    @property
    def folders_at_once(self) -> int:
        apis = self._caller.wire.apis
        if self._works is False or self._trying or apis is None or API not in apis:
            return 1
        return 1 if trio.current_time() < self._alone_until else self._folders

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
            answer = await self._caller.call(together, Compound, deadline_seconds=MAX_SECONDS, check=_session_is_alive)
            firsts = _in_their_places(paths, answer.result)
        except _SAID_TO_ALL:
            raise
        except TimedOut:
            self._folders = max(2, len(paths) // 2)
            self._alone_until = trio.current_time() + ALONE_SECONDS
            return nothing
        except RemoteError as exc:
            self._be_refused(exc)
            return nothing
        finally:
            self._trying = False
        self._works, self._refusals = True, 0
        self._learn(len(paths), trio.current_time() - started)
        return firsts

    def _be_refused(self, why: RemoteError) -> None:
        self._refusals += 1
        if self._works is None or self._refusals >= MAX_REFUSALS or isinstance(why, BadAnswer):
            self._works = False
            log.info("the NAS does not list several folders in one request (%s); they are asked for one by one", why)

    def _learn(self, folders: int, seconds: float) -> None:
        if seconds > LONG_SECONDS:
            self._folders = max(2, folders // 2)
        elif folders >= self._folders:
            self._folders = min(MAX_FOLDERS, folders + 2)


def _in_their_places(paths: Sequence[str], parts: Sequence[Part]) -> list[Listing | None]:
    """The listing of each folder, None where it has to be asked for by itself. Raises `BadAnswer` where another folder
    is listed (that may be any order, or another number of answers), `Unsupported` where no call was understood."""
    if len(parts) != len(paths):
        raise BadAnswer(f"{len(parts)} answers to {len(paths)} calls")
    if not any(_was_understood(part) for part in parts):
        raise Unsupported("none of the folders was listed")
    return [_listing_of(path, part) for path, part in zip(paths, parts, strict=True)]


def _was_understood(part: Part) -> bool:
    if part.success:
        return part.data is not None and part.data.has_records
    code = part.error.code if part.error is not None else None
    return code is not None and code >= _FIRST_CODE_OF_FILES


def _listing_of(path: str, part: Part) -> Listing | None:
    listing = part.data
    if not part.success or listing is None or not listing.has_records:
        return None
    told = [record.path for record in listing.records]
    if not all(told):
        return None
    if any(where is not None and where.rpartition("/")[0] != path for where in told):
        raise BadAnswer("the answer for one folder lists another one", path=path)
    return listing


def _session_is_alive(answer: Compound) -> None:
    """A session that ends is told in the parts, too."""
    for part in answer.result:
        code = None if part.success or part.error is None else part.error.code
        if code in STALE_SESSION:
            raise error_of_code(API, code)
