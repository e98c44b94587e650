"""Words become settings, or one failure that names the word."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from synofs.app.config import (
    OPTIONS,
    NasAddress,
    Settings,
    parse_fingerprint,
    parse_nas,
    parse_seconds,
    parse_size,
    parse_umask,
    read_mount_options,
    read_settings,
)
from synofs.app.errors import Failure, Problem

FINGERPRINT = "ab" * 32


@pytest.mark.parametrize(
    ("text", "url", "user"),
    [
        ("https://nas:5001", "https://nas:5001", None),
        ("https://nas:5001/", "https://nas:5001", None),
        ("HTTPS://NAS.local:5001", "https://nas.local:5001", None),
        ("http://nas:5000", "http://nas:5000", None),
        ("https://nas.example.org", "https://nas.example.org:443", None),
        ("http://nas", "http://nas:80", None),
        ("https://example.org/nas/", "https://example.org:443/nas", None),
        ("anna@nas", "https://nas:5001", "anna"),
        ("anna@nas:6001", "https://nas:6001", "anna"),
        ("nas", "https://nas:5001", None),
        ("192.168.1.7", "https://192.168.1.7:5001", None),
        ("https://anna@[fe80::1]:5001", "https://[fe80::1]:5001", "anna"),
    ],
)
def test_a_nas_is_named_by_url_or_by_host(text: str, url: str, user: str | None) -> None:
    assert parse_nas(text) == NasAddress(url, user)


@pytest.mark.parametrize(
    "text", ["", "https://", "ftp://nas", "nas:port", "a b", "https://nas:99999", "https://nas/?a=b", "://nas"]
)
def test_what_is_no_address_is_a_wrong_option(text: str) -> None:
    with pytest.raises(Failure) as caught:
        parse_nas(text)
    assert caught.value.problem is Problem.WRONG_OPTION


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(Failure) as caught:
        parse_nas("https://anna:hunter2@nas")
    assert caught.value.problem is Problem.WRONG_OPTION
    assert "hunter2" not in caught.value.line


def test_http_needs_an_explicit_word() -> None:
    with pytest.raises(Failure) as caught:
        read_settings("http://nas:5000", {})
    assert caught.value.problem is Problem.INSECURE_HTTP
    assert "--insecure-http" in caught.value.line
    assert read_settings("http://nas:5000", {"insecure-http": True})[0].insecure_http


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1K", 1024),
        ("10M", 10 << 20),
        ("1.5G", 3 << 29),
        ("2TiB", 2 << 40),
        ("1mb", 1 << 20),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "M", "-1", "1X", "1 2", "ten"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(text)


@pytest.mark.parametrize(("text", "expected"), [("30", 30), ("0.5", 0.5), ("90s", 90), ("5m", 300), ("1h", 3600)])
def test_times(text: str, expected: float) -> None:
    assert parse_seconds(text) == expected


@pytest.mark.parametrize(("text", "expected"), [("022", 0o22), ("0077", 0o77), ("7", 7)])
def test_umasks_are_octal(text: str, expected: int) -> None:
    assert parse_umask(text) == expected


@pytest.mark.parametrize("text", [FINGERPRINT, FINGERPRINT.upper(), ":".join(["AB"] * 32), "sha256:" + FINGERPRINT])
def test_fingerprints_in_all_usual_forms(text: str) -> None:
    assert parse_fingerprint(text) == FINGERPRINT


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("dir-ttl", "soon"),
        ("dir-ttl", "0"),
        ("cache-size", "much"),
        ("umask", "999"),
        ("uid", "no such user"),
        ("gid", "no such group"),
        ("max-requests", "0"),
        ("max-requests", "1000"),
        ("write-mode", "maybe"),
        ("log-level", "loud"),
        ("fingerprint", "abc"),
        ("otp", "letmein"),
        ("share", "a/b"),
        ("ca-file", "/nonexistent/ca.pem"),
        ("user", ""),
        ("user", True),
        ("read-only", "perhaps"),
    ],
)
def test_a_wrong_value_is_refused_with_the_name_of_its_option(option: str, word: str | bool) -> None:
    with pytest.raises(Failure) as caught:
        read_settings("https://nas:5001", {option: word})
    assert caught.value.problem is Problem.WRONG_OPTION
    assert f"--{option}" in caught.value.line


def test_every_option_reaches_its_setting(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    words: dict[str, str | bool] = {
        "user": "anna",
        "password-file": str(file),
        "otp": "123 456",
        "ca-file": str(file),
        "fingerprint": FINGERPRINT,
        "insecure-http": True,
        "share": "/photos/",
        "read-only": True,
        "noexec": True,
        "netdev": True,
        "write-mode": "writeback",
        "verify": True,
        "deadline": "5",
        "offline": "fail",
        "max-stale": "10m",
        "thumbnails": "off",
        "dir-ttl": "2m",
        "attr-ttl": "1.5",
        "cache-dir": str(tmp_path),
        "cache-size": "1G",
        "uid": "root",
        "gid": "100",
        "umask": "077",
        "allow-other": True,
        "max-requests": "3",
        "drain-timeout": "5m",
        "access-log": True,
        "log-level": "debug",
    }
    assert set(words) == set(OPTIONS)
    settings, sign_in = read_settings("https://nas:5001", words, mountpoint="mnt")
    assert settings == Settings(
        url="https://nas:5001",
        mountpoint=os.path.abspath("mnt"),
        user="anna",
        ca_file=str(file),
        fingerprint=FINGERPRINT,
        insecure_http=True,
        share="photos",
        read_only=True,
        noexec=True,
        netdev=True,
        write_mode="writeback",
        verify=True,
        deadline_seconds=5,
        offline="fail",
        max_stale_seconds=600,
        thumbnails="off",
        dir_ttl_seconds=120,
        attr_ttl_seconds=1.5,
        cache_dir=str(tmp_path),
        cache_bytes=1 << 30,
        uid=0,
        gid=100,
        umask=0o77,
        allow_other=True,
        max_requests=3,
        drain_seconds=300,
        access_log=True,
        log_level="debug",
    )
    assert (sign_in.password_file, sign_in.otp) == (str(file), "123456")


def test_an_explicit_user_beats_the_one_in_the_address() -> None:
    assert read_settings("anna@nas", {})[0].user == "anna"
    assert read_settings("anna@nas", {"user": "bert"})[0].user == "bert"


def test_settings_travel_as_json_unchanged() -> None:
    settings = Settings("https://nas:5001", "/mnt", user="anna", cache_bytes=7)
    assert Settings.from_json(settings.to_json()) == settings


def test_mount_options_have_the_names_of_the_long_options() -> None:
    words = read_mount_options(["ro,user=anna,allow_other,dir-ttl=60", "uid=1000"])
    assert words == {"read-only": True, "user": "anna", "allow-other": True, "dir-ttl": "60", "uid": "1000"}


def test_what_mount_and_systemd_say_to_others_is_ignored() -> None:
    generic = "rw,nofail,noauto,auto,user,users,defaults,nosuid,nodev,suid,dev,relatime,comment=x"
    assert read_mount_options([generic, "x-systemd.automount,x-systemd.idle-timeout=60,x-gvfs-show", ""]) == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("ro", {"read-only": True}),
        ("noexec", {"noexec": True}),
        ("noexec,nosuid,nodev,user,exec", {"noexec": False}),  # as mount(8) passes "user,exec" in fstab
        ("_netdev", {"netdev": True}),
        ("username=bert", {"user": "bert"}),
        ("user=bert,user", {"user": "bert"}),
    ],
)
def test_words_of_mount_that_mean_something_here(text: str, words: dict[str, str | bool]) -> None:
    assert read_mount_options([text]) == words


def test_a_sloppy_reader_passes_over_what_it_does_not_know() -> None:
    assert read_mount_options(["vers=3.0,ro"], sloppy=True) == {"read-only": True}


@pytest.mark.parametrize("text", ["remount", "dirttl=60", "password=secret", "uid=1000,bind"])
def test_unknown_mount_options_are_refused(text: str) -> None:
    with pytest.raises(Failure) as caught:
        read_mount_options([text])
    assert caught.value.problem is Problem.WRONG_OPTION
