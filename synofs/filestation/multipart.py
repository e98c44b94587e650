"""The body of an upload, made while it is sent: multipart/form-data with the file as its last part."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Protocol

PIECE_BYTES = 256 * 1024

# What ends a quoted string, or a header line. Clients disagree on how to escape them, and nobody knows what the
# NAS makes of it.
_UNQUOTABLE = re.compile(r'["\\\x00-\x1f\x7f]')


class Digest(Protocol):
    """What hashlib makes."""

    def update(self, data: bytes, /) -> None: ...

    def copy(self) -> Digest: ...

    def hexdigest(self) -> str: ...


def fits_filename(name: str) -> bool:
    """Can a file of this name be uploaded under it?"""
    return _UNQUOTABLE.search(name) is None


class MultipartFile:
    """A `RequestBody` of text fields and one stretch of a file."""

    def __init__(
        self,
        boundary: str,
        fields: Mapping[str, str],
        name: str,
        source: BinaryIO,
        start: int,
        size: int,
        on_sent: Callable[[int], None],
        digest: Digest | None = None,
    ) -> None:
        """`on_sent` is told how much of the stretch has gone so far. `digest` has seen what lies before it."""
        if not fits_filename(name):
            raise ValueError("a name that cannot be quoted")
        self._head = _head(boundary, fields, name)
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self._source = source
        self._start = start
        self._size = size
        self._on_sent = on_sent
        self._digest_before = digest
        self.digest = digest  # after the body was sent: of this stretch too
        self._sent = 0

    @property
    def length(self) -> int:
        return len(self._head) + self._size + len(self._tail)

    def pieces(self) -> Iterator[bytes]:
        self._sent = 0
        self.digest = self._digest_before.copy() if self._digest_before is not None else None
        yield self._head
        self._source.seek(self._start)
        left = self._size
        while left:
            piece = self._source.read(min(left, PIECE_BYTES))
            if not piece:
                return  # shorter than announced: the transport breaks the request off
            if self.digest is not None:
                self.digest.update(piece)
            left -= len(piece)
            yield piece
        yield self._tail

    def sent(self, byte_count: int) -> None:
        self._sent += byte_count
        self._on_sent(min(max(self._sent - len(self._head), 0), self._size))


def _head(boundary: str, fields: Mapping[str, str], name: str) -> bytes:
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'
        for key, value in fields.items()
    ]
    # The name is raw UTF-8. The encoded forms of RFC 2047 and 5987 end up on the disk as they are.
    parts.append(
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    )
    return "".join(parts).encode("utf-8", "surrogateescape")
