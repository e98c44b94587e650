"""A multipart/form-data body as a stream of parts: nothing but the text fields is kept in memory.

File names are taken as DSM takes them, literally: the encoded forms of RFC 2047 and RFC 5987 end up in the name
on disk as they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header


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


class FormReader:
    """Turns pieces of a body into events."""

    def __init__(self, content_type: str) -> None:
        kind, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if kind != b"multipart/form-data" or not boundary:
            raise MalformedForm(content_type)
        self._events: list[Event] = []
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._text: bytearray | None = None
        self._complete = False
        callbacks: Any = {
            "on_part_begin": self._on_part_begin,
            "on_header_field": self._on_header_field,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        self._parser = MultipartParser(boundary, callbacks)

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events of one more piece of the body."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise MalformedForm(str(error)) from error
        events, self._events = self._events, []
        yield from events

    def finish(self) -> None:
        """Complains unless the last boundary has been seen."""
        if not self._complete:
            raise MalformedForm("the body ends before the last boundary")

    def _on_part_begin(self) -> None:
        self._disposition = b""

    def _on_header_field(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _on_headers_finished(self) -> None:
        filename = _field(self._disposition, rb"[;\s]filename\*?")
        self._text = bytearray() if filename is None else None
        if filename is not None:
            self._events.append(FileBegin(filename))

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._text is None:
            self._events.append(FileData(data[start:end]))
            return
        self._text += data[start:end]
        if len(self._text) > _MAX_TEXT_BYTES:
            raise MalformedForm("a text part is too long")

    def _on_part_end(self) -> None:
        if self._text is None:
            self._events.append(FileEnd())
        else:
            name = _field(self._disposition, rb"[;\s]name") or ""
            self._events.append(Text(name, self._text.decode("utf-8", "surrogateescape")))

    def _on_end(self) -> None:
        self._complete = True


def _field(disposition: bytes, key: bytes) -> str | None:
    """A parameter of the header, without any decoding. Up to the last quote, if it is quoted."""
    match = re.search(key + rb'=(?:"(.*?)"(?=;|\s*$)|([^;]*))', disposition, re.DOTALL)
    if match is None:
        return None
    value = match[1] if match[1] is not None else match[2]
    return value.decode("utf-8", "surrogateescape")
