"""Making and removing names, in order with pending uploads. Renames are in fs/renames.py.

Each verb changes the NAS first and what is cached after it, so a failure leaves both as they were. The kernel holds
the directory's lock meanwhile, so two verbs never work in one directory of this mount at once; uploads are kept away
by the `placing` lock of the file.

A file that is unlinked while it is open lives on under a hidden name on the NAS until its last handle is closed, as
NFS does it; one that has unsent content lives on in the staging folder alone.
"""

from __future__ import annotations

import posixpath
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from synofs.content.errors import ContentError
from synofs.fs import lostanswers
from synofs.fs.errors import (
    AccessDenied,
    DirectoryNotEmpty,
    EntryExists,
    InvalidArgument,
    IsADirectory,
    NoEntry,
    NotADirectory,
)
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.listings import Listings
from synofs.fs.moves import Mover
from synofs.fs.names import HIDDEN_PREFIX, remote_name
from synofs.fs.writes import Writes
from synofs.remote import Changed, Exists, NotEmpty, NotFound, RemoteEntry, RemoteError, RemoteStore, Rights


class Namespace:
    def __init__(self, table: InodeTable, listings: Listings, store: RemoteStore, writes: Writes, mover: Mover) -> None:
        self._table = table
        self._listings = listings
        self._store = store
        self._writes = writes
        self._leftovers = writes.leftovers
        self._mover = mover

    # ----- making -----------------------------------------------------------------------------------------------

    async def create(self, parent: Inode, name: bytes) -> Inode:
        """A new empty file, dirty from the start. Raises `EntryExists`."""
        self.check_name(parent, name)
        if await self.look(parent, name) is not None:
            raise EntryExists(path_of(parent, name))
        return await self._writes.begin_new(parent, name)

    async def mkdir(self, parent: Inode, name: bytes) -> Inode:
        self.check_name(parent, name)
        if not parent.rights & Rights.WRITE:
            raise AccessDenied(parent.path())
        try:
            async with self.doubtful(parent):
                entry = await lostanswers.make_dir(self._store, path_of(parent, name))
        except Exists:  # made by somebody else: who is told so may look at it at once
            self._listings.expire(parent)
            self._writes.name_is_taken(parent, name)
            raise
        inode = self._table.obtain(parent, name, is_dir=True)
        self._table.update(inode, entry, self._listings.now())
        self._listings.insert(parent, inode)
        self._listings.know_empty(inode)
        self._writes.made_here(inode)
        return inode

    # ----- removing ---------------------------------------------------------------------------------------------

    async def unlink(self, parent: Inode, name: bytes) -> None:
        inode = await self.find(parent, name)
        if inode.is_dir:
            raise IsADirectory(inode.path())
        if not inode.rights & Rights.DELETE and not parent.rights & Rights.WRITE:
            raise AccessDenied(inode.path())
        async with self._writes.hold_place(inode.number):
            if inode.gone or inode.parent is not parent or inode.name != name:
                raise NoEntry(path_of(parent, name))  # removed or renamed since we began to wait
            hidden_name = self._leftovers.name_of_gone(inode.number)
            async with self.doubtful(parent):
                await self._take_from_nas(inode, hidden_name)
            staged, open_here, path = inode.staged, is_open(inode), inode.path()
            self._writes.dirty.unlink(inode)
            self.vanish(parent, inode, hidden_name)
            self._writes.forget_time(path)
            if staged is not None:
                with trio.CancelScope(shield=True):  # it is done on the NAS: what follows here is done, too
                    await self._writes.forget(inode, staged, keep=open_here)

    async def _take_from_nas(self, inode: Inode, hidden_name: str) -> None:
        """What is open lives on: unsent content here, any other under a hidden name on the NAS."""
        await self._writes.area.flush()  # an upload that is done must not come back after a crash
        staged, path = inode.staged, inode.path()
        if staged is not None:
            if is_open(inode) and not staged.complete:
                await self._writes.uploads.fetch_missing(inode, staged)
            await self.withdraw_upload(inode)
            if staged.base is not None or staged.attempt is not None:
                base = staged.base if staged.attempt is None else None  # after an attempt it may be either
                await lostanswers.remove(self._store, path, lambda there: there.fingerprint == base)
            return
        version = inode.fingerprint
        if is_open(inode):
            hidden_path = f"{path.rpartition('/')[0]}/{hidden_name}"
            self._leftovers.in_use.add(hidden_path)
            try:
                await self._leftovers.add(hidden_path)
                await lostanswers.hide(self._store, path, hidden_name, lambda there: there.fingerprint == version)
            except (RemoteError, ContentError) as error:
                if not (isinstance(error, RemoteError) and error.temporary):  # refused, so there is no such name
                    self._leftovers.in_use.discard(hidden_path)
                raise
        else:
            await lostanswers.remove(self._store, path, lambda there: there.fingerprint == version)

    async def withdraw_upload(self, inode: Inode) -> None:
        """The file is about to leave its name, or to be replaced. If an upload was to be put there and nobody knows
        whether it was, the NAS may do that late, over what is there by then: now it finds nothing to be put."""
        if inode.staged is not None and inode.staged.attempt is not None:
            folder, name = posixpath.split(inode.staged.attempt.path)
            await lostanswers.remove(self._store, f"{self._leftovers.uploads.path_in(folder)}/{name}", lambda _: True)

    async def rmdir(self, parent: Inode, name: bytes) -> None:
        inode = await self.find(parent, name)
        if not inode.is_dir:
            raise NotADirectory(inode.path())
        async with self.doubtful(parent):
            await self.remove_folder(inode)
        self.vanish(parent, inode, self._leftovers.name_of_gone(inode.number))

    async def remove_folder(self, inode: Inode) -> None:
        """From the NAS, if nothing but hidden names is in there."""
        path = inode.path()
        if self._writes.dirty.local_names(inode):
            raise DirectoryNotEmpty(path)
        await self._writes.area.flush()
        try:
            await lostanswers.remove(self._store, path, _is_folder)
        except NotEmpty:
            await self._leftovers.empty_folder(path, self._mover)
            await lostanswers.remove(self._store, path, _is_folder)
        self._leftovers.uploads.forget_below(path)
        self._leftovers.renames.forget_below(path)

    def vanish(self, parent: Inode, inode: Inode, hidden_name: str) -> None:
        """The name is gone here. The inode gets the hidden one, so that a new file of that name is a new inode."""
        self._listings.remove(parent, inode)
        self._listings.forget(inode)
        self._table.move(inode, parent, hidden_name.encode())
        inode.gone = True
        inode.kernel_entry = None
        self._table.release(inode)

    async def closed_for_good(self, inode: Inode) -> None:
        """The last handle of an unlinked file was closed."""
        if inode.staged is not None and inode.staged.unlinked:
            await self._writes.drop(inode)
        path = inode.path()
        if path in self._leftovers.in_use:
            self._leftovers.in_use.discard(path)
            await self._store.remove(path)
            await self._leftovers.forget(path)

    # ----- looking ----------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def doubtful(self, *directories: Inode) -> AsyncIterator[None]:
        """A change whose answer was lost may have been done, and one that was refused shows that what is cached is
        old: then the next use asks the NAS what there is."""
        try:
            yield
        except (RemoteError, trio.Cancelled) as error:
            if not isinstance(error, RemoteError) or error.temporary or isinstance(error, Changed | NotFound):
                for directory in directories:
                    self._listings.expire(directory)
            raise

    async def find(self, parent: Inode, name: bytes) -> Inode:
        inode = await self.look(parent, name)
        if inode is None:
            raise NoEntry(path_of(parent, name))
        return inode

    async def look(self, parent: Inode, name: bytes) -> Inode | None:
        listing = await self._listings.begin(parent)
        while True:
            inode = listing.by_name.get(name)
            if inode is not None and not inode.gone:
                return inode
            if not await self._listings.more(listing):
                return None

    def check_name(self, parent: Inode, name: bytes) -> None:
        """May something be called so? Raises why not."""
        if not parent.is_dir:
            raise NotADirectory(parent.path())
        if parent.path() == "/":
            raise AccessDenied("shares are made in the NAS's control panel")
        if name.startswith(HIDDEN_PREFIX):
            raise InvalidArgument(f"{remote_name(name)}: names that begin with .synofs- are synofs's own")


def path_of(parent: Inode, name: bytes) -> str:
    return f"{parent.path().rstrip('/')}/{remote_name(name)}"


def is_open(inode: Inode) -> bool:
    """Has any program a handle? (Unsent content counts as one user of the inode, too.)"""
    return inode.opens > (1 if inode.staged is not None else 0)


def _is_folder(entry: RemoteEntry) -> bool:
    return entry.is_dir
