"""The filesystem's verbs, in terms of inodes and names. Knows neither the kernel's calling convention nor HTTP.

Every verb may raise `FilesystemError` or `RemoteError`; the kernel border gives them their errno. Verbs wait for
the NAS without a limit of their own: the border bounds each call, and what was started for it goes on for the others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from synofs.content.reader import Reader
from synofs.fs.attributes import AttributeOptions, Attributes
from synofs.fs.errors import (
    AccessDenied,
    InvalidArgument,
    IsADirectory,
    NoEntry,
    NotADirectory,
    ReadOnlyFilesystem,
    StaleInode,
)
from synofs.fs.handles import DirHandle, FileHandle, HandleTable
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listings import Listing, ListingOptions, Listings, Notifier
from synofs.fs.names import remote_name
from synofs.fs.space import SpaceCache
from synofs.remote import Changed, NotFound, RemoteEntry, RemoteStore, Rights, Space


@dataclass(frozen=True, slots=True)
class FsOptions:
    dir_ttl_seconds: float = 30.0
    attr_ttl_seconds: float = 30.0
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0o022
    read_only: bool = True
    share: str | None = None  # show this share as the root instead of all shares


class SilentNotifier:
    """For a filesystem that is not mounted."""

    def content_changed(self, inode: Inode) -> None: ...
    def attributes_changed(self, inode: Inode) -> None: ...
    def entry_appeared(self, parent: Inode, name: bytes) -> None: ...
    def entry_gone(self, parent: Inode, inode: Inode) -> None: ...


class Filesystem:
    def __init__(
        self, store: RemoteStore, options: FsOptions, reader: Reader, notifier: Notifier | None = None
    ) -> None:
        self.options = options
        self._store = store
        self._reader = reader
        notifier = notifier or SilentNotifier()
        self.inodes = InodeTable("/" + options.share if options.share else "/")
        self._listings = Listings(
            self.inodes, store, notifier, ListingOptions(dir_ttl_seconds=options.dir_ttl_seconds)
        )
        self._attributes = Attributes(
            self.inodes, self._listings, store, notifier, AttributeOptions(options.attr_ttl_seconds)
        )
        self._files: HandleTable[FileHandle] = HandleTable()
        self._dirs: HandleTable[DirHandle] = HandleTable()
        self._space = SpaceCache(store, self._shown_shares)
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve background work (listings, polling) until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._listings.run)
            task_status.started()
            await trio.sleep_forever()

    # ----- looking ----------------------------------------------------------------------------------------------

    async def lookup(self, parent: Inode, name: bytes) -> Inode | None:
        """The inode of a name, or None for a name that is certainly not there. The caller counts the lookup."""
        self._need_directory(parent)
        if name in (b".", b".."):
            return parent if name == b"." else parent.parent or parent
        listing = await self._listings.begin(parent)
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
        if entry is None:
            return None
        inode = self.inodes.obtain(parent, name, entry.is_dir)
        self._attributes.take(inode, entry, asked_at)
        return inode

    async def getattr(self, inode: Inode) -> None:
        """Return with `inode`'s attributes within their TTL. The root never needs the NAS."""
        await self._attributes.renew_if_old(inode)

    def valid_seconds(self, inode: Inode) -> float:
        """How long the kernel may believe name and attributes without asking again."""
        if inode.parent is None:
            return self.options.attr_ttl_seconds
        return self._attributes.remaining_seconds(inode)

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
        if rights & Rights.WRITE and not self.options.read_only:
            bits |= 0o222
        if rights & Rights.EXECUTE:
            bits |= 0o111
        return bits & ~self.options.umask

    async def access(self, inode: Inode, mode: int) -> None:
        """access(2): R_OK, W_OK, X_OK against what the NAS lets this session do. Raises `AccessDenied`."""
        await self.getattr(inode)
        if mode & os.W_OK and self.options.read_only:
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
        if self._space.is_old() and self._nursery is not None:
            self._nursery.start_soon(self._space.renew)
        return self._space.last_known()

    def _shown_shares(self) -> list[str]:
        if self.options.share is not None:
            return [self.options.share]
        listing = self.inodes.root.listing
        return [remote_name(name) for name in listing.by_name] if listing is not None else []

    # ----- directories ------------------------------------------------------------------------------------------

    async def opendir(self, inode: Inode) -> int:
        self._need_directory(inode)
        inode.opens += 1
        return self._dirs.add(DirHandle(inode))

    async def readdir(self, number: int, position: int) -> tuple[DirHandle, Sequence[Inode]]:
        """Entries from `position` on, at least one unless the directory ends there. Position 0 starts anew."""
        handle = self._dirs.get(number)
        if position == 0 or handle.listing is None:
            handle.listing = await self._listings.begin(handle.inode)
            handle.entries = handle.listing.entries
        listing = handle.listing
        while position >= len(handle.entries) and handle.entries is listing.entries:
            if not await self._listings.more(listing):
                break
        return handle, handle.entries

    async def releasedir(self, number: int) -> None:
        handle = self._dirs.pop(number)
        if handle is not None:
            self._closed(handle.inode)

    # ----- files ------------------------------------------------------------------------------------------------

    async def open(self, inode: Inode, flags: int) -> tuple[int, bool]:
        """A handle, and whether the kernel may keep the pages that it has of this file."""
        if inode.is_dir:
            raise IsADirectory(inode.path())
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & os.O_TRUNC:
            self._need_writable(inode)
        await self.getattr(inode)
        if inode.gone:
            raise NoEntry(inode.path())
        if not inode.rights & Rights.READ:
            raise AccessDenied(inode.path())
        version = inode.fingerprint
        keep_pages = inode.kernel_cached == version
        inode.kernel_cached = version
        inode.opens += 1
        reader = self._reader.open(inode.number, version, inode.path)
        return self._files.add(FileHandle(inode, version, reader)), keep_pages

    async def read(self, number: int, offset: int, length: int) -> bytes | memoryview:
        """Bytes of the version that the handle pinned; `Changed` once there is another on the NAS.

        A handle that has not handed out anything yet follows the change instead. Even bytes that are in memory are
        refused to a handle with an old version: all handles share the kernel's pages, and those must not be mixed.
        """
        handle = self._files.get(number)
        try:
            data = await self._read_pinned(handle, offset, length)
        except Changed:
            await self._follow_change(handle)
            data = await self._read_pinned(handle, offset, length)
        except NotFound as error:
            raise StaleInode(handle.inode.path()) from error
        handle.served = True
        return data

    async def _follow_change(self, handle: FileHandle) -> None:
        """Pin the version that is on the NAS now. Raises `Changed` if bytes of the old one were handed out."""
        inode = handle.inode
        try:
            await self._attributes.renew(inode)
        except NoEntry as error:
            raise StaleInode(inode.path()) from error
        if handle.served or inode.fingerprint == handle.version:
            raise Changed("the file was changed on the NAS", path=inode.path())
        handle.reader.close()
        handle.version = inode.kernel_cached = inode.fingerprint
        handle.reader = self._reader.open(inode.number, handle.version, inode.path)

    async def _read_pinned(self, handle: FileHandle, offset: int, length: int) -> bytes | memoryview:
        self._need_version(handle)
        data = await handle.reader.read(offset, length)
        self._need_version(handle)
        return data

    def _need_version(self, handle: FileHandle) -> None:
        if handle.inode.fingerprint != handle.version:
            raise Changed("the file was changed on the NAS", path=handle.inode.path())

    async def release(self, number: int) -> None:
        handle = self._files.pop(number)
        if handle is not None:
            handle.reader.close()
            self._closed(handle.inode)

    def _closed(self, inode: Inode) -> None:
        inode.opens -= 1
        self.inodes.release(inode)

    # ----- control ----------------------------------------------------------------------------------------------

    async def refresh(self, nas_path: str) -> None:
        """Forget what is cached at and below a NAS path; the next use asks the NAS."""
        prefix = nas_path.rstrip("/")
        for listing in self._listings.cached():
            path = listing.directory.path()
            if path == nas_path or path.startswith(prefix + "/") or prefix == path.rstrip("/"):
                self._listings.reload(listing.directory)
        for listing in self._listings.cached():
            if listing.load is not None:
                await self._listings.finish(listing)

    def counters(self) -> dict[str, int]:
        """Numbers for `synofs status`."""
        return {
            "inodes": len(self.inodes),
            "cached_entries": self._listings.total_entries,
            "open_files": len(self._files),
            "open_directories": len(self._dirs),
            "hostile_names": self._listings.hostile_names,
            "stale_answers": self._listings.stale_answers,
            "cache_bytes": self._reader.cache_bytes,
        }

    # ----- checks -----------------------------------------------------------------------------------------------

    def _need_directory(self, inode: Inode) -> None:
        if not inode.is_dir:
            raise NotADirectory(inode.path())

    def _need_writable(self, inode: Inode) -> None:
        if self.options.read_only:
            raise ReadOnlyFilesystem(inode.path())
        raise InvalidArgument(inode.path())

    def entry_of(self, inode: Inode) -> RemoteEntry:
        """What is known of an inode as a store's entry, for tests and status."""
        return RemoteEntry(
            remote_name(inode.name),
            inode.is_dir,
            inode.size,
            inode.mtime_ns,
            inode.atime_ns,
            inode.ctime_ns,
            inode.rights,
        )
