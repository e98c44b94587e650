"""Putting one unsent file on the NAS: compare, upload, verify; and both versions survive if somebody else wrote.

*A new file* is uploaded under its name with no leave to overwrite. If something is there by then, somebody else made
it, and ours becomes a conflict copy.

*A file that replaces another* is uploaded into a hidden folder beside it under its final name, verified there, and
moved over the old one by the NAS (`CopyMove` with overwrite). Upload itself is not trusted to replace: nothing is
documented about what readers see meanwhile or what a broken upload leaves, and users have seen partial files. At no
moment is there nothing under the name, and a crash of this machine leaves the old version or the new one. The look
at what is there is the last call before the move: a change by somebody else that falls between the two is replaced.
File Station has no call that would close this window and never leave the name empty.

*An upload whose end is not known* (connection cut, crash) is never repeated blindly: what is under the name is
compared by size and by MD5 computed on the NAS. Equal: it had arrived. A beginning of our bytes, or what an upload of
before the last change has sent: ours, to be replaced; also if it arrives only while the next upload is under way.
Anything else is somebody's work.
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

import trio

from synofs.content.attempt import Attempt, Sent
from synofs.content.conflicts import conflict_name
from synofs.content.digest import md5_of
from synofs.content.headstart import HeadStart
from synofs.content.hidden import HiddenFolders
from synofs.content.stagedfile import Frozen, StagedFile
from synofs.remote import (
    BeginningLost,
    Changed,
    Exists,
    Fingerprint,
    NotFound,
    RemoteEntry,
    RemoteStore,
    ShortBody,
    Unsupported,
)

log = logging.getLogger(__name__)

_CONFLICT_COPIES = 100  # of one file within a minute
_SECOND = 10**9
_PROVED_BY_SIZE_BYTES = 4 * 1024**3  # above it, as for any file in slices, the MD5 is compared


@dataclass(frozen=True, slots=True)
class PutOptions:
    hostname: str  # in the names of conflict copies
    verify_md5: bool = False


class Placed(NamedTuple):
    """Where a file ended up and as which version. `md5` is of that version, where size and time alone would not
    tell it from one that somebody else writes in the same second."""

    path: str
    fingerprint: Fingerprint
    md5: str | None
    conflict: bool


class Putter:
    def __init__(
        self,
        store: RemoteStore,
        options: PutOptions,
        hidden: HiddenFolders,
        confirm: Callable[[str], Awaitable[RemoteEntry | None]],
    ) -> None:
        """`confirm` looks at a path on the NAS; it may answer for many callers at once."""
        self._store = store
        self._options = options
        self._hidden = hidden
        self._confirm = confirm

    async def put(self, staged: StagedFile, path: str, frozen: Frozen, head: HeadStart | None = None) -> Placed:
        """Put the frozen bytes of `staged` at `path`; some may have been sent already (`head`).

        Raises `RemoteError`; nothing is lost then.
        """
        job = _Job(staged, path, frozen, head)
        if staged.attempt is not None:
            placed = await self._after_attempt(job, staged.attempt)
            if placed is not None:
                return placed
        if job.base is None:
            return await self._put_new(job)
        return await self._put_over(job)

    async def _after_attempt(self, job: _Job, attempt: Attempt) -> Placed | None:
        """An earlier upload may have arrived, whole or in part: look, before anything is sent again."""
        there = await self._look(attempt.path)
        if there is None or there.fingerprint == job.base:
            return None
        if await self._is(there, attempt.path, job.size, job.md5):
            return await self._placed(job, attempt.path, there)
        if attempt.path == job.path:
            await self._recognize(job, there)
        return None

    async def _recognize(self, job: _Job, there: RemoteEntry) -> bool:
        """Did an earlier upload of ours leave that under the name? Then it is what we replace."""
        attempt = job.attempt
        if attempt is None or attempt.path != job.path or there.is_dir:
            return False
        if any(sent.size == there.size for sent in attempt.sent):
            md5 = await self._md5(job.path)
            if Sent(there.size, md5 or "") in attempt.sent:
                job.base, job.base_md5 = there.fingerprint, md5
                return True
        if job.base is None and await self._is_torn(job, there):
            job.base, job.base_md5 = there.fingerprint, None
            return True
        return False

    async def _put_new(self, job: _Job) -> Placed:
        await job.staged.note_attempt(job.path)
        try:
            await self._upload(job, job.path, overwrite=False)
        except Exists:
            there = await self._look(job.path)
            if there is not None and await self._is(there, job.path, job.size, job.md5):
                return await self._placed(job, job.path, there)
            if there is not None and await self._recognize(job, there):  # it came late
                return await self._put_over(job)
            return await self._put_aside(job, there)
        entry = await self._verified(job, job.path, await self._confirm(job.path))
        if self._options.verify_md5 and await self._store.md5(job.path) != await job.md5():
            # It is ours, and wrong: replaced by the next attempt.
            job.staged.placed(entry.fingerprint, None)
            raise ShortBody("the NAS's MD5 of the upload differs from what was sent", path=job.path)
        return await self._placed(job, job.path, entry)

    async def _put_over(self, job: _Job) -> Placed:
        folder, name = posixpath.split(job.path)
        async with self._hidden.use(folder) as temp_dir:
            temp = f"{temp_dir}/{name}"
            try:
                await self._upload(job, temp, overwrite=True)
            except NotFound:
                await self._hidden.make_again(temp_dir)  # somebody removed it
                await self._upload(job, temp, overwrite=True)
            if self._options.verify_md5 and await self._store.md5(temp) != await job.md5():
                raise ShortBody("the NAS's MD5 of the upload differs from what was sent", path=job.path)
            await job.staged.note_attempt(job.path)
            return await self._settle_doubt(job, temp) or await self._swap(job, temp)

    async def _settle_doubt(self, job: _Job, temp: str) -> Placed | None:
        """Size and time do not prove that the old version is still there, if it was written in the second of its
        time: then its MD5 was kept."""
        if job.base_md5 is None:
            return None
        there = await self._look(job.path)
        if there is None or there.fingerprint != job.base:
            return None  # decided by the look right before the swap
        found = await self._store.md5(job.path)
        if found == job.base_md5:
            return None
        if found == await job.md5():
            return await self._placed(job, job.path, there)
        if await self._recognize(job, there):
            return None
        return await self._put_aside(job, there, uploaded_as=temp)

    async def _swap(self, job: _Job, temp: str) -> Placed:
        """Move the uploaded file over the old one, if that is still the version that the edit started from."""
        there, uploaded = await self._store.get_entries([job.path, temp])
        _check_size(job, temp, uploaded)
        if there is None:
            log.info("%s: it was removed on the NAS while it was edited here; the edit is kept", job.path)
        elif there.fingerprint != job.base:
            if await self._is(there, job.path, job.size, job.md5):
                return await self._placed(job, job.path, there)
            if await self._recognize(job, there):  # it came late
                return await self._swap(job, temp)
            return await self._put_aside(job, there, uploaded_as=temp)
        try:
            moved = await self._store.move(temp, posixpath.dirname(job.path), overwrite=there is not None)
        except Exists:
            return await self._put_aside(job, None, uploaded_as=temp)
        except NotFound as error:
            raise ShortBody("the upload was removed before it could be put in its place", path=job.path) from error
        return await self._placed(job, job.path, await self._verified(job, job.path, moved))

    async def _put_aside(self, job: _Job, theirs: RemoteEntry | None, uploaded_as: str | None = None) -> Placed:
        """Somebody else's version keeps the name; ours gets one that says what happened. What was uploaded already
        is moved there."""
        found = theirs and theirs.fingerprint
        log.info("%s: found %s, expected %s or one of %s", job.path, found, job.base, job.attempt)
        folder, name = posixpath.split(job.path)
        for number in range(1, _CONFLICT_COPIES):
            copy = conflict_name(name, self._options.hostname, datetime.now(), number)
            path = f"{folder}/{copy}"
            if await self._look(path) is not None:
                continue
            await job.staged.note_attempt(path)
            try:
                if uploaded_as is None:
                    await self._upload(job, path, overwrite=False)
                    there = await self._confirm(path)
                else:
                    temp_dir, old_name = posixpath.split(uploaded_as)
                    if old_name != copy:
                        await self._store.rename(uploaded_as, copy)
                        uploaded_as = f"{temp_dir}/{copy}"
                    there = await self._store.move(uploaded_as, folder, overwrite=False)
            except Exists:
                continue
            return await self._placed(job, path, await self._verified(job, path, there))
        raise Exists("no free name for a conflict copy", path=job.path)

    # ----- steps ------------------------------------------------------------------------------------------------

    async def _upload(self, job: _Job, path: str, *, overwrite: bool) -> None:
        source = job.frozen.source
        if job.head is not None and job.head.leads_to(path, overwrite=overwrite):
            try:
                await job.head.finish(source, job.size, job.frozen.mtime_ns)
            except BeginningLost as error:
                log.info("%s: sent as a whole: %s", job.path, error)
            else:
                if job.size > _PROVED_BY_SIZE_BYTES and await self._store.md5(path) != await job.md5():
                    raise ShortBody("the NAS has other bytes than were uploaded", path=path)
                return
            finally:
                job.head = None
        source.seek(0)
        await self._store.upload(path, source, job.size, job.frozen.mtime_ns, overwrite=overwrite)

    async def _verified(self, job: _Job, path: str, there: RemoteEntry | None) -> RemoteEntry:
        """What is there is what was sent. Raises `ShortBody`, `Changed`: look again before anything else."""
        entry = _check_size(job, path, there)
        if entry.mtime_ns != job.frozen.mtime_ns and not await self._has_md5(path, await job.md5()):
            raise Changed("somebody else wrote it at the same moment", path=path)
        return entry

    async def _placed(self, job: _Job, path: str, entry: RemoteEntry) -> Placed:
        # A change by somebody else has a time of the NAS's clock, in seconds, not before its ctime of now.
        ambiguous = entry.size > 0 and entry.mtime_ns // _SECOND >= entry.ctime_ns // _SECOND
        md5 = await job.md5() if ambiguous else None
        return Placed(path, entry.fingerprint, md5, conflict=path != job.path)

    async def _look(self, path: str) -> RemoteEntry | None:
        return (await self._store.get_entries([path]))[0]

    async def _is(
        self, there: RemoteEntry, path: str, size: int | None, md5: Callable[[], Awaitable[str | None]]
    ) -> bool:
        """Is that file these bytes?"""
        if there.is_dir or there.size != size:
            return False
        return there.size == 0 or await self._has_md5(path, await md5())

    async def _is_torn(self, job: _Job, there: RemoteEntry) -> bool:
        """Is it a beginning of what we send?"""
        if there.is_dir or there.size >= job.size:
            return False
        return there.size == 0 or await self._has_md5(job.path, await job.md5_of_first(there.size))

    async def _has_md5(self, path: str, md5: str | None) -> bool:
        return md5 is not None and await self._md5(path) == md5

    async def _md5(self, path: str) -> str | None:
        try:
            return await self._store.md5(path)
        except (Unsupported, NotFound):
            return None  # what cannot be proved to be ours is somebody's work


class _Job:
    """One attempt to put one file."""

    def __init__(self, staged: StagedFile, path: str, frozen: Frozen, head: HeadStart | None) -> None:
        self.head = head
        self.staged = staged
        self.path = path
        self.frozen = frozen
        self.size = frozen.size
        self.base = staged.base
        self.base_md5 = staged.base_md5
        self.attempt = staged.attempt  # uploads of before this one
        self._md5: str | None = None

    async def md5(self) -> str:
        """Of what we send."""
        if self._md5 is None:
            self._md5 = await self.md5_of_first(self.size)
        return self._md5

    async def md5_of_first(self, length: int) -> str:
        return await trio.to_thread.run_sync(md5_of, self.frozen.source.fileno(), length)


def _check_size(job: _Job, path: str, entry: RemoteEntry | None) -> RemoteEntry:
    if entry is None:
        raise ShortBody("the NAS took the upload, but the file is not there", path=path)
    if entry.is_dir or entry.size != job.size:
        raise ShortBody(f"the NAS has {entry.size:,} of {job.size:,} bytes of the upload", path=path)
    return entry
