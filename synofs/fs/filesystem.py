"""The filesystem's verbs, in terms of inodes and names. Knows neither the kernel's calling convention nor HTTP.

Every verb may raise `FilesystemError` or `RemoteError`; the kernel border gives them their errno. Verbs wait for
the NAS without a limit of their own: the border bounds each call, and what was started for it goes on for the others.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from synofs.content.errors import StagedFileClosed
from synofs.content.listingstore import ListingStore
from synofs.content.reader import FileReader, Reader
from synofs.content.staging import StagingArea
from synofs.fs.athand import AtHand
from synofs.fs.attributes import AttributeOptions, Attributes
from synofs.fs.callers import Caller, Callers
from synofs.fs.errors import (
    AccessDenied,
    EntryExists,
    IsADirectory,
    NoEntry,
    NotADirectory,
    ReadOnlyFilesystem,
    StaleInode,
    Unanswered,
)
from synofs.fs.handles import DirHandle, FileHandle, HandleTable
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listing import Listing, ListingOptions, Notifier
from synofs.fs.listings import Listings
from synofs.fs.moves import Mover
from synofs.fs.names import HIDDEN_PREFIX, NAME_MAX_BYTES, printable, remote_name
from synofs.fs.namespace import Namespace
from synofs.fs.patience import NasState
from synofs.fs.renames import Renames
from synofs.fs.siblings import SiblingOptions, SiblingPrefetch
from synofs.fs.space import SpaceCache
from synofs.fs.sparing import FULL, Access, Desktop, Sparing, SparingOptions, Thumbnails
from synofs.fs.staleness import Staleness, StaleOptions
from synofs.fs.walk import WalkOptions, WalkPrefetch
from synofs.fs.writes import WriteOptions, Writes
from synofs.remote import Changed, Fingerprint, NameTooLong, NotFound, RemoteStore, Rights, Space, TimedOut

_UNANSWERED_SECONDS = 1.0
_AWAY_SECONDS = 10.0  # an end waits so long for a NAS that is away
_SLEEP = "the machine sleeps"


@dataclass(frozen=True, slots=True)
class FsOptions:
    dir_ttl_seconds: float = 30.0
    attr_ttl_seconds: float = 30.0
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0o022
    read_only: bool = True
    serve_stale: bool = True  # while the NAS is away, go on with what is known of it
    max_stale_seconds: float = 3600.0  # and while it is slow, with what is not older than that
    max_requests: int = 6  # what the store sends at once; background work leaves one of them free
    thumbnails: Thumbnails = Thumbnails.ORIGINAL
    share: str | None = None  # show this share as the root instead of all shares


class SilentNotifier:
    """For a filesystem that is not mounted."""

    def content_changed(self, inode: Inode) -> None: ...
    def attributes_changed(self, inode: Inode) -> None: ...
    def attributes_before_answer(self, inode: Inode) -> None: ...
    def entry_appeared(self, parent: Inode, name: bytes) -> None: ...
    def entry_gone(self, parent: Inode, inode: Inode) -> None: ...


class Filesystem:
    def __init__(
        self,
        store: RemoteStore,
        options: FsOptions,
        reader: Reader,
        notifier: Notifier | None = None,
        staging: StagingArea | None = None,
        write_options: WriteOptions | None = None,
        archive: ListingStore | None = None,
        desktop: Desktop | None = None,
    ) -> None:
        """Without `staging` and `write_options` the filesystem is read-only, whatever the options say."""
        self.options = options
        self._store = store
        self._reader = reader
        self._notifier = notifier = notifier or SilentNotifier()
        self.inodes = InodeTable("/" + options.share if options.share else "/")
        reader.on_doubt = self.inodes.doubt_pages
        self._archive = archive
        listing_options = ListingOptions(dir_ttl_seconds=options.dir_ttl_seconds, serve_stale=options.serve_stale)
        staleness = Staleness(StaleOptions(options.max_stale_seconds))
        self._listings = Listings(self.inodes, store, notifier, listing_options, archive, staleness)
        attribute_options = AttributeOptions(options.attr_ttl_seconds, serve_stale=options.serve_stale)
        self._attributes = Attributes(self.inodes, self._listings, store, notifier, attribute_options)
        self._walk = WalkPrefetch(self._listings, WalkOptions(loads_at_once=max(1, options.max_requests - 1)))
        self._siblings = SiblingPrefetch(reader, SiblingOptions(fetches_at_once=max(1, options.max_requests - 1)))
        self.sparing = Sparing(options.thumbnails, desktop, Callers(), SparingOptions())
        self._files: HandleTable[FileHandle] = HandleTable()
        self._dirs: HandleTable[DirHandle] = HandleTable()
        self.space = SpaceCache(store, options.share, archive.space if archive is not None else None)
        self._nursery: trio.Nursery | None = None
        self.writes: Writes | None = None
        self._names: Namespace | None = None
        if staging is not None and write_options is not None and not options.read_only:
            self.writes = Writes(
                self.inodes, self._listings, store, reader, notifier, staging, self.space, write_options
            )
            leftovers = self.writes.leftovers
            self._mover = Mover(store, leftovers, leftovers.renames, write_options.hostname)
            self._names = Namespace(self.inodes, self._listings, store, self.writes, self._mover)
            self._renames = Renames(self.inodes, self._listings, notifier, self._names, self.writes, self._mover)
        self.at_hand = AtHand(self._listings, self._attributes, self._files, self._dirs, self.writes)

    @property
    def read_only(self) -> bool:
        return self.writes is None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve background work (listings, polling) until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            if self._archive is not None:
                await nursery.start(self._archive.run)
            await nursery.start(self._listings.run)
            if self.writes is not None and self._names is not None:
                await nursery.start(self.writes.run)
                await nursery.start(self._renames.run)
                await nursery.start(self.writes.leftovers.run, self._mover, self.writes.queue.unsent)
            task_status.started()
            await trio.sleep_forever()

    async def finish(self, within_seconds: float) -> int:
        """Send what is unsent, and clean up on the NAS. Returns how many files are left for the next mount. A NAS that
        is away is not waited for to the end: what is left is safe."""
        if self.writes is None:
            return 0
        with trio.move_on_after(within_seconds) as limit:
            if self._nursery is not None:
                self._nursery.start_soon(self.writes.patience.end_when_away, limit, _AWAY_SECONDS)
            await self.writes.drain()
            await self.writes.leftovers.clean(self._mover)
        return self.writes.counters()["pending_uploads"]

    # ----- looking ----------------------------------------------------------------------------------------------

    async def lookup(self, parent: Inode, name: bytes) -> Inode | None:
        """The inode of a name, or None for a name that is certainly not there. The caller counts the lookup."""
        self._need_directory(parent)
        if len(name) > NAME_MAX_BYTES:
            raise NameTooLong("a name has 255 bytes at most", path=parent.path())
        if name in (b".", b".."):
            return parent if name == b"." else parent.parent or parent
        listing = self._listings.peek(parent)
        if listing is None or listing.ahead:
            listing = await self._walked(parent, reading=False)
        while True:
            inode = listing.by_name.get(name)
            if inode is not None and not inode.gone:
                return inode
            if listing.load is not None and listing.load.pages == 1 and not listing.complete:
                return await self._lookup_in_huge(parent, name, listing)
            if not await self._listings.more(listing):
                return None

    async def _lookup_in_huge(self, parent: Inode, name: bytes, listing: Listing) -> Inode | None:
        """One name of a directory whose pages are still coming: ask for it alone rather than wait for the last."""
        asked_at = trio.current_time()
        path = f"{parent.path().rstrip('/')}/{remote_name(name)}"
        entry = (await self._store.get_entries([path]))[0]
        inode = listing.by_name.get(name)
        if inode is not None and not inode.gone:
            return inode
        if entry is None or name in self._listings.overlay.passing(parent):
            return None
        inode = self.inodes.obtain(parent, name, entry.is_dir)
        self._attributes.take(inode, entry, asked_at)
        return inode

    async def getattr(self, inode: Inode) -> None:
        """Return with `inode`'s attributes within their TTL. The root never needs the NAS, and what was unlinked here
        is as it was."""
        if inode.gone and inode.name.startswith(HIDDEN_PREFIX):
            return
        await self._attributes.renew_if_old(inode)

    def valid_seconds(self, inode: Inode) -> float:
        """How long the kernel may believe the attributes without asking again."""
        if inode.parent is None:
            return self.options.attr_ttl_seconds
        return self._attributes.remaining_seconds(inode)

    def name_valid_seconds(self, inode: Inode) -> float:
        """How long the kernel may believe that the name is there, and stands for this inode."""
        if inode.parent is None:
            return self.options.dir_ttl_seconds
        return max(0.0, inode.checked_at + self.options.dir_ttl_seconds - trio.current_time())

    def missing_valid_seconds(self, parent: Inode) -> float:
        """How long the kernel may believe that a name is missing."""
        listing = self._listings.peek(parent)
        return self._listings.remaining_seconds(listing) if listing is not None else 0.0

    def mode(self, inode: Inode) -> int:
        """Permission bits: what this session may do, for everyone, less the umask."""
        rights = inode.rights
        bits = 0
        if rights & Rights.READ:
            bits |= 0o444
        if rights & Rights.WRITE and not self.read_only:
            bits |= 0o222
        if rights & Rights.EXECUTE:
            bits |= 0o111
        return bits & ~self.options.umask

    async def access(self, inode: Inode, mode: int) -> None:
        """access(2): R_OK, W_OK, X_OK against what the NAS lets this session do. Raises `AccessDenied`."""
        await self.getattr(inode)
        if mode & os.W_OK and self.read_only:
            raise ReadOnlyFilesystem(inode.path())
        needed = (
            (Rights.READ if mode & os.R_OK else 0)
            | (Rights.WRITE if mode & os.W_OK else 0)
            | (Rights.EXECUTE if mode & os.X_OK else 0)
        )
        if needed & ~inode.rights:
            raise AccessDenied(inode.path())

    def statfs(self) -> Space:
        """The last known capacity; asks the NAS in the background when it is old."""
        if self._nursery is not None and self.space.take_turn():
            self._nursery.start_soon(self.space.renew)
        return self.space.last_known()

    # ----- directories ------------------------------------------------------------------------------------------

    async def opendir(self, inode: Inode, caller: Caller | None = None) -> int:
        self._need_directory(inode)
        inode.opens += 1
        return self._dirs.add(DirHandle(inode, self.sparing.person(caller)))

    async def readdir(self, number: int, position: int) -> tuple[DirHandle, Sequence[Inode]]:
        """Entries from `position` on, at least one unless the directory ends there. Position 0 starts anew."""
        handle = self._dirs.get(number)
        if position == 0 or handle.listing is None:
            handle.listing = await self._walked(handle.inode, reading=True)
            handle.entries = handle.listing.entries
        listing = handle.listing
        while position >= len(handle.entries) and handle.entries is listing.entries:
            if not await self._listings.more(listing):
                break
        return handle, handle.entries

    async def _walked(self, directory: Inode, *, reading: bool) -> Listing:
        """The listing of a directory that somebody comes to; who walks a tree gets the next ones ahead."""
        self._walk.arrive(directory, reading=reading)
        listing = await self._listings.begin(directory)
        listing.ahead = False
        self._walk.served(directory)
        return listing

    async def releasedir(self, number: int) -> None:
        handle = self._dirs.pop(number)
        if handle is not None:
            if handle.listing is not None:
                self.sparing.visited(handle.inode, handle.person, handle.opened_at)
            handle.inode.opens -= 1
            self.inodes.release(handle.inode)

    # ----- files ------------------------------------------------------------------------------------------------

    async def open(self, inode: Inode, flags: int, caller: Caller | None = None) -> tuple[int, bool]:
        """A handle, and whether the kernel may keep the pages that it has of this file. Truncates for O_TRUNC: the
        kernel sends no other call for it."""
        if inode.is_dir:
            raise IsADirectory(inode.path())
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if writing or flags & os.O_TRUNC:
            self._writable_half()
        await self.getattr(inode)
        if inode.gone:
            raise NoEntry(inode.path())
        self._check_rights(inode, flags)
        access = FULL if writing else self.sparing.access(inode, caller)
        if flags & os.O_TRUNC:
            inode.writers += 1  # nothing is sent before the handle is there
            try:
                await self._writable_half().begin(inode, empty=True)
            finally:
                inode.writers -= 1
        outgrown = self._reader.outgrown(inode.number, inode.fingerprint)
        keep_pages = inode.staged is not None or (inode.kernel_cached == inode.fingerprint and not outgrown)
        self._notifier.attributes_before_answer(inode)
        return self._add_handle(inode, flags, seen=keep_pages, access=access), keep_pages

    def _check_rights(self, inode: Inode, flags: int) -> None:
        access = flags & os.O_ACCMODE
        needed = Rights.NONE
        if access != os.O_WRONLY:
            needed |= Rights.READ
        if access != os.O_RDONLY:
            needed |= Rights.WRITE
        if needed & ~inode.rights:
            raise AccessDenied(inode.path())

    def _add_handle(self, inode: Inode, flags: int, *, seen: bool = False, access: Access = FULL) -> int:
        """`seen`: the kernel may serve reads of this handle from pages that it has kept, without asking us."""
        reader = self._open_reader(inode, inode.fingerprint, seen, access)
        handle = FileHandle(inode, inode.fingerprint, reader, flags, access)
        inode.opens += 1
        if handle.writable:
            inode.writers += 1
        return self._files.add(handle)

    def _open_reader(self, inode: Inode, version: Fingerprint, seen: bool, access: Access) -> FileReader:
        return self._reader.open(inode.number, version, inode.path, seen=seen, readahead=access.readahead)

    async def create(self, parent: Inode, name: bytes, flags: int) -> tuple[Inode, int]:
        """A new file, open. Without O_EXCL an existing one is opened."""
        names = self._name_half()
        try:
            inode = await names.create(parent, name)
        except EntryExists:
            if flags & os.O_EXCL:
                raise
            found = await self.lookup(parent, name)
            if found is None:
                raise
            try:
                number, _ = await self.open(found, flags)
            finally:
                self.inodes.release(found)
            return found, number
        return inode, self._add_handle(inode, flags)

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Bytes of the version that the handle pinned; `Changed` once there is another on the NAS.

        A handle that has not handed out anything yet follows the change instead. Even bytes that are in memory are
        refused to a handle with an old version: all handles share the kernel's pages, and those must not be mixed.
        What was written here is seen by every handle here at once.
        """
        handle = self._files.get(number)
        handle.access.check(handle.inode, offset)
        if self._nursery is not None and handle.access.shows_interest(handle.inode, offset, length):
            self._siblings.reading(handle.inode, self._nursery)
        if trio.current_time() < handle.unanswered_until:
            raise Unanswered(handle.inode.path())
        try:
            data = await self._read_following(handle, offset, length)
            self._notifier.attributes_before_answer(handle.inode)
            return data
        except NotFound as error:
            raise StaleInode(handle.inode.path()) from error
        except (TimedOut, trio.Cancelled):
            # The kernel asks for a page that failed once more, at once: its caller has waited long enough.
            handle.unanswered_until = trio.current_time() + _UNANSWERED_SECONDS
            raise

    async def _read_following(self, handle: FileHandle, offset: int, length: int) -> bytes | memoryview:
        version = handle.version
        try:
            return await self._read_now(handle, offset, length)
        except Changed:
            await self._follow_change(handle, version)
            return await self._read_now(handle, offset, length)

    async def _read_now(self, handle: FileHandle, offset: int, length: int) -> bytes | memoryview:
        """From what was written here, or from the pinned version."""
        inode = handle.inode
        while inode.staged is not None and self.writes is not None:
            try:
                return await self.writes.read(inode, inode.staged, offset, length)
            except StagedFileClosed:
                await trio.lowlevel.checkpoint()  # it was sent while we waited for a part that is on the NAS
        if handle.version != inode.fingerprint and inode.own_version == inode.fingerprint:
            self._pin(handle)
        version = handle.version
        self._need_version(handle, version)
        data = await handle.reader.read(offset, length)
        self._need_version(handle, version)
        handle.reader.served = True
        inode.kernel_cached = version
        return data

    async def _follow_change(self, handle: FileHandle, version: Fingerprint) -> None:
        """After a read of `version` failed: pin the version that is on the NAS now. Raises `Changed` if bytes of the
        old one were, or may have been, handed out."""
        inode = handle.inode
        if inode.fingerprint == version:
            try:
                await self._attributes.renew(inode)
            except NoEntry as error:
                raise StaleInode(inode.path()) from error
        if handle.version != version or inode.staged is not None:
            return  # another read has followed the change, or the file is being written here
        if handle.reader.served or inode.fingerprint == version:
            raise Changed("the file was changed on the NAS", path=inode.path())
        self._pin(handle)

    def _pin(self, handle: FileHandle) -> None:
        """From here on the handle reads the version that the inode has now."""
        inode = handle.inode
        version = inode.fingerprint
        seen = version in (inode.kernel_cached, inode.own_version)
        handle.reader.close()
        handle.version = version
        handle.reader = self._open_reader(inode, version, seen, handle.access)

    def _need_version(self, handle: FileHandle, version: Fingerprint) -> None:
        """The handle and the NAS, as far as it is known, are still at that version."""
        if not handle.version == version == handle.inode.fingerprint:
            raise Changed("the file was changed on the NAS", path=handle.inode.path())

    async def write(self, number: int, offset: int, data: bytes) -> int:
        handle = self._files.get(number)
        version = self._replaced_version(handle)
        await self._writable_half().write(handle.inode, offset, data, append=handle.append, version=version)
        return len(data)

    def _replaced_version(self, handle: FileHandle) -> Fingerprint | None:
        """What an edit through this handle starts from, if its program has read a version that somebody else has
        replaced since; whether that one was written here makes no difference."""
        inode = handle.inode
        has_read = handle.reader.served and handle.readable
        return handle.version if has_read and inode.fingerprint not in (handle.version, inode.own_version) else None

    async def flush(self, number: int) -> None:
        """close(2) of one descriptor. What it promises depends on the write mode."""
        handle = self._files.get(number)
        if handle.writable and self.writes is not None:
            await self.writes.closing(handle.inode)

    async def fsync(self, number: int) -> None:
        """The NAS has everything that was written so far when this returns."""
        handle = self._files.get(number)
        if self.writes is not None:
            await self.writes.sync(handle.inode)

    async def release(self, number: int) -> None:
        handle = self._files.pop(number)
        if handle is None:
            return
        inode = handle.inode
        handle.reader.close()
        inode.opens -= 1
        try:
            if handle.writable:
                inode.writers -= 1
            if (handle.writable or handle.truncates) and self.writes is not None:
                await self.writes.released(inode)
        finally:
            await self._closed(inode)

    async def _closed(self, inode: Inode) -> None:
        staged_pin = 1 if inode.staged is not None else 0
        try:
            if inode.gone and inode.opens <= staged_pin and self._names is not None:
                await self._names.closed_for_good(inode)
        finally:
            self.inodes.release(inode)

    async def setattr(self, inode: Inode, *, size: int | None, mtime_ns: int | None, number: int | None) -> None:
        """Size and mtime. Modes and owners are the NAS's business: changing them is accepted and changes nothing, so
        that `cp -p`, `tar -x` and `rsync -a` work (File Station has no call that is known to set them)."""
        writes = self._writable_half()
        await self.getattr(inode)
        if inode.is_dir:
            return
        if size is not None:
            if not inode.rights & Rights.WRITE:
                raise AccessDenied(inode.path())
            version = None if number is None else self._replaced_version(self._files.get(number))
            await writes.truncate(inode, size, version)
        if mtime_ns is not None:
            await writes.set_mtime(inode, mtime_ns)
        if number is None:
            await writes.changed_by_path(inode)

    # ----- names ------------------------------------------------------------------------------------------------

    async def mkdir(self, parent: Inode, name: bytes) -> Inode:
        with self._writable_half().patience.waiting():
            return await self._name_half().mkdir(parent, name)
        raise AssertionError("a call that was given up has raised")

    async def unlink(self, parent: Inode, name: bytes) -> None:
        with self._writable_half().patience.waiting():
            await self._name_half().unlink(parent, name)

    async def rmdir(self, parent: Inode, name: bytes) -> None:
        with self._writable_half().patience.waiting():
            await self._name_half().rmdir(parent, name)

    async def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, *, replace: bool
    ) -> None:
        with self._writable_half().patience.waiting():
            await self._renames.rename(old_parent, old_name, new_parent, new_name, replace=replace)

    # ----- the NAS comes and goes -----------------------------------------------------------------------------------

    def watch_over(self, nas: NasState) -> None:
        """Whom calls that change something wait for, and whether that has a point."""
        if self.writes is not None:
            self.writes.patience.nas = nas

    def suspend(self) -> None:
        """The machine goes to sleep: nothing more is sent until `awake`."""
        if self.writes is not None:
            self.writes.queue.pause(_SLEEP)

    def awake(self) -> None:
        if self.writes is not None:
            self.writes.queue.resume(_SLEEP)
            self.writes.queue.retry_all()

    def nas_changed(self, there: bool) -> None:
        """The NAS went away, or came back: then what is unsent goes out, and what is stale is asked for when used."""
        if there and self.writes is not None:
            self.writes.queue.retry_all()

    # ----- control ----------------------------------------------------------------------------------------------

    async def refresh(self, nas_path: str) -> None:
        """Ask the NAS anew for all that is cached at and below a NAS path, and for what its folder says of it."""
        target = nas_path.rstrip("/") or "/"
        below = "/" if target == "/" else target + "/"
        parent = target.rpartition("/")[0] or "/"
        reloads = [
            self._listings.reload(listing.directory)
            for listing in self._listings.cached()
            if not listing.directory.gone
            and (listing.directory.path() in (target, parent) or listing.directory.path().startswith(below))
        ]
        for listing in reloads:
            with contextlib.suppress(NotFound):  # gone: that is what the refresh found
                await self._listings.finish(listing)

    def counters(self) -> dict[str, int]:
        """Numbers for `synofs status`."""
        return {
            "inodes": len(self.inodes),
            "cached_entries": self._listings.total_entries,
            "open_files": len(self._files),
            "open_directories": len(self._dirs),
            "hostile_names": self._listings.refused.count,
            "stale_answers": self._listings.staleness.answers,
            "cache_bytes": self._reader.cache_bytes,
            "memory_cache_bytes": self._reader.memory_bytes,
            **(self.writes.counters() if self.writes is not None else {}),
        }

    def uploads(self) -> list[dict[str, object]]:
        """What is unsent, and how far it is."""
        if self.writes is None:
            return []
        return [
            {
                "path": printable(entry.item.path()),
                "state": entry.state.name.lower(),
                "bytes": entry.item.size,
                "attempts": entry.attempts,
                "error": str(entry.error) if entry.error is not None else None,
            }
            for entry in self.writes.queue.entries
        ]

    def being_listed(self) -> list[str]:
        return [printable(listing.directory.path()) for listing in self._listings.cached() if listing.load is not None]

    # ----- checks -----------------------------------------------------------------------------------------------

    def _need_directory(self, inode: Inode) -> None:
        if not inode.is_dir:
            raise NotADirectory(inode.path())

    def _writable_half(self) -> Writes:
        if self.writes is None:
            raise ReadOnlyFilesystem("the mount is read-only")
        return self.writes

    def _name_half(self) -> Namespace:
        if self._names is None:
            raise ReadOnlyFilesystem("the mount is read-only")
        return self._names
