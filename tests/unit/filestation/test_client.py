"""The client's own part: looking at many paths, shares, space, and its life."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.transport import ConnectFailed
from tests.unit.filestation.scripted_transport import (
    Answer,
    ScriptedNas,
    Sent,
    answer,
    credentials,
    failure,
    success,
)

pytestmark = pytest.mark.trio


def client_of(nas: ScriptedNas, **options: Any) -> FileStationClient:
    return FileStationClient(ClientOptions(url="https://nas", **options), credentials(), transport=nas.transport)


def getinfo(record: Callable[[str], dict[str, Any]]) -> Callable[[Sent], Answer]:
    def files(sent: Sent) -> Answer:
        return success({"files": [record(path) for path in json.loads(sent.parameters["path"])]})

    return files


def there(path: str) -> dict[str, Any]:
    return {"name": path.rpartition("/")[2], "path": path, "isdir": False}


async def test_a_thousand_paths_take_ten_calls_some_at_once() -> None:
    at_once = most = 0
    answers = getinfo(there)

    async def files(sent: Sent) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await trio.lowlevel.checkpoint()
        at_once -= 1
        return answers(sent)

    nas = ScriptedNas(files)
    paths = [f"/s/{number}" for number in range(1000)]
    entries = await client_of(nas).get_entries(paths)
    assert [entry.name for entry in entries if entry] == [str(number) for number in range(1000)]
    assert nas.transport.count("FileStation.List.getinfo") == 10
    assert 1 < most <= 6


async def test_a_failure_of_one_batch_is_raised_as_it_is() -> None:
    nas = ScriptedNas(lambda sent: failure(407) if '"/s/150"' in sent.parameters["path"] else getinfo(there)(sent))
    with pytest.raises(remote.PermissionDenied):
        await client_of(nas).get_entries([f"/s/{number}" for number in range(300)])


async def test_the_root_is_known_without_asking() -> None:
    nas = ScriptedNas()
    [root] = await client_of(nas).get_entries(["/"])
    assert root is not None
    assert root.is_dir
    assert nas.transport.sent == []


async def test_a_build_that_refuses_the_whole_call_for_one_missing_path() -> None:
    def files(sent: Sent) -> Answer:
        return failure(408) if '"/s/gone"' in sent.parameters["path"] else getinfo(there)(sent)

    entries = await client_of(ScriptedNas(files)).get_entries(["/s/a", "/s/gone", "/s/b", "/"])
    assert [entry.name if entry else None for entry in entries] == ["a", None, "b", ""]


@pytest.mark.parametrize(
    "refusal", [failure(101), failure(400), failure(408), answer(b"", status=413), answer(b"", status=414)]
)
async def test_a_batch_that_is_refused_is_halved_until_it_is_taken(refusal: Answer) -> None:
    def files(sent: Sent) -> Answer:
        return refusal if len(json.loads(sent.parameters["path"])) > 20 else getinfo(there)(sent)

    nas = ScriptedNas(files)
    client = client_of(nas)
    for _ in range(3):
        nas.transport.sent.clear()
        paths = [f"/s/{number}" for number in range(100)]
        assert [entry.name for entry in await client.get_entries(paths) if entry] == [path[3:] for path in paths]
    assert nas.transport.count("FileStation.List.getinfo") <= 9, "what was refused is not tried for ever"


async def test_a_build_that_answers_for_so_many_paths_and_no_more() -> None:
    def files(sent: Sent) -> Answer:
        return success({"files": [there(path) for path in json.loads(sent.parameters["path"])][:30]})

    entries = await client_of(ScriptedNas(files)).get_entries([f"/s/{number}" for number in range(100)])
    assert [entry.name for entry in entries if entry] == [str(number) for number in range(100)]


async def test_one_path_that_the_nas_does_not_take_costs_few_calls_and_no_other_paths_answer() -> None:
    def files(sent: Sent) -> Answer:
        return failure(408) if '"/s/50"' in sent.parameters["path"] else getinfo(there)(sent)

    nas = ScriptedNas(files)
    entries = await client_of(nas).get_entries([f"/s/{number}" for number in range(100)])
    assert [number for number, entry in enumerate(entries) if entry is None] == [50]
    assert nas.transport.count("FileStation.List.getinfo") <= 15


async def test_a_path_out_of_sight_does_not_cost_the_others() -> None:
    nas = ScriptedNas(getinfo(lambda path: {"code": 407, "path": path} if path == "/s/no" else there(path)))
    client = client_of(nas)
    assert [bool(entry) for entry in await client.get_entries(["/s/a", "/s/no"])] == [True, False]
    with pytest.raises(remote.PermissionDenied):
        await client.get_entries(["/s/no"])


async def test_a_disk_error_is_not_taken_for_nothing() -> None:
    nas = ScriptedNas(getinfo(lambda path: {"code": 417, "path": path}))
    with pytest.raises(remote.InputOutput):
        await client_of(nas).get_entries(["/s/a", "/s/b"])


async def test_the_root_lists_shares_and_a_folder_its_files() -> None:
    def files(sent: Sent) -> Answer:
        record = {"name": "x", "isdir": True, "path": "/x"}
        key = "shares" if sent.name.endswith("list_share") else "files"
        return success({key: [record], "total": 1, "offset": 0})

    nas = ScriptedNas(files)
    client = client_of(nas)
    names: list[str] = []
    await client.list_dir("/", lambda page: names.extend(entry.name for entry in page))
    await client.list_dir("/x", lambda page: names.extend(entry.name for entry in page))
    assert names == ["x", "x"]
    assert nas.transport.names()[-2:] == ["FileStation.List.list_share", "FileStation.List.list"]


async def test_space_asks_for_nothing_else() -> None:
    def files(sent: Sent) -> Answer:
        status = {"freespace": 1, "totalspace": 2, "readonly": False}
        share = {"name": "media", "isdir": True, "path": "/media", "additional": {"volume_status": status}}
        return success({"shares": [share], "total": 1})

    nas = ScriptedNas(files)
    client = client_of(nas)
    assert await client.spaces() == {"media": remote.Space(total_bytes=2, free_bytes=1)}
    assert nas.transport.sent[-1].parameters["additional"] == '["volume_status"]'


async def test_what_is_read_holds_what_is_asked_for_within_one_deadline(autojump_clock: MockClock) -> None:
    nas = ScriptedNas(lambda sent: failure(402))
    start = trio.current_time()
    with pytest.raises(remote.Overloaded):
        await client_of(nas, metadata_deadline_seconds=3).get_entries(["/s/a"])
    assert trio.current_time() - start <= 3


async def test_connecting_is_tried_once() -> None:
    nas = ScriptedNas()
    nas.transport._script = lambda sent: ConnectFailed("refused")
    with pytest.raises(remote.Unreachable):
        await client_of(nas).connect()
    assert len(nas.transport.sent) == 1


async def test_closing_takes_no_longer_than_a_few_seconds(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()
    client = client_of(nas)
    await client.connect()

    async def hang(sent: Sent) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    nas.transport._script = hang
    start = trio.current_time()
    await client.aclose()
    assert trio.current_time() - start <= 3


async def test_probing_says_what_is_wrong() -> None:
    nas = ScriptedNas()
    await client_of(nas).probe()
    nas.transport._script = lambda sent: answer(b"<html>")
    with pytest.raises(remote.BadAnswer):
        await client_of(nas).probe()
    assert nas.logins == 0


async def test_a_clock_of_the_nas_that_is_set_is_noticed_with_the_next_answer() -> None:
    now = 1_700_000_000.0

    def files(sent: Sent) -> Answer:
        return answer({"success": True, "data": {"shares": [], "total": 0}}, date=formatdate(now, usegmt=True))

    client = client_of(ScriptedNas(files))
    for jump in (0, 86_400, -86_400, 3650 * 86_400, -3650 * 86_400):
        now += jump
        await client.spaces()
        clock = client.clock_seconds()
        assert clock is not None
        assert abs(clock - now) < 2
