"""Unsent files on the local disk: their beginning and their end.

Crash safety, in the order of steps:

1. the data file is created, and the journal row committed; the row of a file that is new or was emptied comes later,
   with those of others, because step 2 says as much;
2. the data file is labelled, so that it can be adopted without a journal; only then is the first write acknowledged
   (up to here nothing has waited for the disk: it survives SIGKILL, and a loss of power once step 4 is done);
3. a write to an incomplete file is followed by a record in its range log, so that recovery knows which bytes are
   ours; a torn record at the end belongs to a write that was not acknowledged;
4. `seal` (close, fsync) makes data, range log and row durable; of the row its label will do, if that says as much;
5. at the end the row goes first, and the data file when that is durable: a row without bytes is a loss to report.
   Bytes without a row are adopted, unless their label says that nobody wants them. Where the local disk is too full
   for the journal to forget a row, the data file goes all the same: old content must not be sent after a crash.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from synofs.content.budget import BudgetOptions, DiskBudget
from synofs.content.cachedir import CacheDir
from synofs.content.errors import ContentError
from synofs.content.journal import Changes, Journal, Row, new_row
from synofs.content.spares import Spare, Spares
from synofs.content.stagedfile import StagedFile
from synofs.content.stagingdisk import Label, StagingDisk
from synofs.content.stagingrecovery import keep_refused, recover
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

_T = TypeVar("_T")


class StagingArea:
    """All unsent files of a mount, and the only user of the journal."""

    def __init__(self, cache_dir: CacheDir, budget: BudgetOptions) -> None:
        self._disk = StagingDisk(cache_dir, budget)
        self.files: dict[str, StagedFile] = {}
        self._spares = Spares(self._disk)
        self.refused: dict[str, Row] = {}  # kept in the recovery folder

    @property
    def journal(self) -> Journal:
        return self._disk.journal

    @property
    def budget(self) -> DiskBudget:
        return self._disk.budget

    @property
    def folder(self) -> Path:
        """The cache folder, which this mount owns."""
        return self._disk.staging.parent

    @property
    def data_folder(self) -> Path:
        return self._disk.staging

    @property
    def client_id(self) -> str:
        """Names this cache folder's owner: eight hex digits, the same in every run and on no other machine."""
        return self._disk.client_id

    async def run(self, work: Callable[..., _T], *args: object) -> _T:
        """Run short disk work, one at a time and in order. Never abandoned."""
        return await self._disk.run(work, *args)

    async def open(self) -> list[StagedFile]:
        """Open the journal and recover what an earlier run left. The files are to be listed and uploaded."""
        found = await self._disk.alone(lambda: recover(self._disk))
        self.files = {staged.id: staged for staged in found.files}
        self.refused = {row.id: row for row in found.refused}
        return found.files

    async def serve(self) -> None:
        """Forget what is done and make ready what will be needed, behind everybody's back, until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._disk.serve)
            nursery.start_soon(self._spares.serve)

    async def flush(self) -> None:
        """Return when what is done is forgotten."""
        await self._disk.flush()

    async def close(self) -> None:
        for staged in self.files.values():
            await staged.close()
        await self._disk.alone(self.journal.close)

    # ----- beginning ------------------------------------------------------------------------------------------------

    async def stage(
        self, path: str, base: Fingerprint | None, *, empty: bool, base_md5: str | None = None, unlinked: bool = False
    ) -> StagedFile:
        """Begin an unsent file. `empty`: nothing of the base is kept (new, or truncated). `unlinked`: it will never be
        sent, and needs no name. Raises `LocalDiskFull`, `JournalFailed`, `OSError`."""
        complete = empty or base is None or base.size == 0
        kept_bytes = 0 if complete or base is None else base.size
        label_will_do = complete and base_md5 is None and not unlinked
        spare = self._spares.take() if label_will_do else None
        file_id = uuid.uuid4().hex if spare is None else self._disk.file_id(spare.name)
        row = new_row(
            file_id,
            path,
            self._disk.new_data_name(file_id) if spare is None else spare.name,
            size=kept_bytes,
            created=time.time(),
            base=base,
            base_md5=base_md5,
            complete=complete,
        )
        if label_will_do:
            staged = self._begin_labelled(row, spare)
            if staged is not None:
                return staged
        self.budget.reserve(kept_bytes)
        made: list[StagedFile] = []

        def undo() -> None:
            for staged in made:
                staged.close_at_once()
                self._disk.remove(row.data)

        try:
            work = self._create, row, unlinked, made
            staged = await self._disk.run_quickly(*work, after=lambda: self._label(row), instead=undo)
        except BaseException:
            self.budget.give_back(kept_bytes)
            raise
        staged.reserved_bytes = kept_bytes
        self.files[file_id] = staged
        return staged

    def _begin_labelled(self, row: Row, spare: Spare | None) -> StagedFile | None:
        """Its label says all that the row would, and survives as much: the row comes later. None: there are no labels
        on this disk."""
        fd = self._disk.create(row.data) if spare is None else spare.fd
        try:
            if spare is not None:
                os.utime(fd)  # until the first seal that is the file's time
            if self._disk.label(fd, Label(row.path, row.base)):
                staged = StagedFile(self._disk, row, fd, name_synced=spare is not None)
                self._disk.promise(row)
                self.files[row.id] = staged
                return staged
        except BaseException:
            os.close(fd)
            self._disk.remove(row.data)
            raise
        os.close(fd)
        self._disk.remove(row.data)
        return None

    def _create(self, row: Row, unlinked: bool, made: list[StagedFile]) -> StagedFile:
        """It is in `made`, too: should the journal be too full for it in the end, it is to go."""
        disk = self._disk
        fds: list[int] = []
        try:
            # The range log first, and the label only when the row is durable: a file that is found half-begun is never
            # taken for a whole one.
            if not row.complete and not unlinked:
                fds.append(disk.open_log(row.data, create=True))
            fds.insert(0, disk.create(row.data))
            if row.size:
                os.ftruncate(fds[0], row.size)
            staged = StagedFile(disk, row, *fds)
            if unlinked:
                staged.unlinked = True
                disk.remove(row.data)
            else:
                disk.journal.insert(row)
        except BaseException:
            for fd in fds:
                os.close(fd)
            disk.remove(row.data)
            raise
        made.append(staged)
        return staged

    def _label(self, row: Row) -> None:
        self._disk.label(self._disk.data_path(row.data), Label(row.path, row.base, None, row.complete))

    # ----- another place ----------------------------------------------------------------------------------------------

    async def rows_written(self) -> None:
        """Return when the journal knows of every file, at least as it was begun. To be called before labels are changed
        that the journal is to confirm. If it cannot be written, the labels are all there is."""
        try:
            await self._disk.keep_promises()
        except ContentError as error:
            log.warning("the journal does not know of all unsent files yet: %s", error)

    async def moved(self, move: int | None, changes: Changes) -> None:
        """A rename is done: write down all that follows from it, at once."""
        if move is not None or changes.files or changes.gone or changes.renamed is not None:
            await self._disk.run(self.journal.moved, move, changes)

    # ----- the end ----------------------------------------------------------------------------------------------------

    def done(self, staged: StagedFile, keep: Callable[[str], None] = lambda data: None) -> bool:
        """The NAS has it: forget row and bytes, soon and in order. False: it is just being changed. `keep` may give the
        data file another name.

        Until then a crash brings it back, and its upload finds that it had arrived.
        """
        if not staged.end():
            return False
        self.files.pop(staged.id, None)
        self._give_back(staged)
        file_id, data_names = staged.id, (staged.data_name, *staged.take_older())
        keep(self._disk.data_path(staged.data_name))

        def forget() -> None:
            for name in data_names:
                self._disk.label(self._disk.data_path(name), Label(""))
            self.journal.delete(file_id)

        def remove() -> None:
            self._disk.remove(*data_names)

        # On a full disk the row stays, and a file can be removed: a row without one is nothing to be sent.
        self._disk.later(forget, after=remove, instead=remove)
        return True

    def keep_mtime(self, path: str, version: Fingerprint, wanted_ns: int) -> None:
        """A time was given to a file that is on the NAS already."""
        self._disk.later(self.journal.set_mtime, path, version, wanted_ns)

    def drop_mtime(self, path: str) -> None:
        """A time that was given to a file on the NAS is void."""
        self._disk.later(self.journal.drop_mtime, path)

    async def drop(self, staged: StagedFile) -> None:
        """A disowned file's last handle was closed."""
        self.files.pop(staged.id, None)
        await staged.close()
        self._give_back(staged)

    async def disown(self, staged: StagedFile, *, journaled: bool = False) -> None:
        """Nobody shall send it any more, but it is open: it lives on without a name, until `drop`. `journaled`: the
        journal has dropped its row already."""
        staged.unlinked = True
        try:
            if not journaled:
                staged.abandon()
                await self._disk.run(self.journal.delete, staged.id)
        except (ContentError, OSError) as error:  # its row without a data file is nothing to be sent either
            log.warning("%s: the journal cannot forget it yet: %s", staged.path, error)
        try:
            # Whatever becomes of a transaction.
            await self._disk.run_bulk(self._disk.remove, staged.data_name, *staged.take_older())
        except OSError as error:
            log.warning("%s: its bytes stay in the cache folder: %s", staged.path, error)

    async def refuse(self, staged: StagedFile, reason: str) -> str:
        """The NAS refused it for good: keep the bytes in the recovery folder. Returns where."""
        row = await self._disk.run(keep_refused, self._disk, staged, reason)
        self.files.pop(staged.id, None)
        self.refused[row.id] = row
        await staged.close()
        await self._disk.run_bulk(self._disk.remove, *staged.take_older())
        self._give_back(staged)
        return self.kept_as(row)

    def _give_back(self, staged: StagedFile) -> None:
        self.budget.give_back(staged.reserved_bytes)
        staged.reserved_bytes = 0

    def kept_as(self, row: Row) -> str:
        """Where the bytes of a refused file are."""
        return str(self._disk.recovery / row.data)

    def still_refused(self) -> list[Row]:
        """What lies in the recovery folder; a file that somebody has taken out of there is settled."""
        return [row for row in self.refused.values() if os.path.lexists(self.kept_as(row))]
