"""`synofs compress`, `extract`, `peek`, `fav`, `tasks` and `thumb` against a simulated NAS."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from synofs.app.errors import Problem

from .conftest import COMMAND, Mounted, Synofs

pytestmark = pytest.mark.mount

Start = Callable[..., Mounted]


def names(folder: Path) -> set[str]:
    return set(os.listdir(folder))


@pytest.mark.parametrize("quirk", ["tiny-tasks=always", "late-tasks=yes", "copymove-failure=error"])
def test_there_and_back_again_without_a_byte_passing_through(mounted: Start, quirk: str) -> None:
    here = mounted("--quirk", quirk)
    assert names(here.docs) == {"2024", "letter.txt"}
    before = here.moved_bytes()
    done = here.synofs("compress", here.docs / "all.zip", here.docs / "2024", here.docs / "letter.txt", "--json")
    assert (done.json["path"], done.json["is_dir"]) == (f"{here.docs}/all.zip", False)
    assert names(here.docs) == {"2024", "letter.txt", "all.zip"}
    items = {item["path"]: item["size"] for item in here.synofs("peek", here.docs / "all.zip", "--json").json}
    assert items["2024/big.bin"] == 256 * 4096
    assert set(items) == {"2024", "2024/big.bin", "2024/Größe & [Gewicht].txt", "letter.txt"}
    assert here.synofs("peek", here.docs / "all.zip").out.splitlines()[0].endswith("\t2024/")

    assert here.synofs("extract", here.docs / "all.zip", "--subfolder").code == 0
    assert names(here.docs / "all") == {"2024", "letter.txt"}
    (here.docs / "one").mkdir()
    words = ("-i", "2024/big.bin")
    assert here.synofs("extract", here.docs / "all.zip", here.docs / "one", *words).code == 0
    assert [path.name for path in (here.disk / "one").rglob("*")] == ["2024", "big.bin"]
    assert here.moved_bytes() == before
    assert (here.docs / "all" / "2024" / "big.bin").read_bytes() == (here.disk / "2024" / "big.bin").read_bytes()


def test_what_is_there_is_neither_replaced_nor_skipped_in_silence(mounted: Start) -> None:
    here = mounted()
    with zipfile.ZipFile(here.disk / "a.zip", "w") as archive:
        archive.writestr("letter.txt", "from the archive")
    done = here.synofs("extract", here.docs / "a.zip")
    assert done.code == Problem.EXISTS.exit_code
    assert str(here.docs / "letter.txt") in done.err
    assert (here.disk / "letter.txt").read_text() == "Dear NAS,\n"
    assert here.synofs("extract", "--overwrite", here.docs / "a.zip").code == 0
    assert (here.docs / "letter.txt").read_text() == "from the archive"
    done = here.synofs("compress", here.docs / "a.zip", here.docs / "2024")
    assert done.code == Problem.EXISTS.exit_code
    assert zipfile.ZipFile(here.disk / "a.zip").namelist() == ["letter.txt"]


# A zip with one file, "secret.txt", encrypted with the password "sesame" (Python cannot write such a zip).
ENCRYPTED = (
    "UEsDBBQAAQAAAAAAIVjhEcjjEQAAAAUAAAAKAAAAc2VjcmV0LnR4dIrDlOZOReq4/YNAiTm0CFlwUEsBAhQAFAABAAAAAAAh"
    "WOERyOMRAAAABQAAAAoAAAAAAAAAAAAAAAAAAAAAAHNlY3JldC50eHRQSwUGAAAAAAEAAQA4AAAAOQAAAAAA"
)


def test_passwords_of_archives(mounted: Start, tmp_path: Path) -> None:
    here = mounted()
    (here.disk / "secret.zip").write_bytes(base64.b64decode(ENCRYPTED))
    for word in ("wrong", "sesame"):
        (tmp_path / word).write_text(f"{word}\n")
    for words in ((), ("--password-file", tmp_path / "wrong")):
        done = here.synofs("extract", here.docs / "secret.zip", *words)
        assert done.code == Problem.ARCHIVE_PASSWORD.exit_code, done.err
        assert "wrong" in done.err
    assert here.synofs("extract", here.docs / "secret.zip", "--password-file", tmp_path / "sesame").code == 0
    assert (here.docs / "secret.txt").read_text() == "open\n"
    done = here.synofs("compress", "--password-file", tmp_path / "sesame", here.docs / "x.zip", here.docs / "2024")
    assert done.code == Problem.REFUSED_BY_NAS.exit_code  # the simulated one cannot encrypt, and says so
    assert not (here.disk / "x.zip").exists()


def test_other_kinds_of_archives_and_files_that_are_none(mounted: Start, tmp_path: Path) -> None:
    here = mounted()
    (here.docs / "out").mkdir()
    with tarfile.open(here.disk / "a.tar.gz", "w:gz") as archive:
        archive.add(here.disk / "2024", "etc")
    assert here.synofs("extract", here.docs / "a.tar.gz", here.docs / "out").code == 0
    assert names(here.docs / "out" / "etc") == names(here.disk / "2024")
    done = here.synofs("peek", here.docs / "letter.txt")
    assert (done.code, done.out) == (Problem.NOT_POSSIBLE.exit_code, "")
    assert "no archive" in done.err
    assert here.synofs("peek", here.docs / "missing.zip").code == Problem.MISSING.exit_code
    assert here.synofs("extract", here.docs / "a.tar.gz", tmp_path).code == Problem.NOT_INSIDE.exit_code
    done = here.synofs("extract", here.docs / "a.tar.gz", here.docs / "out", "-f", "-i", "etc/nothing")
    assert done.code == Problem.MISSING.exit_code
    assert "etc/nothing" in done.err
    assert here.synofs("compress", here.docs / "a.rar", here.docs / "2024").code == Problem.WRONG_OPTION.exit_code


def test_favourites_are_folders_that_are_there(mounted: Start) -> None:
    here = mounted()
    assert here.synofs("fav", "add", here.docs / "2024", "--name", "this year").code == 0
    assert here.synofs("fav", "list", here.docs).out == f"this year\t{here.docs}/2024\n"
    again = here.synofs("fav", "add", here.docs / "2024")
    assert again.code == Problem.FAVOURITE_THERE.exit_code
    assert f"{here.docs}/2024" in again.err
    assert here.synofs("fav", "add", here.docs / "letter.txt").code == Problem.NOT_POSSIBLE.exit_code
    assert here.synofs("fav", "add", here.docs / "missing").code == Problem.MISSING.exit_code
    (here.disk / "2024").rename(here.disk / "2023")
    assert here.synofs("fav", "list", here.docs, "--json").json[0]["status"] == "broken"
    assert here.synofs("fav", "rm", here.docs / "2024").code == 0
    assert here.synofs("fav", "list", here.docs, "--json").json == []
    assert here.synofs("fav", "rm", here.docs / "2024").code == Problem.NOT_LISTED.exit_code


def test_tasks_are_listed_stopped_and_cleared(mounted: Start) -> None:
    here = mounted("--quirk", "tiny-tasks=never")
    assert here.synofs("tasks", "list", here.docs).out == ""
    task = here.task_of_another_program()
    listed = here.synofs("tasks", "list", here.docs, "--json").json
    assert [(one["id"], one["api"], one["finished"]) for one in listed] == [(task, "SYNO.FileStation.DirSize", True)]
    assert here.synofs("tasks", "list", here.docs).out.split("\t")[2:4] == ["DirSize", "finished"]
    assert here.synofs("tasks", "clear", here.docs).code == 0
    assert here.synofs("tasks", "list", here.docs).out == ""
    task = here.task_of_another_program()
    assert here.synofs("tasks", "stop", task, here.docs).code == 0
    assert here.synofs("tasks", "list", here.docs).out == ""
    gone = here.synofs("tasks", "stop", task, here.docs)
    assert gone.code == Problem.NOT_LISTED.exit_code
    assert "synofs tasks list" in gone.err


@pytest.mark.parametrize("quirk", ["lazy-thumbs=yes", "lazy-thumbs=no"])
def test_a_thumbnail_is_small_and_the_file_itself_stays_on_the_nas(mounted: Start, tmp_path: Path, quirk: str) -> None:
    here = mounted("--quirk", quirk)
    Image.effect_noise((1600, 1200), 80).convert("RGB").save(here.disk / "photo.jpg")
    before = here.moved_bytes()
    target = tmp_path / "thumb.jpg"
    done = here.synofs("thumb", here.docs / "photo.jpg", "-o", target, "--json")
    assert done.json["bytes"] == target.stat().st_size
    with Image.open(target) as image:
        assert (image.format, max(image.size)) == ("JPEG", 120)
    assert here.moved_bytes()[0] - before[0] < (here.disk / "photo.jpg").stat().st_size / 10
    assert here.calls("Download.download") == 0
    assert here.synofs("thumb", here.docs / "letter.txt", "-o", target).code == Problem.NO_THUMBNAIL.exit_code
    assert here.synofs("thumb", here.docs / "missing.jpg", "-o", target).code == Problem.MISSING.exit_code


def test_the_image_can_go_through_a_pipe(mounted: Start) -> None:
    here = mounted()
    Image.new("RGB", (800, 600), "red").save(here.disk / "red.png")
    words = [COMMAND, "thumb", here.docs / "red.png", "--size", "large"]
    content = subprocess.run(words, capture_output=True, check=True, timeout=60).stdout
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size) == ("PNG", (640, 480))


def test_every_command_teaches_by_example(synofs: Synofs) -> None:
    commands = "cp mv search du md5 compress extract peek thumb"
    groups = {
        "share": "create list rm",
        "trash": "list restore empty",
        "fav": "list add rm",
        "tasks": "list stop clear",
    }
    for words in [(c,) for c in commands.split()] + [(g, c) for g, below in groups.items() for c in below.split()]:
        shown = synofs(*words, "--help")
        assert shown.code == 0
        assert "Examples:" in shown.out
        assert f"synofs {words[0]}" in shown.out


def test_a_reader_that_has_seen_enough_is_no_failure_of_the_mount(mounted: Start) -> None:
    """As `head` is one."""
    there = mounted()
    assert there.synofs("compress", there.docs / "all.zip", there.docs / "2024").code == 0
    script = f"'{COMMAND}' peek '{there.docs / 'all.zip'}' | :"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr == ""


def test_a_thumbnail_that_cannot_be_written_names_the_place(mounted: Start) -> None:
    there = mounted("--quirk", "lazy-thumbs=no")
    image = there.disk / "x.png"
    Image.new("RGB", (200, 100)).save(image)
    done = there.synofs("thumb", there.docs / "x.png", "-o", "/nowhere/x.png")
    assert done.code == Problem.WRONG_OPTION.exit_code
    assert "cannot write /nowhere/x.png" in done.err
