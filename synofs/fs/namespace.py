"""Making, removing and renaming names, in order with pending uploads.

Each verb changes the NAS first and what is cached after it, so a failure leaves both as they were. The kernel holds
the directory's lock meanwhile, so two verbs never work in one directory of this mount at once; uploads are kept away
by the `placing` lock of the file.

A file that is unlinked (or renamed over) while it is open lives on under a hidden name on the NAS until its last
handle is closed, as NFS does it; one that was never uploaded lives on in the staging folder alone.
"""

from __future__ import annotations

import logging

import trio

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
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.fs.moves import Mover
from synofs.fs.names import HIDDEN_PREFIX, remote_name
from synofs.fs.writes import Writes
from synofs.remote import Fingerprint, NotEmpty, RemoteError, RemoteStore, Rights

log = logging.getLogger(__name__)

_RECOVERY_PAUSE_SECONDS = 10.0


class Namespace:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        store: RemoteStore,
        notifier: Notifier,
        writes: Writes,
        client: str,
    ) -> None:
        self._table = table
        self._listings = listings
        self._store = store
        self._notifier = notifier
        self._writes = writes
        self._client = client
        self.mover = Mover(store, writes.leftovers, f"{HIDDEN_PREFIX.decode()}{client}-mv")

    async def recover(self) -> None:
        """Finish renames that an earlier run had begun, and know its hidden names; until the NAS has answered."""
        await self._writes.leftovers.load()
        while True:
            try:
                await self.mover.recover()
            except RemoteError as error:
                log.info("an unfinished rename waits for the NAS: %s", error)
                await trio.sleep(_RECOVERY_PAUSE_SECONDS)
            else:
                return

    # ----- making -----------------------------------------------------------------------------------------------

    async def create(self, parent: Inode, name: bytes) -> Inode:
        """A new empty file, dirty from the start. Raises `EntryExists`."""
        self._check_name(parent, name)
        await self._need_free(parent, name)
        return await self._writes.begin_new(parent, name)

    async def mkdir(self, parent: Inode, name: bytes) -> Inode:
        self._check_name(parent, name)
        if not parent.rights & Rights.WRITE:
            raise AccessDenied(parent.path())
        entry = await self._store.make_dir(_join(parent, name))
        inode = self._table.obtain(parent, name, is_dir=True)
        self._table.update(inode, entry, self._listings.now())
        self._listings.insert(parent, inode)
        self._listings.know_empty(inode)
        return inode

    # ----- removing ---------------------------------------------------------------------------------------------

    async def unlink(self, parent: Inode, name: bytes) -> None:
        inode = await self._find(parent, name)
        if inode.is_dir:
            raise IsADirectory(inode.path())
        async with self._writes.placing.hold(inode.number):
            if not inode.rights & Rights.DELETE and not parent.rights & Rights.WRITE:
                raise AccessDenied(inode.path())
            await self._remove_file(inode)
            self._vanish(parent, inode)

    async def rmdir(self, parent: Inode, name: bytes) -> None:
        inode = await self._find(parent, name)
        if not inode.is_dir:
            raise NotADirectory(inode.path())
        await self._remove_folder(inode)
        self._vanish(parent, inode)

    async def _remove_folder(self, inode: Inode) -> None:
        if any(True for _ in self._writes.local_names(inode)):
            raise DirectoryNotEmpty(inode.path())
        path = inode.path()
        try:
            await self._store.remove(path)
        except NotEmpty:
            # Perhaps only our own hidden names are in there.
            listing = self._listings.reload(inode)
            await self._listings.finish(listing)
            if listing.by_name:
                raise
            for hidden in (f".synofs-{self._client}", f".synofs-{self._client}-mv"):
                await self._writes.leftovers.remove_tree(f"{path}/{hidden}")
            await self._store.remove(path)

    async def _remove_file(self, inode: Inode) -> None:
        """Take a file from the NAS; what is open lives on."""
        staged = inode.staged
        handles_open = inode.opens > (1 if staged is not None else 0)
        if staged is not None:
            on_nas = staged.base is not None or staged.attempted is not None
            if handles_open and not staged.complete:
                await staged.fetch_missing(lambda offset, length: self._writes.base(inode, staged, offset, length))
            staged.unlinked = True
            self._writes.queue.discard(inode)
            if on_nas:
                await self._store.remove(inode.path())
            if not handles_open:
                await self._writes.drop(inode)
            return
        path = inode.path()
        if not handles_open:
            await self._store.remove(path)
            return
        hidden = self._hidden_name(inode)
        hidden_path = f"{path.rpartition('/')[0]}/{hidden}"
        self._writes.leftovers.in_use.add(hidden_path)
        await self._writes.leftovers.add(hidden_path)
        await self._store.rename(path, hidden)

    def _vanish(self, parent: Inode, inode: Inode) -> None:
        """The name is gone here. The inode gets the hidden one, so that a new file of that name is a new inode."""
        self._listings.remove(parent, inode)
        self._listings.forget(inode)
        self._writes.forget_local(inode)
        self._table.move(inode, parent, self._hidden_name(inode).encode())
        inode.gone = True
        inode.kernel_entry = None
        self._table.release(inode)

    def _hidden_name(self, inode: Inode) -> str:
        return f"{HIDDEN_PREFIX.decode()}gone-{self._client}-{inode.number:x}"

    async def closed_for_good(self, inode: Inode) -> None:
        """The last handle of an unlinked file was closed."""
        if inode.staged is not None:
            await self._writes.drop(inode)
        path = inode.path()
        if path in self._writes.leftovers.in_use:
            self._writes.leftovers.in_use.discard(path)
            await self._store.remove(path)
            await self._writes.leftovers.forget(path)

    # ----- renaming ---------------------------------------------------------------------------------------------

    async def rename(
        self, old_parent: Inode, old_name: bytes, new_parent: Inode, new_name: bytes, *, replace: bool
    ) -> None:
        self._check_name(new_parent, new_name)
        inode = await self._find(old_parent, old_name)
        target = await self._look(new_parent, new_name)
        if target is inode:
            return
        if target is not None and not replace:
            raise EntryExists(_join(new_parent, new_name))
        if not (old_parent.rights & Rights.WRITE and new_parent.rights & Rights.WRITE):
            raise AccessDenied(inode.path())
        if target is not None and target.is_dir != inode.is_dir:
            raise IsADirectory(target.path()) if target.is_dir else NotADirectory(target.path())
        if inode.staged is not None and inode.staged.attempted is not None:
            await self._writes.sync(inode)  # an upload whose end is not known: find out before the name changes
        numbers = [inode.number] if target is None else [inode.number, target.number]
        async with self._writes.placing.hold(*numbers):
            moved = self._writes.moving(inode)
            try:
                await self._place(inode, target, new_parent, new_name)
            except BaseException:
                await moved()
                raise
            if target is not None:
                self._vanish(new_parent, target)
            self._listings.remove(old_parent, inode)
            self._table.move(inode, new_parent, new_name)
            inode.kernel_entry = None
            self._listings.insert(new_parent, inode)
            await moved()

    async def _place(self, inode: Inode, target: Inode | None, new_parent: Inode, new_name: bytes) -> None:
        """Bring the NAS in step with a rename."""
        source, dest = inode.path(), _join(new_parent, new_name)
        staged = inode.staged
        if target is not None and target.is_dir:
            await self._remove_folder(target)
            target = None
        if staged is not None and staged.base is None:
            # Never uploaded: the rename is ours alone, and the upload replaces what is there now.
            if target is not None:
                await self._writes.take_over(staged, await self._version_on_nas(target))
                await self._let_go(target)
            return
        if target is not None:
            await self._let_go(target)
        await self.mover.move(source, dest, replace=target is not None)

    async def _version_on_nas(self, target: Inode) -> Fingerprint | None:
        return target.staged.base if target.staged is not None else target.fingerprint

    async def _let_go(self, target: Inode) -> None:
        """A file is about to be replaced: what is staged for it is not sent, what is open is kept readable."""
        staged = target.staged
        handles_open = target.opens > (1 if staged is not None else 0)
        if staged is None:
            return  # who has it open reads what is in memory, and is told "stale file handle" about the rest
        if handles_open and not staged.complete:
            await staged.fetch_missing(lambda offset, length: self._writes.base(target, staged, offset, length))
        staged.unlinked = True
        self._writes.queue.discard(target)
        if not handles_open:
            await self._writes.drop(target)

    # ----- checks -----------------------------------------------------------------------------------------------

    async def _find(self, parent: Inode, name: bytes) -> Inode:
        inode = await self._look(parent, name)
        if inode is None:
            raise NoEntry(_join(parent, name))
        return inode

    async def _look(self, parent: Inode, name: bytes) -> Inode | None:
        listing = await self._listings.begin(parent)
        while True:
            inode = listing.by_name.get(name)
            if inode is not None and not inode.gone:
                return inode
            if not await self._listings.more(listing):
                return None

    async def _need_free(self, parent: Inode, name: bytes) -> None:
        if await self._look(parent, name) is not None:
            raise EntryExists(_join(parent, name))

    def _check_name(self, parent: Inode, name: bytes) -> None:
        if not parent.is_dir:
            raise NotADirectory(parent.path())
        if parent.path() == "/":
            raise AccessDenied("shares are made in the NAS's control panel")
        if name.startswith(HIDDEN_PREFIX):
            raise InvalidArgument(f"{remote_name(name)}: names that begin with .synofs- are synofs's own")


def _join(parent: Inode, name: bytes) -> str:
    return f"{parent.path().rstrip('/')}/{remote_name(name)}"
