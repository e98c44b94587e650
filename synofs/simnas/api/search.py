"""SYNO.FileStation.Search: a background task whose finds are paged through while it runs.

Unlike other tasks a search is not gone after its end has been told: it stays until `clean`.
"""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable
from typing import Any

from ..directory import Name
from ..nas import Answer, Call, Method, blocking
from ..shares import Location, disk_refusals
from ..tasks import Task, task_id_of
from ..wire import ApiError
from .background import start_task
from .listing import SORT_KEYS, filter_names, record_of, sort_key

Test = Callable[[Name, os.stat_result], bool]


def start(call: Call) -> Answer:
    """Starts a search below some folders."""
    folders = [call.locate(path) for path in call.params.paths("folder_path")]
    if not folders:
        raise ApiError(400)
    for folder in folders:
        if not os.path.isdir(folder.real):
            raise ApiError(408)
    tests = _tests(call)
    recursive = call.params.flag("recursive", True)

    def work(task: Task) -> None:
        for folder in folders:
            _search(call, task, folder, tests, recursive)

    return start_task(call, {"found": []}, work)


def _search(call: Call, task: Task, folder: Location, tests: list[Test], recursive: bool) -> None:
    task.check_stopped()
    try:
        with disk_refusals():
            mode = os.stat(folder.real).st_mode
            if not folder.share.rights(call.session, mode, 0).read:
                return
            names = call.nas.directories.names(folder.share, folder.real)
    except ApiError:
        return
    for entry in names:
        location = folder.child(entry.name)
        try:
            found = os.stat(location.real)
            is_link = stat.S_ISLNK(os.lstat(location.real).st_mode)
        except OSError:
            continue
        if all(test(entry, found) for test in tests):
            task.report["found"].append(location)
        if recursive and entry.is_dir and not is_link:
            _search(call, task, location, tests, recursive)


def _tests(call: Call) -> list[Test]:
    """What an entry must pass, from the parameters of `start`."""
    params, records = call.params, call.nas.records
    tests: list[Test] = []
    separator = "," if call.nas.quirks.search_pattern == "comma" else None
    globs = [_glob(part) for part in params.text("pattern").lower().split(separator) if part]
    if globs:
        tests.append(lambda entry, _: any(fnmatch.fnmatchcase(entry.name.lower(), glob) for glob in globs))
    extensions = {part.strip().lower() for part in params.text("extension").split(",") if part.strip()}
    if extensions:
        tests.append(lambda entry, _: os.path.splitext(entry.name)[1][1:].lower() in extensions)
    filetype = params.choice("filetype", ("file", "dir", "all"), "all")
    if filetype != "all":
        tests.append(lambda entry, _: entry.is_dir == (filetype == "dir"))
    for name, value_of in _RANGES.items():
        low, high = params.integer(f"{name}_from", -1), params.integer(f"{name}_to", -1)
        if low >= 0 or high >= 0:
            tests.append(_within(value_of, low, high))
    owner, group = params.text("owner"), params.text("group")
    if owner:
        tests.append(lambda _, found: records.user_name(found.st_uid) == owner)
    if group:
        tests.append(lambda _, found: records.group_name(found.st_gid) == group)
    return tests


_RANGES: dict[str, Callable[[os.stat_result], int]] = {
    "size": lambda found: found.st_size,
    "mtime": lambda found: int(found.st_mtime),
    "atime": lambda found: int(found.st_atime),
    "crtime": lambda found: min(int(found.st_ctime), int(found.st_mtime)),
}


def _within(value_of: Callable[[os.stat_result], int], low: int, high: int) -> Test:
    """Whether a value is in a range; -1 is no limit."""

    def test(_: Name, found: os.stat_result) -> bool:
        value = value_of(found)
        return value >= low and (high < 0 or value <= high)

    return test


def _glob(pattern: str) -> str:
    return pattern if any(wildcard in pattern for wildcard in "*?") else f"*{pattern}*"


def list_finds(call: Call) -> Answer:
    """A page of what has been found so far. An id that is not understood looks finished and has no total."""
    params = call.params
    try:
        task = call.nas.tasks.find(task_id_of(params, call.nas.quirks), call.api)
    except ApiError:
        return {"files": [], "finished": True, "offset": max(0, params.integer("offset"))}
    finished = task.finished
    found = _chosen(call, list(task.report["found"]))
    offset, page = params.page(found)
    if params.integer("limit") == 0 and call.nas.quirks.search_limit_0 == "nothing":
        page = []
    additional = params.additional()
    files = [record for record in (_record(call, place, additional) for place in page) if record is not None]
    return {"files": files, "finished": finished, "offset": offset, "total": len(found)}


def _chosen(call: Call, found: list[Location]) -> list[Location]:
    """The finds that the filters of `list` let through, in the order it asks for."""
    params = call.params
    places = {Name(place.path, os.path.isdir(place.real)): place for place in found}
    kept = [(Name(place.name, name.is_dir), place) for name, place in places.items()]
    passing = set(filter_names(params, [name for name, _ in kept]))
    sort_by = params.choice("sort_by", SORT_KEYS, "name")
    keyed = []
    for name, place in kept:
        if name not in passing:
            continue
        try:
            keyed.append((sort_key(call, sort_by, name, os.stat(place.real)), place.path, place))
        except OSError:
            continue
    keyed.sort(key=lambda item: item[:2], reverse=params.descending)
    return [place for _, _, place in keyed]


def _record(call: Call, location: Location, additional: frozenset[str]) -> dict[str, Any] | None:
    try:
        return record_of(call, location, additional)
    except ApiError:
        return None


async def stop(call: Call) -> Answer:
    """Stops searches; what they have found stays."""
    for task_id in _task_ids(call):
        call.nas.tasks.stop(task_id, forget=False)
    return None


async def clean(call: Call) -> Answer:
    """Forgets searches."""
    for task_id in _task_ids(call):
        call.nas.tasks.stop(task_id, forget=True)
    return None


def _task_ids(call: Call) -> list[str | None]:
    if call.params.is_quoted("taskid"):
        return list(call.params.texts("taskid"))
    return [task_id_of(call.params, call.nas.quirks)]


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.Search": {
        "start": blocking(start),
        "list": blocking(list_finds),
        "stop": stop,
        "clean": clean,
    }
}
