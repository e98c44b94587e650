"""Several folders in one request: believed when it works, given up when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import trio

from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.manylists import FIRST_FOLDERS, MAX_FOLDERS
from synofs.filestation.transport import ConnectFailed
from synofs.remote import NotFound, Unavailable
from tests.unit.filestation.scripted_transport import DSM7, Answer, ScriptedNas, Sent, credentials, failure, success
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

TOGETHER = "Entry.Request.request"
ALONE = "FileStation.List.list"


def nas_with(together: Callable[[list[dict[str, Any]]], Answer]) -> tuple[FileStationClient, ScriptedNas]:
    def files(sent: Sent) -> Answer:
        if sent.name == TOGETHER:
            assert sent.parameters["mode"] == '"sequential"'
            assert sent.parameters["stop_when_error"] == "false"
            return together(json.loads(sent.parameters["compound"]))
        if sent.name == "FileStation.List.list_share":
            return success({"shares": [], "total": 0})
        return listing(json.loads(sent.parameters["folder_path"]))

    nas = ScriptedNas(files)
    nas.apis = {**DSM7, "SYNO.Entry.Request": {"path": "entry.cgi", "minVersion": 1, "maxVersion": 2}}
    return FileStationClient(ClientOptions(url="https://nas"), credentials(), transport=nas.transport), nas


def page_of(path: str) -> dict[str, Any]:
    return {"files": [{"name": f"in {path}", "path": f"{path}/x", "isdir": False}], "total": 1, "offset": 0}


def listing(path: str) -> Answer:
    return failure(408) if path.endswith("gone") else success(page_of(path))


def part(call: dict[str, Any]) -> dict[str, Any]:
    path = call["folder_path"]
    name = {key: call[key] for key in ("api", "method", "version")}
    if path.endswith("gone"):
        return name | {"success": False, "error": {"code": 408}}
    return name | {"success": True, "data": page_of(path)}


def all_answered(calls: list[dict[str, Any]]) -> Answer:
    return success({"has_fail": False, "result": [part(call) for call in calls]})


async def lists(client: FileStationClient, *paths: str) -> list[list[str] | type[Exception]]:
    await client.connect()
    found: list[list[str]] = [[] for _ in paths]
    ended: dict[int, Exception | None] = {}

    def on_listed(number: int, error: Exception | None) -> None:
        assert number not in ended, "told twice"
        ended[number] = error

    await client.list_dirs(paths, lambda number, page: found[number].extend(entry.name for entry in page), on_listed)
    return [found[n] if ended[n] is None else type(ended[n]) for n in range(len(paths))]


async def test_several_folders_are_one_request() -> None:
    client, nas = nas_with(all_answered)
    assert await lists(client, "/s/a", "/s/b", "/s/c") == [["in /s/a"], ["in /s/b"], ["in /s/c"]]
    assert nas.transport.count(TOGETHER) == 1
    assert nas.transport.count(ALONE) == 0


async def test_a_folder_that_fails_in_company_is_asked_for_alone() -> None:
    client, nas = nas_with(all_answered)
    assert await lists(client, "/s/a", "/s/gone") == [["in /s/a"], NotFound]
    assert (nas.transport.count(TOGETHER), nas.transport.count(ALONE)) == (1, 1)
    assert client.folders_at_once > 1, "one folder's failure says nothing about the rest"


@pytest.mark.parametrize(
    "answer",
    [
        failure(101),
        failure(102),
        failure(103),
        failure(113),
        success(),
        success({"result": []}),
        success({"has_fail": True, "result": [{"success": False, "error": {"code": 103}}] * 2}),
        success({"has_fail": False, "result": [{"success": True, "data": {}}] * 2}),
        success({"has_fail": False, "result": [{"success": True, "data": {"files": []}}] * 3}),
    ],
)
async def test_a_nas_that_does_not_do_it_is_asked_once_and_nobody_notices(answer: Answer) -> None:
    client, nas = nas_with(lambda calls: answer)
    for _ in range(2):
        assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
        assert client.folders_at_once == 1
    assert nas.transport.count(TOGETHER) == 1


async def test_answers_in_another_order_never_put_a_folders_names_into_another_one() -> None:
    client, _ = nas_with(lambda calls: success({"result": [part(call) for call in reversed(calls)]}))
    assert await lists(client, "/s/a", "/s/b", "/s/c") == [["in /s/a"], ["in /s/b"], ["in /s/c"]]
    assert client.folders_at_once == 1, "it is not believed again"


async def test_a_folder_whose_names_tell_no_path_is_asked_for_alone() -> None:
    def without_paths(calls: list[dict[str, Any]]) -> Answer:
        parts = [part(call) for call in calls]
        del parts[0]["data"]["files"][0]["path"]
        return success({"result": parts})

    client, nas = nas_with(without_paths)
    assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
    assert (nas.transport.count(TOGETHER), nas.transport.count(ALONE)) == (1, 1)


@pytest.mark.parametrize("code", [100, 105, 119, 160, 400, 407, 408, 777])
async def test_what_the_nas_says_of_the_company_is_not_said_of_a_folder(code: int) -> None:
    client, _ = nas_with(lambda calls: failure(code))
    for _ in range(3):
        assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
    assert client.folders_at_once == 1


async def test_folders_that_may_not_be_listed_do_not_end_it_for_the_others() -> None:
    client, nas = nas_with(all_answered)
    assert await lists(client, "/s/gone", "/s/1/gone") == [NotFound, NotFound]
    assert client.folders_at_once > 1
    assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
    assert nas.transport.count(TOGETHER) == 2


async def test_a_company_that_takes_too_long_is_given_up_and_each_folder_has_its_own_time() -> None:
    async def slow(sent: Sent) -> Answer:
        if sent.name != TOGETHER:
            await trio.sleep(3)
            return listing(json.loads(sent.parameters["folder_path"]))
        await trio.sleep(3 * len(json.loads(sent.parameters["compound"])))
        return all_answered(json.loads(sent.parameters["compound"]))

    client, nas = nas_with(all_answered)
    paths = [f"/s/{number}" for number in range(12)]
    for _ in range(8):
        await lists(client, *paths[: client.folders_at_once])
    nas.files = slow
    started = trio.current_time()
    assert await lists(client, *paths) == [[f"in {path}"] for path in paths]
    assert trio.current_time() - started < 20, "the deadline of a call"
    assert client.folders_at_once == 1, "for a while"
    await trio.sleep(600)
    assert 1 < client.folders_at_once <= 6, "then it is tried again, with fewer"


async def test_a_nas_that_does_not_have_it_is_not_asked() -> None:
    client, nas = nas_with(all_answered)
    nas.apis = DSM7
    assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
    assert nas.transport.count(TOGETHER) == 0


async def test_a_session_that_ends_in_between_is_renewed_and_the_question_asked_again() -> None:
    def dead_once(calls: list[dict[str, Any]]) -> Answer:
        if nas.logins == 1:
            nas.live.clear()
            return success({"has_fail": True, "result": [part(calls[0]), {"success": False, "error": {"code": 119}}]})
        return all_answered(calls)

    client, nas = nas_with(dead_once)
    assert await lists(client, "/s/a", "/s/b") == [["in /s/a"], ["in /s/b"]]
    assert nas.logins == 2
    assert client.folders_at_once > 1


@pytest.mark.parametrize("away", [failure(402), ConnectFailed("no route")])
async def test_when_the_nas_is_away_or_too_busy_each_folder_says_so_and_none_is_asked_for_alone(away: Answer) -> None:
    client, nas = nas_with(lambda calls: away)
    result = await lists(client, "/s/a", "/s/b")
    assert all(isinstance(error, type) and issubclass(error, Unavailable) for error in result)
    assert nas.transport.count(ALONE) == 0
    assert client.folders_at_once > 1, "it says nothing of what the NAS can do"


async def test_more_folders_go_together_while_that_is_quick() -> None:
    client, _ = nas_with(all_answered)
    await client.connect()
    assert client.folders_at_once == FIRST_FOLDERS
    for _ in range(20):
        await lists(client, *(f"/s/{number}" for number in range(client.folders_at_once)))
    assert client.folders_at_once == MAX_FOLDERS
