"""Writing: staged content of inodes, and when it goes to the NAS.

An inode with `staged` set is dirty: its content, size and mtime are the staged file's, whatever the NAS says. It
stays dirty until the NAS has exactly this content and nobody has it open for writing.

Two modes, by name. *durable*: close and fsync wait until the NAS has the file, and report why not. *writeback*:
close waits for the local disk only; fsync still waits for the NAS.

Locks (fs/locks.py), by inode number: `staging` while an inode becomes dirty; `placing` while its place or content on
the NAS changes (upload, rename, unlink). Order: staging before placing; never two of a kind except in ascending
order of numbers. The whole story is in docs/CONCURRENCY.md.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

import trio

from synofs.content.errors import StagedFileClosed
from synofs.content.journal import Changes
from synofs.content.put import PutOptions, Putter
from synofs.content.reader import Reader
from synofs.content.sendahead import SendAhead, SendAheadOptions
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.writeback import Writeback, WritebackOptions
from synofs.fs.confirm import Confirmer
from synofs.fs.dirty import DirtyFiles
from synofs.fs.errors import AccessDenied, NoEntry
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.leftovers import Leftovers
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.fs.locks import NumberedLocks
from synofs.fs.names import HIDDEN_PREFIX, printable, remote_name
from synofs.fs.patience import Patience, PatienceOptions
from synofs.fs.space import SpaceCache
from synofs.fs.uploads import Uploads, is_temporary, version_of
from synofs.remote import Fingerprint, NoSpace, RemoteError, RemoteStore, Rights

log = logging.getLogger(__name__)


class WriteMode(Enum):
    DURABLE = "durable"
    WRITEBACK = "writeback"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    client: str  # names this machine and mount in hidden names on the NAS: letters, digits, dashes
    hostname: str
    mode: WriteMode = WriteMode.DURABLE
    in_flight: int = 1000  # files at once between "due" and "proved"; how many are sent at once is the store's limit
    verify_md5: bool = False
    linger_seconds: float = 0.5  # writeback: time for a rename or utimens that follows a close
    patience_seconds: float = 30.0  # close and fsync give up after so long without a success
    check_seconds: float = 60.0  # how long a folder that may be written to is believed to stay so
    sendahead: SendAheadOptions = field(default_factory=SendAheadOptions)  # durable only: nobody else waits
    silent_seconds: float = 60.0  # a change is given up when the NAS has shown no sign of life for so long


class Writes:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        store: RemoteStore,
        reader: Reader,
        notifier: Notifier,
        staging: StagingArea,
        space: SpaceCache,
        options: WriteOptions,
    ) -> None:
        self._table = table
        self._listings = listings
        self._store = store
        self._notifier = notifier
        self._space = space
        self._options = options
        self.area = staging
        self.leftovers = Leftovers(store, staging, options.client)
        gather_seconds = 0.0 if self.durable else options.linger_seconds / 2
        self._confirmer = Confirmer(store, gather_seconds)
        put_options = PutOptions(options.hostname, options.verify_md5)
        putter = Putter(store, put_options, self.leftovers.uploads, self._confirmer.look)
        self.queue: Writeback[Inode] = Writeback(
            lambda inode: self.uploads.send(inode),
            is_temporary,
            lambda inode, error: self.uploads.refused(inode, error),
            WritebackOptions(in_flight=options.in_flight),
        )
        self._sendahead = SendAhead(
            store, self.leftovers.uploads, self.leftovers.hidden_file, self._may_send_ahead, options.sendahead
        )
        self.dirty = DirtyFiles(table, self.queue)
        self.placing = NumberedLocks()
        self.patience = Patience(PatienceOptions(options.silent_seconds))
        self._staging = NumberedLocks()
        self._moves_settled = trio.Event()
        self.uploads = Uploads(table, listings, store, reader, notifier, staging, self.dirty, putter, self.placing)
        self._writable_until: dict[int, float] = {}  # directory number -> until when CheckPermission is believed
        listings.overlay.unsent = self.dirty.local_names
        listings.overlay.passing = lambda directory: self.leftovers.passing(directory.path())
        listings.overlay.hidden_found = lambda directory, entry: self.leftovers.found(directory.path(), entry)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover what an earlier run left, report as started, then send until cancelled. Nothing is sent before
        `moves_settled`: where unsent files belong depends on renames that were not finished."""
        self.queue.pause()
        async with trio.open_nursery() as nursery:
            recovered = await self.area.open()
            self._table.given_mtimes = await self.area.run(self.area.journal.mtimes)
            for staged in recovered:
                await self._attach_recovered(staged)
            nursery.start_soon(self.area.serve)
            nursery.start_soon(self._confirmer.run)
            if self.durable:
                await nursery.start(self._sendahead.run)
            await nursery.start(self.patience.run)
            await nursery.start(self.queue.run)
            task_status.started()
            await trio.sleep_forever()

    @property
    def durable(self) -> bool:
        return self._options.mode is WriteMode.DURABLE

    @property
    def patience_seconds(self) -> float:
        return self._options.patience_seconds

    @property
    def conflicts(self) -> list[tuple[str, str]]:
        return self.uploads.conflicts

    @property
    def refusals(self) -> list[tuple[str, str]]:
        return self.uploads.refusals

    # ----- becoming dirty ---------------------------------------------------------------------------------------

    async def begin_new(self, parent: Inode, name: bytes) -> Inode:
        """A new, empty, unsent file. The caller has checked that the name is free."""
        await self._check_folder(parent, name)
        inode = self._table.obtain(parent, name, is_dir=False)
        try:
            async with self._staging.hold(inode.number):
                path = f"{parent.path().rstrip('/')}/{remote_name(name)}"
                staged = await self.area.stage(path, None, empty=True)
                staged.begun()
                inode.rights = Rights.ALL & ~Rights.EXECUTE  # as most files; the NAS's own answer follows
                await self._attach(inode, staged)
                self._listings.insert(parent, inode)
        finally:
            self._table.release(inode)  # should it not have been begun
        return inode

    async def begin(self, inode: Inode, *, empty: bool, version: Fingerprint | None = None) -> StagedFile:
        """The staged content of an inode, begun if it is clean. `empty`: nothing of the old content is kept.
        `version`: the one that the edit starts from, if it is not the one on the NAS any more."""
        async with self._staging.hold(inode.number):
            staged = inode.staged
            if staged is None:
                staged = await self._begin(inode, empty, version)
            elif empty:
                if staged.size:
                    await staged.truncate(0)
                staged.begun()
                self.dirty.show(inode)
            return staged

    async def _begin(self, inode: Inode, empty: bool, version: Fingerprint | None) -> StagedFile:
        if not inode.rights & Rights.WRITE:
            raise AccessDenied(inode.path())
        was_gone = inode.gone
        if was_gone and inode.opens == 0:
            raise NoEntry(inode.path())
        base, md5 = version_of(inode) if version is None else (version, None)
        # Unlinked here: who has it open writes for himself. Removed on the NAS by somebody else: the edit is kept.
        unlinked = was_gone and inode.name.startswith(HIDDEN_PREFIX)
        staged = await self.area.stage(inode.path(), base, empty=empty, base_md5=md5, unlinked=unlinked)
        await self._attach(inode, staged)
        if was_gone and not unlinked and inode.parent is not None:
            self._listings.insert(inode.parent, inode)
            self._notifier.entry_appeared(inode.parent, inode.name)
        if empty:
            staged.begun()
            self.dirty.show(inode)
        return staged

    async def _attach(self, inode: Inode, staged: StagedFile) -> None:
        self.dirty.attach(inode, staged)
        if staged.base is None:
            self.dirty.show(inode)
        if staged.path != inode.path():  # its folder got another name while the journal was written
            staged.path = inode.path()
            staged.relabel()
            await self.area.moved(None, Changes({staged.id: {"path": staged.path}}))

    async def _attach_recovered(self, staged: StagedFile) -> None:
        root = self._table.root.path().rstrip("/")
        parts = staged.path.removeprefix(root + "/").encode("utf-8", "surrogateescape").split(b"/")
        directory = self._table.root
        for part in parts[:-1]:
            directory = self._table.obtain(directory, part, is_dir=True)
            if not directory.rights:
                directory.rights = Rights.ALL
                directory.checked_at = float("-inf")
        inode = self._table.obtain(directory, parts[-1], is_dir=False)
        if inode.staged is not None:  # two of one path: the newer one counts, the other is kept for a person
            older = self.dirty.detach(inode)
            assert older is not None
            kept = await self.area.refuse(older, "a newer unsent version of the same file was found")
            log.warning("%s: two unsent versions were found; the older one is kept in %s", printable(staged.path), kept)
        inode.rights = Rights.ALL
        staged.generation += 1
        self.dirty.attach(inode, staged)
        self.dirty.show(inode)
        self.queue.enqueue(inode, inode.path())

    async def _check_folder(self, parent: Inode, name: bytes) -> None:
        """Refuse early what the NAS would refuse at the upload. One question per folder and minute."""
        if not parent.rights & Rights.WRITE:
            raise AccessDenied(parent.path())
        if self.knows_folder(parent):
            return  # in durable mode the upload itself will tell, and close reports it
        try:
            await self._store.check_writable(parent.path(), remote_name(name))
        except RemoteError as error:
            if not error.temporary:
                raise
        if len(self._writable_until) > 10_000:
            self._writable_until.clear()
        self._writable_until[parent.number] = trio.current_time() + self._options.check_seconds

    def knows_folder(self, parent: Inode, for_seconds: float = 0.0) -> bool:
        """May a file be begun in it without asking the NAS?"""
        until = self._writable_until.get(parent.number, float("-inf"))
        return self.durable or trio.current_time() + for_seconds < until

    def name_is_taken(self, directory: Inode, name: bytes) -> None:
        """The kernel believes that nothing is there, and shall ask."""
        self._notifier.entry_appeared(directory, name)

    def made_here(self, directory: Inode) -> None:
        """A folder that was just made here can be written to."""
        self._writable_until[directory.number] = trio.current_time() + self._options.check_seconds

    def _check_room(self, grow_bytes: int) -> None:
        """In writeback mode nobody is there to be told later that the volume was full."""
        space = self._space.last_known()
        if not self.durable and space.total_bytes and self.area.budget.dirty_bytes + grow_bytes > space.free_bytes:
            raise NoSpace(f"{space.free_bytes:,} bytes are free on the NAS, and more than that would wait for it")

    def _may_send_ahead(self, size: int) -> bool:
        """What was sent in vain lies on the NAS until it tidies up: room for twice as much has to be there."""
        space = self._space.last_known()
        return not self.queue.paused and (not space.total_bytes or 2 * size <= space.free_bytes)

    # ----- content ----------------------------------------------------------------------------------------------

    async def read(self, inode: Inode, staged: StagedFile, offset: int, length: int) -> bytes | memoryview:
        """Raises `StagedFileClosed` if it was sent meanwhile: then read the inode's version."""
        return await staged.read(offset, length, lambda o, n: self.uploads.base(inode, staged, o, n))

    async def write(
        self, inode: Inode, offset: int, data: bytes, *, append: bool, version: Fingerprint | None = None
    ) -> None:
        """`version`: what the writer has seen, if that is not the present one."""
        while True:
            staged = inode.staged or await self.begin(inode, empty=False, version=version)
            end = staged.size + len(data) if append else offset + len(data)
            if end > staged.size:
                self._check_room(end - staged.size)
            try:
                await staged.write(None if append else offset, data)
                break
            except StagedFileClosed:
                await trio.lowlevel.checkpoint()  # sent, or put aside, while we waited: begin anew
        self.dirty.show(inode)
        self._sendahead.grew(staged)

    async def truncate(self, inode: Inode, size: int, version: Fingerprint | None = None) -> None:
        """`version`: as for `write`."""
        while True:
            if inode.staged is None and inode.size == size and version is None:
                return
            staged = inode.staged or await self.begin(inode, empty=size == 0, version=version)
            try:
                if size > staged.size:
                    self._check_room(size - staged.size)
                if staged.size != size:
                    await staged.truncate(size)
                break
            except StagedFileClosed:
                await trio.lowlevel.checkpoint()
            except BaseException:
                if not inode.writers and not self.queue.is_coming(inode):  # no close will follow
                    self._enqueue(inode)
                raise
        self.dirty.show(inode)

    async def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """A time for a dirty file goes with its upload. A file that is on the NAS already keeps its time there
        (nothing in the API can change it); the given one is remembered here and shown for this version."""
        staged = inode.staged
        if staged is not None:
            await staged.set_mtime(mtime_ns)
            self.dirty.show(inode)
            return
        shown = mtime_ns // 10**9 * 10**9
        path, version = inode.path(), inode.fingerprint
        inode.kernel_entry = None
        if shown == inode.mtime_ns:
            inode.shown_mtime_ns = None
            self.forget_time(path)
        else:
            inode.shown_mtime_ns = shown
            self._table.given_mtimes[path] = (version, shown)
            await self.area.run(self.area.journal.set_mtime, path, version, shown)

    # ----- closing ----------------------------------------------------------------------------------------------

    async def closing(self, inode: Inode) -> None:
        """A handle is being closed. durable: wait for the NAS. writeback: wait for the local disk.

        A file that was made or emptied by open(2) and not written to since is not sent yet: shells close a duplicate
        first (`> file`), and an empty file must not come between the old content and the new. It is sent when its last
        handle is closed.
        """
        staged = inode.staged
        if staged is None or not staged.to_be_sent:
            return
        if staged.generation == staged.begun_generation:
            await staged.seal()
        elif self.durable:
            await self._send_and_wait(inode)
        else:
            try:
                await staged.seal()
            finally:  # a full disk is no reason not to send it
                self._enqueue(inode)

    def _enqueue(self, inode: Inode) -> None:
        """Nobody waits for it: a rename or a change of times that follows at once shall cost no second upload."""
        linger_seconds = 0.0 if self.durable else self._options.linger_seconds
        self.queue.enqueue(inode, inode.path(), linger_seconds=linger_seconds)

    async def sync(self, inode: Inode) -> None:
        """fsync: the NAS has it when this returns."""
        staged = inode.staged
        if staged is not None and staged.to_be_sent:
            await staged.seal()
            await self._send_and_wait(inode)

    async def changed_by_path(self, inode: Inode) -> None:
        """truncate(2) or utimens(2) on a file that nobody has open for writing: no close will follow."""
        staged = inode.staged
        if staged is None or inode.writers:
            return
        if not staged.to_be_sent:
            with self.patience.waiting():
                await self.released(inode)
        else:
            staged.begun_generation = -1
            await self.closing(inode)

    async def released(self, inode: Inode) -> None:
        """The last writer has gone."""
        staged = inode.staged
        if staged is None or inode.writers or staged.unlinked:
            return
        if staged.to_be_sent:
            try:
                await staged.seal()
            finally:  # a full disk is no reason not to send it
                if not self.queue.is_coming(inode):
                    self._enqueue(inode)
            staged.rest()
            return
        async with self.hold_place(inode.number):
            self.uploads.finish(inode, staged)

    async def _send_and_wait(self, inode: Inode) -> None:
        with self._confirmer.urgent(), self.patience.waiting():
            self.queue.enqueue(inode, inode.path())
            await self.queue.settle(inode, patience_seconds=self._options.patience_seconds)

    @asynccontextmanager
    async def hold_place(self, *numbers: int) -> AsyncIterator[None]:
        """Keep uploads of these inodes away. One that is under way is waited for, and its proof is not put off."""
        async with AsyncExitStack() as stack:
            with self._confirmer.urgent():
                await stack.enter_async_context(self.placing.hold(*numbers))
            yield

    def moves_settled(self) -> None:
        """Renames of an earlier run have come to an end: uploads may begin."""
        self._moves_settled.set()
        self.queue.resume()

    async def drain(self) -> None:
        """Wait until everything that was closed is on the NAS, and renames of an earlier run have come to an end."""
        await self._moves_settled.wait()
        for entry in self.queue.entries:
            if entry.item.staged is not None and not entry.item.writers:
                self.queue.enqueue(entry.item, entry.name)
        with self._confirmer.hurried():
            await self.queue.drain()

    # ----- the end ------------------------------------------------------------------------------------------------

    async def drop(self, inode: Inode) -> None:
        """Forget the staged content for good: the file was unlinked, and its last handle is closed."""
        staged = self.dirty.detach(inode)
        if staged is not None:
            await self.area.drop(staged)

    async def forget(self, inode: Inode, staged: StagedFile, *, keep: bool, journaled: bool = False) -> None:
        """The name is gone, and `dirty.unlink` was called: nothing is to be sent. `keep`: somebody has the file open.
        `journaled`: the journal has dropped its row already."""
        await self.area.disown(staged, journaled=journaled)
        if not keep and inode.staged is staged:
            await self.drop(inode)

    def forget_time(self, path: str) -> None:
        """A time that was given to a file on the NAS means nothing any more."""
        if self._table.given_mtimes.pop(path, None) is not None:
            self.area.drop_mtime(path)

    def counters(self) -> dict[str, int]:
        return {
            "pending_uploads": sum(
                entry.item.staged is not None and entry.item.staged.to_be_sent for entry in self.queue.entries
            ),
            "failed_uploads": len(self.area.still_refused()),
            "conflicts": len(self.conflicts),
            "dirty_bytes": self.area.budget.dirty_bytes,
        }
