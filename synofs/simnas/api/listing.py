"""SYNO.FileStation.Info, List, VirtualFolder and CheckPermission: everything that only looks."""

from __future__ import annotations

import fnmatch
import os
import stat
from collections.abc import Callable
from typing import Any

from ..directory import Name
from ..nas import Answer, Call, Method, blocking, looking
from ..shares import Location, disk_refusals, visible_stat
from ..wire import ApiError, Params

_SMALL_DIRECTORY_BYTES = 4096

SORT_KEYS = ("name", "size", "user", "group", "mtime", "atime", "ctime", "crtime", "posix", "type")


def info(call: Call) -> Answer:
    """FileStation.Info.get: what the session is and may use."""
    account = call.session.account
    return {
        "enable_list_usergrp": False,
        "enable_send_email_attachment": True,
        "enable_view_google": False,
        "enable_view_microsoft": False,
        "hostname": "simnas",
        "is_manager": account.admin,
        "items": [{"gid": account.gid}],
        "support_file_request": True,
        "support_sharing": True,
        "support_vfs": True,
        "support_virtual": {"enable_iso_mount": False, "enable_remote_mount": False},
        "support_virtual_protocol": ["cifs", "nfs", "iso"],
        "system_codepage": "enu",
        "uid": account.uid,
    }


def list_share(call: Call) -> Answer:
    """The shares that the session may see."""
    params, nas = call.params, call.nas
    additional = params.additional()
    shares = nas.shares.visible_to(call.session)
    if params.flag("onlywritable"):
        shares = [share for share in shares if share.right == "RW"]
    records = []
    for share in shares:
        status = nas.volume.status(share) if "volume_status" in additional else {}
        records.append((share, nas.records.share(share, call.session, status, additional)))
    sort_by = params.choice("sort_by", SORT_KEYS, "name")
    records.sort(
        key=lambda pair: sort_key(call, sort_by, Name(pair[0].name, True), os.stat(pair[0].root)),
        reverse=params.descending,
    )
    offset, chosen = params.page([record for _, record in records], nas.options.page_cap)
    return {"offset": offset, "shares": chosen, "total": len(records)}


async def list_folder(call: Call) -> Answer:
    """One page of a folder. Nothing is kept between pages: a change in between shifts them, as on DSM."""
    folder = call.locate(call.params.path("folder_path"))
    # A thread costs more than a small folder, above all if several are listed in one request.
    return _page(call, folder) if _is_small(folder) else await call.nas.on_disk(_page, call, folder)


def _is_small(folder: Location) -> bool:
    """A few dozen names at most, as the size of a directory has it on the usual filesystems."""
    with disk_refusals():
        return os.stat(folder.real).st_size <= _SMALL_DIRECTORY_BYTES


def _page(call: Call, folder: Location) -> Answer:
    goto = call.params.text("goto_path")
    result = _list(call, folder)
    if goto:
        _go_to(call, goto, result["files"])
    return result


def _list(call: Call, folder: Location) -> dict[str, Any]:
    params = call.params
    with disk_refusals():
        folder_stat = os.stat(folder.real)
        if not stat.S_ISDIR(folder_stat.st_mode):
            raise ApiError(408)
        if not folder.share.rights(call.session, folder_stat.st_mode, 0).read:
            raise ApiError(407)
        names = call.nas.directories.names(folder.share, folder.real)
    names = filter_names(params, names)
    sort_by = params.choice("sort_by", SORT_KEYS, "name")
    if sort_by != "name":
        names = _sorted_by(call, sort_by, folder, names)
    elif params.descending:
        names = names[::-1]
    offset, page = params.page(names, call.nas.options.page_cap)
    additional = params.additional()
    files = []
    for entry in page:
        record = child_record(call, folder, folder_stat.st_mode, entry, additional)
        if record is not None:
            files.append(record)
    return {"files": files, "offset": offset, "total": len(names)}


def child_record(
    call: Call, folder: Location, folder_mode: int, entry: Name, additional: frozenset[str]
) -> dict[str, Any] | None:
    """The record of an entry of a folder; None if it is gone by now."""
    location = folder.child(entry.name)
    if not additional:
        return {"isdir": entry.is_dir, "name": entry.name, "path": location.path}
    try:
        found = os.stat(location.real)
    except OSError:
        return None
    rights = folder.share.rights(call.session, found.st_mode, folder_mode)
    return call.nas.records.file(location, found, rights, additional)


def _go_to(call: Call, goto: str, files: list[dict[str, Any]]) -> None:
    """`goto_path`: the entry on the way to that path gets its own listing as `children`.

    The path is the real one; a path as List names it is taken too.
    """
    goto = goto.removeprefix("/volume1")
    for record in files:
        if record["isdir"] and (goto + "/").startswith(record["path"] + "/"):
            record["children"] = _list(call, call.locate(record["path"]))


def getinfo(call: Call) -> Answer:
    """Records of paths. A path that cannot be shown is an entry with a code, inside a successful reply."""
    additional = call.params.additional()
    return {"files": [_getinfo_one(call, path, additional) for path in call.params.paths("path")]}


def _getinfo_one(call: Call, path: str, additional: frozenset[str]) -> dict[str, Any]:
    try:
        location = call.locate(path)
        return record_of(call, location, additional)
    except ApiError as error:
        if error.code == 408 and call.nas.quirks.missing_getinfo == "stub":
            return {"isdir": False, "name": "", "path": path}
        return {"code": error.code, "path": path}


def record_of(call: Call, location: Location, additional: frozenset[str]) -> dict[str, Any]:
    """The record of one location; 408 if there is nothing to show."""
    found = visible_stat(location)
    if found is None:
        raise ApiError(408)
    parent_mode = stat.S_IWUSR if location.is_share else _mode(location.parent_real)
    rights = location.share.rights(call.session, found.st_mode, parent_mode)
    return call.nas.records.file(location, found, rights, additional)


def filter_names(params: Params, names: list[Name]) -> list[Name]:
    """`filetype` and `pattern` (a comma list of globs in any case; without a wildcard it is a part of the name)."""
    filetype = params.choice("filetype", ("file", "dir", "all"), "all")
    if filetype != "all":
        names = [entry for entry in names if entry.is_dir == (filetype == "dir")]
    globs = [_glob(part) for part in params.text("pattern").lower().split(",") if part]
    if globs:
        names = [e for e in names if any(fnmatch.fnmatchcase(e.name.lower(), glob) for glob in globs)]
    return names


def _glob(pattern: str) -> str:
    return pattern if any(wildcard in pattern for wildcard in "*?") else f"*{pattern}*"


def _sorted_by(call: Call, sort_by: str, folder: Location, names: list[Name]) -> list[Name]:
    keyed = []
    for entry in names:
        try:
            keyed.append((sort_key(call, sort_by, entry, os.stat(f"{folder.real}/{entry.name}")), entry))
        except OSError:
            continue
    keyed.sort(key=lambda pair: pair[0], reverse=call.params.descending)
    return [entry for _, entry in keyed]


def sort_key(call: Call, sort_by: str, entry: Name, found: os.stat_result) -> Any:
    records = call.nas.records
    keys: dict[str, Callable[[], Any]] = {
        "name": entry.name.casefold,
        "size": lambda: found.st_size,
        "user": lambda: records.user_name(found.st_uid),
        "group": lambda: records.group_name(found.st_gid),
        "mtime": lambda: found.st_mtime_ns,
        "atime": lambda: found.st_atime_ns,
        "ctime": lambda: found.st_ctime_ns,
        "crtime": lambda: min(found.st_ctime_ns, found.st_mtime_ns),
        "posix": lambda: found.st_mode & 0o777,
        "type": lambda: os.path.splitext(entry.name)[1].lower(),
    }
    return keys[sort_by](), entry.name.casefold(), entry.name


def _mode(real: str) -> int:
    try:
        return os.stat(real).st_mode
    except OSError:
        return 0


def list_virtual_folders(call: Call) -> Answer:
    """Mounted remote folders and images. This NAS has none."""
    return {"folders": [], "offset": max(0, call.params.integer("offset")), "total": 0}


def check_write(call: Call) -> Answer:
    """CheckPermission.write: whether a file could be written. Free of side effects."""
    params = call.params
    folder = call.locate(params.path("path"))
    filename = params.text("filename")
    if not filename:
        raise ApiError(400)
    call.nas.volume.check_writable()
    check_folder_writable(call, folder)
    exists = visible_stat(call.locate(f"{folder.path}/{filename}")) is not None
    if exists and params.flag("create_only", True) and "overwrite" not in params:
        raise ApiError(414)
    return None


def readable(call: Call, path: str) -> Location:
    """The place of something that exists (else 408) and that the session may read (else 407)."""
    location = call.locate(path)
    found = visible_stat(location)
    if found is None:
        raise ApiError(408)
    if not location.share.rights(call.session, found.st_mode, 0).read:
        raise ApiError(407)
    return location


def check_folder_writable(call: Call, folder: Location) -> None:
    """407 unless the session may create entries in a folder; 408 if it is none."""
    found = visible_stat(folder)
    if found is None or not stat.S_ISDIR(found.st_mode):
        raise ApiError(408)
    if not folder.share.rights(call.session, found.st_mode, 0).write:
        raise ApiError(407)


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.Info": {"get": looking(info)},
    "SYNO.FileStation.List": {
        "list_share": blocking(list_share),
        "list": list_folder,
        "getinfo": looking(getinfo),
    },
    "SYNO.FileStation.VirtualFolder": {"list": looking(list_virtual_folders)},
    "SYNO.FileStation.CheckPermission": {"write": looking(check_write)},
}
