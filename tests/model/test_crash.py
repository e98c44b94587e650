"""After SIGKILL, a torn journal or a damaged staged file: every acknowledged write is on the NAS, or kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.model.crash import run
from tests.model.live import live_mount
from tests.mount.harness import wait_until

pytestmark = [pytest.mark.mount, pytest.mark.timeout(900)]

TRIALS = 250  # for each write mode


@pytest.mark.parametrize("mode", ["writeback", "durable"])
def test_no_acknowledged_write_is_lost_by_sigkill(tmp_path: Path, mode: str, capsys: pytest.CaptureFixture) -> None:
    seed = int.from_bytes(os.urandom(4))
    tally = run(tmp_path, TRIALS, seed, "--write-mode", mode, kills_per_check=25)
    with capsys.disabled():
        print(f"\n{mode}: {tally} (seed {seed})")
    assert tally.lost == []
    assert tally.acknowledged > TRIALS


def unsent_mount_killed(mount, names: list[str]) -> None:
    """Write while the NAS refuses uploads, so that nothing is sent, and crash."""
    mount.nas.fault("error", method="upload", code=402, times=100000)
    for name in names:
        (mount.root / name).write_bytes(name.encode() * 1000)
    mount.kill()
    mount.nas.clear_faults()


def test_a_torn_journal_loses_nothing(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "writeback") as (mount, served):
        unsent_mount_killed(mount, ["a", "b", "c"])
        (journal,) = mount.cache.glob("synofs-v1/*/journal.db")
        journal.write_bytes(journal.read_bytes()[:100] + os.urandom(5000))
        for suffix in ("-wal", "-shm"):
            journal.with_name(journal.name + suffix).unlink(missing_ok=True)
        mount.start()
        assert sorted(os.listdir(mount.root)) == ["a", "b", "c"]  # at once, before they are sent
        mount.flush()
        assert {name: (served / name).read_bytes() for name in "abc"} == {n: n.encode() * 1000 for n in "abc"}
        assert "damaged" in mount.log


def test_a_truncated_staged_file_is_kept_and_never_sent_as_if_it_were_whole(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "writeback") as (mount, served):
        unsent_mount_killed(mount, ["whole", "torn"])
        staged = [file for file in mount.cache.glob("synofs-v1/*/staging/*") if file.stat().st_size == 4000]
        assert len(staged) == 1
        os.truncate(staged[0], 1234)
        mount.start()
        wait_until(lambda: (served / "whole").exists(), what="the upload of the other file")
        assert mount.status()["failed_uploads"] == 1
        assert not (served / "torn").exists()
        (kept,) = mount.cache.glob("synofs-v1/*/recovery/*")
        assert kept.read_bytes() == b"torn" * 308 + b"to"


def test_a_restart_without_the_nas_keeps_unsent_files_listed_and_sends_them_later(tmp_path: Path) -> None:
    with live_mount(tmp_path, "--write-mode", "writeback") as (mount, served):
        unsent_mount_killed(mount, ["letter"])
        mount.nas.fault("error", method="upload", code=402, times=3)
        mount.start()
        assert (mount.root / "letter").read_bytes() == b"letter" * 1000
        assert mount.status()["pending_uploads"] == 1
        mount.flush()
        assert (served / "letter").read_bytes() == b"letter" * 1000
