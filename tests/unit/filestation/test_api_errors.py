"""Numbers of the NAS become errors that mean what the reference says."""

from __future__ import annotations

import pytest

from synofs import remote
from synofs.filestation.api_errors import AUTH, COMMON, FILE, STALE_SESSION, error_for

FILES = "SYNO.FileStation.List"

EXPECTED_FILE = {
    400: remote.InvalidRequest,
    401: remote.InputOutput,
    402: remote.Overloaded,
    403: remote.PermissionDenied,
    404: remote.PermissionDenied,
    405: remote.PermissionDenied,
    406: remote.InputOutput,
    407: remote.PermissionDenied,
    408: remote.NotFound,
    409: remote.Unsupported,
    410: remote.InputOutput,
    411: remote.ReadOnlyStore,
    412: remote.NameTooLong,
    413: remote.NameTooLong,
    414: remote.Exists,
    415: remote.QuotaExceeded,
    416: remote.NoSpace,
    417: remote.InputOutput,
    418: remote.InvalidName,
    419: remote.InvalidName,
    420: remote.InvalidName,
    1003: remote.Exists,
    1007: remote.FileTooBig,
    1804: remote.FileTooBig,
    1805: remote.Exists,
}

EXPECTED_AUTH = {
    400: remote.WrongPassword,
    401: remote.AccountDisabled,
    402: remote.SignInNotAllowed,
    403: remote.OtpNeeded,
    404: remote.WrongOtp,
    405: remote.SignInNotAllowed,
    406: remote.OtpSetupNeeded,
    407: remote.AddressBlocked,
    408: remote.PasswordExpired,
    409: remote.PasswordExpired,
    410: remote.PasswordExpired,
    411: remote.AccountDisabled,
}


@pytest.mark.parametrize(("code", "kind"), EXPECTED_FILE.items())
def test_a_file_code_means_what_the_guide_says(code: int, kind: type[remote.RemoteError]) -> None:
    error = error_for(FILES, {"code": code}, path="/a/b")
    assert type(error) is kind
    assert (error.code, error.path) == (code, "/a/b")


@pytest.mark.parametrize(("code", "kind"), EXPECTED_AUTH.items())
def test_an_auth_code_means_something_else_than_the_same_file_code(code: int, kind: type[remote.RemoteError]) -> None:
    assert type(error_for("SYNO.API.Auth", {"code": code})) is kind


def test_every_code_of_the_reference_is_known() -> None:
    common = {*range(100, 121), *range(122, 128), 150, 160} - {121}
    files = {
        *range(400, 422), 599, 600, 800, 801, 802, 900, 1000, 1001, 1002, 1003, 1004, 1006, 1007, 1100, 1101, 1200,
        1300, 1301, *range(1400, 1406), *range(1800, 1806), 2000, 2001, 2002,
    }  # fmt: skip
    assert common <= COMMON.keys()
    assert files <= FILE.keys()
    assert set(range(400, 412)) <= AUTH.keys()


def test_every_refused_sign_in_is_final() -> None:
    """What the NAS refuses must never be tried again the same way: auto block."""
    for code, meaning in AUTH.items():
        assert issubclass(meaning.kind, remote.SignInRefused), code
        assert not meaning.kind.temporary, code


def test_a_stale_session_is_temporary_whatever_its_code() -> None:
    for code in STALE_SESSION:
        assert type(error_for(FILES, {"code": code})) is remote.Unavailable


@pytest.mark.parametrize("outer", [900, 1000, 1001, 1002, 1100, 1200, 1300, 1400, 401])
def test_the_nested_code_is_the_real_one(outer: int) -> None:
    error = error_for("SYNO.FileStation.CreateFolder", {"code": outer, "errors": [{"code": 407, "path": "/a"}]})
    assert (type(error), error.code) == (remote.PermissionDenied, 407)


def test_a_nested_object_is_read_like_a_list() -> None:
    assert error_for(FILES, {"code": 1100, "errors": {"code": "414"}}).code == 414


def test_a_sign_in_error_keeps_its_own_code_beside_an_object_of_types() -> None:
    error = error_for("SYNO.API.Auth", {"code": 403, "errors": {"types": [{"type": "otp"}], "token": "x"}})
    assert type(error) is remote.OtpNeeded


def test_nested_entries_without_a_code_change_nothing() -> None:
    assert error_for("SYNO.FileStation.Sharing", {"code": 401, "errors": [{"id": "x"}]}).code == 401


def test_codes_come_as_strings_on_some_builds() -> None:
    assert type(error_for(FILES, {"code": "408"})) is remote.NotFound


def test_an_unknown_code_is_named() -> None:
    error = error_for(FILES, {"code": 98765})
    assert type(error) is remote.InputOutput
    assert "98765" in str(error)


@pytest.mark.parametrize("error", [None, [], "x", 408, {}, {"code": None}, {"code": True}, {"code": []}])
def test_an_error_without_a_code_is_a_bad_answer(error: object) -> None:
    assert type(error_for(FILES, error)) is remote.BadAnswer


def test_a_host_that_refuses_discovery_is_no_nas_unless_it_is_only_busy() -> None:
    assert type(error_for("SYNO.API.Info", {"code": 102})) is remote.NotANas
    assert type(error_for("SYNO.API.Info", {"code": 402})) is remote.Overloaded
