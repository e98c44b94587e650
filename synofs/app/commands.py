"""What a running mount can be asked to do: each command of the control socket with its arguments, as a type.

A request is one JSON object, `{"command": TAG, ...}`. It is checked here and nowhere else: whatever is missing, of the
wrong type or unknown, a caller is told by name before anything is done. Paths are those inside the mount.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from synofs.app.errors import Failure, Problem
from synofs.filestation.search import SearchFilter
from synofs.filestation.secret import Secret

DEFAULT_FLUSH_SECONDS = 600.0

Path = Annotated[str, Meta(pattern="^/")]
Text = Annotated[str, Meta(min_length=1)]
Seconds = Annotated[float, Meta(ge=0)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command"):
    as_: str = msgspec.field(name="as", default="")  # the command that the user typed, for what is said of failures


# ----- the mount itself -----------------------------------------------------------------------------------------


class Status(Request, frozen=True, tag="status"):
    pass


class Debug(Request, frozen=True, tag="debug"):
    pass


class Refresh(Request, frozen=True, tag="refresh"):
    path: Path


class Flush(Request, frozen=True, tag="flush"):
    timeout_seconds: Seconds = DEFAULT_FLUSH_SECONDS


class Umount(Request, frozen=True, tag="umount"):
    timeout_seconds: Seconds = DEFAULT_FLUSH_SECONDS


# ----- files ----------------------------------------------------------------------------------------------------


class Copy(Request, frozen=True, tag="copy"):
    source: Path
    target: Path
    move: bool = False
    into: bool = False  # the target has to be a folder
    overwrite: bool = False


class Search(Request, frozen=True, tag="search"):
    path: Path
    filter: SearchFilter


class Du(Request, frozen=True, tag="du"):
    path: Path


class Md5(Request, frozen=True, tag="md5"):
    path: Path


class Compress(Request, frozen=True, tag="compress"):
    archive: Path
    sources: Annotated[list[Path], Meta(min_length=1)]
    format: Text
    level: Text
    password: Secret | None = None


class Extract(Request, frozen=True, tag="extract"):
    archive: Path
    folder: Path
    items: list[str] = []  # paths in the archive; none: all of it
    password: Secret | None = None
    overwrite: bool = False
    subfolder: bool = False


class Peek(Request, frozen=True, tag="peek"):
    archive: Path
    password: Secret | None = None


# ----- the account ----------------------------------------------------------------------------------------------


class ShareCreate(Request, frozen=True, tag="share_create"):
    path: Path
    password: Secret | None = None
    expires: datetime.date | None = None


class ShareList(Request, frozen=True, tag="share_list"):
    pass


class ShareRemove(Request, frozen=True, tag="share_remove"):
    by: Literal["path", "link"]
    value: Text  # a path, or a link's id or address
    shown: str  # as the user wrote it


class TrashList(Request, frozen=True, tag="trash_list"):
    path: Path


class TrashRestore(Request, frozen=True, tag="trash_restore"):
    path: Path
    overwrite: bool = False


class TrashEmpty(Request, frozen=True, tag="trash_empty"):
    path: Path


class FavList(Request, frozen=True, tag="fav_list"):
    pass


class FavAdd(Request, frozen=True, tag="fav_add"):
    path: Path
    name: str | None = None


class FavRemove(Request, frozen=True, tag="fav_remove"):
    path: Path


class TasksList(Request, frozen=True, tag="tasks_list"):
    pass


class TasksStop(Request, frozen=True, tag="tasks_stop"):
    id: Text


class TasksClear(Request, frozen=True, tag="tasks_clear"):
    pass


class Thumb(Request, frozen=True, tag="thumb"):
    path: Path
    size: Literal["small", "medium", "large"]


# ----- reading them ---------------------------------------------------------------------------------------------


def decoder(requests: Iterable[type[Request]]) -> Callable[[bytes], Request]:
    """Reads lines that hold one of these requests. It raises `NOT_UNDERSTOOD` for all others."""
    known: Any = Union[tuple(requests)]  # noqa: UP007
    reader = msgspec.json.Decoder(known, dec_hook=_decode)

    def decode(line: bytes) -> Request:
        try:
            request: Request = reader.decode(line)
        except (msgspec.MsgspecError, RecursionError) as exc:
            raise Failure(Problem.NOT_UNDERSTOOD, detail=exc) from exc
        return request

    return decode


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str) and value:
        return Secret(value)
    raise ValueError(f"Expected text that is a {kind.__name__.lower()}")
