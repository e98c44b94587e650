"""Every call that is made, as a value: which API, which method, with which parameters. Pure.

From version 2 on, the APIs take their parameters as JSON: a path that is not quoted is understood most of the
time, a task id that is not quoted is found in 40 % of all cases, and a comma list is one odd path. So every string
and every list is encoded. (The parameters of sign-in and of uploads are the exceptions, and are raw.)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote, urlencode

from synofs.filestation.transport import MAX_ANSWER_BYTES
from synofs.remote import InvalidName

MAX_WHOLE_FOLDER_BYTES = 64 * 1024 * 1024  # some 170,000 entries in one answer; larger folders come in pages

# What a listing needs and nothing more: owners are never shown, and cost the NAS most.
ENTRY_DETAILS = ("size", "time", "perm")


@dataclass(frozen=True)
class ApiCall:
    """`version` is the newest one that is understood here; an older NAS is asked in its own."""

    api: str
    version: int
    method: str
    parameters: Mapping[str, str] = field(default_factory=dict, repr=False)
    path: str | None = None  # what it is about, for messages
    idempotent: bool = True  # asking twice is the same as asking once
    max_answer_bytes: int = MAX_ANSWER_BYTES

    @property
    def name(self) -> str:
        return f"{self.api}.{self.method}"


def encoded(value: Any) -> str:
    """A parameter's value as JSON, with names as they are, whatever their bytes."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def form(parameters: Iterable[tuple[str, str]] | Mapping[str, str]) -> str:
    """For a query or a form body. A space becomes %20: some builds take a `+` for a plus.

    Raises `InvalidName` for text that stands for no bytes. Only a NAS can have given us such, as a name or an id.
    """
    pairs = list(parameters.items()) if isinstance(parameters, Mapping) else list(parameters)
    try:
        return urlencode(pairs, quote_via=quote, safe="", encoding="utf-8", errors="surrogateescape")
    except UnicodeEncodeError as exc:
        raise InvalidName("the NAS names something in a way that cannot be said back to it") from exc


def _call(api: str, version: int, method: str, about: str | None, /, **parameters: Any) -> ApiCall:
    values = {name: encoded(value) for name, value in parameters.items() if value is not None}
    return ApiCall(api, version, method, values, about)


# ----- reading --------------------------------------------------------------------------------------------------


def info(apis: Sequence[str]) -> ApiCall:
    return ApiCall("SYNO.API.Info", 1, "query", {"query": ",".join(apis)})


def distrust_device(device_id: str) -> ApiCall:
    """The session's own device; its token is a parameter here and a cookie in a browser."""
    return ApiCall("SYNO.Core.TrustDevice", 1, "delete", {"device_id": encoded(device_id)}, idempotent=False)


def list_shares(offset: int, limit: int, details: Sequence[str] = ENTRY_DETAILS) -> ApiCall:
    return _call(
        "SYNO.FileStation.List", 2, "list_share", "/",
        offset=offset, limit=limit, sort_by="name", sort_direction="asc", additional=list(details),
    )  # fmt: skip


def list_folder(path: str, offset: int, limit: int) -> ApiCall:
    call = _call(
        "SYNO.FileStation.List", 2, "list", path,
        folder_path=path, offset=offset, limit=limit, sort_by="name", sort_direction="asc",
        additional=list(ENTRY_DETAILS),
    )  # fmt: skip
    return call if limit else replace(call, max_answer_bytes=MAX_WHOLE_FOLDER_BYTES)


def compound(parts: Sequence[tuple[ApiCall, int]]) -> ApiCall:
    """Calls (which only read) with their versions, one after the other in one request."""
    items = []
    for call, version in parts:
        fields = {"api": encoded(call.api), "method": encoded(call.method), "version": str(version), **call.parameters}
        items.append("{" + ",".join(f"{encoded(name)}:{value}" for name, value in fields.items()) + "}")
    # As DSM's own pages send it: the values are JSON here in version 1 already.
    parameters = {"mode": encoded("sequential"), "stop_when_error": "false", "compound": "[" + ",".join(items) + "]"}
    return ApiCall("SYNO.Entry.Request", 1, "request", parameters)


def get_info(paths: Sequence[str]) -> ApiCall:
    about = paths[0] if len(paths) == 1 else None
    return _call("SYNO.FileStation.List", 2, "getinfo", about, path=list(paths), additional=list(ENTRY_DETAILS))


def download(path: str) -> ApiCall:
    # mode=download, because then a file comes as an attachment: a JSON file cannot be taken for an error.
    return _call("SYNO.FileStation.Download", 2, "download", path, path=[path], mode="download")


def download_together(paths: Sequence[str]) -> ApiCall:
    """Several files of one folder, which come as a zip."""
    about = paths[0].rpartition("/")[0]
    return _call("SYNO.FileStation.Download", 2, "download", about, path=list(paths), mode="download")


def thumbnail(path: str, size: str) -> ApiCall:
    return _call("SYNO.FileStation.Thumb", 2, "get", path, path=path, size=size)


# ----- changing -------------------------------------------------------------------------------------------------
# None of these is repeated once it may have reached the NAS.


def _change(api: str, version: int, method: str, about: str | None, /, **parameters: Any) -> ApiCall:
    return replace(_call(api, version, method, about, **parameters), idempotent=False)


def create_folder(parent: str, name: str) -> ApiCall:
    # In arrays: plain strings are an error on some builds, and on others success without a folder.
    return _change(
        "SYNO.FileStation.CreateFolder", 2, "create", f"{parent}/{name}",
        folder_path=[parent], name=[name], force_parent=False, additional=list(ENTRY_DETAILS),
    )  # fmt: skip


def rename(path: str, new_name: str) -> ApiCall:
    return _change(
        "SYNO.FileStation.Rename", 2, "rename", path,
        path=[path], name=[new_name], additional=list(ENTRY_DETAILS),
    )  # fmt: skip


def delete(path: str, *, recursive: bool = False) -> ApiCall:
    """The blocking form, which refuses a folder that has entries, unless it is `recursive`."""
    return _change("SYNO.FileStation.Delete", 2, "delete", path, path=[path], recursive=recursive)


def delete_start(paths: Sequence[str], about: str) -> ApiCall:
    """The form for much at once, with all below."""
    return _change(
        "SYNO.FileStation.Delete", 2, "start", about, path=list(paths), recursive=True, accurate_progress=True
    )


def copy_move_start(path: str, dest_dir: str, *, overwrite: bool, remove_source: bool) -> ApiCall:
    # overwrite=false would skip what exists and report success; only its absence makes that an error.
    return _change(
        "SYNO.FileStation.CopyMove", 3, "start", path,
        path=[path], dest_folder_path=dest_dir, overwrite=True if overwrite else None,
        remove_src=remove_source, accurate_progress=False,
    )  # fmt: skip


def check_permission(dir_path: str, name: str) -> ApiCall:
    return _call(
        "SYNO.FileStation.CheckPermission", 3, "write", f"{dir_path}/{name}",
        path=dir_path, filename=name, overwrite=True, create_only=False,
    )  # fmt: skip


def md5_start(path: str) -> ApiCall:
    return _call("SYNO.FileStation.MD5", 2, "start", path, file_path=path)


def task_status(start: ApiCall, taskid: str) -> ApiCall:
    return _call(start.api, start.version, "status", start.path, taskid=taskid)


def task_stop(start: ApiCall, taskid: str) -> ApiCall:
    return _call(start.api, start.version, "stop", start.path, taskid=taskid)


def upload(path: str) -> ApiCall:
    return _change("SYNO.FileStation.Upload", 3, "upload", path)


# ----- services -------------------------------------------------------------------------------------------------


def station_info() -> ApiCall:
    return _call("SYNO.FileStation.Info", 2, "get", None)


def search_start(folder: str, **wanted: Any) -> ApiCall:
    return _call("SYNO.FileStation.Search", 2, "start", folder, folder_path=[folder], **wanted)


def search_list(folder: str, taskid: str, offset: int, limit: int) -> ApiCall:
    # limit=0 is said to mean "all", and was seen to return nothing.
    return _call(
        "SYNO.FileStation.Search", 2, "list", folder,
        taskid=taskid, offset=offset, limit=limit, sort_by="name", sort_direction="asc",
        additional=list(ENTRY_DETAILS),
    )  # fmt: skip


def search_end(method: str, taskid: str) -> ApiCall:
    return _call("SYNO.FileStation.Search", 2, method, None, taskid=taskid)


def dir_size_start(paths: Sequence[str]) -> ApiCall:
    about = paths[0] if len(paths) == 1 else None
    return _call("SYNO.FileStation.DirSize", 2, "start", about, path=list(paths))


def favorites() -> ApiCall:
    return _call("SYNO.FileStation.Favorite", 2, "list", None, offset=0, limit=0, status_filter="all")


def favorite_add(path: str, name: str) -> ApiCall:
    return _change("SYNO.FileStation.Favorite", 2, "add", path, path=path, name=name, index=-1)


def favorite_delete(path: str) -> ApiCall:
    return _change("SYNO.FileStation.Favorite", 2, "delete", path, path=path)


def sharing_links() -> ApiCall:
    return _call("SYNO.FileStation.Sharing", 3, "list", None, offset=0, limit=0)


def sharing_link(link_id: str, path: str) -> ApiCall:
    return _call("SYNO.FileStation.Sharing", 3, "getinfo", path, id=link_id)


def sharing_create(path: str, password: str | None, expires: str | None, available: str | None) -> ApiCall:
    return _change(
        "SYNO.FileStation.Sharing", 3, "create", path,
        path=[path], password=password, date_expired=expires, date_available=available,
    )  # fmt: skip


def sharing_delete(link_ids: Sequence[str]) -> ApiCall:
    return _change("SYNO.FileStation.Sharing", 3, "delete", None, id=list(link_ids))


def compress_start(paths: Sequence[str], archive: str, file_format: str, level: str, password: str | None) -> ApiCall:
    return _change(
        "SYNO.FileStation.Compress", 3, "start", archive,
        path=list(paths), dest_file_path=archive, level=level, mode="add", format=file_format, password=password,
    )  # fmt: skip


def extract_start(archive: str, folder: str, password: str | None, **wanted: Any) -> ApiCall:
    return _change(
        "SYNO.FileStation.Extract", 2, "start", archive,
        file_path=archive, dest_folder_path=folder, keep_dir=True, password=password, **wanted,
    )  # fmt: skip


def extract_list(archive: str, item_id: int, password: str | None) -> ApiCall:
    return _call(
        "SYNO.FileStation.Extract", 2, "list", archive,
        file_path=archive, offset=0, limit=-1, sort_by="name", sort_direction="asc", item_id=item_id,
        password=password,
    )  # fmt: skip


def background_tasks() -> ApiCall:
    return _call(
        "SYNO.FileStation.BackgroundTask", 3, "list", None,
        offset=0, limit=0, sort_by="crtime", sort_direction="asc",
    )  # fmt: skip


def background_clear() -> ApiCall:
    return _change("SYNO.FileStation.BackgroundTask", 3, "clear_finished", None)


def background_stop(api: str, version: int, taskid: str) -> ApiCall:
    return _change(api, version, "stop", None, taskid=taskid)
