"""A multipart/form-data body as a stream of parts: nothing but the text fields is kept in memory.

File names are taken as DSM takes them, literally: the encoded forms of RFC 2047 and RFC 5987 end up in the name
on disk as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass


class MalformedForm(Exception):
    """The body is no multipart form, or ends before its last boundary."""


@dataclass(frozen=True)
class Text:
    """A text part, whole."""

    name: str
    value: str


@dataclass(frozen=True)
class FileBegin:
    """The head of a file part: any part with a filename."""

    filename: str


@dataclass(frozen=True)
class FileData:
    """A piece of a file."""

    data: bytes


@dataclass(frozen=True)
class FileEnd:
    """The end of a file part."""


Event = Text | FileBegin | FileData | FileEnd

_MAX_TEXT_BYTES = 64 * 2**10
_MAX_HEAD_BYTES = 64 * 2**10
_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"]+)"|([^\s;"]+))', re.IGNORECASE)
_FILENAME, _NAME = (
    re.compile(rb"[;\s]" + key + rb'=(?:"(.*?)"(?=;|\s*$)|([^;]*))', re.DOTALL) for key in (rb"filename\*?", b"name")
)


class FormReader:
    """Turns pieces of a body into events."""

    def __init__(self, content_type: str) -> None:
        boundary = _BOUNDARY.search(content_type)
        if content_type.partition(";")[0].strip().lower() != "multipart/form-data" or boundary is None:
            raise MalformedForm(content_type)
        self._delimiter = f"\r\n--{boundary[1] or boundary[2]}".encode("latin-1")
        self._unread = b"\r\n"  # so that the first boundary looks like the others
        self._step = self._read_content
        self._disposition: bytes | None = None  # of the part that is being read; None before the first
        self._text: bytearray | None = None
        self._complete = False

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events of one more piece of the body."""
        self._unread += piece
        while not self._complete:
            events = self._step()
            if events is None:
                return
            yield from events

    def finish(self) -> None:
        """Complains unless the last boundary has been seen."""
        if not self._complete:
            raise MalformedForm("the body ends before the last boundary")

    # Each step takes what it can from the unread bytes, and says what comes next. None: it needs more of them.

    def _read_content(self) -> list[Event] | None:
        end = self._unread.find(self._delimiter)
        if end >= 0:
            content, self._unread = self._unread[:end], self._unread[end + len(self._delimiter) :]
            self._step = self._read_boundary_end
            return self._content(content) + self._end_of_part()
        # The last bytes may be the beginning of a boundary.
        end = self._unread.find(b"\r", max(0, len(self._unread) - len(self._delimiter) + 1))
        if end < 0:
            end = len(self._unread)
        if not end:
            return None
        content, self._unread = self._unread[:end], self._unread[end:]
        return self._content(content)

    def _read_boundary_end(self) -> list[Event] | None:
        if len(self._unread) < 2:
            return None
        if self._unread.startswith(b"--"):
            self._complete = True
            return []
        if not self._unread.startswith(b"\r\n"):
            raise MalformedForm("a boundary that goes on")
        self._step = self._read_head
        return []

    def _read_head(self) -> list[Event] | None:
        # It begins with the end of the boundary's line, so that a head without lines ends like any other.
        end = self._unread.find(b"\r\n\r\n")
        if max(end, len(self._unread) if end < 0 else 0) > _MAX_HEAD_BYTES:
            raise MalformedForm("the head of a part is too long")
        if end < 0:
            return None
        head, self._unread = self._unread[:end], self._unread[end + 4 :]
        self._step = self._read_content
        self._disposition = b""
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.strip().lower() == b"content-disposition":
                self._disposition = value.strip()
        filename = _field(self._disposition, _FILENAME)
        self._text = bytearray() if filename is None else None
        return [] if filename is None else [FileBegin(filename)]

    def _content(self, content: bytes) -> list[Event]:
        if self._disposition is None or not content:
            return []
        if self._text is None:
            return [FileData(content)]
        self._text += content
        if len(self._text) > _MAX_TEXT_BYTES:
            raise MalformedForm("a text part is too long")
        return []

    def _end_of_part(self) -> list[Event]:
        if self._disposition is None:
            return []
        if self._text is None:
            return [FileEnd()]
        name = _field(self._disposition, _NAME) or ""
        return [Text(name, self._text.decode("utf-8", "surrogateescape"))]


def _field(disposition: bytes, key: re.Pattern[bytes]) -> str | None:
    """A parameter of the header, without any decoding. Up to the last quote, if it is quoted."""
    match = key.search(disposition)
    if match is None:
        return None
    value = match[1] if match[1] is not None else match[2]
    return value.decode("utf-8", "surrogateescape")
