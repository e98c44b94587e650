"""One file in slices, as DSM's own page sends a large one. The protocol is not documented: the server appends each
slice to a temporary file and knows no positions, and the last slice puts that file under its name. So a slice is
never sent twice once it may have arrived: the whole upload fails instead.

The name, the times and the leave to overwrite go with each slice. The size of the whole is announced with each, too;
while the file still grows it is the size so far, which is always more than what was sent: no slice but the last can
look like the end.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec

from synofs.filestation.multipart import Digest
from synofs.remote import BeginningLost, Exists, NoSpace, PermissionDenied, QuotaExceeded, RemoteError

_OTHER_LENGTH = 1800  # a temporary error for a whole file, whose connection may have been cut
_TMPFILE = re.compile(r"[\x21-\x7e]+")  # it goes into a header


class Uploaded(msgspec.Struct, frozen=True):
    """The answer to an upload."""

    skipped: bool = msgspec.field(name="blSkip", default=False)
    tmpfile: str | None = None


@dataclass(frozen=True)
class Stretch:
    """The part of a file that goes in one request. `digest` has seen what lies before it."""

    position: int
    length: int
    headers: Mapping[str, str] = field(default_factory=dict)
    digest: Digest | None = None


Post = Callable[[Stretch], Awaitable[tuple[Uploaded, Digest | None]]]


class Slices:
    def __init__(self, post: Post, path: str, digest: Digest | None = None) -> None:
        """`post` sends one stretch. With a `digest`, that is of all that was sent."""
        self._post = post
        self._path = path
        self.digest = digest
        self.sent = 0
        self._tmpfile: str | None = None
        self._usable = True  # all that was sent is known to have arrived

    async def append(self, length: int, size: int) -> None:
        """Send the next `length` bytes of a file of `size` bytes (so far); with them, not all of it is sent.

        Raises `Exists`, `BeginningLost` and whatever kept the request from its end. After that it is of no use.
        """
        assert self.sent + length < size
        reply = await self._send(length, size, is_last=False)
        if not _TMPFILE.fullmatch(reply.tmpfile or ""):
            self._usable = False
            raise BeginningLost("the NAS does not continue the upload", path=self._path)
        self._tmpfile = reply.tmpfile

    async def finish(self, size: int, longest: int) -> None:
        """Send the rest of the file; it is under its name then. Raises as `append` does."""
        while size - self.sent > longest:
            await self.append(longest, size)
        await self._send(size - self.sent, size, is_last=True)

    async def _send(self, length: int, size: int, *, is_last: bool) -> Uploaded:
        if not self._usable:
            raise BeginningLost("the upload was broken off before", path=self._path)
        headers = {
            "X-TYPE-NAME": "SLICEUPLOAD",
            "X-FILE-SIZE": str(size),
            "X-FILE-CHUNK-END": "true" if is_last else "false",
        }
        if self._tmpfile is not None:
            headers["X-TMP-FILE"] = self._tmpfile
        self._usable = False
        try:
            reply, self.digest = await self._post(Stretch(self.sent, length, headers, self.digest))
        except (Exists, NoSpace, QuotaExceeded, PermissionDenied):
            raise
        except RemoteError as exc:
            if self.sent and (not exc.temporary or exc.code == _OTHER_LENGTH):  # it does not go on with what it has
                raise BeginningLost(f"the NAS does not continue the upload: {exc}", path=self._path) from exc
            raise
        if reply.skipped:
            raise Exists("something is there already", path=self._path)
        self._usable = True
        self.sent += length
        return reply
