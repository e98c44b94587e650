"""Thumbnails as the freedesktop standard wants them, and nothing else taken for a picture."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from pathlib import Path

import pytest
from PIL import Image

from synofs.app.thumbnail_cache import NotAPicture, ThumbnailCache, file_uri

URI = "file:///home/ann/nas/photo/Gr%C3%B6%C3%9Fe%201.jpg"
NAME = hashlib.md5(URI.encode()).hexdigest() + ".png"


def encoded(width: int, height: int, kind: str = "JPEG", orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.new("RGB", (width, height), (200, 30, 30)).save(stream, kind, exif=exif)
    return stream.getvalue()


@pytest.fixture
def cache(tmp_path: Path) -> ThumbnailCache:
    return ThumbnailCache(tmp_path / "thumbnails")


@pytest.mark.parametrize(("folder", "size"), [("normal", (128, 85)), ("large", (256, 170))])
def test_a_file_manager_finds_it_by_name_size_and_texts(
    cache: ThumbnailCache, tmp_path: Path, folder: str, size: tuple[int, int]
) -> None:
    cache.put(URI, 1_717_236_000, 4711, encoded(320, 213))
    file = tmp_path / "thumbnails" / folder / NAME
    with Image.open(file) as image:
        assert (image.format, image.size) == ("PNG", size)
        assert image.info["Thumb::URI"] == URI
        assert image.info["Thumb::MTime"] == "1717236000"
        assert image.info["Thumb::Size"] == "4711"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert os.listdir(file.parent) == [NAME]


def test_it_counts_for_its_version_alone(cache: ThumbnailCache) -> None:
    assert not cache.has(URI, 1)
    cache.put(URI, 1, 10, encoded(320, 213))
    assert cache.has(URI, 1)
    assert not cache.has(URI, 2)
    assert not cache.has(URI + "x", 1)


def test_a_damaged_one_is_none(cache: ThumbnailCache, tmp_path: Path) -> None:
    cache.put(URI, 1, 10, encoded(320, 213))
    (tmp_path / "thumbnails" / "large" / NAME).write_bytes(b"\x89PNG\r\n\x1a\n")
    assert not cache.has(URI, 1)


def test_a_small_picture_is_not_enlarged_and_one_on_its_side_is_turned(cache: ThumbnailCache, tmp_path: Path) -> None:
    cache.put(URI, 1, 10, encoded(100, 50, orientation=6))
    with Image.open(tmp_path / "thumbnails" / "large" / NAME) as image:
        assert image.size == (50, 100)


def test_a_failure_that_a_thumbnailer_remembered_is_forgotten(cache: ThumbnailCache, tmp_path: Path) -> None:
    failures = tmp_path / "thumbnails" / "fail" / "gnome-thumbnail-factory"
    failures.mkdir(parents=True)
    (failures / NAME).touch()
    (failures / "other.png").touch()
    cache.put(URI, 1, 10, encoded(320, 213))
    assert os.listdir(failures) == ["other.png"]


@pytest.mark.parametrize("body", [b"", b"<html>", encoded(320, 213)[:300], encoded(320, 213, "PPM")])
def test_what_is_no_picture_is_refused(cache: ThumbnailCache, tmp_path: Path, body: bytes) -> None:
    with pytest.raises(NotAPicture):
        cache.put(URI, 1, 10, body)
    assert not list(tmp_path.rglob("*.png"))


def test_a_picture_that_unfolds_to_gigabytes_is_refused(cache: ThumbnailCache) -> None:
    stream = io.BytesIO()
    Image.new("1", (8000, 8000)).save(stream, "PNG")
    with pytest.raises(NotAPicture):
        cache.put(URI, 1, 10, stream.getvalue())


def test_uris_are_spelled_as_glib_spells_them() -> None:
    """The bytes 1 to 255 as g_filename_to_uri of GLib 2.74 wrote them."""
    escaped = "".join(f"%{byte:02X}" for byte in range(1, 33))
    middle = "!%22%23$%25&'()*+,-.0123456789:%3B%3C=%3E%3F@ABCDEFGHIJKLMNOPQRSTUVWXYZ%5B%5C%5D%5E_%60"
    end = "abcdefghijklmnopqrstuvwxyz%7B%7C%7D~%7F" + "".join(f"%{byte:02X}" for byte in range(128, 256))
    path = b"/a/" + bytes(byte for byte in range(1, 256) if byte != ord("/"))
    assert file_uri(path) == "file:///a/" + escaped + middle + end
