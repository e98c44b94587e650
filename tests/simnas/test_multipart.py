"""The multipart reader: any cut of the body gives the same events."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from synofs.simnas.multipart import FileBegin, FileData, FileEnd, FormReader, MalformedForm, Text

CONTENT_TYPE = "multipart/form-data; boundary=----b0undary"


def read(body: bytes, size: int) -> list[object]:
    """The events of a body that comes in pieces of a size, the data of the file joined."""
    reader = FormReader(CONTENT_TYPE)
    events: list[object] = []
    for start in range(0, len(body), size):
        for event in reader.feed(body[start : start + size]):
            if isinstance(event, FileData) and isinstance(events[-1], FileData):
                events[-1] = FileData(events[-1].data + event.data)
            else:
                events.append(event)
    reader.finish()
    return events


@pytest.mark.parametrize("size", [1, 2, 3, 7, 50, 10_000])
def test_every_cut_gives_the_same_events(multipart: Callable[..., bytes], size: int) -> None:
    content = b"\r\n------b0undar\r\n--\r" + bytes(range(256)) + b"\r\n"
    body = multipart([("path", "/médiä/日本"), ("mtime", "1")], "näme; [x].txt", content)
    assert read(body, size) == [
        Text("path", "/médiä/日本"),
        Text("mtime", "1"),
        FileBegin("näme; [x].txt"),
        FileData(content),
        FileEnd(),
    ]


@pytest.mark.parametrize("size", [1, 10_000])
def test_a_body_without_its_end_is_malformed(multipart: Callable[..., bytes], size: int) -> None:
    body = multipart([("path", "/media")], "f", b"x" * 100)
    for cut in (len(body) - 4, len(body) - 30, 10):
        with pytest.raises(MalformedForm):
            read(body[:cut], size)


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/mixed; boundary=x"])
def test_what_is_no_form_is_malformed(content_type: str) -> None:
    with pytest.raises(MalformedForm):
        FormReader(content_type)


def test_a_text_part_of_absurd_length_is_malformed(multipart: Callable[..., bytes]) -> None:
    with pytest.raises(MalformedForm):
        read(multipart([("path", "x" * 100_000)], "f", b""), 10_000)
