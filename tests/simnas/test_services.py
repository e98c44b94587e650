"""Search, Favorite, Sharing, Thumb, Compress, Extract and the small services."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

# -- Search --


@pytest.fixture
def library(share: Path) -> Path:
    (share / "music" / "live").mkdir(parents=True)
    (share / "music" / "One.mp3").write_bytes(b"x" * 100)
    (share / "music" / "live" / "two.MP3").write_bytes(b"x" * 200)
    (share / "music" / "cover.jpg").write_bytes(b"x" * 300)
    os.utime(share / "music" / "cover.jpg", (1_000_000_000, 1_000_000_000))
    return share


def search(nas: Any, **params: Any) -> list[str]:
    """The names that a search finds, once it has finished."""
    task = nas.get("Search", 2, "start", folder_path="/media", **params).data["taskid"]
    while True:
        data = nas.get("Search", 2, "list", taskid=task, limit=-1).data
        if data["finished"]:
            assert data["total"] == len(data["files"])
            nas.get("Search", 2, "clean", taskid=task)
            return [record["name"] for record in data["files"]]


def test_search(nas: Any, library: Path) -> None:
    assert search(nas, pattern="*.mp3") == ["One.mp3", "two.MP3"]
    assert search(nas, pattern="co") == ["cover.jpg"]
    assert search(nas, extension="mp3,jpg") == ["cover.jpg", "One.mp3", "two.MP3"]
    assert search(nas, filetype="dir") == ["live", "music"]
    assert search(nas, recursive=False) == ["music"]
    assert search(nas, extension="mp3,jpg", size_from=150, size_to=250) == ["two.MP3"]
    assert search(nas, mtime_to=1_100_000_000) == ["cover.jpg"]
    assert search(nas, owner="nobody-at-all") == []


def test_search_patterns_are_separated_by_spaces_or_commas(start: Any, library: Path) -> None:
    assert search(start(), pattern="*.mp3 *.jpg") == ["cover.jpg", "One.mp3", "two.MP3"]
    nas = start("--quirk", "search-pattern=comma")
    assert search(nas, pattern="*.mp3,*.jpg") == ["cover.jpg", "One.mp3", "two.MP3"]


def finished_search(nas: Any) -> str:
    task: str = nas.get("Search", 2, "start", folder_path=["/media"], pattern="*.mp3").data["taskid"]
    while not nas.get("Search", 2, "list", taskid=task).data["finished"]:
        pass
    return task


def test_search_limit_0_is_nothing_or_all(start: Any, library: Path) -> None:
    nas = start()
    data = nas.get("Search", 2, "list", taskid=finished_search(nas), limit=0).data
    assert (data["files"], data["total"]) == ([], 2)
    nas = start("--quirk", "search-limit-0=all")
    assert len(nas.get("Search", 2, "list", taskid=finished_search(nas), limit=0).data["files"]) == 2


def test_search_pages_and_filters(nas: Any, library: Path) -> None:
    task = finished_search(nas)
    page = nas.get("Search", 2, "list", taskid=task, offset=1, limit=1, additional=["size"]).data
    assert [record["path"] for record in page["files"]] == ["/media/music/live/two.MP3"]
    assert page["files"][0]["additional"] == {"size": 200}
    by_size = nas.get("Search", 2, "list", taskid=task, limit=-1, sort_by="size", sort_direction="desc").data
    assert [record["name"] for record in by_size["files"]] == ["two.MP3", "One.mp3"]
    some = nas.get("Search", 2, "list", taskid=task, limit=-1, pattern="one*").data
    assert [record["name"] for record in some["files"]] == ["One.mp3"]


def test_a_search_that_is_not_known_looks_finished_and_has_no_total(start: Any, library: Path) -> None:
    nas = start("--quirk", "raw-taskid=never")
    task = finished_search(nas)
    assert nas.get("Search", 2, "list", raw={"taskid": task}, limit=-1).data == {
        "files": [],
        "finished": True,
        "offset": 0,
    }
    nas.get("Search", 2, "stop", taskid=[task])
    assert nas.get("Search", 2, "list", taskid=task, limit=-1).data["total"] == 2
    nas.get("Search", 2, "clean", taskid=[task])
    assert "total" not in nas.get("Search", 2, "list", taskid=task, limit=-1).data


def test_search_below_nothing(nas: Any) -> None:
    assert nas.get("Search", 2, "start").code == 400
    assert nas.get("Search", 2, "start", folder_path="/media/gone").code == 408


# -- Favorite --


def favorites(nas: Any, **params: Any) -> list[tuple[str, str, str]]:
    found = nas.get("Favorite", 2, "list", **params).data["favorites"]
    return [(record["name"], record["path"], record["status"]) for record in found]


def test_favorites(nas: Any, share: Path) -> None:
    (share / "d").mkdir()
    (share / "f").write_text("")
    assert nas.get("Favorite", 2, "add", path="/media/d", name="D").json == {"success": True}
    nas.get("Favorite", 2, "add", path="/media/f", name="F")
    nas.get("Favorite", 2, "add", path="/media/gone", name="G", index=0)
    assert favorites(nas) == [
        ("G", "/media/gone", "broken"),
        ("D", "/media/d", "valid"),
        ("F", "/media/f", "broken"),
    ]
    assert favorites(nas, status_filter="valid") == [("D", "/media/d", "valid")]
    nas.get("Favorite", 2, "edit", path="/media/d", name="E")
    nas.get("Favorite", 2, "clear_broken")
    assert favorites(nas) == [("E", "/media/d", "valid")]
    nas.get("Favorite", 2, "replace_all", path=["/media"], name=["M"])
    assert favorites(nas) == [("M", "/media", "valid")]
    nas.get("Favorite", 2, "delete", path="/media")
    assert favorites(nas) == []


def test_favorites_refused(nas: Any) -> None:
    nas.get("Favorite", 2, "add", path="/media", name="M")
    reply = nas.get("Favorite", 2, "add", path="/media", name="N")
    assert reply.code == 800
    assert reply.json["error"]["errors"] == [{"code": 800, "name": "N", "path": "/media"}]
    assert nas.get("Favorite", 2, "add", path="/other", name="M").code == 801
    assert nas.get("Favorite", 2, "edit", path="/none", name="x").code == 401
    assert nas.get("Favorite", 2, "delete", path="/none").json == {"success": True}


def test_favorites_are_limited(nas: Any) -> None:
    paths = [f"/media/{number}" for number in range(100)]
    nas.post("Favorite", 2, "replace_all", path=paths, name=paths)
    assert nas.get("Favorite", 2, "add", path="/media", name="M").code == 802


# -- Sharing --


def test_sharing_link(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    [made] = nas.get("Sharing", 3, "create", path=["/media/f"], password="secret").data["links"]
    assert made["error"] == 0
    link = nas.get("Sharing", 3, "getinfo", id=made["id"]).data
    assert link == {
        "date_available": "",
        "date_expired": "",
        "has_password": True,
        "id": made["id"],
        "isFolder": False,
        "link_owner": "ann",
        "name": "f",
        "path": "/media/f",
        "status": "valid",
        "url": made["url"],
    }
    assert nas.get("Sharing", 3, "list").data["links"] == [link]
    (share / "f").unlink()
    assert nas.get("Sharing", 3, "getinfo", id=made["id"]).data["status"] == "broken"
    nas.get("Sharing", 3, "clear_invalid")
    assert nas.get("Sharing", 3, "list").data == {"links": [], "offset": 0, "total": 0}


def test_an_unquoted_expiry_date_is_silently_ignored(nas: Any) -> None:
    [made] = nas.get("Sharing", 3, "create", path=["/media"], raw={"date_expired": "2099-01-31"}).data["links"]
    assert nas.get("Sharing", 3, "getinfo", id=made["id"]).data["date_expired"] == ""
    nas.get("Sharing", 3, "edit", id=[made["id"]], date_expired="2099-01-31")
    assert nas.get("Sharing", 3, "getinfo", id=made["id"]).data["date_expired"] == "2099-01-31 23:59:59"
    nas.get("Sharing", 3, "edit", id=[made["id"]], date_expired="2001-01-31")
    assert nas.get("Sharing", 3, "getinfo", id=made["id"]).data["status"] == "expired"


def test_sharing_refused(start: Any) -> None:
    nas = start(accounts=("eve:pw:nosharing",))
    assert nas.get("Sharing", 3, "getinfo", id="none").code == 2000
    assert nas.get("Sharing", 3, "edit", id=["none"], password="x").code == 2000
    reply = nas.get("Sharing", 3, "delete", id=["none"])
    assert reply.code == 401
    assert reply.json["error"]["errors"] == [{"id": "none"}]
    [failed] = nas.get("Sharing", 3, "create", path=["/media/gone"]).data["links"]
    assert (failed["error"], failed["id"]) == (408, "")
    assert nas.get("Sharing", 3, "create", path=["/media"], password="x" * 17).code == 400
    nas.login("eve")
    assert nas.get("Sharing", 3, "create", path=["/media"]).code == 407


# -- Thumb --


def thumb(nas: Any, path: str, **params: Any) -> Any:
    return nas.get("Thumb", 2, "get", path=path, **params)


def test_the_first_thumb_is_404_and_touches_the_folder(start: Any, share: Path) -> None:
    (share / "d").mkdir()
    (share / "d" / "f.png").write_bytes(b"image")
    os.utime(share / "d", (1, 1))
    nas = start()
    first = thumb(nas, "/media/d/f.png", size="original")
    assert first.status == 404
    assert first.headers["content-type"].startswith("text/html")
    assert (share / "d").stat().st_mtime > 1
    second = thumb(nas, "/media/d/f.png", size="original")
    assert (second.status, second.headers["content-type"], second.body) == (200, "image/png", b"image")
    nas = start("--quirk", "lazy-thumbs=no")
    assert thumb(nas, "/media/d/f.png", size="original").body == b"image"


def test_no_thumb_of_what_is_no_image(start: Any, share: Path) -> None:
    nas = start("--quirk", "lazy-thumbs=no")
    (share / "f.jpg").write_bytes(b"no image at all")
    (share / "f.txt").write_bytes(b"text")
    assert thumb(nas, "/media/f.jpg", size="small").status == 404
    assert thumb(nas, "/media/f.jpg", size="xl").status == 404
    assert thumb(nas, "/media/f.txt", size="original").status == 404
    assert thumb(nas, "/media/gone.jpg", size="original").status == 404


# -- Compress and Extract --


def wait(nas: Any, api: str, version: int, **params: Any) -> Any:
    return nas.finish(api, nas.get(api, version, "start", **params).data["taskid"], version)


def test_compress(nas: Any, share: Path) -> None:
    (share / "d").mkdir()
    (share / "d" / "f").write_text("text")
    data = wait(
        nas,
        "Compress",
        3,
        path=["/media/d"],
        dest_file_path="/media/d.zip",
        level="normal",
        mode="replace",
    )
    assert data == {"dest_file_path": "/media/d.zip", "finished": True}
    with zipfile.ZipFile(share / "d.zip") as archive:
        assert archive.read("d/f") == b"text"
    assert sorted(os.listdir(share)) == ["d", "d.zip"]


def test_compress_by_a_non_admin_needs_auth_version_7(nas: Any, share: Path) -> None:
    (share / "f").write_text("text")
    params = {"path": ["/media/f"], "dest_file_path": "/media/f.zip"}
    nas.login(version=6)
    assert nas.get("Compress", 3, "start", **params).code == 105
    nas.login("root", version=6)
    assert wait(nas, "Compress", 3, **params)["finished"]


def test_compress_needs_quotes_and_makes_only_plain_zips(nas: Any, share: Path) -> None:
    (share / "f").write_text("text")
    raw = {"path": "/media/f", "dest_file_path": "/media/f.zip"}
    assert nas.get("Compress", 3, "start", raw=raw).code == 400
    data = wait(nas, "Compress", 3, path=["/media/f"], dest_file_path="/media/f.7z", format="7z")
    assert [error["code"] for error in data["errors"]] == [1300]
    assert os.listdir(share) == ["f"]


@pytest.fixture(params=["zip", "tar"])
def archive(request: pytest.FixtureRequest, share: Path) -> str:
    """An archive with a/b/f, g, and a member that wants to leave."""
    members = {"a/b/f": b"deep", "g": b"top", "../evil": b"evil"}
    if request.param == "zip":
        with zipfile.ZipFile(share / "x.zip", "w") as zipped:
            for name, content in members.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(share / "x.tar", "w") as tarred:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tarred.addfile(info, io.BytesIO(content))
    return f"/media/x.{request.param}"


def test_extract(nas: Any, share: Path, archive: str) -> None:
    data = wait(nas, "Extract", 2, file_path=archive, dest_folder_path="/media", create_subfolder=True)
    assert data == {"dest_folder_path": "/media", "finished": True, "progress": 1}
    found = {str(p.relative_to(share)): p.read_text() for p in (share / "x").rglob("*") if p.is_file()}
    assert found == {"x/a/b/f": "deep", "x/g": "top"}
    assert not (share.parent / "evil").exists()
    assert not (share / "evil").exists()


def test_extract_overwrites_only_if_told(nas: Any, share: Path, archive: str) -> None:
    (share / "g").write_text("own")
    wait(nas, "Extract", 2, file_path=archive, dest_folder_path="/media")
    assert (share / "g").read_text() == "own"
    wait(nas, "Extract", 2, file_path=archive, dest_folder_path="/media", overwrite=True, keep_dir=False)
    assert (share / "g").read_text() == "top"
    assert (share / "f").read_text() == "deep"


def test_extract_list_shows_one_level_with_a_way_back(nas: Any, archive: str) -> None:
    def level(item: int) -> list[tuple[str, bool, int]]:
        data = nas.get("Extract", 2, "list", file_path=archive, item_id=item).data
        return [(record["name"], record["is_dir"], record["item_id"]) for record in data["items"]]

    [(name, is_dir, a), (other, _, _)] = level(-1)
    assert (name, is_dir, other) == ("a", True, "g")
    [back, (name, is_dir, _)] = level(a)
    assert back == ("..", True, -1)
    assert (name, is_dir) == ("b", True)
    assert nas.get("Extract", 2, "list", file_path=archive, item_id=99).code == 1405


def test_extract_of_some_items(nas: Any, share: Path, archive: str) -> None:
    items = nas.get("Extract", 2, "list", file_path=archive).data["items"]
    folder = next(item["item_id"] for item in items if item["name"] == "a")
    wait(nas, "Extract", 2, file_path=archive, dest_folder_path="/media", item_id=[folder])
    assert (share / "a" / "b" / "f").exists()
    assert not (share / "g").exists()


def test_what_is_no_archive_is_1401(nas: Any, share: Path) -> None:
    (share / "x.zip").write_bytes(b"no archive")
    assert nas.get("Extract", 2, "list", file_path="/media/x.zip").code == 1401
    data = wait(nas, "Extract", 2, file_path="/media/x.zip", dest_folder_path="/media")
    assert [error["code"] for error in data["errors"]] == [1401]


# -- the small ones --


def test_small_services(nas: Any, share: Path) -> None:
    assert nas.get("Timeout", 1, "avoid").json == {"success": True}
    assert nas.get("Settings", 1, "get").data["link_limit"] == []
    assert nas.get("Mount.List", 1, "get").data["remoteList"] == []
    assert nas.get("UserGrp", 1, "list_user").code == 105
    nas.login("root")
    assert [user["name"] for user in nas.get("UserGrp", 1, "list_user").data["users"]] == ["ann", "root"]
    assert nas.get("Property.Mtime", 1, "get").code == 401
    assert nas.get("Property.ACLOwner", 1, "get").code == 407


def test_property_set_says_that_it_runs_and_changes_nothing(nas: Any, share: Path) -> None:
    (share / "f").write_text("")
    (share / "f").chmod(0o644)
    data = nas.get("Property", 1, "set", files=["/volume1/media/f"], mode="777").data
    assert data["running"] == 1
    assert nas.get("Property", 1, "status", taskid=data["taskid"]).data["result"] == "fail"
    assert (share / "f").stat().st_mode & 0o777 == 0o644


def test_properties_take_real_paths(nas: Any, share: Path) -> None:
    (share / "f").write_bytes(b"x" * 10_000)
    size = nas.get("Property.CompressSize", 1, "get", raw={"file": "/volume1/media/f"}).data["diskSize"]
    assert size >= 8192
    owner = nas.get("Property.ACLOwner", 1, "get", raw={"file": "/volume1/media/f"}).data
    assert owner["value"] == os.stat(share / "f").st_uid
