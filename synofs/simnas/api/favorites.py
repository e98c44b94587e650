"""SYNO.FileStation.Favorite: bookmarks of an account, kept in memory."""

from __future__ import annotations

import os
from typing import Any, NoReturn

from ..nas import Answer, Call, Method, blocking
from ..remembered import Bookmark
from ..wire import ApiError
from .listing import record_of

ALREADY_THERE = 800
NAME_USED = 801
TOO_MANY = 802
UNKNOWN = 401

_MOST = 100


def _bookmarks(call: Call) -> list[Bookmark]:
    return call.nas.remembered.bookmarks.setdefault(call.session.account.name, [])


def list_favorites(call: Call) -> Answer:
    """The favourites; one that is no folder (any more) is `broken`."""
    params = call.params
    wanted = params.choice("status_filter", ("valid", "broken", "all"), "all")
    additional = params.additional()
    records = [_record(call, bookmark, additional) for bookmark in _bookmarks(call)]
    records = [record for record in records if wanted in ("all", record["status"])]
    offset, page = params.page(records)
    return {"favorites": page, "offset": offset, "total": len(records)}


def _record(call: Call, bookmark: Bookmark, additional: frozenset[str]) -> dict[str, Any]:
    try:
        found = record_of(call, call.locate(bookmark.path), additional)
    except ApiError:
        found = {"isdir": False}
    status = "valid" if found["isdir"] else "broken"
    return {**found, "name": bookmark.name, "path": bookmark.path, "status": status}


def add(call: Call) -> Answer:
    """Adds a favourite; also for a file or a missing path."""
    path, name = call.params.path("path"), call.params.text("name")
    bookmarks = _bookmarks(call)
    name = name or os.path.basename(path)
    for bookmark in bookmarks:
        if bookmark.path == path:
            _refuse(ALREADY_THERE, path, name)
        if bookmark.name == name:
            _refuse(NAME_USED, path, name)
    if len(bookmarks) >= _MOST:
        _refuse(TOO_MANY, path, name)
    index = call.params.integer("index", -1)
    bookmarks.insert(index if 0 <= index < len(bookmarks) else len(bookmarks), Bookmark(path, name))
    return None


def _refuse(code: int, path: str, name: str) -> NoReturn:
    raise ApiError(code, [{"code": code, "name": name, "path": path}])


def delete(call: Call) -> Answer:
    """Removes a favourite; one that is none is no error."""
    path = call.params.path("path")
    bookmarks = _bookmarks(call)
    bookmarks[:] = [bookmark for bookmark in bookmarks if bookmark.path != path]
    return None


def edit(call: Call) -> Answer:
    """Gives a favourite another name."""
    path, name = call.params.path("path"), call.params.text("name")
    for bookmark in _bookmarks(call):
        if bookmark.path == path:
            bookmark.name = name
            return None
    raise ApiError(UNKNOWN)


def replace_all(call: Call) -> Answer:
    """All favourites at once."""
    paths, names = call.params.paths("path"), call.params.texts("name")
    if len(paths) != len(names):
        raise ApiError(400)
    _bookmarks(call)[:] = [Bookmark(path, name) for path, name in zip(paths, names, strict=True)]
    return None


def clear_broken(call: Call) -> Answer:
    """Removes every favourite that is broken."""
    bookmarks = _bookmarks(call)
    bookmarks[:] = [b for b in bookmarks if _record(call, b, frozenset())["status"] == "valid"]
    return None


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.Favorite": {
        "list": blocking(list_favorites),
        "add": blocking(add),
        "delete": blocking(delete),
        "edit": blocking(edit),
        "replace_all": blocking(replace_all),
        "clear_broken": blocking(clear_broken),
    }
}
