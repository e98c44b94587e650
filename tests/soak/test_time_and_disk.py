"""Times far away, clocks that jump, and a cache folder whose disk is full, read-only or gone."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.live import LiveMount
from tests.mount.harness import simulated_nas
from tests.soak.soak import Disk

pytestmark = [pytest.mark.mount, pytest.mark.timeout(120)]

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, for a disk of its own")
# 1969, 1970, the last second of 32 bits, the first one after it, 2106, 2262
MOMENTS = [-1, -1_000_000_000, 0, 2**31 - 1, 2**31, 2**32, 9_000_000_000]
LIBFAKETIME = next(iter(Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), None)


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati"])
def test_times_before_1970_and_beyond_2038_are_the_nass_whatever_its_time_zone(
    tmp_path: Path, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = tmp_path / "served"
    served.mkdir()
    for moment in MOMENTS:
        (served / f"at{moment}").write_bytes(b"x")
        os.utime(served / f"at{moment}", (0, moment))
    monkeypatch.setenv("TZ", zone)
    with simulated_nas({"data": served}) as nas:
        monkeypatch.setenv("TZ", "America/St_Johns")
        mount = LiveMount(nas, tmp_path / "client")
        try:
            mount.start()
            shown = {moment: int((mount.root / f"at{moment}").stat().st_mtime) for moment in MOMENTS}
            assert shown == {moment: moment for moment in MOMENTS}
            for moment in MOMENTS:
                with open(mount.root / f"new{moment}", "wb") as file:
                    file.write(b"y")
                    file.flush()
                    os.utime(file.fileno(), (0, moment))
            given = {moment: int((served / f"new{moment}").stat().st_mtime) for moment in MOMENTS}
            assert given == {moment: moment for moment in MOMENTS}
        finally:
            mount.clean_up()


@pytest.mark.skipif(LIBFAKETIME is None, reason="needs libfaketime")
def test_a_clock_that_jumps_by_years_stops_nothing_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wall clock alone: what the mount waits for and believes is timed by the monotonic one."""
    clock = tmp_path / "clock"
    clock.write_text("+0d")
    served = tmp_path / "served"
    served.mkdir()
    with simulated_nas({"data": served}) as nas:
        with monkeypatch.context() as patch:
            patch.setenv("LD_PRELOAD", str(LIBFAKETIME))
            patch.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
            patch.setenv("FAKETIME_NO_CACHE", "1")
            patch.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            mount = LiveMount(
                nas, tmp_path / "client", "--write-mode", "writeback", "--dir-ttl", "1", "--attr-ttl", "1"
            )
        try:
            mount.start()
            for number, jump in enumerate(("+0d", "+3650d", "-3650d", "+1d")):
                clock.write_text(jump)
                path = mount.root / f"file{number}"
                path.write_bytes(b"content %d" % number)
                years = abs(path.stat().st_mtime - time.time()) / (365 * 86400)
                assert (years > 9) == ("3650" in jump), "the mount's clock did not jump"
                (served / f"theirs{number}").write_bytes(b"theirs")
                mount.flush(30)
                mount.refresh()
                assert (mount.root / f"theirs{number}").read_bytes() == b"theirs"
                assert (served / f"file{number}").read_bytes() == b"content %d" % number
            mount.kill()
            clock.write_text("-3650d")
            mount.start()
            assert len(os.listdir(mount.root)) == 8
        finally:
            mount.clean_up()


@contextlib.contextmanager
def on_a_disk(folder: Path, command: tuple[str, ...] = ()) -> Iterator[tuple[LiveMount, Path, Disk]]:
    """A mount whose cache folder is a disk of its own, with one file that was read and one that was not."""
    served = folder / "served"
    served.mkdir()
    for name in ("read", "unread"):
        (served / name).write_bytes(name.encode() * 50_000)
    with simulated_nas({"data": served}) as nas:
        mount = LiveMount(nas, folder / "client", "--write-mode", "writeback", "--dir-ttl", "1", "--attr-ttl", "1")
        with Disk(mount.cache, command) as disk:
            try:
                mount.start()
                assert (mount.root / "read").read_bytes() == b"read" * 50_000
                (mount.root / "before").write_bytes(b"before")
                mount.flush()
                yield mount, served, disk
            finally:
                mount.clean_up()


def read_and_try_to_write(mount: LiveMount) -> int:
    """Reads go on; the errno of a write."""
    for name in ("read", "unread"):
        assert (mount.root / name).read_bytes() == name.encode() * 50_000
    try:
        (mount.root / "new").write_bytes(b"new" * 100_000)
    except OSError as error:
        return error.errno or 0
    return 0


@NEEDS_ROOT
def test_with_a_full_disk_reads_go_on_writes_get_an_errno_and_what_comes_later_is_saved(tmp_path: Path) -> None:
    with on_a_disk(tmp_path) as (mount, served, disk):
        disk.fill()
        assert read_and_try_to_write(mount) == errno.ENOSPC
        disk.empty()
        (mount.root / "later").write_bytes(b"later")
        mount.flush()
        assert (served / "later").read_bytes() == b"later"
        assert (served / "before").read_bytes() == b"before"


@NEEDS_ROOT
def test_with_a_disk_that_turns_read_only_reads_go_on_and_writes_get_an_errno(tmp_path: Path) -> None:
    """As ext4 does to itself after an error."""
    image = tmp_path / "image"
    image.touch()
    os.truncate(image, 2 << 30)
    subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
    with on_a_disk(tmp_path, ("mount", "-o", "loop", str(image))) as (mount, served, _):
        subprocess.run(["mount", "-o", "remount,abort", str(mount.cache)], check=True)
        assert read_and_try_to_write(mount) in (errno.EROFS, errno.EIO)
        assert (served / "before").read_bytes() == b"before"


@NEEDS_ROOT
def test_with_a_disk_that_vanishes_reads_go_on_and_what_was_acknowledged_is_on_the_nas(tmp_path: Path) -> None:
    with on_a_disk(tmp_path) as (mount, served, disk):
        subprocess.run(["umount", "-l", str(mount.cache)], check=True)
        refused = read_and_try_to_write(mount)
        if not refused:
            mount.flush()
            assert (served / "new").read_bytes() == b"new" * 100_000
        assert (served / "before").read_bytes() == b"before"
        disk.is_own = False  # it is unmounted
