"""Times far away, clocks that jump, and a cache folder whose disk is full, read-only or gone."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from tests.model.live import LiveMount
from tests.mount.harness import Nas, simulated_nas, wait_until
from tests.soak.disk import Disk

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
    served = tmp_path / "served"
    served.mkdir()
    with simulated_nas({"data": served}) as nas:
        with with_a_clock(monkeypatch, clock):
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
def with_a_clock(patch: pytest.MonkeyPatch, clock: Path) -> Iterator[None]:
    """What is started inside has the wall clock that `clock` says, and the monotonic clock of everybody."""
    clock.write_text("+0d")
    with patch.context() as inside:
        inside.setenv("LD_PRELOAD", str(LIBFAKETIME))
        inside.setenv("FAKETIME_TIMESTAMP_FILE", str(clock))
        inside.setenv("FAKETIME_NO_CACHE", "1")
        inside.setenv("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        yield


@pytest.mark.skipif(LIBFAKETIME is None, reason="needs libfaketime")
@pytest.mark.parametrize("mode", ["durable", "writeback"])
def test_a_clock_of_the_nas_that_jumps_makes_nothing_stale_and_overwrites_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """By a day and by ten years, there and back, with the sessions gone each time."""
    clock, served = tmp_path / "clock", tmp_path / "served"
    served.mkdir()

    def by_somebody(name: str, content: str) -> None:
        """Written on the NAS itself: its times are those of its clock."""
        (served / name).write_text(content)
        now = int(time.time()) + 86_400 * int(clock.read_text().removesuffix("d"))
        os.utime(served / name, (now, now))

    with with_a_clock(monkeypatch, clock):
        nas_runs = simulated_nas({"data": served})
        nas = nas_runs.__enter__()
    try:
        mount = LiveMount(nas, tmp_path / "client", "--write-mode", mode, "--dir-ttl", "1", "--attr-ttl", "1")
        try:
            mount.start()
            for number, days in enumerate((0, 1, -1, 3650, 0, -3650)):
                plan, young, kept = f"plan{number}.txt", f"young{number}", f"kept{number}"
                by_somebody(plan, "as it was")
                mount.refresh()
                text = (mount.root / plan).read_text()

                clock.write_text(f"{days:+}d")
                wait_until(lambda days=days: abs(date_of(nas) - time.time() - 86_400 * days) < 2, 20, "the new time")
                nas.fault("expire_sids")
                by_somebody(plan, "changed by others")
                (mount.root / plan).write_text(text + ", by us")
                (mount.root / kept).write_text("new")
                mount.flush(30)
                assert (served / kept).read_text() == "new"
                texts = {path.read_text() for path in served.glob(f"plan{number}*")}
                assert texts == {"changed by others", "as it was, by us"}, "both survive"

                by_somebody(young, "version 1")
                read_until(mount.root / young, "version 1")
                by_somebody(young, "version 2")  # of the same size, most often in the same second
                read_until(mount.root / young, "version 2")
                (served / kept).unlink()
                wait_until(lambda kept=kept: kept not in os.listdir(mount.root), 20, "the end of a file")
        finally:
            mount.clean_up()
    finally:
        nas_runs.__exit__(None, None, None)


def date_of(nas: Nas) -> float:
    """What its answers say, which is up to a second older than its clock."""
    with urllib.request.urlopen(f"{nas.url}/_simnas/stats", timeout=10) as answer:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp()


def read_until(path: Path, expected: str) -> None:
    def is_there() -> bool:
        try:
            return path.read_text() == expected
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            return False

    wait_until(is_there, 20, f"{expected} in {path.name}")


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
