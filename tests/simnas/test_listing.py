"""FileStation.Info, List, VirtualFolder and CheckPermission."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

EVERYTHING = ["real_path", "size", "owner", "time", "perm", "type", "mount_point_type"]


def test_info(nas: Any) -> None:
    data = nas.get("Info", 2, "get").data
    assert data["uid"] == 1026
    assert data["items"] == [{"gid": 100}]
    assert data["is_manager"] is False
    assert data["support_virtual_protocol"] == ["cifs", "nfs", "iso"]
    nas.login("root")
    assert nas.get("Info", 2, "get").data["is_manager"] is True


# -- list_share --


def test_share_record_has_exactly_the_keys_of_a_real_one(nas: Any) -> None:
    additional = ["real_path", "owner", "time", "perm", "mount_point_type", "sync_share", "volume_status"]
    data = nas.get("List", 2, "list_share", additional=additional).data
    assert (data["offset"], data["total"]) == (0, 1)
    [record] = data["shares"]
    more = record.pop("additional")
    assert record == {"isdir": True, "name": "media", "path": "/media"}
    assert set(more) == set(additional)
    assert more["real_path"] == "/volume1/media"
    assert more["sync_share"] is False
    assert set(more["owner"]) == {"gid", "group", "uid", "user"}
    assert set(more["time"]) == {"atime", "crtime", "ctime", "mtime"}
    assert set(more["volume_status"]) == {"freespace", "readonly", "totalspace"}
    assert more["perm"] == {
        "acl": {"append": True, "del": True, "exec": True, "read": True, "write": True},
        "acl_enable": True,
        "adv_right": {"disable_download": False, "disable_list": False, "disable_modify": False},
        "is_acl_mode": True,
        "is_share_readonly": False,
        "posix": 755,
        "share_right": "RW",
    }


def test_without_additional_a_share_is_three_keys(nas: Any) -> None:
    [record] = nas.get("List", 2, "list_share").data["shares"]
    assert set(record) == {"isdir", "name", "path"}


def test_shares_are_sorted_and_paged(start: Any, share: Path) -> None:
    nas = start("--share", f"b={share}", "--share", f"a={share}")

    def names(**params: Any) -> list[str]:
        return [record["name"] for record in nas.get("List", 2, "list_share", **params).data["shares"]]

    assert names() == ["a", "b", "media"]
    assert names(sort_direction="desc") == ["media", "b", "a"]
    assert names(offset=1, limit=1) == ["b"]


def test_unreadable_share_is_absent_and_407(start: Any, tmp_path: Path) -> None:
    for name in ("homes", "locked"):
        (tmp_path / name).mkdir()
    (tmp_path / "locked").chmod(0o070)
    nas = start("--share", f"homes={tmp_path}/homes:admins", "--share", f"locked={tmp_path}/locked")
    assert nas.get("List", 2, "list_share").data["total"] == 1
    for name in ("homes", "locked"):
        assert nas.get("List", 2, "list", folder_path=f"/{name}").code == 407
    nas.login("root")
    assert nas.get("List", 2, "list_share").data["total"] == 3


def test_a_share_whose_volume_is_away_is_absent_and_408(start: Any, tmp_path: Path) -> None:
    (tmp_path / "away").mkdir()
    nas = start("--share", f"away={tmp_path}/away")
    assert nas.get("List", 2, "list_share").data["total"] == 2
    (tmp_path / "away").rmdir()
    assert nas.get("List", 2, "list_share").data["total"] == 1
    assert nas.get("List", 2, "list", folder_path="/away").code == 408


# -- list --


def test_file_record_has_exactly_the_keys_of_a_real_one(nas: Any, share: Path) -> None:
    file = share / "x.tar"
    file.write_bytes(b"12345")
    file.chmod(0o640)
    os.utime(file, (1_700_000_000, 1_600_000_000.9))
    (share / "folder").mkdir()
    data = nas.get("List", 2, "list", folder_path="/media", additional=EVERYTHING).data
    assert (data["offset"], data["total"]) == (0, 2)
    folder, record = data["files"]
    more = record.pop("additional")
    assert record == {"isdir": False, "name": "x.tar", "path": "/media/x.tar"}
    assert set(more) == set(EVERYTHING)
    assert more["size"] == 5
    assert more["type"] == "TAR"
    assert more["mount_point_type"] == ""
    assert more["real_path"] == "/volume1/media/x.tar"
    assert more["perm"] == {
        "acl": {"append": True, "del": True, "exec": False, "read": True, "write": True},
        "is_acl_mode": True,
        "posix": 640,
    }
    assert (more["time"]["atime"], more["time"]["mtime"]) == (1_700_000_000, 1_600_000_000)
    found = file.stat()
    assert (more["owner"]["uid"], more["owner"]["gid"]) == (found.st_uid, found.st_gid)
    assert folder["isdir"] is True
    assert folder["additional"]["type"] == ""
    assert isinstance(folder["additional"]["size"], int)


def test_additional_brings_only_what_was_asked_for(nas: Any, share: Path) -> None:
    (share / "x").write_text("")
    for member in EVERYTHING:
        [record] = nas.get("List", 2, "list", folder_path="/media", additional=[member]).data["files"]
        assert set(record["additional"]) == {member}


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/", 401),
        ("/media/", 418),
        ("/media/folder/", 418),
        ("/volume1/media", 408),
        ("/nothing", 408),
        ("/media/nothing", 408),
        ("/media/file", 408),
        ("/media/../media", 418),
        ("/media//folder", 418),
        ("media", 418),
        ("/media/" + "n" * 256, 412),
    ],
)
def test_refused_folders(nas: Any, share: Path, path: str, code: int) -> None:
    (share / "folder").mkdir()
    (share / "file").write_text("")
    assert nas.get("List", 2, "list", folder_path=path).code == code


def test_list_without_a_folder_is_400(nas: Any) -> None:
    assert nas.get("List", 2, "list").code == 400


def may_read(nas: Any, path: str) -> bool:
    [record] = nas.get("List", 2, "getinfo", path=[path], additional=["perm"]).data["files"]
    return bool(record["additional"]["perm"]["acl"]["read"])


def test_unreadable_folder_is_407_by_its_owner_bits(nas: Any, share: Path) -> None:
    (share / "private").mkdir()
    (share / "private").chmod(0o077)
    assert nas.get("List", 2, "list", folder_path="/media/private").code == 407
    assert not may_read(nas, "/media/private")
    nas.login("root")
    assert may_read(nas, "/media/private")
    (share / "private").chmod(0o700)


def test_paging(nas: Any, share: Path) -> None:
    for number in range(25):
        (share / f"f{number:02}").write_text("")
    assert nas.names("/media", offset=0, limit=10) == [f"f{n:02}" for n in range(10)]
    assert nas.names("/media", offset=20, limit=10) == [f"f{n:02}" for n in range(20, 25)]
    assert nas.names("/media", offset=30, limit=10) == []
    assert len(nas.names("/media", limit=0)) == 25
    assert len(nas.names("/media", offset=5, limit=0)) == 20


def test_page_cap(start: Any, share: Path) -> None:
    for number in range(25):
        (share / f"f{number:02}").write_text("")
    nas = start("--page-cap", "10")
    for limit in (0, 20):
        data = nas.get("List", 2, "list", folder_path="/media", limit=limit).data
        assert (len(data["files"]), data["total"]) == (10, 25)


def test_paging_is_no_snapshot(nas: Any, share: Path) -> None:
    """An entry that is removed between two pages shifts the second: one name is never seen."""
    for name in "abcdef":
        (share / name).write_text("")
    assert nas.names("/media", offset=0, limit=3) == ["a", "b", "c"]
    (share / "a").unlink()
    second = nas.get("List", 2, "list", folder_path="/media", offset=3, limit=3).data
    assert [record["name"] for record in second["files"]] == ["e", "f"]
    assert second["total"] == 5


def test_a_change_is_seen_by_the_very_next_call(nas: Any, share: Path) -> None:
    """Names are kept in memory while a folder does not change: never longer."""
    expected: list[str] = []
    for number in range(60):
        (share / f"{number:03}").write_text("")
        expected.append(f"{number:03}")
        assert nas.names("/media") == expected
        if number % 3 == 0:
            (share / f"{number:03}").unlink()
            expected.pop()
            assert nas.names("/media") == expected


def test_names_stay_right_after_the_folder_has_settled(nas: Any, share: Path) -> None:
    old = 1_600_000_000
    (share / "a").write_text("")
    folder = share / "sub"
    folder.mkdir()
    os.utime(folder, (old, old))
    assert nas.names("/media/sub") == []
    (folder / "new").write_text("")
    os.utime(folder, (old, old))  # as rsync -t or tar -x would: mtime proves nothing then
    assert nas.names("/media/sub") == ["new"]


def test_sorting(nas: Any, share: Path) -> None:
    for name, size, mtime in (("b.txt", 1, 30), ("A.zip", 3, 10), ("c.mp3", 2, 20)):
        (share / name).write_bytes(b"x" * size)
        os.utime(share / name, (1000, mtime))
    assert nas.names("/media") == ["A.zip", "b.txt", "c.mp3"]
    assert nas.names("/media", sort_direction="desc") == ["c.mp3", "b.txt", "A.zip"]
    assert nas.names("/media", sort_by="size") == ["b.txt", "c.mp3", "A.zip"]
    assert nas.names("/media", sort_by="mtime", sort_direction="desc") == ["b.txt", "c.mp3", "A.zip"]
    assert nas.names("/media", sort_by="type") == ["c.mp3", "b.txt", "A.zip"]
    for key in ("user", "group", "atime", "ctime", "crtime", "posix"):
        assert len(nas.names("/media", sort_by=key)) == 3


def test_pattern_and_filetype(nas: Any, share: Path) -> None:
    (share / "Holiday.JPG").write_text("")
    (share / "notes.txt").write_text("")
    (share / "day").mkdir()
    assert nas.names("/media", pattern="*.jpg") == ["Holiday.JPG"]
    assert nas.names("/media", pattern="DAY") == ["day", "Holiday.JPG"]
    assert nas.names("/media", pattern="*.jpg,*.txt") == ["Holiday.JPG", "notes.txt"]
    assert nas.names("/media", filetype="dir") == ["day"]
    assert nas.names("/media", filetype="file") == ["Holiday.JPG", "notes.txt"]
    assert nas.get("List", 2, "list", folder_path="/media", pattern="*.jpg").data["total"] == 1


def test_goto_path_lists_the_folder_on_the_way(nas: Any, share: Path) -> None:
    (share / "a").mkdir()
    (share / "a" / "inside").write_text("")
    (share / "b").mkdir()
    files = nas.get("List", 2, "list", folder_path="/media", goto_path="/volume1/media/a/inside").data["files"]
    assert [record["name"] for record in files if "children" in record] == ["a"]
    children = files[0]["children"]
    assert (children["total"], children["offset"]) == (1, 0)
    assert children["files"][0]["path"] == "/media/a/inside"


def test_system_folders_are_listed_like_any_other(nas: Any, share: Path) -> None:
    for name in ("#recycle", "#snapshot", "@eaDir", ".apdisk"):
        (share / name).mkdir()
    data = nas.get("List", 2, "list", folder_path="/media").data
    assert [record["name"] for record in data["files"]] == ["#recycle", "#snapshot", ".apdisk", "@eaDir"]
    assert data["total"] == 4


def test_recycle_bin_is_407_for_non_admins_and_408_if_off(start: Any, share: Path) -> None:
    nas = start("--recycle-bin")
    assert (share / "#recycle").is_dir()
    assert nas.get("List", 2, "list", folder_path="/media/#recycle").code == 407
    nas.login("root")
    assert nas.names("/media/#recycle") == []
    nas = start("--recycle-bin", "--quirk", "recycle-access=everyone")
    assert nas.names("/media/#recycle") == []
    nas = start()
    assert nas.get("List", 2, "list", folder_path="/media/#recycle").code == 408


def test_read_only_share(start: Any, share: Path) -> None:
    (share / "f").write_text("")
    nas = start("--share", f"docs={share}:ro", "--share", f"odd={share}:acl-ro")
    records = nas.get("List", 2, "list_share", additional=["perm"]).data["shares"]
    rights = {r["name"]: r["additional"]["perm"] for r in records}
    assert rights["docs"]["share_right"] == "RO"
    assert rights["odd"]["share_right"] == "RW"
    for name in ("docs", "odd"):
        assert rights[name]["acl"]["write"] is False
        [record] = nas.get("List", 2, "list", folder_path=f"/{name}", additional=["perm"]).data["files"]
        acl = record["additional"]["perm"]["acl"]
        assert acl == {"append": False, "del": False, "exec": False, "read": True, "write": False}
        assert record["additional"]["perm"]["posix"] == 644


def test_acl_follows_the_owner_bits(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    (share / "f").chmod(0o477)
    share.chmod(0o577)
    [record] = nas.get("List", 2, "list", folder_path="/media", additional=["perm"]).data["files"]
    assert record["additional"]["perm"] == {
        "acl": {"append": False, "del": False, "exec": False, "read": True, "write": False},
        "is_acl_mode": True,
        "posix": 477,
    }
    share.chmod(0o755)


# -- names --

HOSTILE = [
    "new\nline",
    "tab\tquote'\"",
    "back\\slash",
    "[brackets]",
    "a,b;c",
    "100% +&=?#",
    " leading and trailing ",
    "n\u0303 against \u00f1",
    "日本語 🎉",
    "colon:star*less<pipe|",
    "x" * 255,
    "é" * 127,
    "\x01\x7f",
]


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_round_trip(nas: Any, share: Path, name: str) -> None:
    (share / name).mkdir()
    (share / name / name).write_bytes(name.encode())
    assert nas.names("/media") == [name]
    assert nas.names(f"/media/{name}") == [name]
    [record] = nas.get("List", 2, "getinfo", path=[f"/media/{name}/{name}"]).data["files"]
    assert record["name"] == name
    assert nas.get("Download", 2, "download", path=f"/media/{name}/{name}", mode="download").body == name.encode()


@pytest.fixture
def latin(share: Path) -> Iterator[Path]:
    (share / "a").write_text("")
    path = os.fsencode(share) + b"/caf\xe9"
    os.close(os.open(path, os.O_CREAT))
    yield share
    os.unlink(path)


def test_a_name_that_is_not_utf8_is_its_bytes_inside_the_json(nas: Any, latin: Path) -> None:
    reply = nas.get("List", 2, "list", folder_path="/media")
    assert b'"caf\xe9"' in reply.body
    target = nas.target("List", 2, "getinfo", raw={"path": '["/media/caf\udce9"]'})
    assert b'"name": "caf\xe9"' in nas.request("GET", target).body


@pytest.mark.parametrize(
    ("variant", "names"),
    [("escape", ["a", "caf\udce9"]), ("replace", ["a", "caf\ufffd"]), ("hide", ["a"])],
)
def test_a_name_that_is_not_utf8_may_look_otherwise(start: Any, latin: Path, variant: str, names: list[str]) -> None:
    nas = start("--quirk", f"names-not-utf8={variant}")
    assert nas.names("/media") == names


# -- symbolic links --


def test_links_inside_the_share_are_followed_and_others_hidden(nas: Any, share: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    (share / "real").mkdir()
    (share / "real" / "f").write_text("data")
    (share / "inside").symlink_to("real")
    (share / "away").symlink_to(outside)
    (share / "away-file").symlink_to(outside / "secret")
    (share / "dangling").symlink_to("nothing")
    (share / "loop").symlink_to("loop")
    os.mkfifo(share / "fifo")
    assert nas.names("/media") == ["inside", "real"]
    assert nas.names("/media/inside") == ["f"]
    for path in ("/media/away", "/media/away/secret", "/media/away-file", "/media/dangling", "/media/loop"):
        [record] = nas.get("List", 2, "getinfo", path=[path]).data["files"]
        assert record == {"code": 408, "path": path}
        assert nas.get("Download", 2, "download", path=path).status == 502
    assert nas.get("List", 2, "list", folder_path="/media/away").code == 408


# -- getinfo --


def test_getinfo_of_a_missing_path_is_an_entry_of_a_successful_reply(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    files = nas.get("List", 2, "getinfo", path=["/media/f", "/media/gone", "/media"]).data["files"]
    assert files[0]["name"] == "f"
    assert files[1] == {"code": 408, "path": "/media/gone"}
    assert files[2] == {"isdir": True, "name": "media", "path": "/media"}


def test_getinfo_of_a_missing_path_may_be_a_record_without_a_name(start: Any) -> None:
    nas = start("--quirk", "missing-getinfo=stub")
    [record] = nas.get("List", 2, "getinfo", path=["/media/gone"]).data["files"]
    assert record["name"] == ""
    assert "code" not in record


def test_getinfo_has_the_additional_of_list(nas: Any, share: Path) -> None:
    (share / "f.txt").write_text("hello")
    [info] = nas.get("List", 2, "getinfo", path=["/media/f.txt"], additional=EVERYTHING).data["files"]
    [listed] = nas.get("List", 2, "list", folder_path="/media", additional=EVERYTHING).data["files"]
    assert info == listed


def test_getinfo_by_post_with_hundreds_of_paths(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    files = nas.post("List", 2, "getinfo", path=["/media/f"] * 1000).data["files"]
    assert len(files) == 1000


# -- the rest --


def test_virtual_folder_is_empty(nas: Any) -> None:
    assert nas.get("VirtualFolder", 2, "list", type="cifs").data == {"folders": [], "offset": 0, "total": 0}


def test_check_permission(start: Any, share: Path) -> None:
    (share / "there").write_text("x")
    nas = start("--share", f"docs={share}:ro")

    def check(path: str, **params: Any) -> Any:
        return nas.get("CheckPermission", 3, "write", path=path, **params).json

    assert check("/media", filename="new") == {"success": True}
    assert check("/media", filename="there")["error"]["code"] == 414
    assert check("/media", filename="there", overwrite=True) == {"success": True}
    assert check("/media", filename="there", create_only=False) == {"success": True}
    assert check("/docs", filename="new")["error"]["code"] == 407
    assert check("/media/gone", filename="new")["error"]["code"] == 408
    assert check("/media")["error"]["code"] == 400
    assert sorted(os.listdir(share)) == ["there"]


def test_a_read_only_volume_is_411(nas: Any) -> None:
    nas.fault("readonly")
    assert nas.get("CheckPermission", 3, "write", path="/media", filename="x").code == 411
    shares = nas.get("List", 2, "list_share", additional=["volume_status"]).data["shares"]
    assert shares[0]["additional"]["volume_status"]["readonly"] is True
    nas.fault("readonly", on=False)
    assert nas.get("CheckPermission", 3, "write", path="/media", filename="x").data is None


def test_volume_status_of_a_volume_of_a_given_size(start: Any, share: Path) -> None:
    (share / "f").write_bytes(b"x" * 1000)
    nas = start("--volume-bytes", "5000")
    shares = nas.get("List", 2, "list_share", additional=["volume_status"]).data["shares"]
    assert shares[0]["additional"]["volume_status"] == {
        "freespace": 4000,
        "readonly": False,
        "totalspace": 5000,
    }
