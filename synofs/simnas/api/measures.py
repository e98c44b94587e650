"""SYNO.FileStation.MD5 and DirSize: background tasks that read."""

from __future__ import annotations

import hashlib
import os

from ..nas import Answer, Call, Method, blocking
from ..shares import disk_refusals
from ..tasks import Task
from ..wire import ApiError
from .background import start_task, status, stop
from .listing import readable

_PIECE_BYTES = 2**20


def start_md5(call: Call) -> Answer:
    """The MD5 of one file."""
    location = readable(call, call.params.path("file_path"))
    if not os.path.isfile(location.real):
        raise ApiError(408)

    def work(task: Task) -> None:
        digest = hashlib.md5(usedforsecurity=False)
        with disk_refusals(), open(location.real, "rb") as file:
            while piece := file.read(_PIECE_BYTES):
                digest.update(piece)
                task.check_stopped()
        task.report["md5"] = digest.hexdigest()

    return start_task(call, {}, work)


def start_dirsize(call: Call) -> Answer:
    """Number and size of everything below some paths; the paths themselves are not counted as folders."""
    locations = [readable(call, path) for path in call.params.paths("path")]
    if not locations:
        raise ApiError(400)

    def work(task: Task) -> None:
        for location in locations:
            if os.path.isfile(location.real):
                _count(task, 0, 1, os.stat(location.real).st_size)
                continue
            for folder, folders, files in os.walk(location.real):
                task.check_stopped()
                sizes = [os.lstat(f"{folder}/{name}").st_size for name in files]
                _count(task, len(folders), len(files), sum(sizes))

    return start_task(call, {"num_dir": 0, "num_file": 0, "total_size": 0}, work)


def _count(task: Task, folders: int, files: int, size: int) -> None:
    task.report["num_dir"] += folders
    task.report["num_file"] += files
    task.report["total_size"] += size


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.MD5": {"start": blocking(start_md5), "status": status, "stop": stop},
    "SYNO.FileStation.DirSize": {"start": blocking(start_dirsize), "status": status, "stop": stop},
}
