"""SYNO.FileStation.Compress and Extract: zip archives made, zip and tar archives unpacked.

7z and encrypted archives cannot be made with what Python brings along: 1300.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from ..nas import Answer, Call, Method, blocking
from ..shares import Location, disk_refusals, spool_name
from ..tasks import Task
from ..wire import ApiError
from ..zipstream import zip_tree
from .background import start_task, status, stop
from .listing import check_folder_writable, readable
from .names import check_new_name

CANNOT_COMPRESS = 1300
CANNOT_EXTRACT = 1400
NO_ARCHIVE = 1401
CANNOT_READ = 1402
WRONG_PASSWORD = 1403

ROOT_ITEM = -1


# -- Compress --


def start_compress(call: Call) -> Answer:
    """Packs files and folders into a zip. An account without admin rights needs a session of Auth version 7."""
    if not call.session.account.admin and call.session.auth_version < 7:
        raise ApiError(105)
    destination = call.params.quoted("dest_file_path")
    sources = [readable(call, path) for path in call.params.paths("path")]
    if not destination or not sources or not call.params.is_quoted("path"):
        raise ApiError(400)
    call.nas.volume.check_writable()
    target = call.locate(destination)
    check_new_name(target.share, target.name, call.nas.quirks)
    check_folder_writable(call, call.locate(destination.rpartition("/")[0]))
    unsupported = call.params.text("format", "zip") != "zip" or call.params.quoted("password")

    def work(task: Task) -> None:
        task.failure_code = CANNOT_COMPRESS
        if unsupported:
            raise ApiError(CANNOT_COMPRESS)
        _write_zip(task, [source.real for source in sources], target)

    return start_task(call, {"dest_file_path": destination}, work)


def _write_zip(task: Task, roots: list[str], target: Location) -> None:
    spool = spool_name(target.parent_real, task.id)
    try:
        with disk_refusals():
            with open(spool, "wb") as file:
                for piece in zip_tree(roots):
                    file.write(piece)
                    task.check_stopped()
            os.replace(spool, target.real)
    finally:
        if os.path.lexists(spool):
            os.unlink(spool)


# -- Extract --


@dataclass(frozen=True)
class Item:
    """One member of an archive. The root is -1; ids count up in the order of the paths."""

    id: int
    parent: int
    path: str
    is_dir: bool
    size: int = 0
    pack_size: int = 0
    mtime: str = ""
    member: Any = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]


class Archive:
    """A zip or tar file, opened for reading."""

    def __init__(self, file: zipfile.ZipFile | tarfile.TarFile, password: str) -> None:
        self._file = file
        self._password = password.encode() or None
        self.items = _numbered(self._members())

    def _members(self) -> Iterator[Item]:
        if isinstance(self._file, zipfile.ZipFile):
            for info in self._file.infolist():
                stamp = time.strftime("%Y-%m-%d %H:%M:%S", (*info.date_time, 0, 0, -1))
                yield Item(0, 0, info.filename, info.is_dir(), info.file_size, info.compress_size, stamp, info.filename)
        else:
            for member in self._file.getmembers():
                if member.isfile() or member.isdir():
                    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(member.mtime))
                    yield Item(0, 0, member.name, member.isdir(), member.size, member.size, stamp, member)

    def open(self, item: Item) -> IO[bytes]:
        """The content of a file in the archive."""
        if isinstance(self._file, zipfile.ZipFile):
            try:
                return self._file.open(item.member, pwd=self._password)
            except RuntimeError as error:  # what zipfile raises for a wrong or missing password
                raise ApiError(WRONG_PASSWORD) from error
        content = self._file.extractfile(item.member)
        if content is None:
            raise ApiError(CANNOT_READ)
        return content


def _numbered(members: Iterator[Item]) -> dict[int, Item]:
    """The members with ids and parents; folders that an archive only implies are added, strange paths left out."""
    by_path: dict[str, Item] = {}
    for member in sorted(members, key=lambda item: item.path):
        path = member.path.strip("/")
        parts = path.split("/")
        if not path or any(part in ("", ".", "..") for part in parts):
            continue
        for depth in range(1, len(parts)):
            above = "/".join(parts[:depth])
            by_path.setdefault(above, Item(0, 0, above, True))
        by_path[path] = Item(0, 0, path, member.is_dir, member.size, member.pack_size, member.mtime, member.member)
    numbers = {path: number for number, path in enumerate(sorted(by_path))}
    result = {}
    for path, number in numbers.items():
        item = by_path[path]
        parent = numbers.get(path.rpartition("/")[0], ROOT_ITEM)
        result[number] = Item(number, parent, path, item.is_dir, item.size, item.pack_size, item.mtime, item.member)
    return result


@contextmanager
def _opened(real: str, password: str) -> Iterator[Archive]:
    try:
        if zipfile.is_zipfile(real):
            with zipfile.ZipFile(real) as zipped:
                yield Archive(zipped, password)
                return
        with tarfile.open(real) as tarred:
            yield Archive(tarred, password)
    except (tarfile.TarError, zipfile.BadZipFile) as error:
        raise ApiError(NO_ARCHIVE) from error


def list_items(call: Call) -> Answer:
    """One level of an archive. Inside a folder the first item is `..`."""
    params = call.params
    source = readable(call, params.path("file_path"))
    parent = params.integer("item_id", ROOT_ITEM)
    with disk_refusals(), _opened(source.real, params.quoted("password")) as archive:
        inside = archive.items.get(parent)
        if inside is None and parent != ROOT_ITEM:
            raise ApiError(1405)
        items = [_record(item) for item in archive.items.values() if item.parent == parent]
    sort_by = params.choice("sort_by", ("name", "size", "pack_size", "mtime"), "name")
    items.sort(key=lambda record: (record[sort_by], record["name"]), reverse=params.descending)
    if inside is not None:
        items.insert(0, _record(Item(inside.parent, 0, "..", True)))
    _, page = params.page(items)
    return {"items": page, "total": len(items)}


def _record(item: Item) -> dict[str, Any]:
    return {
        "is_dir": item.is_dir,
        "item_id": item.id,
        "mtime": item.mtime,
        "name": item.name,
        "pack_size": item.pack_size,
        "path": item.path,
        "size": item.size,
    }


def start_extract(call: Call) -> Answer:
    """Unpacks an archive, or some items of it."""
    params = call.params
    if not (params.is_quoted("file_path") and params.is_quoted("dest_folder_path")):
        raise ApiError(400)
    source = readable(call, params.path("file_path"))
    call.nas.volume.check_writable()
    folder = call.locate(params.path("dest_folder_path"))
    check_folder_writable(call, folder)
    wanted = {int(text) for text in params.texts("item_id") if text.isdigit()}
    overwrite, keep_dir = params.flag("overwrite"), params.flag("keep_dir", True)
    password = params.quoted("password")
    root = folder.real
    if params.flag("create_subfolder"):
        root = f"{root}/{os.path.splitext(source.name)[0]}"

    def work(task: Task) -> None:
        task.failure_code = CANNOT_EXTRACT
        with disk_refusals(), _opened(source.real, password) as archive:
            os.makedirs(root, exist_ok=True)
            for item in archive.items.values():
                task.check_stopped()
                if wanted and not _is_wanted(archive, item, wanted):
                    continue
                target = f"{root}/{item.path}" if keep_dir else f"{root}/{item.name}"
                _extract_one(archive, item, target, overwrite, keep_dir)
        task.report["progress"] = 1

    report = {"dest_folder_path": folder.path, "progress": 0}
    return start_task(call, report, work)


def _is_wanted(archive: Archive, item: Item, wanted: set[int]) -> bool:
    """Whether an item or a folder above it was asked for."""
    while item.id not in wanted:
        if item.parent == ROOT_ITEM:
            return False
        item = archive.items[item.parent]
    return True


def _extract_one(archive: Archive, item: Item, target: str, overwrite: bool, keep_dir: bool) -> None:
    if item.is_dir:
        if keep_dir:
            os.makedirs(target, exist_ok=True)
        return
    if os.path.lexists(target) and not overwrite:
        return
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with archive.open(item) as content, open(target, "wb") as file:
        shutil.copyfileobj(content, file)


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.Compress": {"start": blocking(start_compress), "status": status, "stop": stop},
    "SYNO.FileStation.Extract": {
        "start": blocking(start_extract),
        "status": status,
        "stop": stop,
        "list": blocking(list_items),
    },
}
