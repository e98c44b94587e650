"""Calls as they go over the wire."""

from __future__ import annotations

import json
from urllib.parse import unquote_to_bytes

import pytest

from synofs.filestation import calls
from synofs.filestation.calls import ApiCall, form

ODD = ["/a/plain", "/a/b c", '/a/"q"', "/a/[x],y", "/a/100%", "/a/ünï", "/a/new\nline", "/a/\udcff", "/a/+&=#?"]

WITH_PATHS = [
    (calls.get_info(["/a", "/b"]), "path", ["/a", "/b"]),
    (calls.download("/a"), "path", ["/a"]),
    (calls.list_folder("/a", 0, 10), "folder_path", "/a"),
    (calls.create_folder("/a", "b"), "folder_path", ["/a"]),
    (calls.create_folder("/a", "b"), "name", ["b"]),
    (calls.rename("/a/b", "c"), "name", ["c"]),
    (calls.delete("/a"), "path", ["/a"]),
    (calls.copy_move_start("/a/b", "/c", overwrite=True, remove_source=True), "dest_folder_path", "/c"),
    (calls.md5_start("/a"), "file_path", "/a"),
    (calls.check_permission("/a", "b"), "filename", "b"),
]


@pytest.mark.parametrize(("call", "name", "value"), WITH_PATHS)
def test_every_string_and_list_is_json(call: ApiCall, name: str, value: object) -> None:
    assert json.loads(call.parameters[name]) == value


def test_every_parameter_of_a_file_call_is_json() -> None:
    for call, _, _ in WITH_PATHS:
        for value in call.parameters.values():
            json.loads(value)


@pytest.mark.parametrize("path", ODD)
def test_odd_names_arrive_byte_by_byte(path: str) -> None:
    encoded = form(calls.get_info([path]).parameters)
    raw = unquote_to_bytes(dict(pair.split("=") for pair in encoded.split("&"))["path"])
    assert raw == json.dumps([path], ensure_ascii=False).encode("utf-8", "surrogateescape")


def test_a_space_is_never_a_plus() -> None:
    assert form({"a b": "c d+e"}) == "a%20b=c%20d%2Be"


def test_the_task_id_is_quoted() -> None:
    start = calls.md5_start("/a")
    assert calls.task_status(start, "FileStation_12").parameters["taskid"] == '"FileStation_12"'


def test_listings_ask_for_what_is_needed_and_in_a_stable_order() -> None:
    parameters = calls.list_folder("/a", 10, 20).parameters
    assert json.loads(parameters["additional"]) == ["size", "time", "perm"]
    assert (parameters["sort_by"], parameters["sort_direction"]) == ('"name"', '"asc"')
    assert (parameters["offset"], parameters["limit"]) == ("10", "20")


def test_a_move_without_overwrite_leaves_the_parameter_out() -> None:
    """overwrite=false would skip the file and report success."""
    start = calls.copy_move_start("/a/b", "/c", overwrite=False, remove_source=True)
    assert "overwrite" not in start.parameters
    assert start.parameters["remove_src"] == "true"


def test_removing_is_never_recursive() -> None:
    assert calls.delete("/a").parameters["recursive"] == "false"


def test_what_changes_the_nas_is_not_repeated() -> None:
    changes = [
        calls.create_folder("/a", "b"),
        calls.rename("/a/b", "c"),
        calls.delete("/a"),
        calls.copy_move_start("/a/b", "/c", overwrite=True, remove_source=True),
        calls.upload("/a/b"),
    ]
    assert not any(call.idempotent for call in changes)
    assert all(c.idempotent for c in (calls.get_info(["/a"]), calls.download("/a"), calls.md5_start("/a")))


def test_parameters_stay_out_of_reprs() -> None:
    call = ApiCall("SYNO.API.Auth", 7, "login", {"passwd": "hunter2"})
    assert "hunter2" not in repr(call)
