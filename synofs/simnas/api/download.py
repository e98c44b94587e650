"""SYNO.FileStation.Download: files by range, folders and selections as a zip.

What is on record of DSM: a GET honours `Range` with 206, a POST of the same call answers 200 with everything; a
missing path is an HTTP 502 with a page of HTML on some builds, 404 or JSON on others. ETag, Last-Modified,
suffix and multiple ranges are on no record, so they are not served.
"""

from __future__ import annotations

import mimetypes
import os
import re
import stat
import zlib
from collections.abc import AsyncIterator
from typing import BinaryIO
from urllib.parse import quote

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..nas import Answer, Call, Method
from ..pages import html_error
from ..shares import Location, disk_refusals
from ..wire import ApiError
from ..zipstream import archive_name, zip_tree
from .listing import readable

_CHUNK = 2**20

# On a link of limited speed: small pieces, so that connections share it fairly.
_LINK_CHUNK = 32 * 2**10


async def download(call: Call) -> Answer:
    """One file (in part, if asked by GET), or a zip of several or of a folder."""
    paths = call.params.paths("path")
    if not paths:
        raise ApiError(400)
    as_attachment = call.params.choice("mode", ("open", "download"), "open") == "download"
    try:
        return _answer(call, paths, as_attachment)
    except ApiError as error:
        if error.code != 408:
            raise
        variant = call.nas.quirks.missing_download
        if variant in ("404", "502"):
            return html_error(int(variant))
        raise ApiError(int(variant)) from error


def _answer(call: Call, paths: list[str], as_attachment: bool) -> Response:
    locations = [readable(call, path) for path in paths]
    if len(locations) == 1 and os.path.isfile(locations[0].real):
        with disk_refusals():
            return FileResponse(call, locations[0], as_attachment)
    return ZipResponse(call, locations)


def parse_range(header: str | None, size: int) -> tuple[int, int] | None:
    """`bytes=a-b` or `bytes=a-` as (first, last); None for anything else, which is then ignored.

    Raises ValueError if the range begins behind the end.
    """
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", header.strip()) if header else None
    if match is None:
        return None
    first = int(match[1])
    last = min(int(match[2]), size - 1) if match[2] else size - 1
    if match[2] and int(match[2]) < first:
        return None
    if first >= size:
        raise ValueError(header)
    return first, last


class FileResponse(Response):
    """A file, or a part of it. The file is opened at once, so that a later rename does not matter."""

    def __init__(self, call: Call, location: Location, as_attachment: bool) -> None:
        self._call = call
        self._file: BinaryIO = open(location.real, "rb")  # noqa: SIM115 - closed in __call__
        found = os.fstat(self._file.fileno())
        if not stat.S_ISREG(found.st_mode):
            self._file.close()
            raise ApiError(408)
        size = found.st_size
        headers = {"accept-ranges": "bytes"}
        if as_attachment:
            headers["content-type"] = "application/octet-stream"
            headers["content-disposition"] = _disposition(location.name)
        else:
            guess, _ = mimetypes.guess_type(location.name)
            headers["content-type"] = guess or "application/octet-stream"
        status, self._first, self._count = 200, 0, size
        honoured = call.request.method == "GET" and call.nas.quirks.range_requests == "honoured"
        try:
            wanted = parse_range(call.request.headers.get("range"), size) if honoured else None
        except ValueError:
            status, self._count = 416, 0
            headers["content-range"] = f"bytes */{size}"
        else:
            if wanted is not None:
                status, self._first, self._count = 206, wanted[0], wanted[1] - wanted[0] + 1
                headers["content-range"] = f"bytes {wanted[0]}-{wanted[1]}/{size}"
        self._gzip = (
            status == 200
            and call.nas.quirks.download_gzip == "on"
            and "gzip" in call.request.headers.get("accept-encoding", "")
        )
        if self._gzip:
            headers["content-encoding"] = "gzip"
        else:
            headers["content-length"] = str(self._count)
        super().__init__(status_code=status, headers=headers)
        if self._gzip:
            del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            if self._gzip:
                compressor = zlib.compressobj(1, wbits=31)
                async for chunk in self._chunks():
                    await send(_part(compressor.compress(chunk)))
                await send(_part(compressor.flush()))
            elif self._can_sendfile():
                await self._sendfile()
            else:
                async for chunk in self._chunks():
                    await send(_part(chunk))
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _can_sendfile(self) -> bool:
        call = self._call
        return call.shaping.none and not call.nas.downlink.limited and not call.connection.encrypted

    async def _sendfile(self) -> None:
        connection = self._call.connection
        position, left = self._first, self._count
        while left and not connection.closed:
            try:
                sent = await connection.send_file(self._file, position, left)
            except ConnectionError:
                connection.drop()
                return
            if not sent:
                connection.drop()  # the file was cut while it was sent
                return
            position += sent
            left -= sent
            self._call.nas.stats.bytes_sent += sent

    async def _chunks(self) -> AsyncIterator[bytes]:
        nas, connection = self._call.nas, self._call.connection
        chunk_bytes = _LINK_CHUNK if nas.downlink.limited else _CHUNK
        self._file.seek(self._first)
        left = self._count
        while left and not connection.closed:
            chunk = await nas.on_disk(self._file.read, min(chunk_bytes, left))
            if not chunk:
                connection.drop()
                return
            left -= len(chunk)
            yield chunk


class ZipResponse(Response):
    """A selection as a zip, made while it is sent: its length is not known."""

    def __init__(self, call: Call, locations: list[Location]) -> None:
        self._call = call
        self._roots = [location.real for location in locations]
        name = archive_name([location.name for location in locations])
        super().__init__(
            headers={"content-type": "application/octet-stream", "content-disposition": _disposition(name)}
        )
        del self.headers["content-length"]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pieces = zip_tree(self._roots)
        while not self._call.connection.closed:
            piece = await self._call.nas.on_disk(next, pieces, None)
            if piece is None:
                break
            await send(_part(piece))
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _part(body: bytes) -> dict[str, object]:
    return {"type": "http.response.body", "body": body, "more_body": True}


def _disposition(name: str) -> str:
    """`attachment` with the name in its two forms: ASCII for old clients, RFC 5987 for all others."""
    plain = name.encode("ascii", "replace").decode()
    for character in '\\"\r\n':
        plain = plain.replace(character, "_")
    plain = "".join(c if c.isprintable() else "_" for c in plain)
    encoded = quote(os.fsencode(name), safe="")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{encoded}"


METHODS: dict[str, dict[str, Method]] = {"SYNO.FileStation.Download": {"download": download}}
