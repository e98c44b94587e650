"""What a parameter may look like: JSON, raw, comma lists, odd booleans. And what numbers come back as."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def folders(share: Any) -> Any:
    for name in ("a", "b", "a,b", "x[1]", 'q"q'):
        (share / name).mkdir()
        (share / name / f"in {name}").write_text("")
    return share


@pytest.mark.parametrize("value", ['"/media/a"', '["/media/a"]', "/media/a"])
def test_one_path_quoted_in_an_array_or_raw(nas: Any, folders: Any, value: str) -> None:
    assert nas.get("List", 2, "list", raw={"folder_path": value}).data["files"][0]["name"] == "in a"
    assert nas.get("List", 2, "getinfo", raw={"path": value}).data["files"][0]["name"] == "a"


def test_a_comma_list_is_one_literal_path(nas: Any, folders: Any) -> None:
    [record] = nas.get("List", 2, "getinfo", raw={"path": "/media/a,/media/b"}).data["files"]
    assert record == {"code": 408, "path": "/media/a,/media/b"}
    [record] = nas.get("List", 2, "getinfo", raw={"path": "/media/a,b"}).data["files"]
    assert record["name"] == "a,b"


def test_version_1_has_comma_lists_with_escapes(nas: Any, folders: Any) -> None:
    files = nas.get("List", 1, "getinfo", raw={"path": r"/media/a,/media/a\,b"}).data["files"]
    assert [record["name"] for record in files] == ["a", "a,b"]
    [record] = nas.get("List", 1, "getinfo", raw={"path": "/media/a", "additional": "size,time"}).data["files"]
    assert set(record["additional"]) == {"size", "time"}


def test_additional_as_a_comma_string_is_ignored(nas: Any, folders: Any) -> None:
    files = nas.get("List", 2, "list", raw={"additional": "size,time"}, folder_path="/media").data["files"]
    assert all(set(record) == {"isdir", "name", "path"} for record in files)


def test_unknown_members_of_additional_are_ignored(nas: Any, folders: Any) -> None:
    files = nas.get("List", 2, "list", folder_path="/media", additional=["size", "colour"]).data["files"]
    assert all(set(record["additional"]) == {"size"} for record in files)


@pytest.mark.parametrize("name", ["x[1]", 'q"q'])
def test_raw_brackets_and_quotes_break_a_path(start: Any, folders: Any, name: str) -> None:
    nas = start()
    assert nas.get("List", 2, "list", raw={"folder_path": f"/media/{name}"}).code == 400
    assert nas.names(f"/media/{name}") == [f"in {name}"]
    lenient = start("--quirk", "raw-brackets=literal")
    assert lenient.get("List", 2, "list", raw={"folder_path": f"/media/{name}"}).data["total"] == 1


@pytest.mark.parametrize("value", ["False", "false", "nonsense", ""])
def test_booleans_that_do_not_parse_are_tolerated(start: Any, share: Any, value: str) -> None:
    nas = start("--share", f"docs={share}:ro")
    shares = nas.get("List", 2, "list_share", raw={"onlywritable": value}).data["shares"]
    assert [record["name"] for record in shares] == ["docs", "media"]


@pytest.mark.parametrize("value", ["True", "true"])
def test_booleans_are_read_in_any_case(start: Any, share: Any, value: str) -> None:
    nas = start("--share", f"docs={share}:ro")
    shares = nas.get("List", 2, "list_share", raw={"onlywritable": value}).data["shares"]
    assert [record["name"] for record in shares] == ["media"]


def test_numbers_that_do_not_parse_are_the_default(nas: Any, folders: Any) -> None:
    data = nas.get("List", 2, "list", raw={"offset": "x", "limit": "many"}, folder_path="/media").data
    assert (data["offset"], len(data["files"])) == (0, 5)


def test_numbers_may_come_as_strings(start: Any, folders: Any) -> None:
    nas = start("--quirk", "numbers=string")
    data = nas.get("List", 2, "list", folder_path="/media", additional=["size"]).data
    assert data["total"] == "5"
    assert isinstance(data["files"][0]["additional"]["size"], str)
    assert data["files"][0]["isdir"] is True
