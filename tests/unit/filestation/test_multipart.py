"""Uploads as they go over the wire."""

from __future__ import annotations

import hashlib
import io

import pytest

from synofs.filestation.multipart import PIECE_BYTES, MultipartFile, fits_filename


def body_of(
    content: bytes, name: str = "x", *, start: int = 0, size: int | None = None, digest: bool = False
) -> MultipartFile:
    return MultipartFile(
        "frontier",
        {"path": "/media/ä", "overwrite": "true"},
        name,
        io.BytesIO(content),
        start,
        len(content) if size is None else size,
        on_sent=lambda sent: None,
        digest=hashlib.md5(b"before") if digest else None,
    )


def test_text_parts_first_then_the_file_and_nothing_after_it() -> None:
    expected = (
        b'--frontier\r\nContent-Disposition: form-data; name="path"\r\n\r\n/media/\xc3\xa4\r\n'
        b'--frontier\r\nContent-Disposition: form-data; name="overwrite"\r\n\r\ntrue\r\n'
        b'--frontier\r\nContent-Disposition: form-data; name="file"; filename="\xc3\xbc.txt"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n"
        b"content\r\n--frontier--\r\n"
    )
    assert b"".join(body_of(b"content", "ü.txt").pieces()) == expected


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_the_length_is_exact_and_pieces_are_small(size: int) -> None:
    body = body_of(bytes(size))
    pieces = list(body.pieces())
    assert sum(map(len, pieces)) == body.length
    assert max(map(len, pieces)) <= PIECE_BYTES


def test_it_can_be_sent_again_from_the_start() -> None:
    body = body_of(b"0123456789", start=3, size=4, digest=True)
    first = b"".join(body.pieces())
    again = body.pieces()
    next(again)
    assert b"".join(body.pieces()) == first
    assert b"\r\n\r\n3456\r\n" in first
    assert body.digest is not None
    assert body.digest.hexdigest() == hashlib.md5(b"before3456").hexdigest()


def test_a_source_that_is_shorter_sends_less_and_no_end() -> None:
    body = body_of(b"abc", size=10)
    sent = b"".join(body.pieces())
    assert sent.endswith(b"abc")
    assert len(sent) < body.length


def test_progress_counts_the_file_alone() -> None:
    seen: list[int] = []
    body = MultipartFile("b", {}, "x", io.BytesIO(b"12345"), 0, 5, on_sent=seen.append)
    for piece in body.pieces():
        body.sent(len(piece))
    assert seen == [0, 5, 5]


@pytest.mark.parametrize("name", ["x", "ünï", "\udcff", "a b", "%41", "a;b=c", "it's", "日本"])
def test_these_names_fit(name: str) -> None:
    assert fits_filename(name)
    assert name.encode("utf-8", "surrogateescape") in b"".join(body_of(b"", name).pieces())


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", "a\rb", "a\x00b", "a\x7fb"])
def test_these_names_would_break_the_header(name: str) -> None:
    assert not fits_filename(name)
    with pytest.raises(ValueError, match="quoted"):
        body_of(b"", name)
