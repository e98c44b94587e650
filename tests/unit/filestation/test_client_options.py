"""What makes sense as the address and the trust of a NAS."""

from __future__ import annotations

import pytest

from synofs.filestation.client import ClientOptions, normal_fingerprint
from synofs.filestation.discovery import ApiInfo, Apis
from synofs.remote import NotANas, Unsupported


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://nas", ("https", "nas", 5001, "")),
        ("https://nas:443/", ("https", "nas", 443, "")),
        ("https://example.org/nas/", ("https", "example.org", 5001, "/nas")),
        ("https://[fd00::1]:5001", ("https", "fd00::1", 5001, "")),
        ("http://nas", ("http", "nas", 5000, "")),
    ],
)
def test_addresses(url: str, expected: tuple[str, str, int, str]) -> None:
    options = ClientOptions(url=url, insecure_http=True).transport_options()
    assert (options.scheme, options.host, options.port, options.base_path) == expected


@pytest.mark.parametrize(
    "url", ["nas", "nas:5001", "ftp://nas", "https://", "https://nas?x=1", "https://nas#x", "https://nas:port"]
)
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match=r"address|[Pp]ort"):
        ClientOptions(url=url)


def test_plain_http_has_to_be_allowed() -> None:
    with pytest.raises(ValueError, match="insecure_http"):
        ClientOptions(url="http://nas:5000")


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(ValueError, match="must not hold") as caught:
        ClientOptions(url="https://ann:hunter2@nas")
    assert "hunter2" not in str(caught.value)


def test_fingerprints_are_taken_as_people_write_them() -> None:
    plain = "0123456789abcdef" * 4
    with_colons = ":".join(plain.upper()[i : i + 2] for i in range(0, 64, 2))
    assert normal_fingerprint(with_colons) == plain
    assert normal_fingerprint(f"SHA256:{with_colons}") == plain
    for bad in ("", "ab" * 20, "zz" * 32, plain + "0"):
        with pytest.raises(ValueError, match="64 hex digits"):
            normal_fingerprint(bad)


def test_connections_have_room_for_all_lanes() -> None:
    options = ClientOptions(url="https://nas", max_requests=3).transport_options()
    assert options.max_connections >= 3
    with pytest.raises(ValueError, match="at least one"):
        ClientOptions(url="https://nas", max_requests=0)


# ----- discovery --------------------------------------------------------------------------------------------------

AUTH = {"SYNO.API.Auth": ApiInfo("entry.cgi", 1, 7)}
LIST = {"SYNO.FileStation.List": ApiInfo("entry.cgi", 1, 2)}


def test_version_and_path_are_the_nas_own() -> None:
    apis = Apis(AUTH | LIST | {"SYNO.FileStation.Upload": ApiInfo("FileStation/api_upload.cgi", 2, 3)})
    assert apis.path("SYNO.FileStation.Upload") == "FileStation/api_upload.cgi"
    assert apis.version("SYNO.API.Auth", 7) == 7
    assert apis.version("SYNO.API.Auth", 6) == 6
    assert apis.version("SYNO.FileStation.List", 5) == 2


def test_what_the_nas_lacks_is_unsupported() -> None:
    apis = Apis(AUTH | LIST | {"SYNO.FileStation.Upload": ApiInfo("entry.cgi", 9, 10)})
    with pytest.raises(Unsupported):
        apis.path("SYNO.FileStation.MD5")
    with pytest.raises(Unsupported):
        apis.version("SYNO.FileStation.Upload", 3)


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({}, "no Synology NAS"),
        (AUTH, "File Station"),
        (AUTH | {"SYNO.FileStation.List": ApiInfo("FileStation/file_share.cgi", 1, 1)}, "older than 6"),
        (AUTH | {"SYNO.FileStation.List": ApiInfo("../../evil", 1, 2)}, "impossible path"),
        (AUTH | {"SYNO.FileStation.List": ApiInfo("https://evil/x", 1, 2)}, "impossible path"),
        (AUTH | {"SYNO.FileStation.List": ApiInfo("entry.cgi?x=", 1, 2)}, "impossible path"),
    ],
)
def test_maps_that_are_not_a_usable_nas(known: dict[str, ApiInfo], said: str) -> None:
    with pytest.raises(NotANas, match=said):
        Apis(known)


def test_the_odd_path_of_old_builds_is_taken() -> None:
    odd = "_______________________________________________________entry.cgi"
    assert Apis(AUTH | {"SYNO.FileStation.List": ApiInfo(odd, 1, 2)}).path("SYNO.FileStation.List") == odd
