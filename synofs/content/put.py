"""Putting one unsent file on the NAS: compare, upload, verify; and both versions survive if somebody else wrote.

*A new file* is uploaded under its name with no leave to overwrite. If something is there by then, somebody else made
it, and ours becomes a conflict copy.

*A file that replaces another* is uploaded into a hidden folder beside it under its final name, verified there, and
moved over the old one by the NAS (`CopyMove` with overwrite). Upload itself is not trusted to replace: nothing is
documented about what readers see meanwhile or what a broken upload leaves, and users have seen partial files. At no
moment is there nothing under the name, and a crash of this machine leaves the old version or the new one.

*An upload whose end is not known* (connection cut, crash) is never repeated blindly: what is under the name is
compared by size and by MD5 computed on the NAS. Equal: it had arrived. A beginning of our bytes: our own torn
upload, to be replaced. Anything else is somebody's work.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, NamedTuple, Protocol

import trio

from synofs.content.conflicts import conflict_name
from synofs.content.staging import StagedFile
from synofs.remote import Exists, Fingerprint, NotFound, RemoteEntry, RemoteStore, ShortBody

log = logging.getLogger(__name__)

HIDDEN_PREFIX = ".synofs-"  # names on the NAS that are ours and never shown


@dataclass(frozen=True, slots=True)
class PutOptions:
    client: str  # this machine and mount, in hidden names: two clients never share a temporary folder
    hostname: str  # in the names of conflict copies
    verify_md5: bool = False


class Placed(NamedTuple):
    """Where a file ended up and as which version."""

    path: str
    fingerprint: Fingerprint
    conflict: bool


class Leftovers(Protocol):
    """Remembers hidden names until they are removed, across crashes."""

    async def add(self, path: str) -> None: ...


class Putter:
    def __init__(
        self,
        store: RemoteStore,
        options: PutOptions,
        leftovers: Leftovers,
        confirm: Callable[[str], Awaitable[RemoteEntry | None]],
    ) -> None:
        """`confirm` looks at a path on the NAS; it may answer for many callers at once."""
        self._store = store
        self._options = options
        self._leftovers = leftovers
        self._confirm = confirm
        self._temp_dirs: dict[str, str] = {}  # folder -> its hidden folder, made already

    async def put(self, staged: StagedFile, path: str, source: BinaryIO, size: int, mtime_ns: int) -> Placed:
        """Put the frozen bytes of `staged` at `path`. Raises `RemoteError`; nothing is lost then."""
        job = _Job(staged, path, source, size, mtime_ns)
        if staged.base is None:
            return await self._put_new(job)
        return await self._put_over(job, staged.base)

    async def _put_new(self, job: _Job) -> Placed:
        uncertain = job.staged.attempted == job.path
        if uncertain:
            there = await self._look(job.path)
            if there is not None:
                if await self._is_ours(job, there):
                    return Placed(job.path, there.fingerprint, conflict=False)
                if await self._is_our_torn_upload(job, there):
                    return await self._put_over(job, there.fingerprint)
                return await self._put_aside(job)
        await job.staged.note_attempt(job.path)
        try:
            await self._upload(job, job.path, overwrite=False)
        except Exists:
            there = await self._look(job.path)
            if there is not None and uncertain and await self._is_ours(job, there):
                return Placed(job.path, there.fingerprint, conflict=False)
            return await self._put_aside(job)
        return Placed(job.path, await self._verified(job, job.path), conflict=False)

    async def _put_over(self, job: _Job, base: Fingerprint) -> Placed:
        name = posixpath.basename(job.path)
        temp_dir = await self._temp_dir(posixpath.dirname(job.path))
        temp = f"{temp_dir}/{name}"
        try:
            await self._upload(job, temp, overwrite=True)
        except NotFound:
            self._temp_dirs.clear()  # somebody removed the hidden folder (or ours was an old one): make it anew
            raise
        there, uploaded = await self._store.get_entries([job.path, temp])
        self._check(job, temp, uploaded)
        if there is None:
            log.info("%s: it was removed on the NAS while it was edited here; the edit is kept", job.path)
        elif there.fingerprint != base:
            if await self._is_ours(job, there):
                return Placed(job.path, there.fingerprint, conflict=False)
            return await self._put_aside(job, uploaded_as=temp)
        await job.staged.note_attempt(job.path)
        await self._store.move(temp, posixpath.dirname(job.path), overwrite=True)
        return Placed(job.path, await self._verified(job, job.path), conflict=False)

    async def _put_aside(self, job: _Job, uploaded_as: str | None = None) -> Placed:
        """Somebody else's version keeps the name; ours gets one that says what happened."""
        folder, name = posixpath.split(job.path)
        for number in range(1, 100):
            path = f"{folder}/{conflict_name(name, self._options.hostname, datetime.now(), number)}"
            try:
                await self._upload(job, path, overwrite=False)
            except Exists:
                continue
            fingerprint = await self._verified(job, path)
            if uploaded_as is not None:
                await self._store.remove(uploaded_as)
            return Placed(path, fingerprint, conflict=True)
        raise Exists("no free name for a conflict copy", path=job.path)

    # ----- steps ------------------------------------------------------------------------------------------------

    async def _upload(self, job: _Job, path: str, *, overwrite: bool) -> None:
        job.source.seek(0)
        await self._store.upload(path, job.source, job.size, job.mtime_ns, overwrite=overwrite)

    async def _verified(self, job: _Job, path: str) -> Fingerprint:
        fingerprint = self._check(job, path, await self._confirm(path))
        if self._options.verify_md5 and await self._store.md5(path) != await job.md5(job.size):
            await job.staged.rebase(fingerprint)  # what is there is ours, and the next attempt is to replace it
            raise ShortBody("the NAS's MD5 of the upload differs from what was sent", path=path)
        return fingerprint

    def _check(self, job: _Job, path: str, entry: RemoteEntry | None) -> Fingerprint:
        if entry is None:
            raise ShortBody("the NAS took the upload, but the file is not there", path=path)
        if entry.size != job.size:
            raise ShortBody(f"the NAS has {entry.size:,} of {job.size:,} bytes of the upload", path=path)
        return entry.fingerprint

    async def _look(self, path: str) -> RemoteEntry | None:
        return (await self._store.get_entries([path]))[0]

    async def _is_ours(self, job: _Job, there: RemoteEntry) -> bool:
        if there.is_dir or there.size != job.size:
            return False
        return await self._store.md5(job.path) == await job.md5(job.size)

    async def _is_our_torn_upload(self, job: _Job, there: RemoteEntry) -> bool:
        if there.is_dir or there.size >= job.size:
            return False
        return there.size == 0 or await self._store.md5(job.path) == await job.md5(there.size)

    async def _temp_dir(self, folder: str) -> str:
        known = self._temp_dirs.get(folder)
        if known is not None:
            return known
        path = f"{folder}/{HIDDEN_PREFIX}{self._options.client}"
        await self._leftovers.add(path)
        with contextlib.suppress(Exists):
            await self._store.make_dir(path)
        self._temp_dirs[folder] = path
        return path

    def forget_temp_dir(self, path: str) -> None:
        self._temp_dirs = {folder: temp for folder, temp in self._temp_dirs.items() if temp != path}


class _Job:
    """One attempt to put one file."""

    def __init__(self, staged: StagedFile, path: str, source: BinaryIO, size: int, mtime_ns: int) -> None:
        self.staged = staged
        self.path = path
        self.source = source
        self.size = size
        self.mtime_ns = mtime_ns

    async def md5(self, length: int) -> str:
        """MD5 of the first `length` bytes of what we send."""
        return await trio.to_thread.run_sync(_md5, self.source, length)


def _md5(source: BinaryIO, length: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    source.seek(0)
    while length > 0:
        data = source.read(min(length, 1024 * 1024))
        if not data:
            break
        digest.update(data)
        length -= len(data)
    return digest.hexdigest()


def is_hidden(name: bytes) -> bool:
    """Is this one of our own hidden names on the NAS?"""
    return name.startswith(HIDDEN_PREFIX.encode())
