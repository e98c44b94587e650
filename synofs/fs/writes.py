"""Writing: staged content of inodes, and when it goes to the NAS.

An inode with `staged` set is dirty: its content, size and mtime are the staged file's, whatever the NAS says. It
stays dirty until the NAS has exactly this content and nobody has it open for writing.

Two modes, by name. *durable*: close and fsync wait until the NAS has the file, and report why not. *writeback*:
close waits for the local disk only; fsync still waits for the NAS.

Locks (fs/locks.py), by inode number: `staging` while an inode becomes dirty; `placing` while its place or content on
the NAS changes (upload, rename, unlink). Order: staging before placing; never two of a kind except in ascending
order of numbers.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum

import trio

from synofs.content.put import Placed, PutOptions, Putter
from synofs.content.reader import Reader
from synofs.content.staging import StagedFile, StagingArea
from synofs.content.writeback import Outcome, Writeback, WritebackOptions
from synofs.fs.attributes import Attributes
from synofs.fs.confirm import Confirmer
from synofs.fs.errors import AccessDenied, NoEntry
from synofs.fs.inodes import Inode, InodeTable
from synofs.fs.leftovers import Leftovers
from synofs.fs.listing import Notifier
from synofs.fs.listings import Listings
from synofs.fs.locks import NumberedLocks
from synofs.fs.names import printable, remote_name
from synofs.remote import (
    CertificateRefused,
    Changed,
    Fingerprint,
    NotFound,
    RemoteError,
    RemoteStore,
    Rights,
    SignInRefused,
)

log = logging.getLogger(__name__)


class WriteMode(Enum):
    DURABLE = "durable"
    WRITEBACK = "writeback"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    client: str  # names this machine and mount in hidden names on the NAS: letters, digits, dashes
    hostname: str
    mode: WriteMode = WriteMode.DURABLE
    in_flight: int = 200  # files at once between "due" and "proved"; how many are sent at once is the store's limit
    verify_md5: bool = False
    linger_seconds: float = 0.5  # writeback: time for a rename or utimens that follows a close
    patience_seconds: float = 30.0  # close and fsync give up after so long without a success
    check_seconds: float = 60.0  # how long a folder that may be written to is believed to stay so


class Writes:
    def __init__(
        self,
        table: InodeTable,
        listings: Listings,
        attributes: Attributes,
        store: RemoteStore,
        reader: Reader,
        notifier: Notifier,
        staging: StagingArea,
        options: WriteOptions,
    ) -> None:
        self._table = table
        self._listings = listings
        self._attributes = attributes
        self._store = store
        self._reader = reader
        self._notifier = notifier
        self._options = options
        self.area = staging
        self.leftovers = Leftovers(store, staging)
        durable = options.mode is WriteMode.DURABLE
        self._confirmer = Confirmer(store, gather_seconds=0.0 if durable else options.linger_seconds / 2)
        put_options = PutOptions(options.client, options.hostname, options.verify_md5)
        self._putter = Putter(store, put_options, self.leftovers, self._confirmer.look)
        self.queue: Writeback[Inode] = Writeback(
            self._send, _is_temporary, self._refused, WritebackOptions(in_flight=options.in_flight)
        )
        self._local: dict[int, dict[bytes, Inode]] = {}  # directory number -> dirty files in it
        self._writable_until: dict[int, float] = {}  # directory number -> until when CheckPermission is believed
        self._staging = NumberedLocks()
        self.placing = NumberedLocks()
        self.conflicts: list[tuple[str, str]] = []  # (path, where our version went)
        self.refusals: list[tuple[str, str]] = []  # (path, why)
        listings.local_names = self.local_names

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Recover what an earlier run left, report as started, then send until cancelled."""
        async with trio.open_nursery() as nursery:
            recovered = await self.area.open()
            self._table.given_mtimes = await self.area.run(self.area.journal.mtimes)
            for staged in recovered:
                self._attach_recovered(staged)
            nursery.start_soon(self._confirmer.run)
            nursery.start_soon(self.leftovers.run, self._putter, lambda: self.queue.unsent() > 0)
            await nursery.start(self.queue.run)
            task_status.started()
            await trio.sleep_forever()

    @property
    def durable(self) -> bool:
        return self._options.mode is WriteMode.DURABLE

    # ----- becoming dirty ---------------------------------------------------------------------------------------

    async def begin_new(self, parent: Inode, name: bytes) -> Inode:
        """A new, empty, unsent file. The caller has checked that the name is free."""
        await self._check_folder(parent, name)
        inode = self._table.obtain(parent, name, is_dir=False)
        async with self._staging.hold(inode.number):
            path = f"{parent.path().rstrip('/')}/{remote_name(name)}"
            staged = await self.area.stage(path, None, empty=True)
            staged.generation += 1  # even an empty file is to be sent
            inode.rights = Rights.ALL & ~Rights.EXECUTE  # as most files; the NAS's own answer follows
            self._attach(inode, staged)
            self._listings.insert(parent, inode)
        return inode

    async def begin(self, inode: Inode, *, empty: bool) -> StagedFile:
        """The staged content of an inode, begun if it is clean. `empty`: nothing of the old content is kept."""
        async with self._staging.hold(inode.number):
            staged = inode.staged
            if staged is None:
                if not inode.rights & Rights.WRITE:
                    raise AccessDenied(inode.path())
                if inode.gone:
                    raise NoEntry(inode.path())
                staged = await self.area.stage(inode.path(), inode.fingerprint, empty=empty)
                self._attach(inode, staged)
                if empty:
                    staged.generation += 1
                    self.show(inode)
            elif empty and staged.size:
                await staged.truncate(0)
                self.show(inode)
            return staged

    def _attach(self, inode: Inode, staged: StagedFile) -> None:
        inode.staged = staged
        inode.gone = False
        inode.shown_mtime_ns = None
        inode.opens += 1
        self._pin_parents(inode, 1)
        if inode.parent is not None:
            self._local.setdefault(inode.parent.number, {})[inode.name] = inode
        self.queue.add(inode, inode.path())
        if staged.base is None:
            self.show(inode)

    def _attach_recovered(self, staged: StagedFile) -> None:
        root = self._table.root.path().rstrip("/")
        parts = staged.path.removeprefix(root + "/").encode("utf-8", "surrogateescape").split(b"/")
        directory = self._table.root
        for part in parts[:-1]:
            directory = self._table.obtain(directory, part, is_dir=True)
            if not directory.rights:
                directory.rights = Rights.ALL
                directory.checked_at = float("-inf")
        inode = self._table.obtain(directory, parts[-1], is_dir=False)
        inode.rights = Rights.ALL
        staged.generation += 1
        self._attach(inode, staged)
        self.show(inode)
        self.queue.enqueue(inode, inode.path())

    def _detach(self, inode: Inode) -> None:
        """The inode is clean again, or nobody wants its content."""
        inode.staged = None
        self.forget_local(inode)
        self._pin_parents(inode, -1)
        inode.opens -= 1
        inode.kernel_entry = None
        self._table.release(inode)

    def forget_local(self, inode: Inode) -> None:
        if inode.parent is None:
            return
        names = self._local.get(inode.parent.number, {})
        if names.get(inode.name) is inode:
            del names[inode.name]
            if not names:
                del self._local[inode.parent.number]

    def _pin_parents(self, inode: Inode, count: int) -> None:
        """Paths of unsent files come from the chain of their parents: it must not be taken apart."""
        node = inode.parent
        while node is not None:
            node.opens += count
            node = node.parent

    def moving(self, inode: Inode) -> Callable[[], Awaitable[None]]:
        """Call before an inode or a folder gets another place, and what this returns after it."""
        below = self.staged_below(inode)
        for other in below:
            self._pin_parents(other, -1)
            self.forget_local(other)

        async def moved() -> None:
            for other in below:
                self._pin_parents(other, 1)
                if other.parent is not None:
                    self._local.setdefault(other.parent.number, {})[other.name] = other
                if other.staged is not None:
                    other.staged.path = other.path()
            await self.area.moved([other.staged for other in below if other.staged is not None])

        return moved

    def staged_below(self, inode: Inode) -> list[Inode]:
        """Dirty inodes at and below this one."""
        found = []
        for entry in self.queue.entries:
            node: Inode | None = entry.item
            while node is not None and node is not inode:
                node = node.parent
            if node is not None:
                found.append(entry.item)
        return found

    def local_names(self, directory: Inode) -> dict[bytes, Inode]:
        return self._local.get(directory.number, {})

    async def _check_folder(self, parent: Inode, name: bytes) -> None:
        """Refuse early what the NAS would refuse at the upload. One question per folder and minute."""
        if not parent.rights & Rights.WRITE:
            raise AccessDenied(parent.path())
        if trio.current_time() < self._writable_until.get(parent.number, float("-inf")):
            return
        try:
            await self._store.check_writable(parent.path(), remote_name(name))
        except RemoteError as error:
            if not error.temporary or self.durable:
                raise
        if len(self._writable_until) > 10_000:
            self._writable_until.clear()
        self._writable_until[parent.number] = trio.current_time() + self._options.check_seconds

    # ----- content ----------------------------------------------------------------------------------------------

    async def read(self, inode: Inode, staged: StagedFile, offset: int, length: int) -> bytes | memoryview:
        return await staged.read(offset, length, lambda o, n: self.base(inode, staged, o, n))

    async def write(self, inode: Inode, offset: int, data: bytes, *, append: bool) -> None:
        staged = inode.staged or await self.begin(inode, empty=False)
        await staged.write(staged.size if append else offset, data)
        self.show(inode)

    async def truncate(self, inode: Inode, size: int) -> None:
        staged = inode.staged or await self.begin(inode, empty=size == 0)
        if staged.size != size:
            await staged.truncate(size)
        self.show(inode)

    async def set_mtime(self, inode: Inode, mtime_ns: int) -> None:
        """A time for a dirty file goes with its upload. A file that is on the NAS already keeps its time there
        (nothing in the API can change it); the given one is remembered here and shown for this version."""
        staged = inode.staged
        if staged is not None:
            await staged.set_mtime(mtime_ns)
            self.show(inode)
            return
        shown = mtime_ns // 10**9 * 10**9
        path, version = inode.path(), inode.fingerprint
        if shown == inode.mtime_ns:
            inode.shown_mtime_ns = None
            if self._table.given_mtimes.pop(path, None) is not None:
                await self.area.run(self.area.journal.drop_mtime, path)
        else:
            inode.shown_mtime_ns = shown
            self._table.given_mtimes[path] = (version, shown)
            await self.area.run(self.area.journal.set_mtime, path, version, shown)
        inode.kernel_entry = None

    def show(self, inode: Inode) -> None:
        """The inode's attributes are the staged file's."""
        staged = inode.staged
        if staged is not None:
            inode.size, inode.mtime_ns = staged.fingerprint
            inode.ctime_ns = inode.mtime_ns
            inode.checked_at = trio.current_time()
            inode.kernel_entry = None

    async def base(self, inode: Inode, staged: StagedFile, offset: int, length: int) -> bytes | memoryview:
        assert staged.base is not None
        reader = self._reader.open(inode.number, staged.base, inode.path)
        try:
            data = await reader.read(offset, length)
        finally:
            reader.close()
        if len(data) != length:
            raise Changed("the file is shorter on the NAS than it was", path=inode.path())
        return data

    # ----- sending ----------------------------------------------------------------------------------------------

    async def closing(self, inode: Inode) -> None:
        """A handle is being closed. durable: wait for the NAS. writeback: wait for the local disk."""
        staged = inode.staged
        if staged is None or staged.unlinked or staged.sent_generation == staged.generation:
            return
        if self.durable:
            await self._send_and_wait(inode)
        else:
            await staged.seal()
            self.queue.enqueue(inode, inode.path(), linger_seconds=self._options.linger_seconds)

    async def sync(self, inode: Inode) -> None:
        """fsync: the NAS has it when this returns."""
        staged = inode.staged
        if staged is None or staged.unlinked or staged.sent_generation == staged.generation:
            return
        await staged.seal()
        await self._send_and_wait(inode)

    async def changed_by_path(self, inode: Inode) -> None:
        """truncate(2) or utimens(2) on a file that nobody has open: no close will follow."""
        if inode.writers == 0:
            await self.closing(inode)

    async def released(self, inode: Inode) -> None:
        """The last writer has gone."""
        staged = inode.staged
        if staged is None or inode.writers:
            return
        if staged.unlinked:
            await self.drop(inode)
        elif staged.sent_generation != staged.generation:
            await staged.seal()
            self.queue.enqueue(inode, inode.path())
        else:
            async with self.placing.hold(inode.number):
                if inode.staged is staged and not inode.writers and staged.sent_generation == staged.generation:
                    await self._finish(inode, staged)

    async def _send_and_wait(self, inode: Inode) -> None:
        with self._confirmer.urgent():
            self.queue.enqueue(inode, inode.path())
            await self.queue.settle(inode, patience_seconds=self._options.patience_seconds)

    async def drop(self, inode: Inode) -> None:
        """Forget the staged content for good: the file was unlinked."""
        staged = inode.staged
        if staged is not None:
            self.queue.discard(inode)
            self._detach(inode)
            await self.area.done(staged)

    async def take_over(self, staged: StagedFile, version: Fingerprint | None) -> None:
        """The file is to replace this version on the NAS."""
        await staged.rebase(version)
        staged.generation += 1

    async def drain(self) -> None:
        """Wait until everything that was closed is on the NAS."""
        for entry in self.queue.entries:
            if entry.item.staged is not None and not entry.item.writers:
                self.queue.enqueue(entry.item, entry.name)
        with self._confirmer.urgent():
            await self.queue.drain()

    async def _send(self, inode: Inode) -> Outcome:
        async with self.placing.hold(inode.number):
            staged = inode.staged
            if staged is None or staged.unlinked:
                return Outcome.CLEAN
            if staged.sent_generation != staged.generation and await self._put(inode, staged):
                return Outcome.CLEAN
            if staged.sent_generation != staged.generation:
                return Outcome.DIRTY if inode.writers else Outcome.AGAIN
            if inode.writers:
                return Outcome.DIRTY
            await self._finish(inode, staged)
            return Outcome.CLEAN

    async def _put(self, inode: Inode, staged: StagedFile) -> bool:
        """One attempt. Returns True when it ended in a conflict copy and the inode is clean."""
        try:
            await staged.fetch_missing(lambda o, n: self.base(inode, staged, o, n))
        except NotFound as error:
            raise _BaseLost("it was removed on the NAS before the rest of it could be fetched") from error
        except Changed:
            await self._complete_from_theirs(inode, staged)
        source = await staged.freeze()
        generation, data_name = staged.generation, staged.data_name
        size, mtime_ns = staged.size, staged.effective_mtime_ns
        try:
            placed = await self._putter.put(staged, inode.path(), source, size, mtime_ns)
        finally:
            source.close()
            with trio.CancelScope(shield=True):
                await staged.unfreeze(data_name)
        await staged.note_attempt(None)
        if placed.conflict:
            return await self._conflicted(inode, staged, placed, generation)
        staged.sent_generation = generation
        await staged.rebase(placed.fingerprint)
        return False

    async def _complete_from_theirs(self, inode: Inode, staged: StagedFile) -> None:
        """The version that the edit started from is gone. The bytes written here are kept in any case; around them
        stands what the NAS has now, and since the versions differ, the put ends in a conflict copy."""
        path = inode.path()
        entry = (await self._store.get_entries([path]))[0]
        if entry is None:
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

    async def _finish(self, inode: Inode, staged: StagedFile) -> None:
        """The NAS has it: the inode is clean from here on."""
        assert staged.base is not None
        self._show_version(inode, staged.base)
        inode.own_version = inode.kernel_cached = staged.base
        await self._reader.forget(inode.number, staged.base, inode.path())
        if inode.parent is not None:
            self._listings.insert(inode.parent, inode)
        self.queue.discard(inode)
        self._detach(inode)
        if self._table.given_mtimes.pop(inode.path(), None) is not None:
            await self.area.run(self.area.journal.drop_mtime, inode.path())
        await self.area.done(staged)

    def _show_version(self, inode: Inode, version: Fingerprint) -> None:
        inode.size, inode.mtime_ns = version
        inode.checked_at = trio.current_time()
        inode.kernel_entry = None

    async def _conflicted(self, inode: Inode, staged: StagedFile, placed: Placed, generation: int) -> bool:
        path = inode.path()
        self.conflicts.append((path, placed.path))
        log.warning(
            "%s: somebody else changed it meanwhile; their version keeps the name, yours is %s",
            printable(path),
            printable(placed.path),
        )
        if inode.parent is not None:
            self._listings.expire(inode.parent)
        if staged.generation != generation:
            return False
        self.queue.discard(inode)
        self._detach(inode)
        inode.checked_at = float("-inf")
        self._notifier.content_changed(inode)
        await self.area.done(staged)
        return True

    async def _refused(self, inode: Inode, error: Exception) -> None:
        async with self.placing.hold(inode.number):
            staged = inode.staged
            if staged is not None:
                await self._keep_refused(inode, staged, error)

    async def _keep_refused(self, inode: Inode, staged: StagedFile, error: Exception) -> None:
        path = inode.path()
        kept = await self.area.refuse(staged, str(error))
        self.refusals.append((path, str(error)))
        log.error("%s: refused by the NAS (%s); what was written is kept in %s", printable(path), error, kept)
        self._detach(inode)
        inode.checked_at = float("-inf")
        if staged.base is None and inode.parent is not None:
            self._listings.remove(inode.parent, inode)
            inode.gone = True
            self._notifier.entry_gone(inode.parent, inode)
        else:
            self._notifier.content_changed(inode)

    def counters(self) -> dict[str, int]:
        return {
            "pending_uploads": sum(
                entry.item.staged is not None and entry.item.staged.sent_generation != entry.item.staged.generation
                for entry in self.queue.entries
            ),
            "failed_uploads": len(self.area.refused),
            "conflicts": len(self.conflicts),
            "dirty_bytes": self.area.budget.dirty_bytes,
        }


class _BaseLost(RemoteError):
    """An edit whose other half is gone from the NAS: nothing can be sent under the name."""


def _is_temporary(error: Exception) -> bool:
    """May the upload succeed later? What needs a person's hand at the account is waited for, too: the file is fine."""
    if isinstance(error, SignInRefused | CertificateRefused | Changed):
        return True
    if isinstance(error, RemoteError):
        return error.temporary
    return True  # a bug or the local disk: never give a file up for that
