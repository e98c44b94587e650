"""The desktop's own cache of thumbnails, as the freedesktop Thumbnail Managing Standard (0.9) has it.

    $XDG_CACHE_HOME/thumbnails/{normal,large}/MD5-OF-THE-URI.png      within 128 and 256 pixels

A file manager that finds one there with the right `Thumb::URI` and `Thumb::MTime` shows it, and asks nobody to make
one. Needs Pillow (the extra `desktop`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import os
import tempfile
from pathlib import Path
from urllib.parse import quote_from_bytes

from synofs.content.private import make_dirs

FLAVOURS = {"normal": 128, "large": 256}  # folder -> pixels

# What GLib leaves as it is in a file URI (seen with g_filename_to_uri of GLib 2.74). The name of a thumbnail is a hash
# of the URI's text, so every character counts.
_SAFE = "!$&'()*+,-./:=@_~"
# Formats in which a NAS sends thumbnails: nothing else is decoded, and nothing that unfolds to more than this.
_FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_MOST_PIXELS = 4096 * 4096


class NotAPicture(Exception):
    """What came as a thumbnail is none."""


def is_available() -> bool:
    """Whether Pillow is installed."""
    return importlib.util.find_spec("PIL") is not None


def cache_home() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given) if os.path.isabs(given) else Path.home() / ".cache"


def file_uri(path: bytes) -> str:
    """The URI of an absolute path, as GLib spells it."""
    return "file://" + quote_from_bytes(path, safe=_SAFE)


class ThumbnailCache:
    """Reads and writes files; call it from a worker thread."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _file(self, flavour: str, uri: str) -> Path:
        return self._root / flavour / f"{hashlib.md5(uri.encode(), usedforsecurity=False).hexdigest()}.png"

    def has(self, uri: str, mtime_seconds: int) -> bool:
        """Are thumbnails of that version there, in all sizes?"""
        return all(self._is_valid(self._file(flavour, uri), uri, mtime_seconds) for flavour in FLAVOURS)

    @staticmethod
    def _is_valid(file: Path, uri: str, mtime_seconds: int) -> bool:
        from PIL import Image

        try:
            with Image.open(file, formats=("PNG",)) as image:
                return image.info.get("Thumb::URI") == uri and image.info.get("Thumb::MTime") == str(mtime_seconds)
        except (OSError, ValueError, SyntaxError):
            return False

    def put(self, uri: str, mtime_seconds: int, size_bytes: int, picture: bytes) -> None:
        """Make thumbnails of an encoded picture. Raises `NotAPicture`, or the disk's `OSError`."""
        from PIL import Image, ImageOps, PngImagePlugin

        texts = PngImagePlugin.PngInfo()
        texts.add_text("Thumb::URI", uri)
        texts.add_text("Thumb::MTime", str(mtime_seconds))
        texts.add_text("Thumb::Size", str(size_bytes))
        texts.add_text("Software", "synofs")
        try:
            with Image.open(io.BytesIO(picture), formats=_FORMATS) as opened:
                if opened.width * opened.height > _MOST_PIXELS:
                    raise NotAPicture("it is far too big for a thumbnail")
                image = ImageOps.exif_transpose(opened).convert("RGBA" if "A" in opened.getbands() else "RGB")
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
            raise NotAPicture(str(exc)) from exc
        for flavour, pixels in FLAVOURS.items():
            made = image.copy()
            made.thumbnail((pixels, pixels))  # never enlarges
            encoded = io.BytesIO()
            made.save(encoded, "PNG", pnginfo=texts)
            self._write(self._file(flavour, uri), encoded.getvalue())
        # A thumbnailer may have failed on this version, and remembered it.
        for program in self._root.glob("fail/*/"):
            with contextlib.suppress(OSError):
                (program / self._file("", uri).name).unlink()

    @staticmethod
    def _write(file: Path, content: bytes) -> None:
        """Whole or not at all, and for the user's own eyes."""
        make_dirs(file.parent)
        descriptor, temporary = tempfile.mkstemp(dir=file.parent, prefix=".synofs-", suffix=".png")  # 0600
        try:
            with open(descriptor, "wb") as stream:
                stream.write(content)
            os.replace(temporary, file)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
