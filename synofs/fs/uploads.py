"""Sending: one attempt to bring a dirty inode to the NAS, and what follows from its end.

`send` is what the upload queue calls. Throughout it holds the inode's `placing` lock, so nothing renames or removes
the file meanwhile. It ends in one of four ways: the NAS has the present content and the inode is clean; it has a
content that has changed since; ours was put beside somebody else's (the inode then moves to the conflict copy's
name, and whoever has it open goes on writing there); or a failure, which the queue judges.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import trio

from synofs.content.journal import Changes
from synofs.content.put import Placed, Putter
from synofs.content.reader import Reader
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.writeback import Outcome
from synofs.fs.dirty import DirtyFiles
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.fs.locks import NumberedLocks
from synofs.fs.names import printable
from synofs.remote import (
    CertificateRefused,
    Changed,
    Fingerprint,
    NotFound,
    RemoteError,
    RemoteStore,
    SignInRefused,
)

log = logging.getLogger(__name__)


class Uploads:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        store: RemoteStore,
        reader: Reader,
        notifier: Notifier,
        area: StagingArea,
        dirty: DirtyFiles,
        putter: Putter,
        placing: NumberedLocks,
    ) -> None:
        self._table = table
        self._listings = listings
        self._store = store
        self._reader = reader
        self._notifier = notifier
        self._area = area
        self._dirty = dirty
        self._putter = putter
        self._placing = placing
        self.conflicts: list[tuple[str, str]] = []  # (path, where our version went)
        self.refusals: list[tuple[str, str]] = []  # (path, why)
        self.on_conflict: Callable[[str, str], None] = lambda path, ours: None
        self.on_refusal: Callable[[str, str, str], None] = lambda path, why, kept: None  # `kept`: where on this disk

    async def base(self, inode: Inode, staged: StagedFile, offset: int, length: int) -> bytes | memoryview:
        """Bytes of the version that the edit started from."""
        assert staged.base is not None
        reader = self._reader.open(inode.number, staged.base, inode.path)
        try:
            data = await reader.read(offset, length)
        finally:
            reader.close()
        if len(data) != length:
            raise Changed("the file is shorter on the NAS than it was", path=inode.path())
        return data

    async def fetch_missing(self, inode: Inode, staged: StagedFile) -> None:
        """Make the staged file complete from the version that it started from."""
        await staged.fetch_missing(lambda offset, length: self.base(inode, staged, offset, length))

    # ----- one attempt ----------------------------------------------------------------------------------------------

    async def send(self, inode: Inode) -> Outcome:
        async with self._placing.hold(inode.number):
            staged = inode.staged
            if staged is None or staged.unlinked:
                return Outcome.CLEAN
            if staged.to_be_sent:
                await self._put(inode, staged)
            if self.finish(inode, staged):
                return Outcome.CLEAN
            await staged.save()
            return Outcome.DIRTY if inode.writers or not staged.to_be_sent else Outcome.AGAIN

    async def _put(self, inode: Inode, staged: StagedFile) -> None:
        try:
            await self.fetch_missing(inode, staged)
        except NotFound as error:
            raise _BaseLost("it was removed on the NAS before the rest of it could be fetched") from error
        except Changed:
            await self._complete_from_theirs(inode, staged)
        frozen = await staged.freeze()
        head = staged.take_head()
        try:
            placed = await self._putter.put(staged, inode.path(), frozen, head)
            staged.placed(placed.fingerprint, placed.md5)
            staged.sent_generation = frozen.generation
        finally:
            if head is not None:
                head.close()
            with trio.CancelScope(shield=True):
                await staged.unfreeze(frozen)
        if placed.conflict:
            await self._move_aside(inode, placed)

    async def _complete_from_theirs(self, inode: Inode, staged: StagedFile) -> None:
        """The version that the edit started from is gone. The bytes written here are kept in any case; around them
        stands what the NAS has now, and since the versions differ, the put ends in a conflict copy."""
        path = inode.path()
        entry = (await self._store.get_entries([path]))[0]
        if entry is None or entry.is_dir:
            raise _BaseLost("it was removed on the NAS before the rest of it could be fetched")
        log.warning("%s: changed on the NAS while parts of it were edited here", printable(path))
        theirs = self._reader.open(inode.number, entry.fingerprint, inode.path)

        async def fetch(offset: int, length: int) -> bytes:
            data = bytes(await theirs.read(offset, length))
            return data.ljust(length, b"\0")

        try:
            await staged.fetch_missing(fetch)
        finally:
            theirs.close()

    def finish(self, inode: Inode, staged: StagedFile) -> bool:
        """The inode is clean from here on, if the NAS has the present content and nobody is about to change it."""
        version, path = staged.base, inode.path()
        as_sent = staged.is_as_sent
        if inode.staged is not staged or staged.unlinked or staged.to_be_sent or inode.writers or version is None:
            return False

        def keep(data: str) -> None:
            if staged.sent_generation:
                self._reader.written_here(inode.number, version, path, data if as_sent else None)

        if not self._area.done(staged, keep):
            return False
        if not staged.sent_generation:  # its first change was refused (a full disk): all is as it was
            self._dirty.detach(inode)
            inode.shown_mtime_ns = self._table.given_mtime(inode, inode.fingerprint)
            return True
        inode.size, inode.mtime_ns = version
        inode.checked_at = trio.current_time()
        inode.own_version = inode.kernel_cached = version
        inode.own_md5 = staged.base_md5
        if inode.parent is not None:
            self._listings.insert(inode.parent, inode)
        self._dirty.detach(inode)
        self._keep_time(inode, path, version, staged.mtime_ns)
        return True

    def _keep_time(self, inode: Inode, path: str, version: Fingerprint, given_ns: int | None) -> None:
        """A time that was given to the file and did not get to the NAS (it came when the bytes had arrived, or the NAS
        keeps no times) is remembered here; any other is void."""
        shown = None if given_ns is None else given_ns // 10**9 * 10**9
        if shown is not None and shown != version.mtime_ns:
            inode.shown_mtime_ns = shown
            self._table.given_mtimes[path] = (version, shown)
            self._area.keep_mtime(path, version, shown)
        elif self._table.given_mtimes.pop(path, None) is not None:
            self._area.drop_mtime(path)

    def forget_cached(self, *paths: str) -> None:
        """Something else is at these paths from now on."""
        self._reader.forget_paths(*paths)

    # ----- somebody else's version -----------------------------------------------------------------------------------

    async def _move_aside(self, inode: Inode, placed: Placed) -> None:
        """Ours was put under another name: there it goes on, and the old name is theirs."""
        path, parent = inode.path(), inode.parent
        assert parent is not None
        self.conflicts.append((path, placed.path))
        self.on_conflict(path, placed.path)
        log.warning(
            "%s: somebody else changed it meanwhile; their version keeps the name, yours is %s",
            printable(path),
            printable(placed.path),
        )
        old_name, new_name = inode.name, placed.path.rpartition("/")[2].encode("utf-8", "surrogateescape")
        self._listings.remove(parent, inode)
        files = self._dirty.relocate(inode, parent, new_name)
        self._listings.insert(parent, inode)
        self._listings.expire(parent)
        self._notifier.entry_appeared(parent, old_name)  # the kernel is to ask whose it is now
        self._notifier.entry_appeared(parent, new_name)
        await self._area.moved(None, Changes(files))

    # ----- refusals ---------------------------------------------------------------------------------------------------

    async def refused(self, inode: Inode, error: Exception) -> None:
        """The NAS does not take it, and will not: what was written is kept in the recovery folder."""
        async with self._placing.hold(inode.number):
            staged = inode.staged
            if staged is None or staged.unlinked:
                return
            path, parent = inode.path(), inode.parent
            kept = await self._area.refuse(staged, str(error))
            self.refusals.append((path, str(error)))
            self.on_refusal(path, str(error), kept)
            log.error("%s: refused by the NAS (%s); what was written is kept in %s", printable(path), error, kept)
            is_new = staged.base is None
            self._dirty.detach(inode, refused=True)
            inode.checked_at = float("-inf")
            if is_new and parent is not None:
                self._listings.remove(parent, inode)
                inode.gone = True
                self._notifier.entry_gone(parent, inode)
                self._table.release(inode)
            else:
                self._notifier.content_changed(inode)


class _BaseLost(RemoteError):
    """An edit whose other half is gone from the NAS: nothing can be sent under the name."""


def is_temporary(error: Exception) -> bool:
    """May the upload succeed later? What needs a person's hand at the account is waited for, too: the file is fine."""
    if isinstance(error, SignInRefused | CertificateRefused | Changed):
        return True
    if isinstance(error, RemoteError):
        return error.temporary
    return True  # a bug or the local disk: never give a file up for that


def version_of(inode: Inode, version: Fingerprint | None = None) -> tuple[Fingerprint, str | None]:
    """The version that an edit of a clean inode starts from, and its MD5 where that is needed to tell it."""
    version = version or inode.fingerprint
    return version, inode.own_md5 if inode.own_version == version else None
