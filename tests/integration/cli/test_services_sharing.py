"""`synofs share` and `synofs trash`: links for others, and what was deleted."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, PASSWORD, Mounted, on_a_terminal

pytestmark = pytest.mark.mount

Start = Callable[..., Mounted]


# ----- links ----------------------------------------------------------------------------------------------------


def test_a_link_is_printed_listed_and_removed(mounted: Start, tmp_path: Path) -> None:
    here = mounted()
    (tmp_path / "secret").write_text("for you alone\n")
    day = (datetime.date.today() + datetime.timedelta(days=7)).isoformat()
    plain = here.synofs("share", here.docs / "letter.txt")
    assert (plain.code, plain.err) == (0, "")
    url = plain.out.strip()
    assert url.startswith(f"{here.nas.url}/sharing/")
    words = ("--password-file", tmp_path / "secret", "--expires", "7d", "--json")
    link = here.synofs("share", here.docs / "2024", *words).json
    assert (link["has_password"], link["date_expired"][:10], link["is_dir"]) == (True, day, True)
    assert link["path"] == f"{here.docs}/2024"

    links = {link["nas_path"]: link for link in here.synofs("share", "list", here.docs, "--json").json}
    assert set(links) == {"/docs/letter.txt", "/docs/2024"}
    assert links["/docs/letter.txt"]["url"] == url
    below = here.synofs("share", "list", here.docs / "2024").out
    assert below.split("\t")[1:] == ["valid", link["date_expired"], link["url"], f"{here.docs}/2024\n"]

    assert here.synofs("share", "rm", "--mount", here.docs, url, here.docs / "2024").code == 0
    assert here.synofs("share", "list", here.docs, "--json").json == []
    for gone in (url, here.docs / "2024"):
        assert here.synofs("share", "rm", "--mount", here.docs, gone).code == Problem.NO_LINK.exit_code
    assert (here.disk / "2024").is_dir()


def test_a_link_is_removed_by_the_name_of_what_it_is_to(mounted: Start) -> None:
    """As one types it who is in that folder."""
    here = mounted()
    words = (COMMAND, "share")
    subprocess.run([*words, "letter.txt"], cwd=here.docs, capture_output=True, check=True, timeout=30)
    subprocess.run([*words, "rm", "letter.txt"], cwd=here.docs, capture_output=True, check=True, timeout=30)
    assert here.synofs("share", "list", here.docs, "--json").json == []


def test_on_a_terminal_a_link_comes_with_a_qr_code_and_a_list_as_a_table(mounted: Start) -> None:
    here = mounted()
    shown = on_a_terminal("share", here.docs / "letter.txt")
    assert "/sharing/" in shown
    assert "█" in shown
    assert "█" not in on_a_terminal("share", here.docs / "letter.txt", "--no-qr")
    assert "letter.txt" in on_a_terminal("share", "list", here.docs).replace("\r\n", "")


def test_a_link_that_cannot_be_made_as_wanted_is_not_made(mounted: Start, tmp_path: Path) -> None:
    here = mounted("--account", f"otto:{PASSWORD}:nosharing")
    (tmp_path / "long").write_text("x" * 17 + "\n")
    refused: list[tuple[tuple[object, ...], Problem]] = [
        ((here.docs / "letter.txt", "--password-file", tmp_path / "long"), Problem.WRONG_OPTION),
        ((here.docs / "letter.txt", "--password"), Problem.WRONG_OPTION),  # nobody is there to type it
        ((here.docs / "letter.txt", "--expires", "2001-01-01"), Problem.WRONG_OPTION),
        ((here.docs / "letter.txt", "--expires", "soon"), Problem.WRONG_OPTION),
        ((here.docs / "missing",), Problem.MISSING),
        ((tmp_path,), Problem.NOT_INSIDE),
    ]
    for words, problem in refused:
        done = here.synofs("share", *words)
        assert (done.code, done.out) == (problem.exit_code, ""), done.err
    # A build that forgets the password: an open link is worse than none.
    made = {"links": [{"error": 0, "id": "abc", "path": "/docs/letter.txt", "url": "http://nas/sharing/abc"}]}
    found = {"id": "abc", "path": "/docs/letter.txt", "url": "http://nas/sharing/abc", "has_password": False}
    for method, data in (("create", made), ("getinfo", found), ("delete", {})):
        body = json.dumps({"success": True, "data": data})
        here.fault(kind="body", api="Sharing", method=method, body=body, times=1)
    (tmp_path / "secret").write_text("sesame\n")
    done = here.synofs("share", here.docs / "letter.txt", "--password-file", tmp_path / "secret")
    assert done.code != 0
    assert "without the password" in done.err
    assert here.calls("Sharing.delete") == 1
    assert here.synofs("umount", here.synofs.mountpoint).code == 0
    words = here.synofs.sign_in(here.nas, "otto")
    assert here.synofs("mount", here.nas.url, here.synofs.mountpoint, *words).code == 0
    assert here.synofs("share", here.docs / "letter.txt").code == Problem.FORBIDDEN.exit_code


# ----- the recycle bin ------------------------------------------------------------------------------------------

ADMIN = f"anna:{PASSWORD}:admin"


def test_what_was_deleted_is_listed_restored_and_at_last_removed_for_good(mounted: Start) -> None:
    here = mounted("--recycle-bin", user=ADMIN)
    (here.docs / "letter.txt").unlink()
    (here.docs / "2024" / "big.bin").unlink()
    listed = here.synofs("trash", "list", here.docs)
    assert {line.split("\t")[2] for line in listed.out.splitlines()} == {
        f"{here.docs}/letter.txt",
        f"{here.docs}/2024/big.bin",
    }
    below = here.synofs("trash", "list", here.docs / "2024", "--json").json
    assert [(one["path"], one["size"]) for one in below] == [(f"{here.docs}/2024/big.bin", 256 * 4096)]
    everywhere = here.synofs("trash", "list", here.synofs.mountpoint, "--json").json
    assert len(everywhere) == 2

    before = here.moved_bytes()
    assert not (here.docs / "letter.txt").exists()
    done = here.synofs("trash", "restore", here.docs / "letter.txt", "--json")
    assert [one["path"] for one in done.json] == [f"{here.docs}/letter.txt"]
    assert (here.docs / "letter.txt").stat().st_size == 10
    (here.docs / "2024" / "Größe & [Gewicht].txt").unlink()
    (here.docs / "2024").rmdir()
    assert here.synofs("trash", "restore", here.docs / "2024" / "big.bin").code == 0  # its folder is made again
    assert os.listdir(here.docs / "2024") == ["big.bin"]
    assert here.moved_bytes() == before
    missing = here.synofs("trash", "restore", here.docs / "never was")
    assert missing.code == Problem.MISSING.exit_code

    assert here.synofs("trash", "empty", here.docs).code == Problem.NOT_CONFIRMED.exit_code
    assert "nothing was done" in on_a_terminal("trash", "empty", here.docs, typed="n\n", code=85)
    assert here.synofs("trash", "list", here.docs).out != ""
    assert "for good" in on_a_terminal("trash", "empty", here.docs / "2024", typed="y\n")
    assert f"{here.docs}/2024" not in here.synofs("trash", "list", here.docs).out
    done = here.synofs("trash", "empty", "--yes", here.docs)
    assert (done.code, done.err) == (0, "")
    assert os.listdir(here.disk / "#recycle") == []
    assert here.synofs("trash", "list", here.docs).out == ""


def test_restoring_does_not_replace_what_has_taken_its_place(mounted: Start) -> None:
    here = mounted("--recycle-bin", user=ADMIN)
    (here.docs / "letter.txt").unlink()
    (here.docs / "letter.txt").write_text("the new one")
    assert here.synofs("trash", "restore", here.docs / "letter.txt").code == Problem.EXISTS.exit_code
    assert (here.docs / "letter.txt").read_text() == "the new one"
    assert here.synofs("trash", "restore", "-f", here.docs / "letter.txt").code == 0
    assert (here.docs / "letter.txt").read_text() == "Dear NAS,\n"


def test_a_share_without_a_bin_says_how_to_get_one(mounted: Start) -> None:
    here = mounted()
    for words in (("list", here.docs), ("restore", here.docs / "letter.txt"), ("empty", "-y", here.docs)):
        done = here.synofs("trash", *words)
        assert done.code == Problem.NO_RECYCLE_BIN.exit_code
        assert f"{here.docs}: the share has no recycle bin" in done.err


def test_a_bin_for_administrators_is_no_missing_bin(mounted: Start) -> None:
    here = mounted("--recycle-bin")
    (here.docs / "letter.txt").unlink()
    done = here.synofs("trash", "restore", here.docs / "letter.txt")
    assert done.code == Problem.FORBIDDEN.exit_code
    assert "recycle bin" in done.err
    assert here.synofs("trash", "list", here.synofs.mountpoint, "--json").json == []
