"""FileStation.Upload: the form, overwriting, what a broken connection leaves, slices, space."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

BOUNDARY = "----b0undary"


def left_over(share: Path) -> list[str]:
    return sorted(os.listdir(share))


def test_upload(nas: Any, share: Path) -> None:
    content = os.urandom(3_000_000)
    data = nas.upload("/media", "f.bin", content).data
    assert data == {"blSkip": False, "file": "f.bin", "pid": data["pid"], "progress": 1}
    assert isinstance(data["pid"], int)
    assert (share / "f.bin").read_bytes() == content
    assert left_over(share) == ["f.bin"]


def test_an_empty_file(nas: Any, share: Path) -> None:
    assert nas.upload("/media", "empty", b"").data["blSkip"] is False
    assert (share / "empty").read_bytes() == b""


def test_content_that_looks_like_the_boundary(nas: Any, share: Path) -> None:
    content = f"\r\n--{BOUNDARY[:-1]}\r\n--".encode() * 1000 + b"\r\n"
    nas.upload("/media", "f", content)
    assert (share / "f").read_bytes() == content


@pytest.mark.parametrize("name", ["a b", "ü 日本", "[x], y;z", "100%", "=?UTF-8?B?w7w=?=", "it's", "x" * 255])
def test_names_are_taken_literally(nas: Any, share: Path, name: str) -> None:
    assert nas.upload("/media", name, b"x").data["file"] == name
    assert left_over(share) == [name]


def test_an_encoded_filename_is_taken_literally(nas: Any, share: Path, multipart: Callable[..., bytes]) -> None:
    """RFC 5987 text ends up in the name on disk."""
    body = multipart([("path", "/media")], "X", b"x").replace(b'filename="X"', b"filename*=UTF-8''n%C3%A4me")
    assert nas.post_form(body).data["blSkip"] is False
    assert left_over(share) == ["UTF-8''n%C3%A4me"]


@pytest.mark.parametrize("field", ["file", "files", "filename", "anything"])
def test_any_field_name_will_do_for_the_file(
    nas: Any, share: Path, multipart: Callable[..., bytes], field: str
) -> None:
    assert nas.post_form(multipart([("path", "/media")], "f", b"x", field)).data["file"] == "f"


# -- the session --


def test_sid_in_a_multipart_field_only_is_119(nas: Any, share: Path, multipart: Callable[..., bytes]) -> None:
    sid, nas.sid = nas.sid, ""
    body = multipart([("_sid", sid), ("path", "/media")], "f", b"x" * 1_000_000)
    assert nas.post_form(body).code == 119
    assert left_over(share) == []
    assert nas.post_form(body, headers={"cookie": f"id={sid}"}).data["file"] == "f"


def test_a_refusal_is_answered_after_the_whole_body_on_a_usable_connection(nas: Any, multipart: Any) -> None:
    head = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = multipart([("path", "/media/gone")], "f", b"x" * 5_000_000)
    with closing(nas.connect()) as connection:
        target = nas.target("Upload", 2, "upload")
        assert nas.request("POST", target, body, head, connection).code == 408
        nas.sid = "wrong"
        assert nas.request("POST", nas.target("Upload", 2, "upload"), body, head, connection).code == 119
        assert nas.request("GET", "/", connection=connection).status == 200


def test_call_parameters_in_the_body_only_are_101(nas: Any, multipart: Callable[..., bytes]) -> None:
    texts = [("api", "SYNO.FileStation.Upload"), ("version", "2"), ("method", "upload"), ("path", "/media")]
    assert nas.post_form(multipart(texts, "f", b"x"), target=f"/webapi/entry.cgi?_sid={nas.sid}").code == 101


# -- the form --


def test_what_follows_the_file_part_is_not_seen(nas: Any, share: Path, multipart: Callable[..., bytes]) -> None:
    (share / "f").write_text("old")
    file_first = multipart([], "f", b"new").removesuffix(f"--{BOUNDARY}--\r\n".encode())
    after = multipart([("path", "/media"), ("overwrite", "true")], "f", b"")
    assert nas.post_form(file_first + after).code == 400
    path_then_file = multipart([("path", "/media")], "f", b"new").removesuffix(f"--{BOUNDARY}--\r\n".encode())
    assert nas.post_form(path_then_file + after).code == 414
    assert (share / "f").read_text() == "old"


def test_the_path_is_raw_not_json(nas: Any) -> None:
    assert nas.upload('"/media"', "f", b"x").code == 418


def test_no_file_part_is_1802(nas: Any, multipart: Callable[..., bytes]) -> None:
    body = multipart([("path", "/media")], "f", b"x").replace(b'; filename="f"', b"")
    assert nas.post_form(body).code == 1802
    assert nas.post_form(multipart([("path", "/media")], "", b"x")).code == 1802
    assert nas.get("Upload", 2, "upload").code == 1802


def test_a_body_without_its_last_boundary_is_1800(nas: Any, share: Path, multipart: Callable[..., bytes]) -> None:
    body = multipart([("path", "/media")], "f", b"x" * 1000)
    assert nas.post_form(body[:-100]).code == 1800
    assert left_over(share) == []


def test_chunked_is_accepted_or_1800(start: Any, share: Path) -> None:
    nas = start()
    assert nas.upload("/media", "f", b"x" * 1000, chunked=True).data["file"] == "f"
    nas = start("--quirk", "chunked-upload=1800")
    assert nas.upload("/media", "g", b"x" * 1000, chunked=True).code == 1800
    assert nas.upload("/media", "h", b"x").data["file"] == "h"
    assert left_over(share) == ["f", "h"]


# -- existing files --


@pytest.mark.parametrize(("version", "word"), [(2, "true"), (3, "overwrite")])
def test_overwrite(nas: Any, share: Path, version: int, word: str) -> None:
    (share / "f").write_text("a longer old text")
    assert nas.upload("/media", "f", b"new", version, overwrite=word).data["blSkip"] is False
    assert (share / "f").read_text() == "new"


@pytest.mark.parametrize(("version", "word"), [(2, "false"), (3, "skip")])
def test_skip_is_a_success_that_writes_nothing(nas: Any, share: Path, version: int, word: str) -> None:
    (share / "f").write_text("old")
    assert nas.upload("/media", "f", b"new" * 100_000, version, overwrite=word).data["blSkip"] is True
    assert (share / "f").read_text() == "old"
    assert nas.upload("/media", "g", b"new", version, overwrite=word).data["blSkip"] is False


@pytest.mark.parametrize(("version", "word"), [(3, "true"), (2, "overwrite"), (2, "nonsense")])
def test_the_words_of_another_version_do_not_count(nas: Any, share: Path, version: int, word: str) -> None:
    (share / "f").write_text("old")
    assert nas.upload("/media", "f", b"new", version, overwrite=word).code == 414


@pytest.mark.parametrize("code", [414, 1805])
def test_without_overwrite_an_existing_file_is_refused(start: Any, share: Path, code: int) -> None:
    (share / "f").write_text("old")
    nas = start("--quirk", f"overwrite-absent={code}")
    assert nas.upload("/media", "f", b"new").code == code
    assert (share / "f").read_text() == "old"


def test_a_folder_is_never_overwritten(nas: Any, share: Path) -> None:
    (share / "f").mkdir()
    assert nas.upload("/media", "f", b"x", overwrite="true").code == 414


# -- folders, rights, times --


def test_missing_parents(start: Any, share: Path) -> None:
    nas = start("--share", f"docs={share}:ro")
    assert nas.upload("/media/a/b", "f", b"x").code == 408
    assert nas.upload("/media/a/b", "f", b"x", create_parents="true").data["file"] == "f"
    assert (share / "a" / "b" / "f").read_bytes() == b"x"
    assert nas.upload("/docs/c/d", "f", b"x", create_parents="true").code == 407
    assert left_over(share) == ["a"]


def test_no_right_to_write_is_407(start: Any, share: Path) -> None:
    nas = start("--share", f"docs={share}:ro", "--share", f"odd={share}:acl-ro")
    (share / "locked").mkdir(mode=0o555)
    (share / "f").write_text("old")
    (share / "f").chmod(0o444)
    assert nas.upload("/docs", "g", b"x").code == 407
    assert nas.upload("/odd", "g", b"x").code == 407
    assert nas.upload("/media/locked", "g", b"x").code == 407
    assert nas.upload("/media", "f", b"x", overwrite="true").code == 407
    nas.login("root")
    assert nas.upload("/odd", "g", b"x").code == 407
    assert nas.get("CheckPermission", 3, "write", path="/media/locked", filename="g").json == {"success": True}


@pytest.mark.parametrize(
    ("path", "name", "code"),
    [
        ("/media/", "f", 418),
        ("/", "f", 401),
        ("/volume1/media", "f", 408),
        ("/media/file", "f", 408),
        ("/media", "x" * 256, 412),
        ("/media", "a/b", 418),
        ("/media", "..", 418),
    ],
)
def test_refused_places_and_names(nas: Any, share: Path, path: str, name: str, code: int) -> None:
    (share / "file").write_text("")
    assert nas.upload(path, name, b"x").code == code
    assert left_over(share) == ["file"]


def test_names_with_other_codes(start: Any, share: Path) -> None:
    options = ("--share", f"safe={share}:encrypted", "--share", f"stick={share}:fat")
    nas = start(*options, "--quirk", "illegal-name=408", "--quirk", "forbidden-characters=refused")
    assert nas.upload("/media", "a:b", b"x").code == 408
    assert nas.upload("/stick", "a:b", b"x").code == 420
    assert nas.upload("/safe", "x" * 144, b"x").code == 413
    assert nas.upload("/safe", "x" * 143, b"x").data["blSkip"] is False
    nas = start()
    assert nas.upload("/media", "a:b?", b"x").data["file"] == "a:b?"


def test_times_are_milliseconds(nas: Any, share: Path) -> None:
    nas.upload("/media", "f", b"x", mtime=1_600_000_000_123, atime=1_500_000_000_000, crtime=1)
    found = (share / "f").stat()
    assert (found.st_mtime_ns, found.st_atime_ns) == (1_600_000_000_123_000_000, 1_500_000_000_000_000_000)
    [record] = nas.get("List", 2, "getinfo", path=["/media/f"], additional=["time"]).data["files"]
    assert record["additional"]["time"]["mtime"] == 1_600_000_000


def test_a_time_that_does_not_parse_is_ignored(nas: Any, share: Path) -> None:
    assert nas.upload("/media", "f", b"x", mtime="yesterday").data["file"] == "f"
    assert (share / "f").stat().st_mtime > 1_700_000_000


# -- while it is going on --


class Begun:
    """An upload of which only the first part has been sent."""

    def __init__(self, nas: Any, body: bytes, sent: int, headers: str = "") -> None:
        self._rest = body[sent:]
        self._socket = socket.create_connection(("127.0.0.1", nas.port))
        head = f"POST {nas.target('Upload', 2, 'upload')} HTTP/1.1\r\nHost: nas\r\nConnection: close\r\n{headers}"
        head += f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(head.encode() + body[:sent])

    def finish(self) -> bytes:
        self._socket.sendall(self._rest)
        answer = b""
        while piece := self._socket.recv(2**16):
            answer += piece
        self._socket.close()
        return answer

    def break_off(self) -> None:
        self._socket.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "did not happen"


def big(multipart: Callable[..., bytes]) -> bytes:
    return multipart([("path", "/media"), ("overwrite", "true")], "f", b"n" * 8_000_000)


def test_readers_see_the_old_file_until_the_upload_is_complete(nas: Any, share: Path, multipart: Any) -> None:
    (share / "f").write_text("old")
    begun = Begun(nas, big(multipart), 4_000_000)
    wait_for(lambda: len(os.listdir(share)) == 2)
    assert (share / "f").read_text() == "old"
    assert nas.names("/media") == ["f"]  # the spool file is not shown
    assert nas.get("List", 2, "list", folder_path="/media").data["total"] == 1
    assert b'"blSkip":false' in begun.finish()
    assert (share / "f").stat().st_size == 8_000_000
    assert left_over(share) == ["f"]


def test_overwriting_may_truncate_at_once_and_grow(start: Any, share: Path, multipart: Any) -> None:
    (share / "f").write_bytes(b"o" * 9_000_000)
    nas = start("--quirk", "upload-replaces=in-place")
    begun = Begun(nas, big(multipart), 4_000_000)
    wait_for(lambda: 0 < (share / "f").stat().st_size < 4_000_001)
    assert left_over(share) == ["f"]
    assert b'"blSkip":false' in begun.finish()
    assert (share / "f").read_bytes() == b"n" * 8_000_000


@pytest.mark.parametrize("replaces", ["atomically", "in-place"])
def test_a_broken_connection_may_leave_a_short_file(start: Any, share: Path, multipart: Any, replaces: str) -> None:
    (share / "f").write_text("old")
    nas = start("--quirk", f"upload-replaces={replaces}", "--quirk", "aborted-upload=short-file")
    Begun(nas, big(multipart), 4_000_000).break_off()
    wait_for(lambda: (share / "f").exists() and 3_000_000 < (share / "f").stat().st_size < 4_000_001)
    wait_for(lambda: left_over(share) == ["f"])
    content = (share / "f").read_bytes()
    assert content == b"n" * len(content)


def test_a_broken_connection_leaves_the_old_file(nas: Any, share: Path, multipart: Any) -> None:
    (share / "f").write_text("old")
    begun = Begun(nas, big(multipart), 4_000_000)
    wait_for(lambda: len(os.listdir(share)) == 2)
    begun.break_off()
    wait_for(lambda: left_over(share) == ["f"])
    assert (share / "f").read_text() == "old"


def test_a_broken_connection_in_place_may_leave_nothing(start: Any, share: Path, multipart: Any) -> None:
    (share / "f").write_text("old")
    nas = start("--quirk", "upload-replaces=in-place")
    Begun(nas, big(multipart), 4_000_000).break_off()
    wait_for(lambda: left_over(share) == [])


def test_drop_after_n_bytes_of_the_file(nas: Any, share: Path) -> None:
    nas.fault("drop", when="request", after_bytes=2_000_000, path="/media/f", times=1)
    with pytest.raises(ConnectionError):
        nas.upload("/media", "f", b"x" * 30_000_000)
    wait_for(lambda: left_over(share) == [])
    assert nas.upload("/media", "f", b"x").data["file"] == "f"


def test_a_dropped_answer_comes_after_the_work(nas: Any, share: Path) -> None:
    nas.fault("drop", api="Upload")
    with pytest.raises(ConnectionError):
        nas.upload("/media", "f", b"x" * 1000)
    assert (share / "f").stat().st_size == 1000


def test_faults_match_the_path_of_an_upload(nas: Any, share: Path) -> None:
    nas.fault("error", code=119, path="/media/f")
    assert nas.upload("/media", "f", b"x" * 1_000_000).code == 119
    assert nas.upload("/media", "g", b"x").data["file"] == "g"
    nas.clear_faults()
    nas.fault("error", code=119, when="after", api="Upload")
    assert nas.upload("/media", "h", b"x").code == 119
    assert left_over(share) == ["g", "h"]


def test_413_and_504_of_a_proxy(start: Any, share: Path) -> None:
    nas = start("--max-body-bytes", "10000")
    reply = nas.upload("/media", "f", b"x" * 20_000)
    assert reply.status == 413
    assert reply.headers["content-type"].startswith("text/html")
    nas.fault("status", status=504, when="after", api="Upload")
    assert nas.upload("/media", "f", b"x").status == 504
    assert left_over(share) == ["f"]


def test_two_uploads_of_one_new_name_do_not_overwrite_each_other(nas: Any, share: Path, multipart: Any) -> None:
    begun = Begun(nas, multipart([("path", "/media")], "f", b"n" * 8_000_000), 4_000_000)
    wait_for(lambda: len(os.listdir(share)) == 1)
    assert nas.upload("/media", "f", b"faster").data["file"] == "f"
    assert b'"code":414' in begun.finish()
    assert (share / "f").read_bytes() == b"faster"
    assert left_over(share) == ["f"]


def test_a_folder_that_is_renamed_meanwhile_is_missing_at_the_end(nas: Any, share: Path, multipart: Any) -> None:
    (share / "d").mkdir()
    begun = Begun(nas, multipart([("path", "/media/d")], "f", b"n" * 8_000_000), 4_000_000)
    wait_for(lambda: len(os.listdir(share / "d")) == 1)
    nas.get("Rename", 2, "rename", path="/media/d", name="e")
    assert b'"code":408' in begun.finish()


def test_an_end_in_the_middle_of_an_upload_leaves_nothing(nas: Any, share: Path, multipart: Any) -> None:
    (share / "f").write_text("old")
    begun = Begun(nas, big(multipart), 4_000_000)
    wait_for(lambda: len(os.listdir(share)) == 2)
    nas.process.terminate()
    assert nas.process.wait(10) == 0
    begun.break_off()
    assert left_over(share) == ["f"]
    assert (share / "f").read_text() == "old"


def test_what_a_killed_server_left_is_cleaned_up_by_the_next(start: Any, share: Path) -> None:
    (share / ".simnas-spool-99999999-abc").write_text("x")
    nas = start()
    assert nas.names("/media") == []
    assert left_over(share) == []


# -- space --


@pytest.mark.parametrize(("option", "code"), [("--quota-bytes", 415), ("--volume-bytes", 416)])
def test_quota_and_full_volume(start: Any, share: Path, option: str, code: int) -> None:
    (share / "there").write_bytes(b"x" * 1000)
    nas = start(option, "1500")
    assert nas.upload("/media", "f", b"x" * 501).code == code
    assert left_over(share) == ["there"]
    assert nas.upload("/media", "f", b"x" * 500).data["file"] == "f"
    nas.get("Delete", 2, "delete", path=["/media/there"])
    assert nas.upload("/media", "g", b"x" * 1000).data["file"] == "g"


def test_space_can_run_out_at_run_time(nas: Any, share: Path) -> None:
    nas.fault("volume", bytes=100)
    assert nas.upload("/media", "f", b"x" * 101).code == 416
    nas.fault("volume")
    assert nas.upload("/media", "f", b"x" * 101).data["file"] == "f"
    nas.fault("readonly")
    assert nas.upload("/media", "f", b"x", overwrite="true").code == 411


# -- slices --


def slice_headers(total: int, last: bool, tmp_file: str | None = None) -> dict[str, str]:
    headers = {
        "X-TYPE-NAME": "SLICEUPLOAD",
        "X-FILE-SIZE": str(total),
        "X-FILE-CHUNK-END": "true" if last else "false",
    }
    return headers | ({"X-TMP-FILE": tmp_file} if tmp_file else {})


def test_slices(nas: Any, share: Path) -> None:
    parts = [os.urandom(1_000_000), os.urandom(1_000_000), b"the end"]
    total = sum(map(len, parts))
    first = nas.upload("/media", "f", parts[0], headers=slice_headers(total, False)).data
    assert first == {"blSkip": False, "progress": 1, "tmpfile": first["tmpfile"]}
    assert first["tmpfile"].startswith("slice.")
    assert nas.names("/media") == []
    second = nas.upload("/media", "f", parts[1], headers=slice_headers(total, False, first["tmpfile"])).data
    assert second["tmpfile"] == first["tmpfile"]
    headers = slice_headers(total, True, second["tmpfile"])
    assert nas.upload("/media", "f", parts[2], headers=headers, mtime=1_600_000_000_000).data["file"] == "f"
    assert (share / "f").read_bytes() == b"".join(parts)
    assert (share / "f").stat().st_mtime == 1_600_000_000
    assert left_over(share) == ["f"]


def test_a_slice_sent_twice_is_there_twice(nas: Any, share: Path) -> None:
    tmp_file = nas.upload("/media", "f", b"one", headers=slice_headers(9, False)).data["tmpfile"]
    for _ in range(2):
        nas.upload("/media", "f", b"two", headers=slice_headers(9, False, tmp_file))
    nas.upload("/media", "f", b"end", headers=slice_headers(9, True, tmp_file))
    assert (share / "f").read_bytes() == b"onetwotwoend"


def test_a_file_may_grow_while_it_comes_in_slices(nas: Any, share: Path) -> None:
    tmp_file = nas.upload("/media", "f", b"one", headers=slice_headers(4, False)).data["tmpfile"]
    nas.upload("/media", "f", b"two", headers=slice_headers(7, False, tmp_file), mtime=1_500_000_000_000)
    nas.upload("/media", "f", b"end", headers=slice_headers(9, True, tmp_file), mtime=1_600_000_000_000)
    assert (share / "f").read_bytes() == b"onetwoend"
    assert (share / "f").stat().st_mtime == 1_600_000_000


def test_a_nas_may_insist_on_the_size_announced_first(start: Any) -> None:
    nas = start("--quirk", "slices=one-size")
    tmp_file = nas.upload("/media", "f", b"one", headers=slice_headers(4, False)).data["tmpfile"]
    assert nas.upload("/media", "f", b"end", headers=slice_headers(6, True, tmp_file)).code == 1800
    assert nas.upload("/media", "f", b"e", headers=slice_headers(4, True, tmp_file)).data["file"] == "f"


def test_a_nas_that_knows_no_slices_takes_the_first_for_the_file(start: Any) -> None:
    nas = start("--quirk", "slices=unknown")
    assert "tmpfile" not in nas.upload("/media", "f", b"one", headers=slice_headers(9, False)).data
    assert nas.names("/media") == ["f"]


def test_what_came_of_a_broken_slice_stays_in_the_file(nas: Any, share: Path, multipart: Any) -> None:
    tmp_file = nas.upload("/media", "f", b"one", headers=slice_headers(9, False)).data["tmpfile"]
    body = multipart([("path", "/media")], "f", b"t" * 3_000_000)
    headers = "".join(f"{k}: {v}\r\n" for k, v in slice_headers(9, False, tmp_file).items())
    [spool] = share.iterdir()
    begun = Begun(nas, body, 2_000_000, headers)
    wait_for(lambda: spool.stat().st_size > 1_000_000)
    begun.break_off()
    nas.upload("/media", "f", b"end", headers=slice_headers(9, True, tmp_file))
    assert (share / "f").stat().st_size > 1_000_006


def test_a_lost_temporary_file_is_401(nas: Any, share: Path) -> None:
    headers = slice_headers(6, True, "slice.99.0.1")
    assert nas.upload("/media", "f", b"two", headers=headers).code == 401
    tmp_file = nas.upload("/media", "f", b"one", headers=slice_headers(6, False)).data["tmpfile"]
    nas.fault("restart")
    nas.login()
    assert nas.upload("/media", "f", b"two", headers=slice_headers(6, True, tmp_file)).code == 401


def test_a_sliced_upload_onto_an_existing_file_needs_overwrite(nas: Any, share: Path) -> None:
    (share / "f").write_text("old")
    assert nas.upload("/media", "f", b"x", headers=slice_headers(1, True)).code == 414
    nas.upload("/media", "f", b"x", headers=slice_headers(1, True), overwrite="true")
    assert (share / "f").read_text() == "x"
