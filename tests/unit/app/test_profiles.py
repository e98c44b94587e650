"""Profiles are read from two files, and everything that is wrong in one is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from synofs.app import profiles
from synofs.app.config import OPTIONS
from synofs.app.errors import Failure, Problem


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's file."""
    monkeypatch.setattr(profiles, "SYSTEM_FOLDER", tmp_path / "etc")
    (tmp_path / "etc").mkdir()
    return tmp_path / "etc" / "config.toml"


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: Path) -> Path:
    """The user's file."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "synofs").mkdir()
    return tmp_path / "synofs" / "config.toml"


HOME = '[profiles.home]\nnas = "anna@nas"\nmountpoint = "/mnt/nas"\ndir-ttl = 60\nread-only = true\n'


def test_a_profile_gives_nas_folder_and_options(user: Path) -> None:
    user.write_text(HOME)
    settings, _sign_in = profiles.read_mount("home", {})
    assert (settings.url, settings.user, settings.mountpoint) == ("https://nas:5001", "anna", "/mnt/nas")
    assert (settings.dir_ttl_seconds, settings.read_only) == (60, True)


def test_the_command_line_wins_over_the_profile(user: Path) -> None:
    user.write_text(HOME)
    settings, _sign_in = profiles.read_mount("home", {"dir-ttl": "5", "user": "bert", "share": "x"}, "/mnt/other")
    assert (settings.mountpoint, settings.dir_ttl_seconds, settings.user) == ("/mnt/other", 5, "bert")
    assert (settings.share, settings.read_only) == ("x", True)


def test_the_users_profile_stands_before_the_machines(user: Path, system: Path) -> None:
    system.write_text('[profiles.home]\nnas = "elsewhere"\nshare = "x"\n[profiles.office]\nnas = "office"\n')
    user.write_text(HOME)
    assert {name: profile.nas for name, profile in profiles.load().items()} == {"home": "anna@nas", "office": "office"}
    assert profiles.load()["home"].words.get("share") is None, "profiles are not mixed"


def test_what_is_no_profile_is_an_address(user: Path) -> None:
    user.write_text(HOME)
    assert profiles.read_mount("nas.example.org", {}, "/mnt/x")[0].url == "https://nas.example.org:5001"
    assert profiles.read_mount("https://home:5001", {}, "/mnt/x")[0].url == "https://home:5001"


def test_an_address_needs_no_configuration_that_can_be_read(user: Path) -> None:
    user.write_text("[[[")
    assert profiles.read_mount("https://nas:5001", {}, "/mnt/x")[0].url == "https://nas:5001"


def test_every_option_but_the_one_time_code_can_stand_in_a_profile(user: Path) -> None:
    words = {
        "user": '"anna"',
        "password-file": '"/run/secret"',
        "ca-file": '"~/ca.pem"',
        "fingerprint": f'"{"ab" * 32}"',
        "share": '"photo"',
        "write-mode": '"writeback"',
        "dir-ttl": '"2m"',
        "attr-ttl": "1.5",
        "cache-dir": '"/var/cache/nas"',
        "cache-size": '"2G"',
        "uid": "1000",
        "gid": '"root"',
        "umask": '"077"',
        "max-requests": "3",
        "drain-timeout": "90",
        "log-level": '"debug"',
        "deadline": "10",
        "offline": '"serve"',
        "max-stale": '"10m"',
        "thumbnails": '"off"',
    }
    lines = [f"{name} = {words.get(name, 'true')}" for name in OPTIONS if name != "otp"]
    user.write_text("\n".join(["[profiles.all]", 'nas = "nas"', *lines]))
    assert set(profiles.load()["all"].words) == set(OPTIONS) - {"otp"}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("dir-tl = 5", "profiles.home.dir-tl: there is no such key; did you mean dir-ttl?"),
        ("colour = 5", "profiles.home.colour: there is no such key; keys are nas, mountpoint and the long options"),
        ("otp = '123456'", "profiles.home.otp: there is no such key"),
        ("attr-ttl = 0", "profiles.home.attr-ttl: must be at least 0.1 seconds"),
        ("umask = 99", "profiles.home.umask: '99' is not an octal umask like 022"),
        ("insecure-http = 'yes'", "profiles.home.insecure-http: expected true or false"),
        ("cache-size = true", "profiles.home.cache-size: expected a text in quotation marks"),
        ("cache-dir = 'x'", "profiles.home.cache-dir: 'x' is not a whole path, which begins with / or ~"),
        ("[profiles.none]\nmountpoint = '/mnt/x'", "profiles.none.nas: is missing; it says where the NAS is"),
        ("[profiles.none]\nnas = 'ftp://nas'", "profiles.none.nas: 'ftp://nas' is not an address like"),
        ("[profiles.'a b']\nnas = 'nas'", "profiles.a b: the name of a profile has letters, digits"),
        ("[profil.office]\nnas = 'nas'", "profil: there is no such key; profiles are written as [profiles.NAME]"),
        ("home = [", "it is not TOML"),
        ("home = " + "[" * 100_000, "it is not TOML"),
    ],
)
def test_what_is_wrong_is_named_with_file_key_and_what_was_expected(user: Path, line: str, said: str) -> None:
    user.write_text(HOME + line)
    with pytest.raises(Failure) as caught:
        profiles.find("home")
    assert caught.value.problem is Problem.BAD_PROFILE
    assert caught.value.line.startswith(f"{user}: ")
    assert said in caught.value.line


def test_all_that_is_wrong_is_named_at_once(user: Path) -> None:
    user.write_text(HOME + "umask = 9\nattr-ttl = 0\nsurplus = 1\n")
    with pytest.raises(Failure) as caught:
        profiles.load()
    for key in ("umask", "attr-ttl", "surplus"):
        assert f"profiles.home.{key}: " in caught.value.line


def test_a_file_that_only_root_can_see_is_no_fault_of_the_profile(user: Path) -> None:
    user.write_text(HOME + "password-file = '/root/never/there'\n")
    assert profiles.load()["home"].words["password-file"] == "/root/never/there"


def test_without_a_folder_the_failure_says_what_is_missing(user: Path) -> None:
    user.write_text('[profiles.bare]\nnas = "nas"\n')
    for name, problem in (("bare", Problem.NO_MOUNTPOINT), ("unknown", Problem.NO_PROFILE)):
        with pytest.raises(Failure) as caught:
            profiles.read_mount(name, {})
        assert caught.value.problem is problem
        assert name in caught.value.line


def test_that_a_profile_is_not_mounted_is_said_with_its_name_and_folder(user: Path) -> None:
    user.write_text('[profiles.home]\nnas = "nas"\nmountpoint = "/mnt/nas"\n[profiles.other]\nnas = "nas"\n')
    said = {name: profiles.not_mounted(name).line.partition(":")[0] for name in ("home", "other", "nowhere")}
    assert said == {
        "home": "the folder of profile home, /mnt/nas, is not a synofs mount",
        "other": "the profile other has no folder and is not a synofs mount",
        "nowhere": "nowhere is not a synofs mount",
    }
