"""What a NAS may make us keep, ask and wait for is bounded, and the bounds are those that docs/SEMANTICS.md states."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from synofs.filestation.archives import MAX_ITEMS
from synofs.filestation.client import FileStationClient
from synofs.filestation.listing import Pager, PagingOptions
from synofs.filestation.parsing import Listing, Record
from synofs.filestation.tasks import TaskOptions
from synofs.filestation.transport import BodyTooBig, Request, Response
from synofs.remote import BadAnswer, RemoteEntry, TimedOut
from tests.hostile import call_paths
from tests.hostile.fuzz import client_for
from tests.unit.filestation.scripted_transport import DSM7, ScriptedNas, ScriptedTransport, Sent, answer, success
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

MIB = 1024 * 1024
SERVICES = ("BackgroundTask", "Compress", "DirSize", "Extract", "Favorite", "Search", "Sharing")


def client_of(files: Callable[[Sent], Any], **options: Any) -> tuple[FileStationClient, ScriptedTransport]:
    """A client, and what it has sent, of a NAS that signs everybody in and then answers so."""
    nas = ScriptedNas(files)
    nas.apis = DSM7 | {f"SYNO.FileStation.{name}": {"path": "entry.cgi", "maxVersion": 3} for name in SERVICES}
    return client_for(nas.transport, **options), nas.transport


def asked(sent: Sent, name: str) -> int:
    return int(sent.parameters.get(name, 0))


# ----- listings -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("total", [None, 10**18, 5001])
@pytest.mark.parametrize("entries_on_a_page", [1, 2, 1000])
async def test_a_listing_without_end_is_an_error(total: int | None, entries_on_a_page: int) -> None:
    options = PagingOptions(first_page=1000, page=1000, max_entries=20_000, max_pages=300)
    pages = delivered = 0

    async def fetch(offset: int, limit: int) -> Listing:
        nonlocal pages
        pages += 1
        await trio.lowlevel.checkpoint()
        names = (f"{offset + number:015}" for number in range(entries_on_a_page))
        lie = total if total != 5001 else offset + 5001
        return Listing(files=[Record(name=name, isdir=False) for name in names], total=lie)

    def on_page(entries: list[RemoteEntry]) -> None:
        nonlocal delivered
        delivered += len(entries)

    if total is None and entries_on_a_page < 1000:
        await Pager(options).list(fetch, on_page, "/x")  # without a total, a page that is not full is the last one
        return
    with pytest.raises(BadAnswer, match=r"does not end|does not list all"):
        await Pager(options).list(fetch, on_page, "/x")
    assert pages <= options.max_pages + 5
    assert delivered <= options.max_entries


async def test_a_folder_that_is_too_big_for_one_answer_comes_in_pages() -> None:
    """The last resort, all in one answer, is not the end where that answer is more than may be kept."""
    names = [f"{number:05}" for number in range(100)]

    def files(sent: Sent) -> Response:
        offset, limit = asked(sent, "offset"), asked(sent, "limit")
        if limit == 0:
            return answer(b" " * (64 * MIB + 1))
        count = len(transport.sent)
        order = names if count > 12 else random.Random(count).sample(names, len(names))  # pages that do not fit
        some = order[offset : offset + limit]
        return success({"files": [{"name": name, "isdir": False} for name in some], "total": len(names)})

    client, transport = client_of(files)
    send = transport.send

    async def limited(request: Request, sink: Any = None) -> Response:
        response = await send(request, sink)
        if len(response.body) > request.max_answer_bytes:
            raise BodyTooBig("too big")
        return response

    transport.send = limited  # type: ignore[method-assign]
    found: list[RemoteEntry] = []
    await client.list_dir("/media", found.extend)
    assert sorted(entry.name for entry in found) == names
    assert [sent for sent in transport.sent if sent.parameters.get("limit") == "0"], "it was asked for in one answer"


# ----- services -------------------------------------------------------------------------------------------------


def never_finished(sent: Sent) -> Response:
    if sent.name.endswith(".start"):
        return success({"taskid": "FileStation_1"})
    if sent.name.endswith(".status"):
        return success({"finished": False, "processed_size": int(trio.current_time() * 1000)})
    if sent.name.endswith(".getinfo"):
        return success(
            {"files": [{"path": p, "name": "x", "isdir": True} for p in json.loads(sent.parameters["path"])]}
        )
    return success({})


async def test_a_task_that_never_ends_is_given_up_however_busy_it_looks() -> None:
    assert TaskOptions().longest_seconds == 86_400
    client, transport = client_of(never_finished, tasks=TaskOptions(longest_seconds=500))
    started = trio.current_time()
    with pytest.raises(TimedOut, match="does not end"):
        await client.services.measures.size(["/media/x"])
    assert trio.current_time() - started < 510
    assert transport.names()[-1] == "FileStation.DirSize.stop"


async def test_a_search_that_never_ends_is_given_up_after_an_hour_and_cleaned_away() -> None:
    def files(sent: Sent) -> Response:
        return success({"taskid": "t"} if sent.name.endswith("start") else {"files": [], "finished": False, "total": 1})

    client, transport = client_of(files)
    started = trio.current_time()
    with pytest.raises(TimedOut, match="does not end"):
        await call_paths.search(client)
    assert trio.current_time() - started < 3700
    assert transport.names()[-2:] == ["FileStation.Search.stop", "FileStation.Search.clean"]


@pytest.mark.parametrize("hits_on_a_page", [0, 1])
async def test_hits_without_end_are_an_error(hits_on_a_page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synofs.filestation.search.MAX_HITS", 2000)

    def files(sent: Sent) -> Response:
        if sent.name.endswith("start"):
            return success({"taskid": "t"})
        path = f"/media/{asked(sent, 'offset')}.jpg"
        hits = [{"path": path, "name": "x.jpg", "isdir": False}] * hits_on_a_page
        return success({"files": hits, "finished": True, "total": 10**18})

    client, transport = client_of(files)
    with pytest.raises(BadAnswer, match="does not end"):
        await call_paths.search(client)
    assert transport.count("FileStation.Search.list") < 2100


def folders_in_folders(sent: Sent) -> Response:
    if sent.name.endswith("getinfo"):
        return never_finished(sent)
    return success({"files": [{"name": "n" * 200, "isdir": True, "path": "x"}], "total": 1})


async def test_a_recycle_bin_of_folders_in_folders_without_end_is_an_error() -> None:
    client, transport = client_of(folders_in_folders)
    with pytest.raises(BadAnswer, match="does not end"):
        await call_paths.recycled(client)
    assert len(transport.sent) < 1000


async def test_an_archive_of_folders_in_folders_without_end_is_an_error() -> None:
    def files(sent: Sent) -> Response:
        parent = asked(sent, "item_id")
        return success({"items": [{"item_id": parent + 1, "name": "n" * 200, "is_dir": True}], "total": 1})

    client, transport = client_of(files)
    with pytest.raises(BadAnswer, match="without end"):
        await call_paths.archive_contents(client)
    assert len(transport.sent) < min(MAX_ITEMS, 1000)


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "../../x", "a\0b"])
async def test_a_name_that_leads_out_of_the_bin_is_never_removed(name: str) -> None:
    removed: list[str] = []
    there = True

    def files(sent: Sent) -> Response:
        nonlocal there
        if sent.name == "FileStation.Delete.start":
            removed.extend(json.loads(sent.parameters["path"]))
            there = False
            return success({"taskid": "t"})
        if sent.name == "FileStation.Delete.status":
            return success({"finished": True})
        if sent.name.endswith("getinfo"):
            asked_for = json.loads(sent.parameters["path"])
            missing = [{"path": path, "code": 408} for path in asked_for]
            return never_finished(sent) if there or asked_for == ["/media/#recycle"] else success({"files": missing})
        records = [{"name": text, "isdir": False, "path": "x"} for text in (name or " ", "good")]
        return success({"files": records, "total": 2})

    client, _ = client_of(files)
    await client.services.recycle_bin.empty("/media")
    assert {"/media/#recycle/good"} <= set(removed) <= {"/media/#recycle/good", "/media/#recycle/ "}


async def test_a_file_in_crumbs_is_an_error() -> None:
    def files(sent: Sent) -> Response:
        first = int(sent.request.headers["Range"].removeprefix("bytes=").partition("-")[0])
        span = {"content_range": f"bytes {first}-{first}/3000", "content_length": "1"}
        return answer(b"x", 206, content_disposition="attachment", **span)

    client, transport = client_of(files)
    with pytest.raises(BadAnswer, match="crumbs"):
        await call_paths.read(client)
    assert transport.count("FileStation.Download.download") < 100
