"""FileStation.Download: ranges, modes, archives, and every way to fail."""

from __future__ import annotations

import gzip
import io
import os
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

SIZE = 3_000_001


@pytest.fixture
def content(share: Path) -> bytes:
    data = os.urandom(SIZE)
    (share / "f.mp3").write_bytes(data)
    return data


def download(nas: Any, path: Any = "/media/f.mp3", mode: str = "download", **headers: str) -> Any:
    target = nas.target("Download", 2, "download", path=path, mode=mode)
    return nas.request("GET", target, headers={k.replace("_", "-"): v for k, v in headers.items()})


def test_whole_file(nas: Any, content: bytes) -> None:
    reply = download(nas)
    assert reply.status == 200
    assert reply.body == content
    assert reply.headers["content-length"] == str(SIZE)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.headers["content-disposition"].startswith('attachment; filename="f.mp3"')


def test_mode_open_has_the_type_of_the_name_and_no_disposition(nas: Any, content: bytes, share: Path) -> None:
    (share / "x.json").write_text("{}")
    assert download(nas, mode="open").headers["content-type"] == "audio/mpeg"
    reply = download(nas, "/media/x.json", mode="open")
    assert reply.headers["content-type"] == "application/json"
    assert "content-disposition" not in reply.headers


def test_no_validators_are_served(nas: Any, content: bytes) -> None:
    """ETag and Last-Modified are on no record: a client may not depend on them."""
    assert {"etag", "last-modified"} & set(download(nas).headers) == set()


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=1000-2000", 1000, 2000),
        ("bytes=1000-", 1000, SIZE - 1),
        ("bytes=0-0", 0, 0),
        (f"bytes={SIZE - 1}-{SIZE + 100}", SIZE - 1, SIZE - 1),
        ("bytes=0-", 0, SIZE - 1),
    ],
)
@pytest.mark.parametrize("mode", ["open", "download"])
def test_get_honours_range(nas: Any, content: bytes, header: str, first: int, last: int, mode: str) -> None:
    reply = download(nas, mode=mode, range=header)
    assert reply.status == 206
    assert reply.headers["content-range"] == f"bytes {first}-{last}/{SIZE}"
    assert reply.headers["content-length"] == str(last - first + 1)
    assert reply.headers["accept-ranges"] == "bytes"
    assert reply.body == content[first : last + 1]


@pytest.mark.parametrize("header", ["bytes=-5", "bytes=0-1,5-6", "lines=0-1", "bytes=5-2"])
def test_ranges_without_evidence_are_ignored(nas: Any, content: bytes, header: str) -> None:
    reply = download(nas, range=header)
    assert (reply.status, reply.body) == (200, content)


def test_a_range_behind_the_end_is_416(nas: Any, content: bytes) -> None:
    reply = download(nas, range=f"bytes={SIZE}-")
    assert reply.status == 416
    assert reply.headers["content-range"] == f"bytes */{SIZE}"


def test_post_ignores_range(nas: Any, content: bytes) -> None:
    target, _, query = nas.target("Download", 2, "download", path="/media/f.mp3").partition("?")
    headers = {"content-type": "application/x-www-form-urlencoded", "range": "bytes=0-9"}
    reply = nas.request("POST", target, query.encode(), headers)
    assert (reply.status, reply.body) == (200, content)


def test_range_may_be_ignored_altogether(start: Any, content: bytes) -> None:
    nas = start("--quirk", "range-requests=ignored")
    reply = download(nas, range="bytes=0-9")
    assert (reply.status, reply.body) == (200, content)


def test_an_empty_file(nas: Any, share: Path) -> None:
    (share / "empty").write_text("")
    reply = download(nas, "/media/empty")
    assert (reply.status, reply.body, reply.headers["content-length"]) == (200, b"", "0")


def test_whole_downloads_may_be_compressed(start: Any, content: bytes) -> None:
    nas = start("--quirk", "download-gzip=on")
    with closing(nas.connect()) as connection:
        connection.request(
            "GET", nas.target("Download", 2, "download", path="/media/f.mp3"), headers={"accept-encoding": "gzip"}
        )
        response = connection.getresponse()
        assert response.getheader("content-encoding") == "gzip"
        assert response.getheader("content-length") is None
        assert gzip.decompress(response.read()) == content
    assert download(nas, accept_encoding="identity").headers["content-length"] == str(SIZE)


def test_a_keep_alive_connection_serves_several_downloads(nas: Any, content: bytes) -> None:
    with closing(nas.connect()) as connection:
        for first in (0, 1_000_000, 2_000_000):
            target = nas.target("Download", 2, "download", path="/media/f.mp3")
            reply = nas.request("GET", target, None, {"range": f"bytes={first}-{first + 99}"}, connection)
            assert reply.body == content[first : first + 100]


# -- archives --


def test_a_folder_is_a_zip_of_unknown_length(nas: Any, share: Path) -> None:
    (share / "d" / "sub").mkdir(parents=True)
    (share / "d" / "sub" / "ü.txt").write_text("hello")
    (share / "d" / "big").write_bytes(b"x" * 2_500_000)
    reply = download(nas, "/media/d")
    assert reply.headers["transfer-encoding"] == "chunked"
    assert 'filename="d.zip"' in reply.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["d/", "d/big", "d/sub/", "d/sub/ü.txt"]
        assert archive.read("d/sub/ü.txt") == b"hello"


def test_several_paths_are_a_zip(nas: Any, share: Path) -> None:
    (share / "a").write_text("1")
    (share / "b").write_text("2")
    reply = download(nas, ["/media/a", "/media/b"])
    with zipfile.ZipFile(io.BytesIO(reply.body)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == {"a": b"1", "b": b"2"}


# -- failures --


def test_a_bad_sid_is_json_119_with_http_200(nas: Any, content: bytes) -> None:
    nas.sid = "wrong"
    reply = download(nas)
    assert (reply.status, reply.code) == (200, 119)
    assert reply.headers["content-type"].startswith("application/json")
    assert reply.headers["x-request-error"] == "unauth"
    assert "content-disposition" not in reply.headers


def test_a_missing_path_is_html_502(nas: Any) -> None:
    reply = download(nas, "/media/gone")
    assert reply.status == 502
    assert reply.headers["content-type"].startswith("text/html")
    assert download(nas, ["/media/gone", "/media"]).status == 502


def test_a_missing_path_may_be_html_404(start: Any) -> None:
    reply = download(start("--quirk", "missing-download=404"), "/media/gone", mode="open")
    assert reply.status == 404
    assert reply.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("code", [408, 407])
def test_a_missing_path_may_be_json_with_http_200(start: Any, code: int) -> None:
    reply = download(start("--quirk", f"missing-download={code}"), "/media/gone")
    assert (reply.status, reply.code) == (200, code)


def test_an_unreadable_file_is_407(nas: Any, content: bytes, share: Path) -> None:
    (share / "f.mp3").chmod(0o077)
    assert download(nas).code == 407


def test_no_path_is_400(nas: Any) -> None:
    assert nas.get("Download", 2, "download").code == 400


def test_a_file_that_is_cut_during_the_download_ends_the_connection(nas: Any, share: Path) -> None:
    big = share / "big"
    with big.open("wb") as file:
        file.truncate(200_000_000)
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("Download", 2, "download", path="/media/big"))
        response = connection.getresponse()
        assert len(response.read(1000)) == 1000
        with big.open("wb") as file:
            file.truncate(1000)
        received = 1000
        while chunk := response.read(2**20):
            received += len(chunk)
        assert received < 200_000_000


def test_a_file_that_is_replaced_during_the_download_stays_the_old_one(nas: Any, share: Path) -> None:
    big = share / "big"
    big.write_bytes(b"o" * 30_000_000)
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("Download", 2, "download", path="/media/big"))
        response = connection.getresponse()
        start = response.read(10)
        (share / "new").write_bytes(b"n" * 30_000_000)
        os.replace(share / "new", big)
        assert start + response.read() == b"o" * 30_000_000
