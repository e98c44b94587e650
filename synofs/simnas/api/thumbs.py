"""SYNO.FileStation.Thumb: thumbnails of images.

Sizes below the original need Pillow. Without it they are still being made, for ever: HTTP 404, as on a NAS
whose indexing has not come that far. The request changes the mtime of the folder (DSM writes into its @eaDir).
"""

from __future__ import annotations

import importlib
import io
import mimetypes
import os
from typing import Any

from starlette.responses import Response

from ..nas import Answer, Call, Method, blocking
from ..pages import html_error
from ..shares import disk_refusals
from ..wire import ApiError
from .listing import readable

_EDGE_PIXELS = {"small": 120, "medium": 320, "large": 640, "original": 0}


def get(call: Call) -> Answer:
    """An image in the format of its source; HTTP 404 for whatever has none (yet)."""
    size = call.params.text("size", "small")
    quarter_turns = call.params.integer("rotate") % 4
    try:
        location = readable(call, call.params.path("path"))
    except ApiError:
        return html_error(404)
    with disk_refusals():
        os.utime(location.parent_real)
    seen = location.path in call.nas.remembered.thumbs
    call.nas.remembered.thumbs.add(location.path)
    if size not in _EDGE_PIXELS or (not seen and call.nas.quirks.lazy_thumbs == "yes"):
        return html_error(404)
    if size == "original" and not quarter_turns:
        made = _original(location.real)
    else:
        made = _thumbnail(location.real, _EDGE_PIXELS[size], quarter_turns)
    return html_error(404) if made is None else made


def _original(real: str) -> Response | None:
    media_type, _ = mimetypes.guess_type(real)
    if media_type is None or not media_type.startswith("image/"):
        return None
    with disk_refusals(), open(real, "rb") as file:
        return Response(file.read(), media_type=media_type)


def _thumbnail(real: str, edge: int, quarter_turns: int) -> Response | None:
    try:
        pillow: Any = importlib.import_module("PIL.Image")
    except ImportError:
        return None
    try:
        with pillow.open(real) as image:
            kind = image.format
            if edge:
                image.thumbnail((edge, edge))  # before the copy: a JPEG is then decoded at the size that is needed
            made = image.copy()
    except (OSError, ValueError):
        return None
    if quarter_turns:
        made = made.rotate(-90 * quarter_turns, expand=True)
    encoded = io.BytesIO()
    made.save(encoded, kind)
    return Response(encoded.getvalue(), media_type=pillow.MIME.get(kind, "application/octet-stream"))


METHODS: dict[str, dict[str, Method]] = {"SYNO.FileStation.Thumb": {"get": blocking(get)}}
