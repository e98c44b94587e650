"""What the next mount finds on the local disk after a crash, and makes of it. Blocking; runs in the staging thread.

*Row and data file*: an unsent file again; the range log tells which bytes of an edit are ours.

*A data file, or a range log, that is shorter than at the last close or fsync*: the local disk lost bytes that were
acknowledged. What is left is kept in the recovery folder and never sent as if it were whole.

*A second data file of the same row*: what an upload was reading, or a copy that was not finished. The former tells
whether that upload arrived; both go.

*A row without a data file*: somebody removed it, or the crash came while it was moved to the recovery folder.

*A data file without a row*: the journal was lost, or the crash came before the row of a new file was written. It is
adopted, by what the file says of itself, and sent; one that says that nobody wants it, or that says and holds nothing,
is removed.

*A file in the recovery folder without a row*: shown as refused again.
"""

from __future__ import annotations

import logging
import os
import time
import uuid
from dataclasses import dataclass, field, replace
from pathlib import Path

from synofs.content import rangelog
from synofs.content.attempt import Attempt, Sent, attempt_columns, decoded
from synofs.content.digest import md5_of
from synofs.content.errors import StagedFileDamaged
from synofs.content.journal import Row, new_row, rows_of_another
from synofs.content.stagedfile import StagedFile
from synofs.content.stagingdisk import Label, StagingDisk

log = logging.getLogger(__name__)


@dataclass
class Recovered:
    files: list[StagedFile] = field(default_factory=list)  # oldest first
    refused: list[Row] = field(default_factory=list)


def recover(disk: StagingDisk) -> Recovered:
    """Open the journal and make a `StagedFile` of everything that is unsent."""
    disk.journal.open()
    found = Recovered()
    try:
        names: dict[str, list[str]] = {}
        for name in disk.sweep():
            names.setdefault(disk.file_id(name), []).append(name)
        for row in disk.journal.rows():
            if row.refused is None:
                _recover_row(disk, row, names.pop(row.id, []), found)
            elif os.path.lexists(disk.recovery / row.data):
                found.refused.append(row)
            else:  # somebody has taken it out: settled
                disk.journal.delete(row.id)
        for file_id, orphans in names.items():
            _adopt(disk, file_id, orphans, found)
        _find_kept(disk, found)
    except BaseException:
        for staged in found.files:
            staged.close_at_once()
        disk.journal.close()
        raise
    found.files.sort(key=lambda staged: staged.written_ns)
    return found


def _recover_row(disk: StagingDisk, row: Row, names: list[str], found: Recovered) -> None:
    if row.data not in names:
        if not names:
            log.warning("%s: its staged file is not where it was; nothing is left to send", row.path)
            disk.journal.delete(row.id)
            return
        # The journal is ahead of the disk: the name of a fresh copy was lost. The older file has what it was made of.
        row = replace(row, data=names[-1])
        disk.journal.update(row.id, data=row.data)
        disk.label(disk.data_path(row.data), Label(row.path, row.base, row.mtime_ns, row.complete))
    try:
        staged = reopen(disk, row)
    except StagedFileDamaged as error:
        _keep(disk, row, str(error), found)
        return
    for other in names:
        if other != row.data:
            _use_older(disk, staged, other)
    found.files.append(staged)


def _use_older(disk: StagingDisk, staged: StagedFile, name: str) -> None:
    """An older data file of the same row holds what an upload was reading when the crash came."""
    attempt = staged.attempt
    if attempt is not None and name < staged.data_name:
        fd = disk.open_data(name)
        try:
            size = os.fstat(fd).st_size
            staged.attempt = attempt.with_sent(Sent(size, md5_of(fd, size)))._replace(is_present=True)
        finally:
            os.close(fd)
        disk.journal.update(staged.id, **attempt_columns(staged.attempt))
    disk.remove(name)


def reopen(disk: StagingDisk, row: Row) -> StagedFile:
    """The staged file of a row. Raises `StagedFileDamaged` if acknowledged bytes are missing."""
    if row.mtime_ns is None and (label := disk.label_of(disk.data_path(row.data))) is not None:
        row = replace(row, mtime_ns=label.mtime_ns)  # the row is older than the first seal
    fds = [disk.open_data(row.data)]
    try:
        left = os.fstat(fds[0]).st_size
        if left < row.size:
            raise StagedFileDamaged(_lost(left, row.size))
        if not row.complete:
            try:
                fds.append(disk.open_log(row.data, create=False))
            except FileNotFoundError:
                raise StagedFileDamaged("the local disk lost the list of the parts that were written") from None
        staged = StagedFile(disk, row, *fds)
        if not row.complete:
            _replay(staged, row, fds[1])
        if row.complete:
            # Perhaps an upload had arrived when the crash came: the next one looks first.
            staged.attempt = Attempt(row.attempted or row.path, decoded(row.attempted_sent))
        if row.mtime_ns is None:
            staged.written_ns = os.fstat(fds[0]).st_mtime_ns
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    staged.rest()
    staged.reserved_bytes = staged.size
    disk.budget.dirty_bytes += staged.size
    return staged


def _lost(left: int, size: int) -> str:
    return f"the local disk lost a part of it: {left:,} of {size:,} bytes are left"


def _replay(staged: StagedFile, row: Row, log_fd: int) -> None:
    replayed = rangelog.replay(log_fd, row.base_size or 0)
    if replayed.valid_bytes < row.log_bytes:
        raise StagedFileDamaged("the local disk lost a part of the list of the parts that were written")
    os.ftruncate(log_fd, replayed.valid_bytes)
    if staged.size < replayed.base_limit:  # the crash came between a truncation and its record
        rangelog.append_truncated(log_fd, staged.size)
        replayed = rangelog.replay(log_fd, row.base_size or 0)
    staged.present, staged.base_limit = replayed.present, replayed.base_limit


def _adopt(disk: StagingDisk, file_id: str, names: list[str], found: Recovered) -> None:
    """Data files without a row: the newest holds bytes that nobody else has."""
    *older, name = names
    path = disk.data_path(name)
    label = disk.label_of(path)
    status = os.stat(path)
    has_log = os.path.exists(disk.log_path(name))
    if label is None and (status.st_size == 0 or (has_log and os.path.getsize(disk.log_path(name)) == 0)):
        label = Label("")  # its beginning was not finished: nothing has been written
    if label is not None and not label.path:
        for unwanted in names:
            disk.remove(unwanted)
        return
    row = new_row(file_id, label.path if label else "/" + name, name, size=status.st_size, created=status.st_mtime)
    if label is not None:
        # Perhaps it had arrived already: `attempted` makes the upload look for it first.
        row = replace(row.with_base(label.base), mtime_ns=label.mtime_ns, complete=label.complete, attempted=label.path)
        row = replace(row, size=label.size)
    disk.journal.insert(row)
    if label is None:
        _keep(disk, row, "its journal entry is lost, and the file does not say where it belongs", found)
    elif not label.complete and not has_log:
        _keep(disk, row, "its journal entry and the list of the parts that were written are lost", found)
    elif status.st_size < label.size:
        _keep(disk, row, _lost(status.st_size, label.size), found)
    else:
        found.files.append(reopen(disk, row))
        log.info("%s: an unsent file without a journal entry was found and is sent now", label.path)
    for other in older:
        disk.remove(other)


def _keep(disk: StagingDisk, row: Row, reason: str, found: Recovered) -> None:
    kept = disk.keep(row.data, os.path.basename(row.path) or row.id)
    disk.journal.update(row.id, refused=reason, data=kept)
    log.warning("%s: %s; what is left is kept as %s", row.path, reason, disk.recovery / kept)
    found.refused.append(replace(row, data=kept, refused=reason))


def keep_refused(disk: StagingDisk, staged: StagedFile, reason: str) -> Row:
    """Move a staged file to the recovery folder and mark its row. A crash between the two is mended by `recover`."""
    kept = disk.keep(staged.data_name, os.path.basename(staged.path) or staged.id)
    disk.journal.update(staged.id, refused=reason, data=kept, size=staged.size)
    return next(row for row in disk.journal.rows() if row.id == staged.id)


def _find_kept(disk: StagingDisk, found: Recovered) -> None:
    """Files in the recovery folder that the journal does not know are reported all the same."""
    known = {row.data for row in found.refused}
    for name in sorted(os.listdir(disk.recovery)):
        if name in known or name.endswith(".ranges"):
            continue
        path = disk.recovery / name
        label = disk.label_of(str(path)) or Label("/" + name)
        row = new_row(uuid.uuid4().hex, label.path, name, size=os.lstat(path).st_size, created=time.time())
        row = replace(row, refused="kept by an earlier run")
        disk.journal.insert(row)
        found.refused.append(row)


def unsent_paths(folder: Path) -> list[str]:
    """What is unsent in the cache folder of another process, which may be using it: by its journal, and by the labels
    of files that the journal does not know yet. Raises `JournalFailed`."""
    known = rows_of_another(folder / "journal.db")
    paths = [path for path in known.values() if path]
    for name in sorted(os.listdir(folder / "staging")):
        if StagingDisk.file_id(name) not in known:
            label = StagingDisk.label_of(str(folder / "staging" / name))
            if label is not None and label.path:
                paths.append(label.path)
    return paths
