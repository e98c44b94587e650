"""Sending a big file while it is written, through the kernel and to the simulated NAS: whatever the NAS makes of
slices, and whatever ends the mount in between, the file is what was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.model.live import live_mount, tree_of
from tests.mount.harness import wait_until
from tests.trees import revealing

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]

MIB = 1024 * 1024
CONTENT = revealing(40 * MIB)


def written_in_part(path: Path, size: int = len(CONTENT) // 2) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for position in range(0, size, MIB):
        os.write(fd, CONTENT[position : min(position + MIB, size)])
    return fd


def finished(fd: int, start: int = len(CONTENT) // 2) -> None:
    for position in range(start, len(CONTENT), MIB):
        os.write(fd, CONTENT[position : position + MIB])
    os.close(fd)


@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaced"])
def test_the_nas_has_the_beginning_of_a_big_file_before_it_is_closed(tmp_path: Path, replaces: bool) -> None:
    with live_mount(tmp_path, "--write-mode", "durable") as (mount, served):
        if replaces:
            (served / "film").write_bytes(b"old")
        fd = written_in_part(mount.root / "film")
        wait_until(lambda: mount.nas.stats["bytes_received"] > 15 * MIB, what="slices on the NAS")
        assert (served / "film").exists() == replaces  # the old one, or nothing
        finished(fd)
        assert (served / "film").read_bytes() == CONTENT
        mount.flush()
        assert tree_of(served) == {"film": CONTENT}
        mount.stop()


@pytest.mark.parametrize("slices", ["one-size", "unknown"])
def test_a_nas_without_growing_slices_gets_the_whole_file_at_close(tmp_path: Path, slices: str) -> None:
    with live_mount(tmp_path, "--write-mode", "durable", nas_options=("--quirk", f"slices={slices}")) as (
        mount,
        served,
    ):
        for name in ("one", "two"):
            finished(written_in_part(mount.root / name))
        mount.stop()
        assert tree_of(served) == {"one": CONTENT, "two": CONTENT}
        assert not [name for name in os.listdir(served) if name.startswith(".synofs-")]


def test_a_header_that_is_written_last_costs_a_second_upload_and_is_there(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "durable") as (mount, served):
        fd = written_in_part(mount.root / "film", len(CONTENT))
        wait_until(lambda: mount.nas.stats["bytes_received"] > 15 * MIB, what="slices on the NAS")
        os.pwrite(fd, b"header", 0)
        os.close(fd)
        assert (served / "film").read_bytes() == b"header" + CONTENT[6:]
        mount.stop()


def test_a_crash_between_slices_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "durable") as (mount, served):
        fd = written_in_part(mount.root / "film")
        wait_until(lambda: mount.nas.stats["bytes_received"] > 15 * MIB, what="slices on the NAS")
        mount.kill()
        with pytest.raises(OSError, match=r"not connected|Software caused"):
            os.close(fd)
        assert not (served / "film").exists()
        mount.start()
        mount.flush()
        assert (served / "film").read_bytes() == CONTENT[: len(CONTENT) // 2]
        mount.stop()


def test_a_cut_line_in_a_slice_is_not_seen_by_the_program(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "durable") as (mount, served):
        finished(written_in_part(mount.root / "first"))  # with it, slices have been tried
        mount.nas.fault("drop", method="upload", path="/data/film", when="request", after_bytes=MIB, times=1)
        mount.nas.reset()
        fd = written_in_part(mount.root / "film")
        wait_until(lambda: mount.nas.calls.get("upload"), what="a slice that was cut off")
        finished(fd)
        assert mount.nas.calls["upload"] == 2  # that one, and the whole file
        assert (served / "film").read_bytes() == CONTENT
        mount.stop()
