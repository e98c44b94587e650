"""`synofs cp` and `synofs mv`: done by the NAS, seen at once, and no byte of a file passes through the client."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, PATIENCE_SECONDS, Mounted, on_a_terminal, until

pytestmark = pytest.mark.mount

Start = Callable[..., Mounted]


def names(folder: Path) -> set[str]:
    return {name for name in os.listdir(folder) if not name.startswith("#")}


def test_a_copy_is_made_by_the_nas_and_is_there_at_once(mounted: Start) -> None:
    here = mounted()
    assert not (here.docs / "copy.bin").exists()  # the kernel remembers that it is missing
    assert names(here.docs) == {"2024", "letter.txt"}
    before = here.moved_bytes()
    done = here.synofs("cp", here.docs / "2024" / "big.bin", here.docs / "copy.bin")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert (here.docs / "copy.bin").stat().st_size == 256 * 4096
    assert names(here.docs) == {"2024", "letter.txt", "copy.bin"}
    assert here.moved_bytes() == before
    assert (here.disk / "copy.bin").read_bytes() == (here.disk / "2024" / "big.bin").read_bytes()


def test_a_folder_is_copied_with_all_in_it(mounted: Start) -> None:
    here = mounted()
    assert here.synofs("cp", here.docs / "2024", here.docs / "2025").code == 0
    assert names(here.docs / "2025") == names(here.docs / "2024") == names(here.disk / "2025")
    assert names(here.docs) == {"2024", "2025", "letter.txt"}
    assert not [name for name in os.listdir(here.disk) if name.startswith(".synofs")]


def test_into_a_folder_several_at_once_with_json(mounted: Start) -> None:
    here = mounted()
    (here.docs / "target").mkdir()
    done = here.synofs("cp", here.docs / "letter.txt", here.docs / "2024", here.docs / "target", "--json")
    assert [Path(one["path"]) for one in done.json] == [here.docs / "target" / n for n in ("letter.txt", "2024")]
    assert [one["nas_path"] for one in done.json] == ["/docs/target/letter.txt", "/docs/target/2024"]
    assert names(here.disk / "target") == {"letter.txt", "2024"}
    done = here.synofs("cp", here.docs / "letter.txt", here.docs / "2024", here.docs / "nowhere")
    assert done.code == Problem.NOT_POSSIBLE.exit_code


def test_a_copy_beside_the_original_under_another_name_leaves_nothing_else(mounted: Start) -> None:
    here = mounted()
    (here.disk / "2024" / "letter.txt").write_text("another letter")
    assert here.synofs("cp", here.docs / "letter.txt", here.docs / "letter 2.txt").code == 0
    assert here.synofs("cp", here.docs / "letter.txt", here.docs / "2024" / "first.txt").code == 0  # its name is taken
    assert (here.docs / "letter 2.txt").read_text() == "Dear NAS,\n"
    assert (here.docs / "2024" / "first.txt").read_text() == "Dear NAS,\n"
    assert (here.docs / "2024" / "letter.txt").read_text() == "another letter"
    assert not [path for path in here.disk.rglob(".synofs*")]


def test_nothing_is_replaced_unless_told_so(mounted: Start) -> None:
    here = mounted()
    (here.docs / "other.txt").write_text("keep me")
    for command in ("cp", "mv"):
        done = here.synofs(command, here.docs / "letter.txt", here.docs / "other.txt")
        assert done.code == Problem.EXISTS.exit_code
        assert str(here.docs / "other.txt") in done.err
    assert (here.disk / "other.txt").read_text() == "keep me"
    assert here.synofs("cp", "--overwrite", here.docs / "letter.txt", here.docs / "other.txt").code == 0
    assert (here.docs / "other.txt").read_text() == "Dear NAS,\n"
    assert (here.docs / "letter.txt").read_text() == "Dear NAS,\n"
    assert not list(here.disk.rglob(".synofs*"))


def test_a_move_and_a_rename_are_seen_at_once_on_both_sides(mounted: Start) -> None:
    here = mounted()
    assert names(here.docs / "2024") == {"Größe & [Gewicht].txt", "big.bin"}
    before = here.moved_bytes()
    assert here.synofs("mv", here.docs / "2024" / "big.bin", here.docs).code == 0
    assert names(here.docs) == {"2024", "letter.txt", "big.bin"}
    assert names(here.docs / "2024") == {"Größe & [Gewicht].txt"}
    assert here.synofs("mv", here.docs / "big.bin", here.docs / "2024" / "small.bin").code == 0
    assert here.synofs("mv", here.docs / "letter.txt", here.docs / "brief.txt").code == 0
    assert names(here.docs) == {"2024", "brief.txt"}
    assert names(here.docs / "2024") == {"Größe & [Gewicht].txt", "small.bin"}
    assert here.moved_bytes() == before


def test_between_shares_and_with_one_share_as_the_root(mounted: Start, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    here = mounted("--share", f"photo={tmp_path / 'second'}")
    assert here.synofs("mv", here.docs / "2024", here.synofs.mountpoint / "photo").code == 0
    assert names(here.synofs.mountpoint / "photo") == {"2024"}
    assert names(here.docs) == {"letter.txt"}
    done = here.synofs("cp", here.docs / "letter.txt", here.synofs.mountpoint / "letter.txt")
    assert done.code == Problem.NOT_POSSIBLE.exit_code
    assert "Control Panel" in done.err
    assert here.synofs("umount", here.synofs.mountpoint).code == 0
    here.synofs.mount(here.nas, "--share", "photo")
    done = here.synofs("cp", here.synofs.mountpoint / "2024", here.synofs.mountpoint / "copy", "--json")
    assert done.json[0]["nas_path"] == "/photo/copy"
    assert names(here.synofs.mountpoint) == {"2024", "copy"}


def test_what_was_just_written_is_sent_before_it_is_copied(mounted: Start) -> None:
    here = mounted(mount=("--write-mode", "writeback"))
    (here.docs / "new.txt").write_text("fresh")
    assert here.synofs("cp", here.docs / "new.txt", here.docs / "copy.txt").code == 0
    assert (here.disk / "copy.txt").read_text() == "fresh"
    with (here.docs / "open.txt").open("w") as file:
        file.write("half")
        file.flush()
        done = here.synofs("mv", here.docs / "open.txt", here.docs / "2024")
        assert done.code == Problem.OPEN_FOR_WRITING.exit_code
    assert here.synofs("mv", here.docs / "open.txt", here.docs / "2024").code == 0
    assert (here.docs / "2024" / "open.txt").read_text() == "half"


def test_paths_elsewhere_missing_ones_and_nonsense_are_refused_clearly(mounted: Start, tmp_path: Path) -> None:
    here = mounted()
    elsewhere = tmp_path / "elsewhere.txt"
    elsewhere.write_text("x")
    cases: list[tuple[tuple[object, ...], Problem, str]] = [
        (("cp", elsewhere, here.docs), Problem.NOT_INSIDE, str(elsewhere)),
        (("cp", here.docs / "letter.txt", tmp_path), Problem.NOT_INSIDE, str(tmp_path)),
        (("cp", here.docs / "missing", here.docs / "x"), Problem.MISSING, str(here.docs / "missing")),
        (("mv", here.docs / "letter.txt", here.docs / "no" / "folder"), Problem.MISSING, str(here.docs / "no")),
        (("mv", here.docs / "2024", here.docs / "2024" / "in itself"), Problem.NOT_POSSIBLE, "into itself"),
        (("cp", here.docs / "letter.txt", here.docs / "letter.txt"), Problem.NOT_POSSIBLE, "the same"),
        (("cp", here.docs / "letter.txt"), Problem.WRONG_OPTION, "where to"),
    ]
    for words, problem, told in cases:
        done = here.synofs(*words)
        assert (done.code, done.out) == (problem.exit_code, ""), (words, done.err)
        assert told in done.err
        assert done.err.count("\n") == 1
    assert names(here.disk) == {"2024", "letter.txt"}


def test_missing_rights_a_full_quota_and_a_read_only_mount_have_codes_of_their_own(
    mounted: Start, tmp_path: Path
) -> None:
    (tmp_path / "ro").mkdir()
    here = mounted("--share", f"fixed={tmp_path / 'ro'}:ro", "--quota-bytes", str(256 * 4096 + 4000))
    done = here.synofs("cp", here.docs / "letter.txt", here.synofs.mountpoint / "fixed")
    assert done.code == Problem.FORBIDDEN.exit_code
    assert "anna may not do that" in done.err
    done = here.synofs("cp", here.docs / "2024" / "big.bin", here.docs / "big.bin")
    assert done.code == Problem.NO_ROOM.exit_code
    assert here.synofs("umount", here.synofs.mountpoint).code == 0
    here.synofs.mount(here.nas, "--read-only")
    done = here.synofs("mv", here.docs / "letter.txt", here.docs / "2024")
    assert done.code == Problem.READ_ONLY_MOUNT.exit_code
    assert (here.disk / "letter.txt").exists()


@pytest.mark.parametrize(
    "quirks",
    [
        ("tiny-tasks=always",),
        ("late-tasks=yes", "tiny-tasks=always"),
        ("raw-taskid=never", "numbers=string", "missing-getinfo=stub"),
        ("copymove-failure=error",),
        ("copymove-failure=599", "tiny-tasks=never"),
    ],
)
def test_builds_that_tell_the_end_of_a_task_in_other_ways(mounted: Start, quirks: tuple[str, ...]) -> None:
    here = mounted(*[word for quirk in quirks for word in ("--quirk", quirk)])
    assert here.synofs("cp", here.docs / "2024", here.docs / "copy").code == 0
    assert names(here.docs / "copy") == names(here.disk / "2024")
    assert here.synofs("mv", here.docs / "copy", here.docs / "moved").code == 0
    assert names(here.docs) == {"2024", "letter.txt", "moved"}
    done = here.synofs("cp", here.docs / "missing", here.docs / "2024")
    assert done.code == Problem.MISSING.exit_code
    done = here.synofs("cp", here.docs / "letter.txt", here.docs / "letter.txt" / "x")
    assert done.code == Problem.NOT_POSSIBLE.exit_code


def test_progress_is_shown_on_a_terminal_and_not_in_a_pipe(mounted: Start) -> None:
    here = mounted()
    slow = here.running(progress=0.25, processed_size=512 * 1024, total=2 * 1024**2)
    here.fault(kind="body", api="CopyMove", method="status", body=slow)

    def watch(shown: str, process: object) -> None:
        if "512 KiB of 2.0 MiB" in shown:
            here.clear_faults()

    shown = on_a_terminal("cp", here.docs / "2024" / "big.bin", here.docs / "a.bin", watch=watch)
    assert "copying big.bin" in shown
    assert "512 KiB of 2.0 MiB" in shown
    here.fault(kind="body", api="CopyMove", method="status", body=slow, times=4)
    done = here.synofs("cp", here.docs / "2024" / "big.bin", here.docs / "b.bin")
    assert (done.code, done.out, done.err) == (0, "", "")


def test_an_interrupted_copy_is_stopped_on_the_nas(mounted: Start) -> None:
    here = mounted()
    here.stays_running("CopyMove")
    process = subprocess.Popen([COMMAND, "cp", here.docs / "2024", here.docs / "copy"], stderr=subprocess.PIPE)
    until(lambda: here.calls("CopyMove.status") > 0)
    assert here.calls("CopyMove.stop") == 0
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == Problem.INTERRUPTED.exit_code
    assert b"interrupted" in said
    until(lambda: here.calls("CopyMove.stop") > 0)
