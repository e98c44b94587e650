"""SYNO.FileStation.Upload: whole files as multipart POST, and the slices that DSM's own page uses.

Text parts come first, the file part last: what follows the file is not seen. The session is looked for in the
URL, the cookie and the header only, and every refusal is answered after the whole body has been read, because
the NAS spools it first.

Nobody has published whether an overwriting upload is atomic for readers, or what is left when the connection
breaks. So both are switches (`upload-replaces`, `aborted-upload`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import stat
from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from .. import strike
from ..faults import ActiveFault
from ..multipart import Event, FileBegin, FileData, FileEnd, FormReader, MalformedForm, Text
from ..nas import BODY_COMPLETE, Answer, Call, Method
from ..pages import html_error
from ..shares import Location, Share, disk_refusals, spool_name, visible_stat
from ..wire import ApiError
from .listing import check_folder_writable
from .names import check_new_name

_WRITE_BYTES = 2**20
_FAT_MAX_BYTES = 4 * 2**30 - 1


@dataclass
class Form:
    """What has been read of the form so far."""

    texts: dict[str, str] = field(default_factory=dict)
    target: Target | None = None
    skipped: str | None = None


async def upload(call: Call) -> Answer:
    """Receives one file or one slice."""
    limit = call.nas.options.max_body_bytes
    if limit is not None and int(call.request.headers.get("content-length", 0)) > limit:
        return html_error(413)  # as a proxy in front would: before the body is read
    try:
        return await _receive(call)
    except ApiError:
        await _drain(call.request)
        raise


async def _receive(call: Call) -> Answer:
    if call.request.method != "POST":
        raise ApiError(1802)
    if "content-length" not in call.request.headers and call.nas.quirks.chunked_upload == "1800":
        raise ApiError(1800)
    form = Form()
    try:
        reader = FormReader(call.request.headers.get("content-type", ""))
        async for piece in call.request.stream():
            for event in reader.feed(piece):
                early = await _handle(call, form, event)
                if early is not None:
                    return early
        reader.finish()
    except MalformedForm as error:
        await _abandon(form)
        raise ApiError(1800) from error
    except ApiError:
        if form.target is not None:
            await form.target.discard()
        raise
    except (ClientDisconnect, strike.Dropped):
        await _abandon(form)
        raise
    if form.skipped is not None:
        return _reply(form.skipped, skipped=True)
    if form.target is None:
        raise ApiError(1802)
    answer = await form.target.finish(form.texts)
    late = strike.late_answer(form.target.struck)
    return answer if late is None else late


async def _abandon(form: Form) -> None:
    if form.target is not None:
        await form.target.abort()


async def _handle(call: Call, form: Form, event: Event) -> Response | None:
    """One event of the form. Returns an answer if a fault wants one at once."""
    seen_file = form.target is not None or form.skipped is not None
    match event:
        case Text(name, value) if not seen_file:
            form.texts[name] = value
        case FileBegin(filename) if not seen_file:
            return await _open(call, form, filename)
        case FileData(data) if form.target is not None and not form.target.complete:
            await form.target.write(data)
        case FileEnd() if form.target is not None:
            form.target.complete = True
    return None


async def _open(call: Call, form: Form, filename: str) -> Response | None:
    """The file part begins: everything that can be refused is refused here."""
    path = call.about = f"{form.texts.get('path', '')}/{filename}"
    struck = call.nas.faults.striking(call.api, call.method, path)
    early = await strike.strike(call, struck)
    if early is not None:
        return early
    slice_ = SliceHeaders.of(call.request) if call.nas.quirks.slices != "unknown" else None
    if call.nas.volume.limited:
        opened = await call.nas.on_disk(_open_target, call, form.texts, filename, slice_)
    else:
        opened = _open_target(call, form.texts, filename, slice_)  # a thread costs more than that
    if opened is None:
        form.skipped = filename
    else:
        form.target = opened
        opened.struck = struck
    return None


@dataclass(frozen=True)
class SliceHeaders:
    """The headers that make a POST one slice of a file."""

    last: bool
    tmp_file: str | None
    size: str | None  # of the whole file, so far

    @staticmethod
    def of(request: Request) -> SliceHeaders | None:
        headers = request.headers
        if headers.get("x-type-name", "").upper() != "SLICEUPLOAD":
            return None
        last = headers.get("x-file-chunk-end", "true").lower() == "true"
        return SliceHeaders(last, headers.get("x-tmp-file"), headers.get("x-file-size"))


def _open_target(call: Call, texts: dict[str, str], filename: str, slice_: SliceHeaders | None) -> Target | None:
    """Checks everything and opens the file to write to. None: the file exists and is to be skipped."""
    if not filename:
        raise ApiError(1802)
    if "path" not in texts:
        raise ApiError(400)
    folder = call.locate(texts["path"])
    call.nas.volume.check_writable()
    check_new_name(folder.share, filename, call.nas.quirks, uploaded=True)
    if visible_stat(folder) is None:
        if texts.get("create_parents", "").lower() != "true":
            raise ApiError(408)
        _create_parents(call, folder)
    check_folder_writable(call, folder)
    location = call.locate(f"{folder.path}/{filename}")
    slices = call.nas.slices
    if slice_ is not None and slice_.tmp_file is not None:
        spool = slices.get(slice_.tmp_file)
        if spool is None or not os.path.exists(spool):
            raise ApiError(401)
        if call.nas.quirks.slices == "one-size" and slice_.size != call.nas.slice_sizes.get(slice_.tmp_file):
            raise ApiError(1800)
        replaces = _may_write(call, location, texts.get("overwrite")) == "replace"
        return Target(call, location, spool, open(spool, "ab"), replaces, slice_, slice_.tmp_file)
    may = _may_write(call, location, texts.get("overwrite"))
    if may == "skip":
        return None
    replaces = may == "replace"
    with disk_refusals():
        if slice_ is not None:
            tmp_file = f"slice.{next(call.nas.slice_numbers)}.0.{os.getpid()}"
            spool = slices[tmp_file] = spool_name(location.parent_real, tmp_file)
            call.nas.slice_sizes[tmp_file] = slice_.size
            return Target(call, location, spool, open(spool, "wb"), replaces, slice_, tmp_file)
        if call.nas.quirks.upload_replaces == "in-place":
            file = open(location.real, "wb" if replaces else "xb")  # noqa: SIM115 - Target closes it
            return Target(call, location, location.real, file, replaces)
        spool = spool_name(location.parent_real, secrets.token_hex(8))
        return Target(call, location, spool, open(spool, "wb"), replaces)


def _create_parents(call: Call, folder: Location) -> None:
    """Makes the missing folders of a path; 407 if the first that exists may not be written to."""
    existing = folder
    while visible_stat(existing) is None:
        check_new_name(folder.share, existing.name, call.nas.quirks)
        existing = call.locate(existing.path.rpartition("/")[0])
    check_folder_writable(call, existing)
    with disk_refusals():
        os.makedirs(folder.real, exist_ok=True)


def _may_write(call: Call, location: Location, overwrite: str | None) -> Literal["create", "replace", "skip"]:
    """What to do about an existing file. Only the words of the call's version count."""
    words = ("true", "false") if call.version == 2 else ("overwrite", "skip")
    found = visible_stat(location)
    if found is None:
        return "replace" if overwrite == words[0] else "create"
    if stat.S_ISDIR(found.st_mode):
        raise ApiError(414)
    if overwrite == words[0]:
        if not location.share.rights(call.session, found.st_mode, 0).write:
            raise ApiError(407)
        return "replace"
    if overwrite == words[1]:
        return "skip"
    raise ApiError(int(call.nas.quirks.overwrite_absent))


class Target:
    """The file on disk that an upload goes to."""

    def __init__(
        self,
        call: Call,
        location: Location,
        real: str,
        file: BinaryIO,
        replaces: bool,
        slice_: SliceHeaders | None = None,
        tmp_file: str = "",
    ) -> None:
        self.struck: list[ActiveFault] = []
        self.complete = False
        self._call = call
        self._location = location
        self._real = real
        self._file = file
        self._replaces = replaces
        self._slice = slice_
        self._tmp_file = tmp_file
        self._room = call.nas.volume.room()
        self._received = 0
        self._buffer = bytearray()
        self._writing: Awaitable[object] | None = None

    @property
    def _share(self) -> Share:
        return self._location.share

    async def write(self, data: bytes) -> None:
        """Takes bytes; they are written in large pieces, one behind the reception."""
        limit = self._call.drop_request_after
        if limit is not None and self._received + len(data) >= limit:
            self._buffer += data[: limit - self._received]
            strike.drop_now(self._call, reset=self._call.shaping.reset)
        self._received += len(data)
        if self._room is not None and self._received > self._room[0]:
            raise ApiError(self._room[1])
        if self._share.fat and self._received > _FAT_MAX_BYTES:
            raise ApiError(1804)
        self._buffer += data
        if len(self._buffer) >= _WRITE_BYTES:
            await self._flush()

    async def _flush(self) -> None:
        await self._written()
        if self._buffer:
            piece, self._buffer = self._buffer, bytearray()
            self._writing = asyncio.ensure_future(self._call.nas.on_disk(self._write_all, piece))

    async def _written(self) -> None:
        """Waits for the piece that is being written."""
        writing, self._writing = self._writing, None
        if writing is not None:
            with disk_refusals():
                await writing

    def _write_all(self, piece: bytearray) -> None:
        self._file.write(piece)
        self._file.flush()

    async def finish(self, texts: dict[str, str]) -> dict[str, object]:
        """The whole body is here: puts the file in its place."""
        await self._written()
        if self._slice is not None and not self._slice.last:
            await self._call.nas.on_disk(self._write_rest)
            return {"blSkip": False, "progress": 1, "tmpfile": self._tmp_file}
        self._call.nas.slices.pop(self._tmp_file, None)
        self._call.nas.slice_sizes.pop(self._tmp_file, None)
        try:
            await self._call.nas.on_disk(self._put_in_place, texts)
        except ApiError:
            await self._call.nas.on_disk(_remove, self._real)
            raise
        return _reply(self._location.name, skipped=False)

    def _write_rest(self) -> None:
        with disk_refusals(), self._file:
            self._file.write(self._buffer)
            self._buffer.clear()

    def _put_in_place(self, texts: dict[str, str]) -> None:
        self._write_rest()
        with disk_refusals():
            _set_times(self._real, texts)
            if self._real == self._location.real:
                return
            with self._call.nas.changes:
                if not self._replaces and os.path.lexists(self._location.real):
                    # Someone else was faster.
                    raise ApiError(int(self._call.nas.quirks.overwrite_absent))
                os.replace(self._real, self._location.real)

    async def discard(self) -> None:
        """The upload was refused while it came: nothing new stays."""
        if self._real == self._location.real:
            await self.abort()
            return
        await self._settle()
        self._call.nas.slices.pop(self._tmp_file, None)
        await self._call.nas.on_disk(_remove, self._real)

    async def abort(self) -> None:
        """The connection broke. A slice keeps what has come: the next one is appended blindly."""
        await self._settle()
        if self._slice is not None:
            return
        if self._call.nas.quirks.aborted_upload == "nothing":
            await self._call.nas.on_disk(_remove, self._real)
        elif self._real != self._location.real:
            await self._call.nas.on_disk(os.replace, self._real, self._location.real)

    async def _settle(self) -> None:
        with suppress(ApiError):
            await self._flush()
            await self._written()
        self._file.close()


def _remove(real: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(real)


def _set_times(real: str, texts: dict[str, str]) -> None:
    """`mtime` and `atime` are milliseconds. `crtime` is taken and cannot be kept on this disk."""
    found = os.stat(real)
    atime_ns = _milliseconds(texts.get("atime"), found.st_atime_ns)
    mtime_ns = _milliseconds(texts.get("mtime"), found.st_mtime_ns)
    os.utime(real, ns=(atime_ns, mtime_ns))


def _milliseconds(text: str | None, default_ns: int) -> int:
    try:
        return int(text or "") * 1_000_000
    except ValueError:
        return default_ns


def _reply(name: str, *, skipped: bool) -> dict[str, object]:
    return {"blSkip": skipped, "file": name, "pid": os.getpid(), "progress": 1}


async def _drain(request: Request) -> None:
    """Reads what is left of a body."""
    while not request.scope.get(BODY_COMPLETE):
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect


METHODS: dict[str, dict[str, Method]] = {"SYNO.FileStation.Upload": {"upload": upload}}
