"""Parts of files, with every byte accounted for.

An answer is what its head says it is, never what was asked for: a NAS that ignores `Range` sends the whole file, a
dead session comes as JSON with status 200, a file that is gone as a 502 with a web page. Only an attachment, or a
206 that names exactly the range and the size that were expected, is believed to be the file.
"""

from __future__ import annotations

import re
from functools import partial

from synofs.filestation import calls
from synofs.filestation.caller import Attempt, Caller
from synofs.filestation.calls import ApiCall
from synofs.filestation.parsing import Empty, Listing, data_of, is_missing
from synofs.filestation.transport import Head, Response
from synofs.filestation.wire import Counters, check_status, lane_of
from synofs.remote import (
    BadAnswer,
    Changed,
    IsADirectory,
    NotFound,
    OnData,
    PermissionDenied,
    RemoteError,
    ShortBody,
)

_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII)
# Answers that one range may come in: a NAS that sends byte by byte would hold a reader up for hours.
MAX_PARTS = 32

_SEQUENTIAL_BYTES = 256 * 1024  # who asks for so much reads on; random reads are shorter

_UNSATISFIED = re.compile(r"bytes \*/(\d{1,19})", re.ASCII)


class Downloader:
    """Reads ranges of files, and knows whether the NAS honours ranges at all."""

    def __init__(self, caller: Caller, counters: Counters) -> None:
        self._caller = caller
        self._counters = counters
        self.ranges_ignored = False

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        if length <= 0:
            return
        reception = _Reception(path, offset, length, size, on_data, self._counters)
        call = calls.download(path)
        try:
            while reception.position < reception.end:
                await self._caller.run(partial(self._attempt, call, reception), idempotent=True)
        except _Torn as torn:
            raise torn.error from torn.error.__cause__
        finally:
            self.ranges_ignored = self.ranges_ignored or reception.got_whole_file

    async def _attempt(self, call: ApiCall, reception: _Reception, this: Attempt) -> None:
        start = reception.position
        try:
            response = await self._caller.wire.fetch(
                call,
                this.session,
                reception,
                headers={"Range": f"bytes={start}-{reception.end - 1}"},
                lane=lane_of(reception.end - start),
                body_offset=start,
                answer_seconds=this.answer_seconds,
                fresh_connection=this.fresh_connection,
                more_follows=reception.end < reception.size and reception.end - start >= _SEQUENTIAL_BYTES,
            )
            if not response.streamed:
                raise await self._refusal(call, response, this)
            reception.check_progress(start)
        except RemoteError as exc:
            if exc.temporary and reception.position > start:
                if reception.resumed:
                    raise _Torn(exc) from exc
                reception.resumed = True
            raise

    async def _refusal(self, call: ApiCall, response: Response, this: Attempt) -> RemoteError:
        """What an answer without the file says."""
        assert call.path is not None
        try:
            check_status(response.head, call.path)
            data_of(call.api, response.body, Empty, path=call.path)
        except RemoteError as exc:
            # A file that is gone comes as HTTP 502, 404 or as "not permitted", depending on the build.
            unclear = response.status in (404, 502) or isinstance(exc, PermissionDenied)
            if unclear and await self._is_gone(call.path, this):
                return NotFound("nothing is there", path=call.path, code=exc.code)
            return exc
        return BadAnswer("the NAS reports success in place of the file", path=call.path)

    async def _is_gone(self, path: str, this: Attempt) -> bool:
        try:
            listing = await self._caller.wire.ask(
                calls.get_info([path]), Listing, this.session, answer_seconds=this.answer_seconds
            )
        except NotFound:
            return True
        except RemoteError:
            return False
        return len(listing.records) == 1 and is_missing(listing.records[0])


class _Torn(Exception):
    """Broken off for the second time: not to be repeated."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__()
        self.error = error


class _Reception:
    """Takes the body of a download, over one or more connections, and hands on exactly what was asked for."""

    def __init__(self, path: str, offset: int, length: int, size: int, on_data: OnData, counters: Counters) -> None:
        self._path = path
        self.size = size
        self._on_data = on_data
        self._counters = counters
        self.position = offset  # of the next byte to hand on
        self.end = offset + length
        self.resumed = False
        self.got_whole_file = False
        self._parts = 0
        self._skip = 0  # bytes of this body that lie before `position`

    def wants(self, head: Head) -> bool:
        if head.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
            raise BadAnswer("the NAS sends the file in an encoding that was not asked for", path=self._path)
        if head.status == 206:
            self._check_range(head)
            self._skip = 0
            return True
        if head.status == 416:
            total = _UNSATISFIED.fullmatch(head.headers.get("content-range", ""))
            if total is not None and int(total[1]) == self.size:
                raise BadAnswer("the NAS refuses a part of the file that it has", path=self._path)
            raise Changed("the file on the NAS has become shorter", path=self._path)
        if head.status == 200 and _is_attachment(head):
            self._check_whole(head)
            self._skip = self.position
            self.got_whole_file = True
            return True
        return False

    def _check_range(self, head: Head) -> None:
        found = _CONTENT_RANGE.fullmatch(head.headers.get("content-range", ""))
        if found is None:
            raise BadAnswer("the NAS does not say which part of the file it sends", path=self._path)
        first, last = int(found[1]), int(found[2])
        if found[3] != "*" and int(found[3]) != self.size:
            raise Changed(f"the file on the NAS has {found[3]} bytes now, not {self.size}", path=self._path)
        announced = head.content_length
        if first != self.position or not first <= last < self.end or announced not in (None, last - first + 1):
            raise BadAnswer("the NAS sends another part of the file than was asked for", path=self._path)

    def _check_whole(self, head: Head) -> None:
        length = head.content_length
        if length is None and _is_archive(head, self._path):
            raise IsADirectory("a folder is there now", path=self._path)
        if length is not None and length != self.size:
            raise Changed(f"the file on the NAS has {length} bytes now, not {self.size}", path=self._path)

    async def take(self, piece: memoryview) -> bool:
        self._counters.bytes_read += len(piece)
        if self._skip:
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            piece = piece[skipped:]
        piece = piece[: self.end - self.position]
        if piece:
            await self._on_data(self.position, piece)
            self.position += len(piece)
        return self.position < self.end

    def check_progress(self, start: int) -> None:
        """After a body that ended as announced, or where its sender chose to end it."""
        if self.got_whole_file and self.position < self.end:
            raise ShortBody("the file ended early", path=self._path)
        self._parts += 1
        if self.position < self.end and self._parts >= MAX_PARTS:
            raise BadAnswer("the NAS sends the file in crumbs", path=self._path)
        if self.position == start:
            raise ShortBody("the NAS sent nothing of the file", path=self._path)


def _is_attachment(head: Head) -> bool:
    return head.headers.get("content-disposition", "").strip().lower().startswith("attachment")


def _is_archive(head: Head, path: str) -> bool:
    """The NAS sends a folder as a zip, of a length that it does not know."""
    if head.content_type in ("application/zip", "application/x-zip-compressed"):
        return True
    disposition = head.headers.get("content-disposition", "").lower()
    return ".zip" in disposition and not path.lower().endswith(".zip")
