"""Files to the NAS.

One POST for a file up to the size that DSM's own pages send in one. In slices (`filestation/slices.py`): a file above
that size, which is compared by size and MD5 at the end, and one that begins to be sent before it ends.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import posixpath
import secrets
from dataclasses import dataclass, replace
from typing import BinaryIO

from synofs.filestation import calls
from synofs.filestation.caller import Attempt, Caller
from synofs.filestation.changes import Changes
from synofs.filestation.multipart import Digest, MultipartFile, fits_filename
from synofs.filestation.parsing import Listing, entry_of, is_missing, matched
from synofs.filestation.slices import Slices, Stretch, Uploaded
from synofs.filestation.wire import Counters
from synofs.remote import Exists, OnProgress, RemoteError, ShortBody


@dataclass(frozen=True)
class UploadOptions:
    max_post_bytes: int = 4 * 1024**3 - 4096  # MAX_POST_FILESIZE of DSM's FileUploader.js
    slice_bytes: int = 10 * 1024**2  # likewise
    # Of a file that begins to be sent before it ends; each slice costs a round trip in which nothing moves.
    longest_slice_bytes: int = 256 * 1024**2
    stall_seconds: float = 60.0  # without any progress
    # The NAS answers when it has put the whole body where it belongs: at worst it copies it there once more.
    answer_seconds: float = 60.0
    copied_bytes_per_second: float = 2 * 1024**2


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
        progress = self.progress(on_progress)
        file = _File(path, source, source.tell(), size, mtime_ns, overwrite)
        if fits_filename(posixpath.basename(path)):
            await self._send(file, progress)
        else:
            await self._send_under_another_name(file, progress)

    def progress(self, on_progress: OnProgress | None) -> _Progress:
        return _Progress(self._counters, on_progress)

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
        reply, _ = await self.post(file, progress, Stretch(0, file.size))
        if reply.skipped:
            raise Exists("something is there already", path=file.path)

    async def _send_in_slices(self, file: _File, progress: _Progress) -> None:
        digest: Digest = hashlib.md5(usedforsecurity=False)
        slices = Slices(lambda stretch: self.post(file, progress, stretch), file.path, digest)
        await slices.finish(file.size, self._options.slice_bytes)
        assert slices.digest is not None
        await self._compare(file, slices.digest.hexdigest())

    def begin(self, path: str, *, overwrite: bool) -> GrowingFile | None:
        """Begin to send a file that is still being written; None if its name cannot be said in an upload."""
        if not fits_filename(posixpath.basename(path)):
            return None
        return GrowingFile(self, path, overwrite, self._options.longest_slice_bytes)

    async def _compare(self, file: _File, md5: str) -> None:
        listing = await self._caller.call(calls.get_info([file.path]), Listing)
        record = matched([file.path], listing.records)[0]
        if is_missing(record) or entry_of(record).size != file.size:
            raise ShortBody("the NAS does not have all of the upload", path=file.path)
        if await self._changes.md5(file.path) != md5:
            raise ShortBody("the NAS has other bytes than were uploaded", path=file.path)

    async def post(self, file: _File, progress: _Progress, stretch: Stretch) -> tuple[Uploaded, Digest | None]:
        """One request with one stretch of the file, and the digest of all up to its end."""
        call = calls.upload(file.path)
        folder, name = posixpath.split(file.path)

        async def attempt(this: Attempt) -> tuple[Uploaded, Digest | None]:
            boundary = f"synofs-{secrets.token_hex(16)}"
            body = MultipartFile(
                boundary,
                self._fields(folder, file),
                name,
                file.source,
                file.start + stretch.position,
                stretch.length,
                on_sent=lambda sent: progress.reached(stretch.position + sent),
                digest=stretch.digest,
            )
            reply = await self._caller.wire.post_file(
                call,
                Uploaded,
                this.session,
                body,
                headers={"Content-Type": f"multipart/form-data; boundary={boundary}", **stretch.headers},
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


class GrowingFile:
    """A `GrowingUpload`: a file whose beginning is sent while the rest is being written."""

    def __init__(self, uploader: Uploader, path: str, overwrite: bool, longest_slice_bytes: int) -> None:
        self.path = path
        self.overwrite = overwrite
        self._uploader = uploader
        self._progress = uploader.progress(None)
        self._longest_slice_bytes = longest_slice_bytes
        self._slices = Slices(self._post, path)
        self._file = _File(path, io.BytesIO(), 0, 0, None, overwrite)

    @property
    def sent(self) -> int:
        return self._slices.sent

    async def append(self, source: BinaryIO, end: int, size: int, mtime_ns: int) -> None:
        self._file = replace(self._file, source=source, size=size, mtime_ns=mtime_ns)
        await self._slices.append(min(end - self.sent, self._longest_slice_bytes), size)

    async def finish(self, source: BinaryIO, size: int, mtime_ns: int) -> None:
        self._file = replace(self._file, source=source, size=size, mtime_ns=mtime_ns)
        await self._slices.finish(size, self._longest_slice_bytes)

    async def _post(self, stretch: Stretch) -> tuple[Uploaded, Digest | None]:
        return await self._uploader.post(self._file, self._progress, stretch)
