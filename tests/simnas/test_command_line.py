"""The command line is the interface that demos, tests and benchmarks start the NAS by."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import closing
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from synofs.simnas.options import parse_account, parse_share
from synofs.simnas.quirks import Quirks


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "synofs.simnas", *arguments], capture_output=True, text=True, timeout=30
    )


def test_first_line_says_where_it_listens(nas: Any) -> None:
    assert nas.url == f"http://127.0.0.1:{nas.port}"
    assert nas.request("GET", "/").status == 200


def test_sigterm_is_a_clean_exit(start: Any) -> None:
    nas = start()
    with closing(nas.connect()) as connection:  # an idle keep-alive connection does not hold it
        nas.request("GET", "/", connection=connection)
        nas.process.send_signal(signal.SIGTERM)
        assert nas.process.wait(10) == 0


@pytest.mark.parametrize("fault", ["hang", "delay"])
def test_sigterm_is_a_clean_exit_while_a_call_is_not_answered(start: Any, fault: str) -> None:
    nas = start()
    nas.fault(fault, seconds=600, api="List")
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("List", 2, "list_share"))
        nas.process.send_signal(signal.SIGTERM)
        assert nas.process.wait(10) == 0


def test_sigterm_is_a_clean_exit_in_the_middle_of_a_download(start: Any, share: Path) -> None:
    with (share / "f").open("wb") as file:
        file.truncate(50_000_000_000)
    nas = start()
    with closing(nas.connect()) as connection:
        connection.request("GET", nas.target("Download", 2, "download", path="/media/f"))
        assert connection.getresponse().read(10) == bytes(10)
        nas.process.send_signal(signal.SIGTERM)
        assert nas.process.wait(10) == 0


def test_only_loopback_unless_said_otherwise(tmp_path: Path) -> None:
    done = run("--listen", "0.0.0.0:0", "--share", f"a={tmp_path}", "--account", "u:p")
    assert done.returncode == 2
    assert "--listen-anywhere" in done.stderr


def test_help_names_every_quirk() -> None:
    text = run("--help").stdout
    for quirk in fields(Quirks):
        assert f"{quirk.name.replace('_', '-')}={quirk.default}" in text


@pytest.mark.parametrize("quirk", [field.name.replace("_", "-") for field in fields(Quirks)])
def test_every_quirk_is_tried_by_a_test(quirk: str) -> None:
    texts = [path.read_text() for path in Path(__file__).parent.glob("test_*.py")]
    assert any(f'"{quirk}=' in text for text in texts)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--quirk", "gzip=maybe"], "gzip is one of on, off"),
        (["--quirk", "gizp=on"], "gizp"),
        (["--share", "x"], "a share is NAME=DIR"),
        (["--share", "x=/nowhere"], "not a directory"),
        (["--account", "u"], "an account is USER:PASSWORD"),
        (["--account", "u:p:adnim"], "adnim"),
        (["--account", "u:p:otp=111"], "no base32"),
        (["--listen", "localhost"], "--listen is HOST:PORT"),
    ],
)
def test_a_wrong_option_is_named(tmp_path: Path, options: list[str], complaint: str) -> None:
    done = run("--share", f"a={tmp_path}", "--account", "u:p", *options)
    assert done.returncode == 2
    assert complaint in done.stderr


def test_a_port_in_use_is_said(nas: Any, tmp_path: Path) -> None:
    done = run("--listen", f"127.0.0.1:{nas.port}", "--share", f"a={tmp_path}", "--account", "u:p")
    assert done.returncode == 1
    assert "in use" in done.stderr


def test_share_directories_may_contain_colons(tmp_path: Path) -> None:
    folder = tmp_path / "a:b"
    folder.mkdir()
    parsed = parse_share(f"x={folder}:ro:admins")
    assert parsed.directory == str(folder)
    assert parsed.flags == {"ro", "admins"}


def test_account_flags() -> None:
    parsed = parse_account("ann:secret:otp=ABCDEFGH:admin:uid=5")
    assert (parsed.name, parsed.password, parsed.otp_secret, parsed.admin, parsed.uid) == (
        "ann",
        "secret",
        "ABCDEFGH",
        True,
        5,
    )


def test_a_simulator_can_be_told_from_a_nas(nas: Any) -> None:
    assert nas.request("GET", "/_simnas/").json == {"simnas": True, "dsm": 7}


def test_tls(start: Any, tmp_path: Path, certificate: tuple[str, str]) -> None:
    nas = start("--tls", *certificate)
    assert nas.url.startswith("https://")
    (tmp_path / "media" / "f").write_bytes(b"x" * 3_000_000)
    assert len(nas.get("Download", 2, "download", path="/media/f").body) == 3_000_000


def test_seed_fills_empty_shares_only(start: Any, share: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "f").write_text("mine")
    nas = start("--share", f"own={tmp_path}/own", "--seed")
    assert nas.names("/media") == ["documents", "large", "many", "music", "photos", "README.txt"]
    assert len(nas.names("/media/many")) == 2000
    assert nas.names("/own") == ["f"]
