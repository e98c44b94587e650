"""SYNO.FileStation.CreateFolder, Rename and Delete."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from typing import Any

from ..nas import Answer, Call, Method, blocking
from ..shares import RECYCLE_BIN, SPOOL_PREFIX, Location, disk_refusals
from ..tasks import Task
from ..wire import ApiError
from .background import start_task, status, stop
from .listing import check_folder_writable, record_of
from .names import check_new_name


class Failures:
    """The refusals of single paths in a call; together they are the nested errors of one code."""

    def __init__(self, code: int) -> None:
        self._code = code
        self._errors: list[dict[str, Any]] = []

    def add(self, error: ApiError, path: str) -> None:
        self._errors.append({"code": error.code, "path": path})

    def raise_any(self) -> None:
        if self._errors:
            raise ApiError(self._code, self._errors)


# -- CreateFolder --


def create_folder(call: Call) -> Answer:
    """Makes folders; each refusal is nested in 1100."""
    params, quirks = call.params, call.nas.quirks
    if not (params.is_quoted("folder_path") and params.is_quoted("name")):
        if quirks.raw_createfolder == "400":
            raise ApiError(400)
        if quirks.raw_createfolder == "ignored":
            return {"folders": []}
    parents, names = params.paths("folder_path"), params.texts("name")
    if not parents or len(parents) != len(names):
        raise ApiError(400)
    force_parent = params.flag("force_parent")
    additional = params.additional()
    failures = Failures(1100)
    folders = []
    for parent, name in zip(parents, names, strict=True):
        try:
            made = _make_folder(call, parent, name, force_parent)
            folders.append(record_of(call, made, additional))
        except ApiError as error:
            failures.add(error, f"{parent}/{name}")
    failures.raise_any()
    return {"folders": folders}


def _make_folder(call: Call, parent: str, name: str, force_parent: bool) -> Location:
    """Makes one folder. With `force_parent`, the name may have several parts and missing ones are made."""
    call.nas.volume.check_writable()
    folder = call.locate(parent)
    *above, last = name.split("/") if force_parent else [name]
    for part in above:
        folder = _enter(call, folder, part)
    check_new_name(folder.share, last, call.nas.quirks)
    with call.nas.changes:
        if force_parent:
            _make_missing(call, folder)
        check_folder_writable(call, folder)
        made = folder.child(last)
        with disk_refusals():
            try:
                os.mkdir(made.real)
            except FileExistsError:
                if call.nas.quirks.existing_folder != "success" or not os.path.isdir(made.real):
                    raise
    return made


def _enter(call: Call, folder: Location, part: str) -> Location:
    check_new_name(folder.share, part, call.nas.quirks)
    return call.locate(f"{folder.path}/{part}")


def _make_missing(call: Call, folder: Location) -> None:
    existing = folder
    while not os.path.isdir(existing.real):
        existing = call.locate(existing.path.rpartition("/")[0])
    check_folder_writable(call, existing)
    with disk_refusals():
        os.makedirs(folder.real, exist_ok=True)


# -- Rename --


def rename(call: Call) -> Answer:
    """Renames within a folder, never onto an existing name; each refusal is nested in 1200."""
    paths, names = call.params.paths("path"), call.params.texts("name")
    if not paths or len(paths) != len(names):
        raise ApiError(400)
    additional = call.params.additional()
    failures = Failures(1200)
    files = []
    for path, name in zip(paths, names, strict=True):
        try:
            files.append(record_of(call, _rename_one(call, path, name), additional))
        except ApiError as error:
            failures.add(error, path)
    failures.raise_any()
    return {"files": files}


def _rename_one(call: Call, path: str, name: str) -> Location:
    call.nas.volume.check_writable()
    source = call.locate(path, follow=False)
    if source.is_share:
        raise ApiError(407)
    with call.nas.changes, disk_refusals():
        os.lstat(source.real)
        check_new_name(source.share, name, call.nas.quirks)
        check_deletable(call, source)
        target = call.locate(f"{source.path.rpartition('/')[0]}/{name}", follow=False)
        if os.path.lexists(target.real):
            raise ApiError(414)
        os.rename(source.real, target.real)
    return target


def check_deletable(call: Call, location: Location) -> None:
    """407 unless the session may take an entry out of its folder."""
    found = os.lstat(location.real)
    parent = os.stat(location.parent_real)
    if location.is_share or not location.share.rights(call.session, found.st_mode, parent.st_mode).delete:
        raise ApiError(407)


# -- Delete --


def delete(call: Call) -> Answer:
    """The blocking form. Missing paths are no error; each refusal is nested in 900."""
    paths, recursive = _deletion(call)
    failures = Failures(900)
    for path in paths:
        try:
            for _ in _delete_one(call, path, recursive):
                pass
        except ApiError as error:
            failures.add(error, path)
    failures.raise_any()
    return None


def start_delete(call: Call) -> Answer:
    """The task form."""
    paths, recursive = _deletion(call)
    report = {
        "path": paths[0],
        "processed_num": 0,
        "processing_path": paths[0],
        "progress": 0,
        "total": len(paths),
    }

    def work(task: Task) -> None:
        task.failure_code = 900
        for number, path in enumerate(paths):
            task.report["processing_path"] = path
            try:
                for _ in _delete_one(call, path, recursive):
                    task.check_stopped()
            except ApiError as error:
                task.fail(error.code, path)
            task.report["processed_num"] = number + 1
            task.report["progress"] = (number + 1) / len(paths)

    return start_task(call, report, work)


def _deletion(call: Call) -> tuple[list[str], bool]:
    paths = call.params.paths("path")
    if not paths:
        raise ApiError(400)
    return paths, call.params.flag("recursive", True)


def _delete_one(call: Call, path: str, recursive: bool) -> Iterator[None]:
    """Deletes one entry, step by step, or moves it to the recycle bin."""
    call.nas.volume.check_writable()
    try:
        location = call.locate(path, follow=False)
    except ApiError as error:
        if error.code == 408:
            return
        raise
    if location.is_share:
        raise ApiError(407)
    with disk_refusals():
        try:
            found = os.lstat(location.real)
        except (FileNotFoundError, NotADirectoryError):
            return
        check_deletable(call, location)
        if not stat.S_ISDIR(found.st_mode):
            with call.nas.changes:
                if not _recycle(call, location):
                    os.unlink(location.real)
            return
        if not recursive:
            _check_empty(call, location)
        with call.nas.changes:
            if _recycle(call, location):
                return
        yield from _remove_tree(location.real)


def _check_empty(call: Call, folder: Location) -> None:
    if any(not name.startswith(SPOOL_PREFIX) for name in os.listdir(folder.real)):
        raise ApiError(int(call.nas.quirks.not_empty))


def _remove_tree(root: str) -> Iterator[None]:
    for folder, folders, files in os.walk(root, topdown=False):
        for name in files:
            os.unlink(f"{folder}/{name}")
            yield
        for name in folders:
            if os.path.islink(f"{folder}/{name}"):
                os.unlink(f"{folder}/{name}")
        os.rmdir(folder)


def _recycle(call: Call, location: Location) -> bool:
    """Moves an entry to the recycle bin of its share, if there is one and the entry is not in it already."""
    inside = location.path.split("/")[2:]
    if not call.nas.options.recycle_bin or inside[0] == RECYCLE_BIN:
        return False
    share = location.share
    target = "/".join([share.root, RECYCLE_BIN, *inside])
    os.makedirs(os.path.dirname(target), exist_ok=True)
    stem, suffix = os.path.splitext(target)
    number = 1
    while os.path.lexists(target):
        target = f"{stem}_{number}{suffix}"
        number += 1
    shutil.move(location.real, target)
    return True


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.CreateFolder": {"create": blocking(create_folder)},
    "SYNO.FileStation.Rename": {"rename": blocking(rename)},
    "SYNO.FileStation.Delete": {
        "start": blocking(start_delete),
        "status": status,
        "stop": stop,
        "delete": blocking(delete),
    },
}
