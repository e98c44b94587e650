"""SYNO.API.Info, and the order in which a call is refused."""

from __future__ import annotations

from typing import Any

import pytest


def query(nas: Any, path: str, what: str | None) -> Any:
    tail = "" if what is None else f"&query={what}"
    return nas.request("GET", f"/webapi/{path}?api=SYNO.API.Info&version=1&method=query{tail}")


@pytest.mark.parametrize("path", ["query.cgi", "entry.cgi"])
@pytest.mark.parametrize("what", ["all", None])
def test_info_answers_before_login_at_both_paths(start: Any, path: str, what: str | None) -> None:
    nas = start(sign_in=False)
    found = query(nas, path, what).data
    assert found["SYNO.FileStation.List"] == {
        "maxVersion": 2,
        "minVersion": 1,
        "path": "entry.cgi",
        "requestFormat": "JSON",
    }
    assert found["SYNO.API.Auth"] == {"maxVersion": 7, "minVersion": 1, "path": "entry.cgi"}
    assert found["SYNO.FileStation.Upload"]["minVersion"] == 2
    assert found["SYNO.FileStation.Thumb"]["maxVersion"] == 3


def test_info_takes_a_comma_list_and_leaves_out_what_it_does_not_know(nas: Any) -> None:
    assert set(query(nas, "entry.cgi", "SYNO.API.Auth,SYNO.Nothing,SYNO.FileStation.MD5").data) == {
        "SYNO.API.Auth",
        "SYNO.FileStation.MD5",
    }


def test_dsm_6_map(start: Any) -> None:
    nas = start("--dsm", "6", sign_in=False)
    found = query(nas, "query.cgi", "all").data
    assert found["SYNO.API.Auth"] == {"maxVersion": 6, "minVersion": 1, "path": "auth.cgi"}
    assert found["SYNO.API.Info"]["path"] == "query.cgi"
    assert found["SYNO.FileStation.Thumb"]["maxVersion"] == 2
    assert "SYNO.FileStation.Worm" not in found


def test_dsm_6_serves_info_and_auth_at_their_own_cgis_only(start: Any) -> None:
    nas = start("--dsm", "6", sign_in=False)
    assert query(nas, "entry.cgi", "all").code == 102
    login = "?api=SYNO.API.Auth&version=6&method=login&account=ann&passwd=pw"
    assert nas.request("GET", f"/webapi/entry.cgi{login}").code == 102
    assert nas.request("GET", f"/webapi/auth.cgi{login}").data["sid"]


def test_old_cgis_answer_json_as_text_plain(nas: Any) -> None:
    assert query(nas, "query.cgi", "all").headers["content-type"] == 'text/plain; charset="UTF-8"'
    assert query(nas, "entry.cgi", "all").headers["content-type"] == 'application/json; charset="UTF-8"'


@pytest.mark.parametrize(
    ("query_string", "code"),
    [
        ("", 101),
        ("api=SYNO.FileStation.List&method=list", 101),
        ("api=SYNO.FileStation.List&version=2", 101),
        ("api=SYNO.FileStation.Lisp&version=2&method=list", 102),
        ("api=SYNO.FileStation.List&version=3&method=list", 104),
        ("api=SYNO.FileStation.List&version=9&method=nonsense", 104),
        ("api=SYNO.FileStation.List&version=2&method=nonsense", 103),
        ("api=SYNO.FileStation.Upload&version=1&method=upload", 104),
        ("api=SYNO.FileStation.Info&version=2&method=getinfo", 103),
        ("api=SYNO.FileStation.List&version=2&method=list", 119),
    ],
)
def test_checks_come_in_dsms_order(start: Any, query_string: str, code: int) -> None:
    nas = start(sign_in=False)
    reply = nas.request("GET", f"/webapi/entry.cgi?{query_string}")
    assert reply.status == 200
    assert reply.code == code


def test_an_unknown_cgi_is_html_404(nas: Any) -> None:
    reply = nas.request("GET", "/webapi/nothing.cgi?api=SYNO.API.Info&version=1&method=query")
    assert reply.status == 404
    assert reply.headers["content-type"].startswith("text/html")


def test_a_json_body_is_ignored(nas: Any) -> None:
    body = b'{"api": "SYNO.API.Info", "version": 1, "method": "query"}'
    reply = nas.request("POST", "/webapi/entry.cgi", body, {"content-type": "application/json"})
    assert reply.code == 101


def test_query_and_form_are_merged(nas: Any) -> None:
    (form := {})["content-type"] = "application/x-www-form-urlencoded"
    reply = nas.request(
        "POST", "/webapi/entry.cgi?api=SYNO.API.Info&version=1", b"method=query&query=SYNO.API.Auth", form
    )
    assert set(reply.data) == {"SYNO.API.Auth"}


def test_headers_of_an_api_reply(nas: Any) -> None:
    headers = nas.get("List", 2, "list_share").headers
    assert headers["server"] == "nginx"
    assert headers["keep-alive"] == "timeout=20"
    assert headers["transfer-encoding"] == "chunked"
    assert "no-store" in headers["cache-control"]
    assert f"id={nas.sid}" in headers["set-cookie"]


def test_json_is_compressed_when_offered(start: Any) -> None:
    nas = start()
    target = "/webapi/entry.cgi?api=SYNO.API.Info&version=1&method=query"
    assert nas.request("GET", target, headers={"accept-encoding": "gzip"}).headers["content-encoding"] == "gzip"
    assert "content-encoding" not in nas.request("GET", target).headers
    plain = start("--quirk", "gzip=off")
    reply = plain.request("GET", target, headers={"accept-encoding": "gzip"})
    assert "content-encoding" not in reply.headers
