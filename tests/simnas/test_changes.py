"""FileStation.CreateFolder, Rename, CopyMove and Delete, with their nested codes and quirks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest


def tree(root: Path) -> dict[str, Any]:
    """Everything below a folder: text of files, None for folders."""
    return {str(path.relative_to(root)): path.read_text() if path.is_file() else None for path in root.rglob("*")}


# -- CreateFolder --


def create(nas: Any, folder: Any, name: Any, **params: Any) -> Any:
    return nas.get("CreateFolder", 2, "create", folder_path=folder, name=name, **params)


def test_create_folder(nas: Any, share: Path) -> None:
    data = create(nas, ["/media"], ["a b"], additional=["time"]).data
    [record] = data["folders"]
    assert set(record.pop("additional")) == {"time"}
    assert record == {"isdir": True, "name": "a b", "path": "/media/a b"}
    assert (share / "a b").is_dir()


def test_folders_and_names_are_pairs(nas: Any, share: Path) -> None:
    (share / "x").mkdir()
    create(nas, ["/media", "/media/x"], ["a", "b"])
    assert (share / "a").is_dir()
    assert (share / "x" / "b").is_dir()
    assert create(nas, ["/media"], ["a", "b"]).code == 400
    assert create(nas, [], []).code == 400


def test_force_parent(nas: Any, share: Path) -> None:
    assert create(nas, "/media/p", "q").nested == [408]
    assert create(nas, "/media", "r/s").nested == [418]
    create(nas, "/media/p", "q", force_parent=True)
    create(nas, "/media", "r/s/t", force_parent=True)
    assert (share / "p" / "q").is_dir()
    assert (share / "r" / "s" / "t").is_dir()


@pytest.mark.parametrize(
    ("folder", "name", "code"),
    [
        ("/media", "there", 414),
        ("/media", "file", 414),
        ("/media/gone", "a", 408),
        ("/media/file", "a", 408),
        ("/media", "a:b", 418),
        ("/media", "a/b", 418),
        ("/media", "..", 418),
        ("/media", "x" * 256, 412),
        ("/media/", "a", 418),
        ("/docs", "a", 407),
    ],
)
def test_refusals_are_nested_in_1100(start: Any, share: Path, folder: str, name: str, code: int) -> None:
    nas = start("--share", f"docs={share}:ro")
    (share / "there").mkdir()
    (share / "file").write_text("")
    reply = create(nas, folder, name)
    assert reply.code == 1100
    assert reply.json["error"]["errors"] == [{"code": code, "path": f"{folder}/{name}"}]


def test_create_on_an_existing_folder_may_succeed(start: Any, share: Path) -> None:
    (share / "there").mkdir()
    (share / "file").write_text("")
    nas = start("--quirk", "existing-folder=success")
    assert create(nas, "/media", "there").data["folders"][0]["name"] == "there"
    assert create(nas, "/media", "file").nested == [414]


def test_an_illegal_name_may_be_nested_408(start: Any) -> None:
    assert create(start("--quirk", "illegal-name=408"), "/media", "a:b").nested == [408]


def test_a_comma_in_a_raw_name_makes_one_folder(nas: Any, share: Path) -> None:
    nas.get("CreateFolder", 2, "create", raw={"folder_path": "/media", "name": "a,b"})
    assert os.listdir(share) == ["a,b"]


def test_raw_strings_may_be_refused_or_ignored(start: Any, share: Path) -> None:
    raw = {"folder_path": "/media", "name": "a"}
    nas = start("--quirk", "raw-createfolder=400")
    assert nas.get("CreateFolder", 2, "create", raw=raw).code == 400
    nas = start("--quirk", "raw-createfolder=ignored")
    assert nas.get("CreateFolder", 2, "create", raw=raw).data == {"folders": []}
    assert os.listdir(share) == []
    create(nas, "/media", "a")
    assert os.listdir(share) == ["a"]


def test_no_change_on_a_read_only_volume(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    nas.fault("readonly")
    assert create(nas, "/media", "a").nested == [411]
    assert rename(nas, "/media/f", "g").nested == [411]
    assert nas.get("Delete", 2, "delete", path="/media/f").nested == [411]
    assert os.listdir(share) == ["f"]


# -- Rename --


def rename(nas: Any, path: Any, name: Any, **params: Any) -> Any:
    return nas.get("Rename", 2, "rename", path=path, name=name, **params)


def test_rename(nas: Any, share: Path) -> None:
    (share / "a").write_text("data")
    [record] = rename(nas, ["/media/a"], ["b"], additional=["size"]).data["files"]
    assert record == {"isdir": False, "name": "b", "path": "/media/b", "additional": {"size": 4}}
    assert tree(share) == {"b": "data"}


def test_case_only_rename(nas: Any, share: Path) -> None:
    (share / "a").write_text("data")
    assert rename(nas, "/media/a", "A").data["files"][0]["name"] == "A"
    assert os.listdir(share) == ["A"]


@pytest.mark.parametrize(
    ("path", "name", "code"),
    [
        ("/media/f", "g", 414),
        ("/media/f", "f", 414),
        ("/media/f", "d", 414),
        ("/media/gone", "x", 408),
        ("/media/f", "a/b", 418),
        ("/media/f", "a|b", 418),
        ("/media/f", "x" * 256, 412),
        ("/media", "x", 407),
        ("/docs/f", "x", 407),
    ],
)
def test_rename_never_overwrites_and_nests_in_1200(start: Any, share: Path, path: str, name: str, code: int) -> None:
    nas = start("--share", f"docs={share}:ro")
    (share / "f").write_text("f")
    (share / "g").write_text("g")
    (share / "d").mkdir()
    reply = rename(nas, path, name)
    assert reply.code == 1200
    assert reply.json["error"]["errors"] == [{"code": code, "path": path}]
    assert tree(share) == {"f": "f", "g": "g", "d": None}


def test_rename_of_a_link_means_the_link(nas: Any, share: Path) -> None:
    (share / "real").write_text("x")
    (share / "link").symlink_to("real")
    rename(nas, "/media/link", "other")
    assert (share / "other").is_symlink()


# -- Delete --


def delete(nas: Any, path: Any, **params: Any) -> Any:
    return nas.get("Delete", 2, "delete", path=path, **params)


def test_delete_files_and_trees(nas: Any, share: Path) -> None:
    (share / "d" / "e").mkdir(parents=True)
    (share / "d" / "e" / "f").write_text("")
    (share / "g").write_text("")
    (share / "keep").write_text("")
    assert delete(nas, ["/media/d", "/media/g"]).json == {"success": True}
    assert os.listdir(share) == ["keep"]


def test_delete_of_a_missing_path_succeeds(nas: Any) -> None:
    assert delete(nas, ["/media/gone", "/media/gone/deeper", "/nothing/x"]).json == {"success": True}


def test_a_comma_list_deletes_nothing_and_succeeds(nas: Any, share: Path) -> None:
    (share / "a").write_text("")
    (share / "b").write_text("")
    assert nas.get("Delete", 2, "delete", raw={"path": "/media/a,/media/b"}).json == {"success": True}
    assert sorted(os.listdir(share)) == ["a", "b"]


@pytest.mark.parametrize("code", [401, 414, 421])
def test_a_folder_with_entries_is_900_without_recursive(start: Any, share: Path, code: int) -> None:
    (share / "d").mkdir()
    (share / "d" / "f").write_text("")
    nas = start("--quirk", f"not-empty={code}")
    reply = delete(nas, "/media/d", recursive=False)
    assert reply.code == 900
    assert reply.json["error"]["errors"] == [{"code": code, "path": "/media/d"}]
    (share / "d" / "f").unlink()
    assert delete(nas, "/media/d", recursive=False).json == {"success": True}
    assert os.listdir(share) == []


def test_delete_needs_the_right_on_the_folder(start: Any, share: Path) -> None:
    nas = start("--share", f"docs={share}:ro")
    (share / "locked").mkdir()
    (share / "locked" / "f").write_text("")
    (share / "locked").chmod(0o555)
    for path in ("/docs/locked", "/media/locked/f", "/media"):
        assert delete(nas, path).nested == [407]
    assert (share / "locked" / "f").exists()


def test_recycle_bin(start: Any, share: Path) -> None:
    (share / "d" / "e").mkdir(parents=True)
    (share / "d" / "f.txt").write_text("1")
    (share / "d" / "e" / "g").write_text("2")
    nas = start("--recycle-bin", "--quirk", "recycle-access=everyone")
    delete(nas, "/media/d/f.txt")
    (share / "d" / "f.txt").write_text("3")
    delete(nas, "/media/d/f.txt")
    delete(nas, "/media/d/e")
    assert tree(share / "#recycle") == {
        "d": None,
        "d/f.txt": "1",
        "d/f_1.txt": "3",
        "d/e": None,
        "d/e/g": "2",
    }
    delete(nas, "/media/#recycle/d")
    assert tree(share) == {"d": None, "#recycle": None}


def test_delete_as_a_task(nas: Any, share: Path) -> None:
    (share / "d").mkdir()
    (share / "d" / "f").write_text("")
    (share / "g").write_text("")
    task = nas.get("Delete", 2, "start", path=["/media/d", "/media/g"]).data["taskid"]
    data = nas.finish("Delete", task)
    assert data == {
        "finished": True,
        "path": "/media/d",
        "processed_num": 2,
        "processing_path": "/media/g",
        "progress": 1.0,
        "total": 2,
    }
    assert os.listdir(share) == []


def test_a_failed_delete_task_tells_its_errors(start: Any, share: Path) -> None:
    (share / "f").write_text("")
    nas = start("--share", f"docs={share}:ro")
    data = nas.finish("Delete", nas.get("Delete", 2, "start", path="/docs/f").data["taskid"])
    assert data["status"] == "FAIL"
    assert data["errors"] == [{"code": 407, "path": "/docs/f"}]


# -- CopyMove --


def transfer(nas: Any, source: Any, folder: str, **params: Any) -> Any:
    """The last status of a CopyMove."""
    reply = nas.get("CopyMove", 3, "start", path=source, dest_folder_path=folder, **params)
    return nas.finish("CopyMove", reply.data["taskid"], 3)


@pytest.fixture
def sources(share: Path) -> Path:
    (share / "src" / "sub").mkdir(parents=True)
    (share / "src" / "f").write_text("new")
    (share / "src" / "sub" / "g").write_text("g")
    (share / "dst").mkdir()
    os.utime(share / "src" / "f", (1_500_000_000, 1_600_000_000))
    return share


def test_copy(nas: Any, sources: Path) -> None:
    data = transfer(nas, ["/media/src"], "/media/dst")
    assert data == {
        "dest_folder_path": "/media/dst",
        "finished": True,
        "path": "/media/src",
        "processed_size": 4,
        "processing_path": "/media/src",
        "progress": 1,
        "total": 4,
    }
    assert tree(sources / "dst") == {"src": None, "src/f": "new", "src/sub": None, "src/sub/g": "g"}
    assert (sources / "dst" / "src" / "f").stat().st_mtime == 1_600_000_000
    assert (sources / "src" / "f").exists()


def test_move_within_a_share_keeps_the_inode(nas: Any, sources: Path) -> None:
    inode = (sources / "src" / "f").stat().st_ino
    transfer(nas, ["/media/src/f"], "/media/dst", remove_src=True)
    assert (sources / "dst" / "f").stat().st_ino == inode
    assert not (sources / "src" / "f").exists()


def test_move_to_another_share(start: Any, sources: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    nas = start("--share", f"other={tmp_path}/other")
    transfer(nas, ["/media/src"], "/other", remove_src=True)
    assert tree(tmp_path / "other") == {"src": None, "src/f": "new", "src/sub": None, "src/sub/g": "g"}
    assert sorted(os.listdir(sources)) == ["dst"]


@pytest.mark.parametrize("move", [False, True])
@pytest.mark.parametrize(
    ("overwrite", "content", "codes"), [(True, "new", []), (False, "old", []), (None, "old", [1003])]
)
def test_overwrite_replaces_skips_silently_or_is_1003(
    nas: Any, sources: Path, move: bool, overwrite: bool | None, content: str, codes: list[int]
) -> None:
    (sources / "dst" / "f").write_text("old")
    params = {} if overwrite is None else {"overwrite": overwrite}
    data = transfer(nas, "/media/src/f", "/media/dst", remove_src=move, **params)
    assert (sources / "dst" / "f").read_text() == content
    assert [error["code"] for error in data.get("errors", [])] == codes
    assert (sources / "src" / "f").exists() == (not move or not overwrite)


def test_folders_merge(nas: Any, sources: Path) -> None:
    (sources / "dst" / "src" / "sub").mkdir(parents=True)
    (sources / "dst" / "src" / "f").write_text("old")
    (sources / "dst" / "src" / "sub" / "own").write_text("own")
    transfer(nas, "/media/src", "/media/dst", overwrite=True)
    assert tree(sources / "dst") == {
        "src": None,
        "src/f": "new",
        "src/sub": None,
        "src/sub/g": "g",
        "src/sub/own": "own",
    }


def test_failures_of_copy(start: Any, sources: Path) -> None:
    (sources / "dst" / "f").mkdir()
    nas = start("--share", f"docs={sources}:ro")

    def codes(*arguments: Any, **params: Any) -> list[int]:
        return [error["code"] for error in transfer(nas, *arguments, **params)["errors"]]

    assert codes("/media/gone", "/media/dst") == [408]
    assert codes("/media/src/f", "/media/gone") == [1002]
    assert codes("/media/src/f", "/docs/dst") == [407]
    assert codes("/docs/src/f", "/media/dst", remove_src=True) == [407]
    assert codes("/media/src/f", "/media/dst", overwrite=True) == [1004]
    assert codes("/media/src", "/media/src/sub") == [1002]
    assert codes(["/media/gone", "/media/src/sub"], "/media/dst") == [408]
    assert (sources / "dst" / "sub" / "g").exists()


def test_a_failed_copy_has_three_shapes(start: Any, sources: Path) -> None:
    data = transfer(start(), "/media/gone", "/media/dst")
    assert (data["finished"], data["status"], data["progress"]) == (True, "FAIL", 1)
    data = transfer(start("--quirk", "copymove-failure=error"), "/media/gone", "/media/dst")
    assert data["error"] == {"code": 1000, "errors": [{"code": 408, "path": "/media/gone"}]}
    nas = start("--quirk", "copymove-failure=599")
    reply = nas.get("CopyMove", 3, "start", path="/media/gone", dest_folder_path="/media/dst")
    task = reply.data["taskid"]
    assert nas.get("CopyMove", 3, "status", taskid=task).data["finished"] is False
    while (reply := nas.get("CopyMove", 3, "status", taskid=task)).json["success"]:
        assert reply.data["finished"] is False
    assert reply.code == 599


def test_copy_onto_itself_changes_nothing(nas: Any, sources: Path) -> None:
    transfer(nas, "/media/src/f", "/media/src", overwrite=True)
    assert (sources / "src" / "f").read_text() == "new"


def test_copy_that_does_not_fit(start: Any, sources: Path) -> None:
    nas = start("--volume-bytes", "5")
    data = transfer(nas, "/media/src/f", "/media/dst")
    assert data["errors"] == [{"code": 416, "path": "/media/src/f"}]
    assert tree(sources / "dst") == {}


def test_start_without_paths_is_400(nas: Any) -> None:
    assert nas.get("CopyMove", 3, "start", dest_folder_path="/media").code == 400
    assert nas.get("CopyMove", 3, "start", path="/media/x").code == 400


def test_stop_ends_a_copy(nas: Any, sources: Path) -> None:
    for number in range(200):
        (sources / "src" / f"big{number}").write_bytes(b"x" * 2_000_000)
    reply = nas.get("CopyMove", 3, "start", path="/media/src", dest_folder_path="/media/dst")
    task = reply.data["taskid"]
    assert nas.get("CopyMove", 3, "stop", taskid=task).json == {"success": True}
    assert nas.get("CopyMove", 3, "status", taskid=task).code == 599
    assert len(os.listdir(sources / "dst")) <= 1
    assert not (sources / "dst" / "src" / "big199").exists()
