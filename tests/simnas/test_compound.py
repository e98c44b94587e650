"""SYNO.Entry.Request: several calls in one request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

LIST = {"api": "SYNO.FileStation.List", "method": "list", "version": 2}


def ask(nas: Any, calls: Any, version: int = 1, **more: str) -> Any:
    raw = {"compound": json.dumps(calls), **more}
    return nas.post("SYNO.Entry.Request", version, "request", raw)


@pytest.mark.parametrize("mode", ["sequential", "parallel", '"sequential"', '"parallel"'])
def test_each_call_has_its_answer_in_order(nas: Any, mode: str) -> None:
    calls = [
        {"api": "SYNO.FileStation.Info", "method": "get", "version": 2},
        LIST | {"folder_path": "/media", "offset": 0, "limit": 5},
        {"api": "SYNO.FileStation.List", "method": "getinfo", "version": 2, "path": ["/media"]},
    ]
    data = ask(nas, calls, mode=mode, stop_when_error="false").data
    assert data["has_fail"] is False
    assert [(part["api"], part["method"], part["version"], part["success"]) for part in data["result"]] == [
        (call["api"], call["method"], 2, True) for call in calls
    ]
    assert data["result"][1]["data"] == nas.get("List", 2, "list", folder_path="/media", offset=0, limit=5).data
    assert data["result"][2]["data"]["files"][0]["path"] == "/media"


def test_a_call_that_fails_does_so_in_its_place(nas: Any) -> None:
    calls = [LIST | {"folder_path": "/media/none"}, LIST | {"folder_path": "/media"}, {"api": "SYNO.No", "method": "x"}]
    data = ask(nas, calls).data
    assert data["has_fail"] is True
    assert [part["success"] for part in data["result"]] == [False, True, False]
    assert data["result"][0]["error"]["code"] == 408
    assert ask(nas, calls, stop_when_error="true").data["result"][1]["error"]["code"] == 112


@pytest.mark.parametrize("compound", ["", "[", "{}", "[1]"])
def test_what_is_no_list_of_calls_is_refused(nas: Any, compound: str) -> None:
    assert nas.post("SYNO.Entry.Request", 1, "request", {"compound": compound}).code == 113


def test_it_needs_a_session(nas: Any) -> None:
    nas.sid = ""
    assert ask(nas, [LIST | {"folder_path": "/media"}]).code == 119


def test_it_is_one_request_and_several_calls(nas: Any) -> None:
    before = nas.stats()
    ask(nas, [LIST | {"folder_path": "/media"}] * 3)
    after = nas.stats()
    name = "SYNO.FileStation.List.list"
    assert after["calls"].get(name, 0) == before["calls"].get(name, 0)
    assert after["nested"][name] == before["nested"].get(name, 0) + 3
    assert after["calls"]["SYNO.Entry.Request.request"] == 1


def test_builds_without_it(start: Callable[..., Any]) -> None:
    nas = start("--quirk", "compound=absent")
    assert ask(nas, [LIST | {"folder_path": "/media"}]).code == 102
    nas = start("--quirk", "compound=not-for-files")
    [part] = ask(nas, [LIST | {"folder_path": "/media"}]).data["result"]
    assert part["error"]["code"] == 103
