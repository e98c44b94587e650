"""SYNO.API.Auth login: reply shapes, two-factor sign-in, devices, and every code that refuses."""

from __future__ import annotations

from typing import Any

import pytest

from synofs.simnas.totp import time_step, totp

SECRET = "JBSWY3DPEHPK3PXP"


def otp_nas(start: Any, *options: str) -> Any:
    return start(*options, sign_in=False, accounts=(f"otto:pw:otp={SECRET}",))


def test_totp_is_rfc_6238() -> None:
    """The SHA-1 vectors of RFC 6238, appendix B, in their last six digits."""
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
    vectors = {59: "287082", 1111111109: "081804", 1234567890: "005924", 20000000000: "353130"}
    assert {at: totp(secret, at) for at in vectors} == vectors
    assert time_step(59) == 1


def test_v7_reply(start: Any) -> None:
    data = start(sign_in=False).login()
    assert set(data) == {"account", "device_id", "ik_message", "is_portal_port", "sid", "synotoken"}
    assert data["account"] == "ann"
    assert data["is_portal_port"] is False
    assert len(data["device_id"]) == 86


@pytest.mark.parametrize("version", [3, 4, 5, 6])
def test_older_replies(start: Any, version: int) -> None:
    data = start(sign_in=False).login(version=version, enable_syno_token="yes")
    assert set(data) - {"synotoken"} == {"sid", "is_portal_port"}
    assert ("synotoken" in data) == (version >= 6)


def test_v6_reply_with_a_device(start: Any) -> None:
    data = start(sign_in=False).login(version=6, enable_device_token="yes", device_name="laptop")
    assert "device_id" not in data
    assert data["did"]


def test_login_by_get(start: Any) -> None:
    nas = start(sign_in=False)
    target = nas.target("SYNO.API.Auth", 7, "login", account="ann", passwd="pw")
    assert nas.request("GET", target).data["sid"]


@pytest.mark.parametrize("form", ["cookie", "sid"])
def test_login_sets_the_cookie_in_both_formats(start: Any, form: str) -> None:
    nas = start(sign_in=False)
    reply = nas.try_login(format=form)
    assert reply.headers["set-cookie"].startswith(f"id={reply.data['sid']};")
    assert "Max-Age=604800" in reply.headers["set-cookie"]


@pytest.mark.parametrize(("variant", "expected"), [("empty", ""), ("absent", None)])
def test_v7_device_id_may_be_empty_or_absent(start: Any, variant: str, expected: str | None) -> None:
    data = start("--quirk", f"device-id={variant}", sign_in=False).login(enable_device_token="yes", device_name="x")
    assert data.get("device_id") == expected


@pytest.mark.parametrize("account", ["ann", "nobody"])
def test_400_wrong_password_or_account(start: Any, account: str) -> None:
    assert start(sign_in=False).try_login(account, "wrong").code == 400


@pytest.mark.parametrize("code", [401, 405, 406, 408, 409, 410, 411])
def test_refused_accounts(start: Any, code: int) -> None:
    nas = start(sign_in=False, accounts=(f"odd:pw:refuse={code}",))
    assert nas.try_login("odd").code == code
    assert nas.try_login("odd", "wrong").code == 400


def test_402_no_file_station_privilege(start: Any) -> None:
    nas = start(sign_in=False, accounts=("odd:pw:noapp",))
    assert nas.try_login("odd").code == 402


def test_105_no_file_station_privilege_at_the_call(start: Any) -> None:
    nas = start("--quirk", "denied-application=call", sign_in=False, accounts=("odd:pw:noapp",))
    nas.login("odd")
    assert nas.get("List", 2, "list_share").code == 105


def test_402_session_core_is_not_for_everyone(start: Any) -> None:
    nas = start(sign_in=False)
    assert nas.try_login(session="Core").code == 402
    assert nas.try_login("root", session="Core").data["sid"]


def test_403_asks_for_the_code_and_says_which_kind(start: Any) -> None:
    reply = otp_nas(start).try_login("otto")
    assert reply.code == 403
    assert reply.json["error"]["errors"]["types"] == [{"type": "otp"}]
    assert reply.json["error"]["errors"]["token"]


def test_404_wrong_code_and_sign_in_with_the_right_one(start: Any) -> None:
    nas = otp_nas(start)
    right = totp(SECRET)
    assert nas.try_login("otto", otp_code=f"{(int(right) + 1) % 1000000:06d}").code == 404
    assert nas.login("otto", otp_code=totp(SECRET))["sid"]


def test_an_otp_code_may_be_used_twice_or_not(start: Any) -> None:
    nas = otp_nas(start, "--quirk", "otp-reuse=refused")
    code = totp(SECRET)
    nas.login("otto", otp_code=code)
    assert nas.try_login("otto", otp_code=code).code == 404
    lenient = otp_nas(start)
    lenient.login("otto", otp_code=code)
    lenient.login("otto", otp_code=code)


@pytest.mark.parametrize(("version", "key"), [(6, "did"), (7, "device_id")])
def test_a_remembered_device_needs_no_code(start: Any, version: int, key: str) -> None:
    nas = otp_nas(start)
    device = {"enable_device_token": "yes", "device_name": "laptop"}
    token = nas.login("otto", version=version, otp_code=totp(SECRET), **device)[key]
    again = nas.login("otto", version=version, device_id=token, **device)
    assert again[key] == token
    assert nas.try_login("otto", version=version, device_id=token, device_name="other").code == 403
    assert nas.try_login("otto", version=version, device_id="x" * 86, device_name="laptop").code == 403


def test_a_device_that_was_not_to_be_remembered_is_not(start: Any) -> None:
    nas = otp_nas(start)
    token = nas.login("otto", otp_code=totp(SECRET), device_name="laptop")["device_id"]
    assert len(token) == 86
    assert nas.try_login("otto", device_id=token, device_name="laptop").code == 403


@pytest.mark.parametrize(("variant", "asks_again"), [("trust-device=works", True), ("trust-device=ignored", False)])
def test_trust_in_a_device_may_be_taken_back_or_not(start: Any, variant: str, asks_again: bool) -> None:
    nas = otp_nas(start, "--quirk", variant)
    device = {"enable_device_token": "yes", "device_name": "laptop"}
    tokens = [nas.login("otto", otp_code=totp(SECRET), **device)["device_id"] for _ in range(2)]
    assert nas.get("SYNO.Core.TrustDevice", 1, "delete", device_id=tokens[0]).data is None
    replies = [nas.try_login("otto", device_id=token, device_name="laptop") for token in tokens]
    assert [reply.json["success"] for reply in replies] == [not asks_again, True], "that one only"


def test_407_auto_block_after_n_failures_even_with_the_right_password(start: Any) -> None:
    nas = start("--auto-block", "3", sign_in=False)
    assert [nas.try_login(password="wrong").code for _ in range(4)] == [400, 400, 400, 407]
    assert nas.try_login().code == 407
    nas.fault("unblock")
    nas.login()


def test_asking_for_a_code_is_no_failure(start: Any) -> None:
    nas = otp_nas(start, "--auto-block", "2")
    assert [nas.try_login("otto").code for _ in range(4)] == [403] * 4


def test_wrong_codes_block_too(start: Any) -> None:
    nas = otp_nas(start, "--auto-block", "2")
    assert [nas.try_login("otto", otp_code="abc").code for _ in range(3)] == [404, 404, 407]


def test_a_password_is_taken_literally(start: Any) -> None:
    nas = start(sign_in=False, accounts=('eve:"p+w %&=ü"',))
    nas.login("eve", '"p+w %&=ü"')


def test_plus_in_a_query_is_no_space(start: Any) -> None:
    """Sign-ins of accounts with a space failed until clients sent %20."""
    query = "/webapi/entry.cgi?api=SYNO.API.Auth&version=7&method=login&account=a{}b&passwd=pw"
    nas = start(sign_in=False, accounts=("a b:pw",))
    assert nas.request("GET", query.format("+")).code == 400
    assert nas.request("GET", query.format("%20")).data["sid"]
    nas = start("--quirk", "plus-in-query=space", sign_in=False, accounts=("a b:pw",))
    assert nas.request("GET", query.format("+")).data["sid"]


def test_passwords_never_reach_the_output(start: Any) -> None:
    nas = start(sign_in=False, accounts=("eve:sesame-open",))
    nas.login("eve", "sesame-open")
    nas.process.terminate()
    out, errors = nas.process.communicate(timeout=10)
    assert "sesame" not in out + errors
