"""The life of a session: where the sid may be, SynoToken, expiry, duplicates, logout."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

LIST = ("List", 2, "list_share")


def test_sid_in_query_form_or_cookie(nas: Any) -> None:
    sid, nas.sid = nas.sid, ""
    target = nas.target(*LIST)
    assert nas.request("GET", target).code == 119
    assert nas.request("GET", f"{target}&_sid={sid}").data["total"] == 1
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert nas.request("POST", target, f"_sid={sid}".encode(), form).data["total"] == 1
    assert nas.request("GET", target, headers={"cookie": f"id={sid}"}).data["total"] == 1


def test_syno_token_is_enforced_once_asked_for(start: Any) -> None:
    nas = start(sign_in=False)
    token = nas.login(enable_syno_token="yes")["synotoken"]
    assert nas.get(*LIST).code == 119
    assert nas.get(*LIST, raw={"SynoToken": "wrong"}).code == 119
    assert nas.get(*LIST, raw={"SynoToken": token}).data["total"] == 1
    assert nas.request("GET", nas.target(*LIST), headers={"X-SYNO-TOKEN": token}).data["total"] == 1


@pytest.mark.parametrize("code", [105, 103])
def test_a_missing_token_may_have_another_code_but_never_for_download(start: Any, code: int) -> None:
    nas = start("--quirk", f"missing-token={code}", sign_in=False)
    nas.login(enable_syno_token="yes")
    assert nas.get(*LIST).code == code
    reply = nas.get("Download", 2, "download", path="/media/x")
    assert (reply.status, reply.code) == (200, 119)


def test_without_asking_there_is_no_token(nas: Any) -> None:
    assert nas.get(*LIST).data["total"] == 1
    assert nas.login()["synotoken"] == ""


def test_token_method_tells_the_token_of_a_live_session(start: Any) -> None:
    nas = start(sign_in=False)
    token = nas.login(enable_syno_token="yes")["synotoken"]
    assert nas.get("SYNO.API.Auth", 6, "token", raw={"_sid": nas.sid}).data == {"synotoken": token}
    assert nas.get("SYNO.API.Auth", 6, "token").code == 119
    assert nas.get("SYNO.API.Auth", 5, "token", raw={"_sid": nas.sid}).code == 103


def test_rotated_tokens_are_renewed_by_the_token_method(start: Any) -> None:
    nas = start(sign_in=False)
    old = nas.login(enable_syno_token="yes")["synotoken"]
    nas.fault("rotate_tokens")
    assert nas.get(*LIST, raw={"SynoToken": old}).code == 119
    new = nas.get("SYNO.API.Auth", 7, "token", raw={"_sid": nas.sid}).data["synotoken"]
    assert nas.get(*LIST, raw={"SynoToken": new}).data["total"] == 1


def test_token_method_may_rotate(start: Any) -> None:
    nas = start("--quirk", "token-method=rotate", sign_in=False)
    old = nas.login(enable_syno_token="yes")["synotoken"]
    assert nas.get("SYNO.API.Auth", 7, "token", raw={"_sid": nas.sid}).data["synotoken"] != old


def test_sessions_end_when_idle(start: Any) -> None:
    nas = start("--session-seconds", "0")
    assert nas.get(*LIST).code == 119


@pytest.mark.parametrize("code", [106, 107, 105])
def test_a_dead_sid_may_have_other_codes(start: Any, code: int) -> None:
    nas = start("--quirk", f"dead-sid={code}", "--session-seconds", "0")
    assert nas.get(*LIST).code == code
    nas.sid = "never-was-one"
    assert nas.get(*LIST).code == 119


def test_expire_all_sids_at_run_time(nas: Any) -> None:
    nas.fault("expire_sids")
    assert nas.get(*LIST).code == 119
    nas.login()
    nas.fault("expire_sids", code=106)
    assert nas.get(*LIST).code == 106


def test_duplicate_logins_coexist(nas: Any) -> None:
    first = replace(nas)
    nas.login()
    assert first.sid != nas.sid
    assert first.get(*LIST).data["total"] == 1
    assert nas.stats()["sessions"] == 2


def test_a_duplicate_login_may_end_the_first_with_107(start: Any) -> None:
    nas = start("--quirk", "duplicate-login=107")
    first = replace(nas)
    nas.login("root")
    assert first.get(*LIST).data["total"] == 1  # another account
    nas.login()
    assert first.get(*LIST).code == 107


def test_logout_ends_the_session_of_the_sid(nas: Any) -> None:
    assert nas.get("SYNO.API.Auth", 7, "logout", raw={"_sid": nas.sid}).data is None
    assert nas.get(*LIST).code == 119
    assert nas.stats()["sessions"] == 0


def test_logout_without_a_sid_succeeds_and_ends_nothing(nas: Any) -> None:
    assert nas.get("SYNO.API.Auth", 7, "logout").json == {"success": True}
    assert nas.get(*LIST).data["total"] == 1


def test_150_from_another_address_except_for_download(nas: Any, share: Any) -> None:
    (share / "f").write_text("x")
    other = replace(nas, source=("127.0.0.2", 0))
    assert other.get(*LIST).code == 150
    assert other.get("Download", 2, "download", path="/media/f").body == b"x"
    assert nas.get(*LIST).data["total"] == 1


def test_another_address_may_be_ignored(start: Any) -> None:
    nas = start("--quirk", "source-ip=ignored")
    assert replace(nas, source=("127.0.0.2", 0)).get(*LIST).data["total"] == 1


@pytest.mark.parametrize("session", ["", "webui", "DSMCTL"])
def test_non_admins_need_the_session_name_filestation(start: Any, session: str) -> None:
    nas = start(sign_in=False)
    nas.login(session=session)
    assert nas.get(*LIST).code == 119
    nas.login("root", session=session)
    assert nas.get(*LIST).data["total"] == 1


def test_session_names_may_be_lenient(start: Any) -> None:
    nas = start("--quirk", "session-name=lenient", sign_in=False)
    nas.login(session="")
    assert nas.get(*LIST).data["total"] == 1
