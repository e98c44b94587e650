"""Somebody else changes the same files on the NAS: nothing is overwritten in silence, both versions survive."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest

from tests.model.live import LiveMount, live_mount
from tests.mount.harness import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def versions(served: Path, name: str) -> set[bytes]:
    """What survives of a file: under its name and in conflict copies."""
    stem, _, suffix = name.partition(".")
    return {
        path.read_bytes()
        for path in served.iterdir()
        if path.name == name or (path.name.startswith(f"{stem} (conflict") and path.name.endswith(suffix))
    }


def written_by_somebody_else(path: Path, data: bytes, *, age: int = 0) -> None:
    path.write_bytes(data)
    moment = time.time() - age
    os.utime(path, (moment, moment))


def conflicts(mount: LiveMount) -> int:
    return int(mount.status()["filesystem"]["conflicts"])


@pytest.fixture(params=["durable", "writeback"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_edit_of_a_file_that_somebody_changed_meanwhile_keeps_both(tmp_path: Path, mode: str) -> None:
    with live_mount(tmp_path, "--write-mode", mode, "--dir-ttl", "600", "--attr-ttl", "600") as (mount, served):
        written_by_somebody_else(served / "report.txt", b"first", age=100)
        with open(mount.root / "report.txt", "r+b") as file:
            assert file.read() == b"first"
            file.seek(0)
            file.write(b"ours")
            written_by_somebody_else(served / "report.txt", b"theirs, longer", age=50)
        mount.flush()
        assert versions(served, "report.txt") == {b"theirs, longer", b"ourst"}
        assert (served / "report.txt").read_bytes() == b"theirs, longer"
        assert conflicts(mount) == 1
        assert "conflict" in mount.log


def test_a_new_file_of_a_name_that_somebody_took_meanwhile_keeps_both(tmp_path: Path, mode: str) -> None:
    with live_mount(tmp_path, "--write-mode", mode, "--dir-ttl", "600") as (mount, served):
        assert os.listdir(mount.root) == []
        with open(mount.root / "notes.md", "wb") as file:
            file.write(b"ours")
            written_by_somebody_else(served / "notes.md", b"theirs")
        mount.flush()
        assert versions(served, "notes.md") == {b"theirs", b"ours"}
        assert (served / "notes.md").read_bytes() == b"theirs"
        wait_until(lambda: len(os.listdir(mount.root)) == 2, what="the conflict copy in the listing")


def test_an_edit_of_a_file_that_somebody_removed_is_kept(tmp_path: Path, mode: str) -> None:
    with live_mount(tmp_path, "--write-mode", mode, "--dir-ttl", "600") as (mount, served):
        written_by_somebody_else(served / "a", b"first", age=100)
        with open(mount.root / "a", "wb") as file:
            file.write(b"ours")
            (served / "a").unlink()
        mount.flush()
        assert (served / "a").read_bytes() == b"ours"


def test_a_save_by_rename_does_not_replace_a_version_that_was_not_shown(tmp_path: Path) -> None:
    """The kernel repeats by itself what fails with ESTALE, and would replace what it has only looked up."""
    with live_mount(tmp_path, "--dir-ttl", "600", "--attr-ttl", "600") as (mount, served):
        written_by_somebody_else(served / "a", b"first", age=100)
        assert (mount.root / "a").read_bytes() == b"first"
        (mount.root / "a.tmp").write_bytes(b"ours")
        written_by_somebody_else(served / "a", b"theirs, longer", age=50)
        with pytest.raises(OSError, match="busy"):
            os.rename(mount.root / "a.tmp", mount.root / "a")
        assert (served / "a").read_bytes() == b"theirs, longer"
        assert (mount.root / "a.tmp").read_bytes() == b"ours"
        mount.refresh()
        assert (mount.root / "a").read_bytes() == b"theirs, longer"
        time.sleep(0.2)  # what was shown a moment ago may have been shown for the rename itself
        os.rename(mount.root / "a.tmp", mount.root / "a")
        assert (served / "a").read_bytes() == b"ours"


def test_what_is_opened_after_a_change_is_read_to_its_present_end(tmp_path: Path) -> None:
    """Whatever size the kernel remembers: the mount learns of the change in open(2) itself."""
    short = 0
    with live_mount(tmp_path, "--dir-ttl", "1", "--attr-ttl", "1") as (mount, served):
        for round_ in range(3):
            name = f"log{round_}"
            written_by_somebody_else(served / name, b"x" * 100, age=100)
            mount.refresh()
            fd = os.open(mount.root / name, os.O_RDONLY)
            assert len(os.read(fd, 1000)) == 100
            os.close(fd)
            written_by_somebody_else(served / name, b"x" * 200, age=50)
            end = time.monotonic() + 10
            while time.monotonic() < end:
                fd = os.open(mount.root / name, os.O_RDONLY)
                size, found = os.fstat(fd).st_size, len(os.read(fd, 1000))
                os.close(fd)
                short += size != found
                if found == 200:
                    break
            assert found == 200
    assert short == 0


def test_the_same_bytes_from_both_sides_are_no_conflict(tmp_path: Path, mode: str) -> None:
    with live_mount(tmp_path, "--write-mode", mode, "--dir-ttl", "600") as (mount, served):
        written_by_somebody_else(served / "a", b"first", age=100)
        with open(mount.root / "a", "wb") as file:
            file.write(b"the same")
            written_by_somebody_else(served / "a", b"the same", age=50)
        mount.flush()
        assert versions(served, "a") == {b"the same"}
        assert conflicts(mount) == 0


def test_of_hundreds_of_edits_from_both_sides_none_is_overwritten_in_silence(tmp_path: Path, mode: str) -> None:
    rng = random.Random(7)
    names = [f"f{number}.txt" for number in range(5)]
    overwritten = collisions = 0
    with live_mount(tmp_path, "--write-mode", mode, "--dir-ttl", "1", "--attr-ttl", "1") as (mount, served):
        for step in range(120):
            name = rng.choice(names)
            theirs = f"theirs {step} {'x' * rng.randrange(200)}".encode()
            ours = f"ours {step} {'y' * rng.randrange(200)}".encode()
            if rng.random() < 0.4:
                written_by_somebody_else(served / name, theirs, age=1000 - step)
                continue
            collides = rng.random() < 0.5
            with open(mount.root / name, "wb") as file:
                file.write(ours)
                if collides:
                    written_by_somebody_else(served / name, theirs, age=1000 - step)
            mount.flush()
            if collides:
                collisions += 1
                overwritten += not {theirs, ours} <= versions(served, name)
        assert collisions > 20
        assert overwritten == 0
        assert mount.status()["failed_uploads"] == 0
