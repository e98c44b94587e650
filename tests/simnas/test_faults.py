"""Scripted faults, counters, and the limits of the network."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

BROKEN = (http.client.HTTPException, ConnectionError)


@pytest.fixture
def file(share: Path) -> bytes:
    content = b"0123456789" * 100_000
    (share / "f").write_bytes(content)
    return content


def download(nas: Any, **headers: str) -> Any:
    return nas.request("GET", nas.target("Download", 2, "download", path="/media/f"), headers=headers)


def listing(nas: Any, folder: str = "/media") -> Any:
    return nas.get("List", 2, "list", folder_path=folder)


# -- matching --


def test_error_code_for_one_method_of_one_api(nas: Any) -> None:
    nas.fault("error", code=402, api="List", method="list")
    assert listing(nas).code == 402
    assert nas.get("List", 2, "list_share").data["total"] == 1
    nas.clear_faults()
    assert listing(nas).data["total"] == 0


def test_full_api_names_match_too(nas: Any) -> None:
    nas.fault("error", code=402, api="SYNO.FileStation.List")
    assert listing(nas).code == 402


def test_error_with_nested_errors(nas: Any) -> None:
    nas.fault("error", code=1100, errors=[{"code": 416, "path": "/media/x"}])
    assert listing(nas).nested == [416]


def test_skip_and_times(nas: Any) -> None:
    nas.fault("error", code=402, skip=2, times=2)
    codes = [listing(nas).json["success"] for _ in range(6)]
    assert codes == [True, True, False, False, True, True]


def test_probability_is_reproducible(nas: Any) -> None:
    def draw(seed: int) -> list[bool]:
        nas.fault("error", code=402, probability=0.5, seed=seed)
        result = [listing(nas).json["success"] for _ in range(30)]
        nas.clear_faults()
        return result

    first = draw(1)
    assert first == draw(1)
    assert first != draw(2)
    assert 5 < sum(first) < 25


def test_path_matches_part_of_a_path(nas: Any, share: Path) -> None:
    (share / "good").mkdir()
    (share / "bäd").mkdir()
    nas.fault("error", code=402, path="/bäd")
    assert listing(nas, "/media/bäd").code == 402
    assert listing(nas, "/media/good").data["total"] == 0


def test_faults_can_be_listed_and_removed_one_by_one(nas: Any) -> None:
    body = json.dumps([{"kind": "error", "code": 402}, {"kind": "delay", "seconds": 0}])
    ids = nas.request("POST", "/_simnas/faults", body).json["ids"]
    listing(nas)
    faults = nas.request("GET", "/_simnas/faults").json["faults"]
    assert [(fault["id"], fault["kind"], fault["struck"]) for fault in faults] == [
        (ids[0], "error", 1),
        (ids[1], "delay", 1),
    ]
    nas.request("DELETE", f"/_simnas/faults/{ids[0]}")
    assert listing(nas).data["total"] == 0


def test_the_last_calls_about_a_name_tell_how_they_ended(nas: Any, share: Path) -> None:
    (share / "folder").mkdir()
    (share / "other").mkdir()
    nas.fault("error", code=402, times=1, path="/folder")
    for folder in ("/media/folder", "/media/folder", "/media/other"):
        listing(nas, folder)
    calls = nas.request("GET", "/_simnas/calls?about=/folder").json["calls"]
    assert [text.split(" ")[0] for _, text in calls] == ["SYNO.FileStation.List.list"] * 2
    assert [text.rpartition(": ")[2].partition(",")[0] for _, text in calls] == ["error 402", "ok"]
    assert abs(calls[0][0] - time.time()) < 60


@pytest.mark.parametrize("body", ["nonsense", '{"kind": "eror"}', '{"kind": "error", "cod": 1}', "{}"])
def test_a_wrong_fault_is_refused(nas: Any, body: str) -> None:
    reply = nas.request("POST", "/_simnas/faults", body)
    assert reply.status == 400
    assert reply.json["error"]


# -- kinds --


def test_http_status_is_html(nas: Any) -> None:
    nas.fault("status", status=503)
    reply = listing(nas)
    assert reply.status == 503
    assert reply.headers["content-type"].startswith("text/html")


def test_status_after_the_call_was_executed(nas: Any) -> None:
    nas.fault("status", status=504, when="after", api="SYNO.API.Auth")
    assert nas.try_login().status == 504
    assert nas.stats()["sessions"] == 2


def test_another_body_in_place_of_the_answer(nas: Any) -> None:
    nas.fault("body", body="<html>portal</html>")
    reply = listing(nas)
    assert (reply.status, reply.body) == (200, b"<html>portal</html>")
    assert reply.headers["content-type"].startswith("text/html")
    nas.clear_faults()
    nas.fault("body", body='{"data": {}}', content_type="application/json")
    assert listing(nas).json == {"data": {}}


def test_delay(nas: Any) -> None:
    nas.fault("delay", seconds=0.5)
    begin = time.monotonic()
    assert listing(nas).data["total"] == 0
    assert time.monotonic() - begin >= 0.5


def test_hang_until_the_fault_is_removed(nas: Any) -> None:
    nas.fault("hang", api="List")
    with closing(nas.connect(timeout=0.3)) as connection:
        connection.request("GET", nas.target("List", 2, "list", folder_path="/media"))
        with pytest.raises(TimeoutError):
            connection.getresponse()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(listing, nas)
        while nas.request("GET", "/_simnas/faults").json["faults"][0]["struck"] < 2:
            pass
        assert not waiting.done()
        nas.clear_faults()
        assert waiting.result().data["total"] == 0


def test_drop_before_the_answer(nas: Any, file: bytes) -> None:
    nas.fault("drop", times=2)
    for _ in range(2):
        with pytest.raises(BROKEN):
            download(nas)
    assert download(nas).body == file


@pytest.mark.parametrize("after", [1, 1000, 500_000])
def test_drop_after_n_bytes_of_the_body(nas: Any, file: bytes, after: int) -> None:
    nas.fault("drop", after_bytes=after)
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("Download", 2, "download", path="/media/f"))
        response = connection.getresponse()
        assert response.getheader("content-length") == str(len(file))
        with pytest.raises(http.client.IncompleteRead) as caught:
            response.read()
        assert caught.value.partial == file[:after]


def test_drop_with_a_reset(nas: Any, file: bytes) -> None:
    nas.fault("drop", reset=True)
    with pytest.raises(ConnectionResetError):
        download(nas)


def test_drop_of_the_request_does_no_work(nas: Any) -> None:
    nas.fault("drop", when="request", api="SYNO.API.Auth")
    with pytest.raises(BROKEN):
        nas.try_login()
    assert nas.stats()["sessions"] == 1


def test_drop_of_the_answer_comes_after_the_work(nas: Any) -> None:
    nas.fault("drop", api="SYNO.API.Auth")
    with pytest.raises(BROKEN):
        nas.try_login()
    assert nas.stats()["sessions"] == 2


def test_truncated_body_that_looks_complete(nas: Any, file: bytes) -> None:
    nas.fault("truncate", bytes=100)
    reply = download(nas, range="bytes=0-999")
    assert (reply.status, reply.headers["content-length"]) == (206, "100")
    assert reply.headers["content-range"] == f"bytes 0-999/{len(file)}"
    assert reply.body == file[:100]
    assert (
        listing(nas).body
        == b'{"data":{"files":[{"isdir":false,"name":"f","path":"/media/f"}],"offset":0,"total":1},"success":true}'[
            :100
        ]
    )


def test_corrupt_body_of_the_right_length(nas: Any, file: bytes) -> None:
    nas.fault("corrupt")
    body = download(nas).body
    assert len(body) == len(file)
    assert sum(a != b for a, b in zip(body, file, strict=True)) == 1


def test_idle_connections_are_dropped_on_demand_and_busy_ones_are_not(nas: Any) -> None:
    nas.fault("hang", api="List", times=1)
    with closing(nas.connect()) as idle, closing(nas.connect()) as busy:
        nas.request("GET", "/", connection=idle)
        busy.request("GET", nas.target("List", 2, "list", folder_path="/media"))
        while nas.request("GET", "/_simnas/faults").json["faults"][0]["struck"] < 1:
            pass
        nas.fault("drop_idle")
        assert idle.sock.recv(1) == b""
        nas.clear_faults()
        assert busy.getresponse().status == 200


def test_idle_connections_are_dropped_earlier_than_the_header_says(start: Any) -> None:
    nas = start("--idle-seconds", "0.2")
    with closing(nas.connect()) as connection:
        reply = nas.request("GET", nas.target("List", 2, "list_share"), connection=connection)
        assert reply.headers["keep-alive"] == "timeout=20"
        begin = time.monotonic()
        assert connection.sock.recv(1) == b""
        assert time.monotonic() - begin < 10


def test_the_default_idle_limit_is_7_seconds() -> None:
    from synofs.simnas.options import Options

    assert Options((), ()).idle_seconds == 7


def test_restart_cuts_connections_ends_sessions_and_refuses_for_a_while(nas: Any) -> None:
    with closing(nas.connect()) as idle:
        nas.request("GET", "/", connection=idle)
        nas.fault("restart", seconds=0.5)
        begin = time.monotonic()
        assert idle.sock.recv(1) == b""
    refused = 0
    while True:
        try:
            assert listing(nas).code == 119
            break
        except BROKEN:
            refused += 1
    assert refused
    assert time.monotonic() - begin >= 0.4


# -- counters --


def test_stats_count_calls_bytes_and_sessions(nas: Any, file: bytes) -> None:
    assert nas.request("POST", "/_simnas/stats/reset").status == 200
    download(nas)
    download(nas, range="bytes=0-9")
    listing(nas)
    nas.get("List", 2, "nonsense")
    stats = nas.stats()
    assert stats["calls"] == {
        "SYNO.FileStation.Download.download": 2,
        "SYNO.FileStation.List.list": 1,
        "SYNO.FileStation.List.nonsense": 1,
    }
    assert len(file) + 10 < stats["bytes_sent"] < len(file) + 1000
    assert stats["sessions"] == 1


def test_stats_count_received_bytes(nas: Any) -> None:
    before = nas.stats()["bytes_received"]
    nas.post("List", 2, "list", folder_path="/media", pattern="x" * 1000)
    assert 1000 < nas.stats()["bytes_received"] - before < 2000


def test_threads_are_for_work_that_takes_longer_than_to_wake_one(nas: Any, share: Path, file: bytes) -> None:
    def turns(call: Callable[[], Any]) -> int:
        before = nas.stats()["disk_turns"]
        assert call().status == 200
        return int(nas.stats()["disk_turns"] - before)

    assert turns(lambda: nas.get("List", 2, "getinfo", path="/media/f", additional=["size"])) == 0
    assert turns(lambda: listing(nas)) == 0
    assert turns(lambda: download(nas)) == 0
    assert turns(lambda: nas.upload("/media", "small", b"x" * 30_000)) == 1  # it is written and put in its place
    (share / "many").mkdir()
    for number in range(1000):
        (share / "many" / f"a-name-of-some-length-{number}").touch()
    assert turns(lambda: listing(nas, "/media/many")) >= 1


def test_peak_concurrency(nas: Any) -> None:
    nas.request("POST", "/_simnas/stats/reset")
    listing(nas)
    assert nas.stats()["peak_concurrency"] == 1
    nas.fault("hang", api="List")
    with ThreadPoolExecutor(5) as pool:
        waiting = [pool.submit(listing, nas) for _ in range(5)]
        while nas.request("GET", "/_simnas/faults").json["faults"][0]["struck"] < 5:
            pass
        nas.clear_faults()
        assert all(call.result().data["total"] == 0 for call in waiting)
    assert nas.stats()["peak_concurrency"] == 5
    assert nas.stats()["peak_transfers"] == 0


def test_control_is_neither_counted_nor_hit(start: Any) -> None:
    nas = start("--latency-ms", "60000", sign_in=False)
    nas.fault("status", status=500)
    nas.fault("hang")
    nas.request("POST", "/_simnas/stats/reset")
    assert nas.stats()["calls"] == {}
    assert nas.request("GET", "/_simnas/").json["simnas"] is True


# -- the network --


def test_latency_is_added_to_every_call_but_calls_do_not_wait_for_each_other(start: Any) -> None:
    nas = start("--latency-ms", "300")
    begin = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: listing(nas), range(8)))
    assert 0.3 <= time.monotonic() - begin < 8 * 0.3


def test_bandwidth_is_shared_by_all_connections(start: Any, share: Path) -> None:
    (share / "f").write_bytes(b"x" * 500_000)
    nas = start("--bandwidth-mbit", "16")  # 2 MB/s
    begin = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        replies = list(pool.map(lambda _: download(nas), range(2)))
    assert [len(reply.body) for reply in replies] == [500_000, 500_000]
    assert time.monotonic() - begin >= 0.45


def test_a_client_that_goes_away_ends_the_download(nas: Any, share: Path) -> None:
    with (share / "f").open("wb") as file:
        file.truncate(50_000_000_000)
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("Download", 2, "download", path="/media/f"))
        assert connection.getresponse().read(10) == bytes(10)
    deadline = time.monotonic() + 20
    while running(nas) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert not running(nas)


def running(nas: Any) -> int:
    """Calls that run right now."""
    nas.request("POST", "/_simnas/stats/reset")
    return int(nas.stats()["peak_concurrency"])


def test_a_form_that_breaks_off_harms_nobody(nas: Any) -> None:
    with socket.create_connection(("127.0.0.1", nas.port)) as raw:
        head = "POST /webapi/entry.cgi HTTP/1.1\r\nHost: nas\r\nContent-Length: 100\r\n"
        raw.sendall(f"{head}Content-Type: application/x-www-form-urlencoded\r\n\r\napi=".encode())
    assert listing(nas).data["total"] == 0


def test_a_form_of_absurd_size_is_413(nas: Any) -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert nas.request("POST", "/webapi/entry.cgi", b"x" * (33 * 2**20), form).status == 413


def test_other_http_methods_are_405(nas: Any) -> None:
    """Nothing is on record of HEAD and the rest."""
    for method in ("HEAD", "PUT", "DELETE"):
        assert nas.request(method, nas.target("List", 2, "list_share")).status == 405


def test_garbage_is_answered_with_400_and_harms_nobody(nas: Any) -> None:
    with socket.create_connection(("127.0.0.1", nas.port)) as raw:
        raw.sendall(b"\x16\x03\x01 not http\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 400")
    assert listing(nas).data["total"] == 0
