"""Every decoder of answers, with what must hold of what it makes."""

from __future__ import annotations

import random
import re
from typing import Any

from synofs.filestation import archives, background, favourites, search, sharing, slices, tasks, wire
from synofs.filestation.auth import _SignedIn, _Token
from synofs.filestation.discovery import ApiInfo, Apis
from synofs.filestation.parsing import Compound, Empty, Listing, data_of, entry_of, is_missing, matched, space_of
from synofs.filestation.services import StationInfo
from synofs.filestation.tasks import progress_of
from synofs.filestation.transport import Head
from synofs.remote import RemoteError
from tests.hostile import answers
from tests.hostile.call_paths import check_entry, check_progress

# What is decoded into what, and which call's answer it is.
KINDS: tuple[tuple[str, Any], ...] = (
    ("FileStation.List.list", Listing),
    ("FileStation.List.getinfo", Listing),
    ("FileStation.List.list_share", Listing),
    ("FileStation.Rename.rename", Listing),
    ("Entry.Request.request", Compound),
    ("FileStation.Search.list", search.Finds),
    ("FileStation.CopyMove.start", tasks.Started),
    ("FileStation.CopyMove.status", tasks.Status),
    ("FileStation.Upload.upload", slices.Uploaded),
    ("FileStation.Extract.list", archives._Items),
    ("FileStation.Favorite.list", favourites._Favourites),
    ("FileStation.BackgroundTask.list", background._Tasks),
    ("FileStation.Sharing.list", sharing._Links),
    ("FileStation.Sharing.create", sharing._MadeLinks),
    ("FileStation.Sharing.getinfo", sharing.Link),
    ("FileStation.Info.get", StationInfo),
    ("FileStation.Delete.delete", Empty),
    ("API.Auth.login", _SignedIn),
    ("API.Auth.token", _Token),
    ("API.Info.query", dict[str, ApiInfo]),
)

ASKED = {
    "path": ["/media/a", "/media/b"], "offset": 0, "limit": 20, "name": ["x"], "folder_path": ["/media"],
    "compound": [{"api": "SYNO.FileStation.List", "method": "list", "version": 2, "offset": 0, "limit": 20}] * 2,
}  # fmt: skip


def decode(name: str, kind: Any, body: bytes) -> None:
    """A value that holds what it promises, or a `RemoteError`; anything else is raised."""
    try:
        value = data_of(f"SYNO.{name.rpartition('.')[0]}", body, kind, path="/media")
    except RemoteError as exc:
        if not str(exc).isprintable():
            raise AssertionError("something of the answer got into the message") from exc
        return
    if isinstance(value, Listing):
        _check_listing(value)
    elif isinstance(value, Compound):
        for part in value.result:
            if part.data is not None:
                _check_listing(part.data)
    elif isinstance(value, search.Finds):
        _check_listing(Listing(files=value.files))
    elif isinstance(value, tasks.Status):
        check_progress(progress_of(value))
    elif kind == dict[str, ApiInfo]:
        _check_apis(value)


def _check_listing(listing: Listing) -> None:
    for record in listing.records:
        space = space_of(record)
        assert space is None or 0 <= space.free_bytes <= space.total_bytes < 2**63
        try:
            if not is_missing(record):
                check_entry(entry_of(record))
        except RemoteError:
            continue
    try:
        assert len(matched(ASKED["path"], listing.records)) == 2
    except RemoteError:
        return


def _check_apis(known: dict[str, ApiInfo]) -> None:
    try:
        apis = Apis(known)
        for api in known:
            path = apis.path(api)
            assert re.fullmatch(r"[\w./-]{1,200}", path, re.ASCII)
            assert ".." not in path
            assert isinstance(apis.version(api, 7), int)
    except RemoteError:
        return


def decode_made_answer(seed: int) -> None:
    """One answer of the generator's."""
    rng = random.Random(seed)
    name, kind = KINDS[seed % len(KINDS)]
    decode(name, kind, answers.envelope(rng, name, ASKED, 0.95))


def read_head(status: int, headers: dict[str, str]) -> None:
    """What is made of an answer's head before its body is looked at."""
    head = Head(status, headers)
    assert head.content_length is None or 0 <= head.content_length < 10**19
    assert isinstance(head.content_type, str)
    offset = wire.clock_offset(headers.get("date", ""), 1.7e9)
    assert offset is None or abs(offset) < 1e12
    try:
        wire.check_status(head, "/media")
    except RemoteError:
        return
