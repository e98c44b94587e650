"""SYNO.FileStation.Sharing: public links to files and folders, kept in memory."""

from __future__ import annotations

import datetime
import re
import secrets
from typing import Any

from ..nas import Answer, Call, Method, blocking
from ..remembered import Link
from ..wire import ApiError
from .listing import record_of

NO_SUCH_LINK = 2000
TOO_MANY = 2001

_MOST = 1000

_SORT_KEYS = (
    "id",
    "name",
    "isFolder",
    "path",
    "date_expired",
    "date_available",
    "status",
    "has_password",
    "url",
    "link_owner",
)


def _record(call: Call, link: Link) -> dict[str, Any]:
    return {
        "date_available": link.date_available,
        "date_expired": link.date_expired,
        "has_password": bool(link.password),
        "id": link.id,
        "isFolder": link.is_folder,
        "link_owner": link.owner,
        "name": link.path.rpartition("/")[2],
        "path": link.path,
        "status": _status(call, link),
        "url": _url(call, link),
    }


def _status(call: Call, link: Link) -> str:
    today = datetime.date.today().isoformat()
    if link.date_expired and link.date_expired[:10] < today:
        return "expired"
    if link.date_available and link.date_available[:10] > today:
        return "invalid"
    try:
        record_of(call, call.locate(link.path), frozenset())
    except ApiError:
        return "broken"
    return "valid"


def _url(call: Call, link: Link) -> str:
    base = call.request.base_url
    return f"{base.scheme}://{base.netloc}/sharing/{link.id}"


def _own(call: Call) -> list[Link]:
    return [link for link in call.nas.remembered.links.values() if link.owner == call.session.account.name]


def getinfo(call: Call) -> Answer:
    """One link."""
    link = call.nas.remembered.links.get(call.params.text("id"))
    if link is None:
        raise ApiError(NO_SUCH_LINK)
    return _record(call, link)


def list_links(call: Call) -> Answer:
    """The links of the account."""
    params = call.params
    if params.flag("force_clean"):
        clear_invalid(call)
    records = [_record(call, link) for link in _own(call)]
    sort_by = params.text("sort_by")
    if sort_by in _SORT_KEYS:
        records.sort(key=lambda record: str(record[sort_by]), reverse=params.descending)
    offset, page = params.page(records)
    return {"links": page, "offset": offset, "total": len(records)}


def create(call: Call) -> Answer:
    """One link for each path. A path that cannot be shared has an error in its own entry."""
    if not call.session.account.may_share:
        raise ApiError(407)
    paths = call.params.paths("path")
    if not paths:
        raise ApiError(400)
    if len(call.nas.remembered.links) + len(paths) > _MOST:
        raise ApiError(TOO_MANY)
    return {"links": [_create_one(call, path) for path in paths]}


def _create_one(call: Call, path: str) -> dict[str, Any]:
    try:
        record = record_of(call, call.locate(path), frozenset())
    except ApiError as error:
        return {"error": error.code, "id": "", "path": path, "qrcode": "", "url": ""}
    link = Link(secrets.token_urlsafe(6), path, call.session.account.name, record["isdir"])
    _apply(call, link)
    call.nas.remembered.links[link.id] = link
    return {"error": 0, "id": link.id, "path": path, "qrcode": "", "url": _url(call, link)}


def _apply(call: Call, link: Link) -> None:
    """Password and dates of a call. A date that is not quoted is silently ignored."""
    params = call.params
    if "password" in params:
        password = params.text("password")
        if len(password) > 16:
            raise ApiError(400)
        link.password = password
    expired = params.quoted("date_expired", link.date_expired)
    available = params.quoted("date_available", link.date_available)
    link.date_expired = f"{expired} 23:59:59" if re.fullmatch(r"\d{4}-\d\d-\d\d", expired) else expired
    link.date_available = f"{available} 00:00:00" if re.fullmatch(r"\d{4}-\d\d-\d\d", available) else available


def edit(call: Call) -> Answer:
    """Changes links."""
    links = [call.nas.remembered.links.get(link_id) for link_id in call.params.texts("id")]
    if not links or None in links:
        raise ApiError(NO_SUCH_LINK)
    for link in links:
        if link is not None:
            _apply(call, link)
    return None


def delete(call: Call) -> Answer:
    """Removes links; 401 with the ids that are none."""
    unknown = []
    for link_id in call.params.texts("id"):
        if call.nas.remembered.links.pop(link_id, None) is None:
            unknown.append({"id": link_id})
    if unknown:
        raise ApiError(401, unknown)
    return None


def clear_invalid(call: Call) -> Answer:
    """Removes expired and broken links."""
    for link in _own(call):
        if _status(call, link) in ("expired", "broken"):
            del call.nas.remembered.links[link.id]
    return None


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.Sharing": {
        "getinfo": blocking(getinfo),
        "list": blocking(list_links),
        "create": blocking(create),
        "edit": blocking(edit),
        "delete": blocking(delete),
        "clear_invalid": blocking(clear_invalid),
    }
}
