"""`synofs search`, `du` and `md5`: answered by the NAS, in the words of find, du and md5sum."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, Mounted, until

pytestmark = pytest.mark.mount

Start = Callable[..., Mounted]


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def digest(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_hits_are_paths_that_can_be_opened_beginning_with_the_one_that_was_given(mounted: Start) -> None:
    here = mounted()
    (here.disk / "2024" / "Letter to [you], and me.txt").write_text("x" * 5000)
    done = here.synofs("search", "LETTER", here.docs)
    assert (done.code, done.err) == (0, "")
    assert lines(done.out) == {f"{here.docs}/letter.txt", f"{here.docs}/2024/Letter to [you], and me.txt"}
    assert all(os.path.exists(path) for path in lines(done.out))
    listed = here.calls("List.list")
    found = {
        pattern: lines(here.synofs("search", pattern, here.docs).out)
        for pattern in ("to [you], and", "*[you]*", "l?tter.txt", "nothing like it", "*.BIN")
    }
    letter, you, big = (f"{here.docs}/{n}" for n in ("letter.txt", "2024/Letter to [you], and me.txt", "2024/big.bin"))
    assert found == {
        "to [you], and": {you}, "*[you]*": {you}, "l?tter.txt": {letter}, "nothing like it": set(), "*.BIN": {big}
    }  # fmt: skip
    assert lines(here.synofs("search", "letter", here.docs, "--larger", "4K").out) == {you}
    assert lines(here.synofs("search", "", here.docs, "--type", "d").out) == {f"{here.docs}/2024"}
    assert lines(here.synofs("search", "t", here.docs, "--no-recursion", "--older", "2001-01-01").out) == set()
    printed = here.synofs("search", "big", here.synofs.mountpoint, "--print0").out  # in every share
    assert printed == f"{big}\0"
    hits = here.synofs("search", "big", here.docs, "--json").json
    assert [(hit["path"], hit["nas_path"], hit["size"]) for hit in hits] == [(big, "/docs/2024/big.bin", 256 * 4096)]
    assert here.calls("Search.clean") == here.calls("Search.start")
    assert here.calls("List.list") == listed
    done = here.synofs("search", "x", here.docs / "letter.txt")
    assert done.code == Problem.NOT_POSSIBLE.exit_code


def test_thousands_of_hits_come_whole_and_an_interrupted_search_is_cleaned_away(mounted: Start) -> None:
    here = mounted()
    (here.disk / "many").mkdir()
    for number in range(1300):
        (here.disk / "many" / f"photo {number}.jpg").touch()
    done = here.synofs("search", "photo*.jpg", here.docs)
    assert len(done.out.splitlines()) == len(lines(done.out)) == 1300
    endless = '{"success": true, "data": {"finished": false, "files": [], "total": 0, "offset": 0}}'
    here.fault(kind="body", api="Search", method="list", body=endless)
    asked, cleaned = here.calls("Search.list"), here.calls("Search.clean")
    process = subprocess.Popen([COMMAND, "search", "x", here.docs])
    until(lambda: here.calls("Search.list") > asked)
    process.terminate()
    process.wait(20)
    until(lambda: here.calls("Search.clean") == cleaned + 1)


@pytest.mark.parametrize("quirk", ["search-pattern=comma", "search-limit-0=all", "raw-taskid=never", "numbers=string"])
def test_searching_on_other_builds(mounted: Start, quirk: str) -> None:
    here = mounted("--quirk", quirk)
    (here.disk / "a, b.txt").touch()
    assert lines(here.synofs("search", "a, b", here.docs).out) == {f"{here.docs}/a, b.txt"}


@pytest.mark.parametrize("quirk", ["tiny-tasks=sometimes", "tiny-tasks=always", "late-tasks=yes", "numbers=string"])
def test_sizes_and_sums_are_right_on_every_build(mounted: Start, quirk: str) -> None:
    here = mounted("--quirk", quirk)
    done = here.synofs("du", "--json", here.docs / "2024", here.docs / "letter.txt", here.synofs.mountpoint)
    counted = [(one["folders"], one["files"], one["size"]) for one in done.json]
    big, small, letter = 256 * 4096, 5, 10
    assert counted[:2] == [(0, 2, big + small), (0, 1, letter)]
    assert counted[2] == (1, 3, big + small + letter)
    done = here.synofs("md5", here.docs / "letter.txt")
    assert done.out == f"{digest(here.disk / 'letter.txt')}  {here.docs}/letter.txt\n"


def test_du_and_md5_for_people_and_for_scripts_without_a_download(mounted: Start) -> None:
    here = mounted("--quirk", "tiny-tasks=never")
    (here.docs / "new.txt").write_text("unsent?")
    before = here.moved_bytes()
    assert here.synofs("du", here.docs / "2024").out == f"1.0 MiB\t2 files\t0 folders\t{here.docs}/2024\n"
    assert here.synofs("du", "-b", here.docs / "2024").out.startswith("1048581\t")
    big = here.docs / "2024" / "big.bin"
    done = here.synofs("md5", big, here.docs / "new.txt")
    assert done.out.splitlines() == [
        f"{digest(here.disk / '2024' / 'big.bin')}  {big}",
        f"{hashlib.md5(b'unsent?').hexdigest()}  {here.docs}/new.txt",
    ]
    assert here.synofs("md5", "--json", big).json[0]["md5"] == digest(here.disk / "2024" / "big.bin")
    assert here.moved_bytes() == before
    assert here.synofs("md5", here.docs / "2024").code == Problem.NOT_POSSIBLE.exit_code
    assert here.synofs("md5", here.docs / "missing").code == Problem.MISSING.exit_code
    assert here.synofs("du", here.docs / "missing").code == Problem.MISSING.exit_code


def test_md5_check_reads_what_md5sum_writes_and_finds_what_differs(mounted: Start, tmp_path: Path) -> None:
    here = mounted()
    odd = here.docs / "back\\slash\nnewline.txt"
    (here.disk / odd.name).write_text("odd")
    files = [here.docs / "letter.txt", here.docs / "2024" / "big.bin", odd]
    sums = subprocess.run(["md5sum", *files], capture_output=True, check=True).stdout
    assert sums == here.synofs("md5", *files).out.encode()
    tagged = subprocess.run(["md5sum", "--tag", *files], capture_output=True, check=True).stdout
    for number, text in enumerate((sums, tagged)):
        (tmp_path / f"sums{number}").write_bytes(text)
        done = here.synofs("md5", "--check", tmp_path / f"sums{number}")
        assert (done.code, done.err) == (0, "")
        assert done.out.count(": OK\n") == 3
    (here.disk / "letter.txt").write_text("Dear NAS.\n")
    (here.disk / odd.name).unlink()
    done = here.synofs("md5", "--check", "--quiet", tmp_path / "sums0")
    assert done.code == Problem.CHECKSUMS_DIFFER.exit_code
    assert done.out == f"{files[0]}: FAILED\n{odd}: FAILED open or read\n"
    assert "2 of 3" in done.err
    done = here.synofs("md5", "--check", "--json", tmp_path / "sums0")
    assert [one["result"] for one in done.json] == ["FAILED", "OK", "FAILED open or read"]
    (tmp_path / "none").write_text("no sums here\n")
    assert here.synofs("md5", "--check", tmp_path / "none").code == Problem.WRONG_OPTION.exit_code
