"""Several small files in one request: the NAS packs a selection into a zip, as it does for a browser.

The guide promises the zip and says nothing of what is in it, so it is read whole and by its directory, which works for
every way of packing; names are compared as bytes, and each file must have the size that is expected and the checksum
that the zip tells. Whatever does not come like that is read by itself. After two zips that are of no use no more are
asked for, for a while.
"""

from __future__ import annotations

import io
import logging
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import trio

from synofs.filestation import calls
from synofs.filestation.caller import Attempt, Caller
from synofs.filestation.parsing import Empty, data_of
from synofs.filestation.transport import Head
from synofs.filestation.wire import Counters, check_status, lane_of
from synofs.remote import BadAnswer, RemoteError

log = logging.getLogger(__name__)

MAX_FILES = 16
MAX_USELESS = 2
ALONE_SECONDS = 600.0  # then one is tried again: it may have been the files' fault
# What DSM packs with. Of the other methods zipfile unpacks a member whole, whatever size it is said to have: 766 bytes
# of bzip2 took 1.7 GiB.
_PACKINGS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}
_MAX_PATHS_BYTES = 6000  # of an address; nginx and Apache take 8 kB for all of it
_OVERHEAD_BYTES = 64 * 1024  # and for each file 1 KiB: headers, directory, bytes that do not pack


class ManyFiles:
    """Reads small files together; `files_at_once` says how many are worth it."""

    def __init__(self, caller: Caller, counters: Counters) -> None:
        self._caller = caller
        self._counters = counters
        self._useless = 0
        self._alone_until = float("-inf")

    @property
    def files_at_once(self) -> int:
        return 1 if trio.current_time() < self._alone_until else MAX_FILES

    async def read(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        """See `RemoteStore.read_files`."""
        found: list[bytes | None] = []
        for part in _parts(files):
            found += await self._read(part)
        return found

    async def _read(self, files: Sequence[tuple[str, int]]) -> list[bytes | None]:
        if len(files) == 1 or self.files_at_once == 1:
            return [None] * len(files)
        try:
            archive = await self._zip([path for path, _ in files], sum(size for _, size in files))
            sizes = {_name(path): size for path, size in files}
            found = await trio.to_thread.run_sync(unpacked, archive, sizes)
        except RemoteError as exc:
            if not exc.temporary or isinstance(exc, BadAnswer):
                self._count_useless(str(exc))
            return [None] * len(files)
        if found:
            self._useless = 0
        else:
            self._count_useless("none of the files was in the zip")
        return [found.get(_name(path)) for path, _ in files]

    def _count_useless(self, why: str) -> None:
        self._useless += 1
        if self._useless >= MAX_USELESS:
            self._alone_until = trio.current_time() + ALONE_SECONDS
        if self._useless == MAX_USELESS:
            log.info("the NAS does not send several files in one request (%s); they are read one by one", why)

    async def _zip(self, paths: Sequence[str], total_bytes: int) -> bytes:
        call = calls.download_together(paths)

        async def attempt(this: Attempt) -> bytes:
            response = await self._caller.wire.fetch(
                call,
                this.session,
                _Nowhere(),
                headers={},
                lane=lane_of(total_bytes),
                max_answer_bytes=total_bytes + len(paths) * 1024 + _OVERHEAD_BYTES,
                answer_seconds=this.answer_seconds,
                fresh_connection=this.fresh_connection,
            )
            check_status(response.head, call.path)
            if not response.body.startswith(b"PK"):
                data_of(call.api, response.body, Empty, path=call.path)  # raises what the NAS says
                raise BadAnswer("the NAS reports success in place of the files", path=call.path)
            return response.body

        body = await self._caller.run(attempt, idempotent=True)
        self._counters.bytes_read += len(body)
        return body


def _parts(files: Sequence[tuple[str, int]]) -> Iterator[Sequence[tuple[str, int]]]:
    """So many files each as one address can name."""
    start = length = 0
    for number, (path, _) in enumerate(files):
        length_of_path = len(calls.form({"": path})) + 10  # with the quotes and the comma around it
        if length + length_of_path > _MAX_PATHS_BYTES and number > start:
            yield files[start:number]
            start, length = number, 0
        length += length_of_path
    yield files[start:]


def unpacked(archive: bytes, sizes: Mapping[bytes, int]) -> dict[bytes, bytes]:
    """The files of that name and size that are whole. Raises `BadAnswer` when it is no zip."""
    found: dict[bytes, bytes] = {}
    times: Counter[bytes] = Counter()
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            for info in packed.infolist():
                name = _name_in_zip(info)
                if info.is_dir():
                    continue
                times[name] += 1
                if sizes.get(name) != info.file_size or info.compress_type not in _PACKINGS:
                    continue
                with packed.open(info) as member:
                    content = member.read(info.file_size + 1)
                if len(content) == info.file_size:
                    found[name] = content
    except Exception as exc:  # of a stranger's bytes: BadZipFile, zlib.error, OverflowError, struct.error ...
        raise BadAnswer(f"the NAS sends a zip that is none ({exc})") from exc
    return {name: content for name, content in found.items() if times[name] == 1}


def _name(path: str) -> bytes:
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape")


def _name_in_zip(info: zipfile.ZipInfo) -> bytes:
    """`zipfile` takes names without the UTF-8 mark for code page 437; Linux programs write them as they are on disk."""
    name = info.orig_filename.rpartition("/")[2]
    marked = info.flag_bits & 0x800
    return name.encode("utf-8" if marked else "cp437", "surrogateescape" if marked else "replace")


class _Nowhere:
    """Takes nothing while it comes: the zip is small enough to be an answer."""

    def wants(self, head: Head) -> bool:
        return False

    async def take(self, piece: memoryview) -> bool:
        return False
