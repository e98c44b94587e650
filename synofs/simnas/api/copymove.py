"""SYNO.FileStation.CopyMove: copies and moves of files and trees, as background tasks."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from dataclasses import dataclass

from ..nas import Answer, Call, Method, blocking
from ..shares import SPOOL_PREFIX, Location, disk_refusals, spool_name
from ..tasks import Task
from ..wire import ApiError
from .background import start_task, status, stop
from .changes import check_deletable
from .listing import check_folder_writable

_PIECE_BYTES = 8 * 2**20
_FAT_MAX_BYTES = 4 * 2**30 - 1

EXISTS = 1003
OTHER_KIND = 1004
BAD_DESTINATION = 1002


def start(call: Call) -> Answer:
    """Starts a copy, or with `remove_src` a move. What fails is told by `status`."""
    params = call.params
    sources = params.paths("path")
    destination = params.path("dest_folder_path")
    if not sources:
        raise ApiError(400)
    overwrite = params.flag("overwrite") if "overwrite" in params else None
    report = {
        "dest_folder_path": destination,
        "path": sources[0],
        "processed_size": 0,
        "processing_path": sources[0],
        "progress": 0,
        "total": -1,
    }
    move = params.flag("remove_src")

    def work(task: Task) -> None:
        task.failure_code = 1001 if move else 1000
        transfer = Transfer(call, task, overwrite, move)
        for source in sources:
            task.report["processing_path"] = source
            try:
                transfer.one(source, destination)
            except ApiError as error:
                task.fail(error.code, source)
        task.report["progress"] = 1

    return start_task(call, report, work)


@dataclass
class Transfer:
    """The work of one CopyMove task."""

    call: Call
    task: Task
    overwrite: bool | None
    move: bool

    def one(self, path: str, destination: str) -> None:
        """Transfers one entry into the destination folder, under its own name."""
        call = self.call
        call.nas.volume.check_writable()
        source = call.locate(path, follow=False)
        with disk_refusals():
            found = os.lstat(source.real)
            if self.move:
                check_deletable(call, source)
            elif not source.share.rights(call.session, found.st_mode, 0).read:
                raise ApiError(407)
            try:
                folder = call.locate(destination)
                check_folder_writable(call, folder)
            except ApiError as error:
                raise error if error.code == 407 else ApiError(BAD_DESTINATION) from error
            target = call.locate(f"{folder.path}/{source.name}", follow=False)
            inside = os.path.realpath(folder.real) + "/"
            if stat.S_ISDIR(found.st_mode) and inside.startswith(os.path.realpath(source.real) + "/"):
                raise ApiError(BAD_DESTINATION)
            self.task.report["total"] = _tree_bytes(source.real)
            if not self._moved_at_once(source, target):
                self._transfer(source.real, target.real, target)

    def _moved_at_once(self, source: Location, target: Location) -> bool:
        """Within a share a move is a rename on disk."""
        if not self.move or source.share is not target.share:
            return False
        with self.call.nas.changes:
            if os.path.lexists(target.real):
                return self._same(source.real, target.real)
            try:
                os.rename(source.real, target.real)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                return False
        return True

    def _same(self, source: str, target: str) -> bool:
        """Whether both are one entry. An entry copied or moved onto itself stays as it is."""
        return os.path.lexists(target) and os.path.samestat(os.lstat(source), os.lstat(target))

    def _transfer(self, source: str, target: str, location: Location) -> None:
        self.task.check_stopped()
        is_dir = os.path.isdir(source) and not os.path.islink(source)
        if os.path.lexists(target):
            if is_dir != os.path.isdir(target):
                raise ApiError(OTHER_KIND)
            if self.overwrite is None:
                raise ApiError(EXISTS)
            if self._same(source, target):
                return
            if not is_dir and not self.overwrite:
                self._count(source)
                return
        if is_dir:
            os.makedirs(target, exist_ok=True)
            for name in sorted(os.listdir(source)):
                if not name.startswith(SPOOL_PREFIX):
                    self._transfer(f"{source}/{name}", f"{target}/{name}", location)
            shutil.copystat(source, target)
            if self.move and not os.listdir(source):
                os.rmdir(source)
            return
        self._file(source, target, location)

    def _file(self, source: str, target: str, location: Location) -> None:
        if os.path.islink(source):
            self._link(source, target)
        elif self.move and os.stat(source).st_dev == os.stat(os.path.dirname(target)).st_dev:
            self._count(source)
            os.replace(source, target)
            return
        else:
            self._copy(source, target, location)
        if self.move:
            os.unlink(source)

    def _link(self, source: str, target: str) -> None:
        if os.path.lexists(target):
            os.unlink(target)
        os.symlink(os.readlink(source), target)

    def _copy(self, source: str, target: str, location: Location) -> None:
        size = os.stat(source).st_size
        if location.share.fat and size > _FAT_MAX_BYTES:
            raise ApiError(1007)
        self.call.nas.volume.check_room(size)
        spool = spool_name(os.path.dirname(target), self.task.id)
        try:
            with open(source, "rb") as reading, open(spool, "wb") as writing:
                position = 0
                while sent := os.sendfile(writing.fileno(), reading.fileno(), position, _PIECE_BYTES):
                    position += sent
                    self.task.report["processed_size"] += sent
                    self._progress()
                    self.task.check_stopped()
            shutil.copystat(source, spool)
            os.replace(spool, target)
        finally:
            if os.path.lexists(spool):
                os.unlink(spool)

    def _count(self, source: str) -> None:
        self.task.report["processed_size"] += os.lstat(source).st_size
        self._progress()

    def _progress(self) -> None:
        report = self.task.report
        report["progress"] = min(1.0, report["processed_size"] / report["total"]) if report["total"] else 1.0


def _tree_bytes(root: str) -> int:
    if not os.path.isdir(root):
        return os.lstat(root).st_size
    return sum(os.lstat(f"{folder}/{name}").st_size for folder, _, files in os.walk(root) for name in files)


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.CopyMove": {"start": blocking(start), "status": status, "stop": stop}
}
