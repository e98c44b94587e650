"""Whole files to the NAS.

One POST for a file up to the size that DSM's own pages send in one; above it the slices that they send, a protocol
that is not documented: the server appends each slice to a temporary file and knows no positions. So a slice is
never sent twice once it may have arrived (the whole upload fails instead), and the file is compared by size and MD5
at the end.
"""

from __future__ import annotations

import contextlib
import hashlib
import posixpath
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO

import msgspec

from synofs.filestation import calls
from synofs.filestation.caller import Attempt, Caller
from synofs.filestation.changes import Changes
from synofs.filestation.multipart import Digest, MultipartFile, fits_filename
from synofs.filestation.parsing import Listing, entry_of, is_missing, matched
from synofs.filestation.wire import Counters
from synofs.remote import Exists, OnProgress, RemoteError, ShortBody, Unavailable

_LOST_TEMPORARY_FILE = 401
_TMPFILE = re.compile(r"[\x21-\x7e]+")  # it goes into a header


@dataclass(frozen=True)
class UploadOptions:
    max_post_bytes: int = 4 * 1024**3 - 4096  # MAX_POST_FILESIZE of DSM's FileUploader.js
    slice_bytes: int = 10 * 1024**2  # likewise
    stall_seconds: float = 60.0  # without any progress
    # The NAS answers when it has put the whole body where it belongs: at worst it copies it there once more.
    answer_seconds: float = 60.0
    copied_bytes_per_second: float = 2 * 1024**2


class _Uploaded(msgspec.Struct, frozen=True):
    skipped: bool = msgspec.field(name="blSkip", default=False)
    tmpfile: str | None = None


@dataclass(frozen=True)
class _File:
    """What goes where."""

    path: str
    source: BinaryIO
    start: int
    size: int
    mtime_ns: int | None
    overwrite: bool


class _Progress:
    """Counts what was sent, and tells how far the file is; a replay falls back."""

    def __init__(self, counters: Counters, on_progress: OnProgress | None) -> None:
        self._counters = counters
        self._on_progress = on_progress
        self._position = 0

    def reached(self, position: int) -> None:
        self._counters.bytes_written += max(position - self._position, 0)
        if self._on_progress is not None and position != self._position:
            self._on_progress(position)
        self._position = position


class Uploader:
    def __init__(self, caller: Caller, changes: Changes, counters: Counters, options: UploadOptions) -> None:
        self._caller = caller
        self._changes = changes
        self._counters = counters
        self._options = options

    async def upload(
        self,
        path: str,
        source: BinaryIO,
        size: int,
        mtime_ns: int | None,
        *,
        overwrite: bool,
        on_progress: OnProgress | None = None,
    ) -> None:
        progress = _Progress(self._counters, on_progress)
        file = _File(path, source, source.tell(), size, mtime_ns, overwrite)
        if fits_filename(posixpath.basename(path)):
            await self._send(file, progress)
        else:
            await self._send_under_another_name(file, progress)

    async def _send_under_another_name(self, file: _File, progress: _Progress) -> None:
        """A quote or a line's end in the name cannot be said in an upload, but in a Rename.

        Replacing removes the old file before the new one has its name: a crash between the two leaves the new
        file under the temporary one.
        """
        folder, name = posixpath.split(file.path)
        temporary = f"{folder}/.synofs-upload-{secrets.token_hex(8)}"
        await self._send(replace(file, path=temporary, overwrite=False), progress)
        try:
            if file.overwrite:
                await self._changes.remove(file.path)
            await self._changes.rename(temporary, name)
        except RemoteError:
            with contextlib.suppress(RemoteError):
                await self._changes.remove(temporary)
            raise

    async def _send(self, file: _File, progress: _Progress) -> None:
        if file.size > self._options.max_post_bytes:
            await self._send_in_slices(file, progress)
            return
        reply, _ = await self._post(file, progress, 0, file.size, {})
        if reply.skipped:
            raise Exists("something is there already", path=file.path)

    async def _send_in_slices(self, file: _File, progress: _Progress) -> None:
        digest: Digest | None = hashlib.md5(usedforsecurity=False)
        headers = {"X-TYPE-NAME": "SLICEUPLOAD", "X-FILE-SIZE": str(file.size)}
        position = 0
        while position < file.size:
            length = min(self._options.slice_bytes, file.size - position)
            is_last = position + length == file.size
            headers["X-FILE-CHUNK-END"] = "true" if is_last else "false"
            try:
                reply, digest = await self._post(file, progress, position, length, headers, digest)
            except RemoteError as exc:
                if position and exc.code == _LOST_TEMPORARY_FILE:
                    text = "the NAS lost the first part of the upload"
                    raise Unavailable(text, path=file.path, code=exc.code) from exc
                raise
            if reply.skipped:
                raise Exists("something is there already", path=file.path)
            if not is_last:
                if not _TMPFILE.fullmatch(reply.tmpfile or ""):
                    raise Unavailable("the NAS does not continue the upload", path=file.path)
                headers["X-TMP-FILE"] = reply.tmpfile or ""
            position += length
        assert digest is not None
        await self._compare(file, digest.hexdigest())

    async def _compare(self, file: _File, md5: str) -> None:
        listing = await self._caller.call(calls.get_info([file.path]), Listing)
        record = matched([file.path], listing.records)[0]
        if is_missing(record) or entry_of(record).size != file.size:
            raise ShortBody("the NAS does not have all of the upload", path=file.path)
        if await self._changes.md5(file.path) != md5:
            raise ShortBody("the NAS has other bytes than were uploaded", path=file.path)

    async def _post(
        self,
        file: _File,
        progress: _Progress,
        position: int,
        length: int,
        headers: Mapping[str, str],
        digest: Digest | None = None,
    ) -> tuple[_Uploaded, Digest | None]:
        """One request with one stretch of the file, and the digest of all up to its end."""
        call = calls.upload(file.path)
        folder, name = posixpath.split(file.path)

        async def attempt(this: Attempt) -> tuple[_Uploaded, Digest | None]:
            boundary = f"synofs-{secrets.token_hex(16)}"
            body = MultipartFile(
                boundary,
                self._fields(folder, file),
                name,
                file.source,
                file.start + position,
                length,
                on_sent=lambda sent: progress.reached(position + sent),
                digest=digest,
            )
            reply = await self._caller.wire.post_file(
                call,
                _Uploaded,
                this.session,
                body,
                headers={"Content-Type": f"multipart/form-data; boundary={boundary}", **headers},
                answer_seconds=self._answer_seconds(file.size),
                stall_seconds=self._options.stall_seconds,
                fresh_connection=this.fresh_connection,
            )
            return reply, body.digest

        return await self._caller.run(attempt, idempotent=False)

    def _fields(self, folder: str, file: _File) -> dict[str, str]:
        # The path of an upload is raw, not JSON.
        fields = {"path": folder, "create_parents": "false"}
        if file.overwrite:
            # Without it, what exists is an error; with "false" or "skip" it would be success, and nothing written.
            fields["overwrite"] = "overwrite" if self._version() >= 3 else "true"
        if file.mtime_ns is not None:
            fields["mtime"] = str(file.mtime_ns // 1_000_000)
        return fields

    def _version(self) -> int:
        apis = self._caller.wire.apis
        assert apis is not None
        return apis.version_of(calls.upload(""))

    def _answer_seconds(self, size: int) -> float:
        return self._options.answer_seconds + size / self._options.copied_bytes_per_second
