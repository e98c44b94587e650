"""A NAS that restarts, hangs, refuses or lies; and bugs of our own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import trees
from tests.mount.harness import Mount, Nas, mounted, processes_in_d_state, run, simulated_nas, wait_until

pytestmark = pytest.mark.mount

StartNas = Callable[..., Nas]
StartMount = Callable[..., Mount]
DEADLINE = 2.0


@pytest.fixture
def tree(served: Path) -> Path:
    trees.make_wide_tree(served, folders=300, entries=1_500)
    return served


@contextmanager
def running(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            yield process
        finally:
            process.kill()


# ----- the NAS goes away and comes back -------------------------------------------------------------------------------


def test_a_restart_of_the_nas_in_the_middle_of_find_is_invisible(
    tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(tree, "--latency-ms", "5")
    mount = start_mount(nas)
    nas.reset()
    with running("find", mount.path, "-print0") as find:
        wait_until(lambda: nas.listings > 50, what="find to be under way")
        nas.fault("restart", seconds=1)
        printed, complaints = find.communicate(timeout=60)
    assert (find.returncode, complaints) == (0, b"")
    assert printed.count(b"\0") == 1_501
    assert nas.listings >= 301
    assert nas.calls["login"] == 1


def test_a_restart_of_the_nas_in_the_middle_of_a_copy_is_invisible(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.write_revealing(served / "big", 24 << 20)
    nas = start_nas(served, "--bandwidth-mbit", "100")
    mount = start_mount(nas)
    with running("sha256sum", mount / "big") as reader:
        wait_until(lambda: nas.stats["bytes_sent"] > 3 << 20, what="the copy to be under way")
        nas.fault("restart", seconds=0.3)
        printed, complaints = reader.communicate(timeout=60)
    assert complaints == b""
    assert printed[:64] == run("sha256sum", str(served / "big"))[:64]


@pytest.mark.parametrize("code", [106, 107, 119])
def test_sessions_that_expire_all_the_time_are_invisible(
    tree: Path, start_nas: StartNas, start_mount: StartMount, code: int
) -> None:
    nas = start_nas(tree)
    mount = start_mount(nas)
    with running("find", mount.path, "-print0") as find:
        for _ in range(5):
            nas.fault("expire_sids", code=code)
            wait_until(lambda: nas.stats["sessions"] > 0 or find.poll() is not None, what="a new session")
        printed, complaints = find.communicate(timeout=60)
    assert (find.returncode, complaints) == (0, b"")
    assert printed.count(b"\0") == 1_501


def test_many_calls_that_meet_one_expired_session_sign_in_once(
    tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(tree, "--latency-ms", "20")
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    nas.fault("expire_sids")
    finds = [
        subprocess.Popen(["find", str(mount / f"folder {number:04}")], stdout=subprocess.DEVNULL) for number in range(8)
    ]
    assert [find.wait(60) for find in finds] == [0] * 8
    assert nas.calls["login"] == 1


def test_idle_connections_that_the_nas_has_closed_are_invisible(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    for number in range(10):
        (served / f"{number}").write_bytes(b"%d" % number)
    nas = start_nas(served)
    mount = start_mount(nas)
    for number in range(10):
        nas.fault("drop_idle")
        assert (mount / f"{number}").read_bytes() == b"%d" % number


def test_while_the_nas_is_away_what_was_listed_is_still_shown(served: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served alone"
    folder.mkdir()
    trees.write_revealing(folder / "file", 10_000)
    with simulated_nas({"data": folder}) as nas, mounted(nas, "--dir-ttl", "1", "--attr-ttl", "1") as mount:
        mount.expect_logs("the NAS is away")
        listed = run("ls", "-l", str(mount.path))
        assert (mount / "file").read_bytes() == trees.revealing(10_000)
        nas.process.terminate()
        nas.process.wait(10)
        started = time.monotonic()
        wait_until(lambda: time.monotonic() > started + 1.5)  # both TTLs are over
        assert run("ls", "-l", str(mount.path)) == listed
        assert (mount / "file").read_bytes() == trees.revealing(10_000)
        wait_until(lambda: "the NAS is away" in mount.log)


# ----- the NAS hangs ------------------------------------------------------------------------------------------------


ATTEMPT = """
import os, sys, time
verb, path = sys.argv[1:]
started = time.monotonic()
try:
    {
        "list": os.listdir,
        "stat": os.stat,
        "read": lambda path: os.pread(os.open(path, os.O_RDONLY), 10, 0),
        "direct read": lambda path: os.pread(os.open(path, os.O_RDONLY | os.O_DIRECT), 4096, 0),
    }[verb](path)
    print(0, time.monotonic() - started)
except OSError as error:
    print(error.errno, time.monotonic() - started)
"""


@pytest.mark.parametrize(
    ("verb", "what", "method"),
    [
        ("list", "folder", "list"),
        ("stat", "folder/file", "list"),
        ("read", "file", "download"),
        ("direct read", "file", "download"),
    ],
)
def test_a_nas_that_hangs_ends_the_call_at_the_deadline_and_holds_nobody(
    served: Path, start_nas: StartNas, start_runner: StartMount, verb: str, what: str, method: str
) -> None:
    (served / "file").write_bytes(b"content")
    (served / "folder").mkdir()
    (served / "folder" / "file").write_bytes(b"content")
    nas = start_nas(served)
    mount = start_runner(nas, "--deadline", str(DEADLINE))
    mount.expect_logs(r"no answer within 2 s \(Connection timed out\)")
    run("ls", str(mount.path))
    nas.fault("hang", method=method, path="file" if method == "download" else "folder")
    with running(sys.executable, "-c", ATTEMPT, verb, mount / what) as caller:
        printed, _ = caller.communicate(timeout=30)
    number, seconds = printed.split()
    # A buffered read is tried a second time by the kernel, page by page: that one fails at once.
    assert int(number) in (errno.ETIMEDOUT, errno.EIO if verb == "read" else errno.ETIMEDOUT)
    assert DEADLINE <= float(seconds) < 2 * DEADLINE
    assert run("ls", str(mount.path)), "the mount lives"
    nas.clear_faults()
    wait_until(lambda: (mount / "folder" / "file").read_bytes() == b"content", 10)
    wait_until(lambda: (mount / "file").read_bytes() == b"content", 10)


def test_a_program_that_waits_for_a_hanging_nas_can_be_killed(
    served: Path, start_nas: StartNas, start_runner: StartMount
) -> None:
    (served / "folder").mkdir()
    nas = start_nas(served)
    mount = start_runner(nas, "--deadline", str(DEADLINE))
    mount.expect_logs("no answer within")
    run("ls", str(mount.path))
    nas.reset()
    nas.fault("hang", method="list", path="folder")
    with running("ls", mount / "folder") as caller:
        wait_until(lambda: nas.calls.get("list", 0) > 0)
        caller.kill()
        caller.wait(DEADLINE + 5)
    wait_until(lambda: not processes_in_d_state(os.getpid()), DEADLINE + 5)
    wait_until(lambda: "no answer within" in mount.log, DEADLINE + 5)


def test_one_hanging_folder_does_not_stop_the_others(
    served: Path, start_nas: StartNas, start_runner: StartMount
) -> None:
    for name in ("hangs", "works"):
        (served / name).mkdir()
        (served / name / "file").write_bytes(b"content")
    nas = start_nas(served)
    mount = start_runner(nas, "--deadline", "5")
    mount.expect_logs("no answer within")
    run("ls", str(mount.path))
    nas.reset()
    nas.fault("hang", path="hangs")
    with running("ls", mount / "hangs") as caller:
        wait_until(lambda: nas.calls.get("list", 0) > 0)
        started = time.monotonic()
        assert (mount / "works" / "file").read_bytes() == b"content"
        assert os.listdir(mount / "works") == ["file"]
        assert time.monotonic() - started < 4
        assert caller.poll() is None, "and that one still waits"
        caller.wait(20)


def test_statfs_never_waits(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.fault("hang")
    for _ in range(3):
        run("stat", "-f", str(mount.mountpoint), seconds=5)
    nas.clear_faults()


# ----- the NAS lies --------------------------------------------------------------------------------------------------


@pytest.fixture
def nas_with_file(served: Path, start_nas: StartNas) -> Nas:
    trees.write_revealing(served / "file", 300_000)
    return start_nas(served)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "truncate", "bytes": 100_000},
        {"kind": "drop", "after_bytes": 0, "reset": True},
        {"kind": "status", "status": 502, "body": "<html>Bad gateway</html>"},
        {"kind": "status", "status": 200, "body": "<html>Please sign in</html>"},
        {"kind": "body", "body": '{"success": true}', "content_type": "application/json"},
        {"kind": "body", "body": ""},
        {"kind": "error", "code": 407},
    ],
    ids=str,
)
def test_whatever_comes_in_place_of_the_bytes_is_an_error_never_zeros_never_a_short_file(
    nas_with_file: Nas, start_runner: StartMount, fault: dict
) -> None:
    mount = start_runner(nas_with_file, "--patience", "1")
    if fault.get("code") != 407:  # a refusal is an answer that programs expect: nothing to be told
        mount.expect_logs("operations: read: ")
    run("ls", str(mount.path))
    nas_with_file.fault(**fault, method="download")
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        (mount / "file").read_bytes()
    assert caught.value.errno in (errno.EIO, errno.EBUSY, errno.EACCES, errno.EHOSTUNREACH, errno.ETIMEDOUT)
    assert os.stat(mount / "file").st_size == 300_000
    nas_with_file.clear_faults()
    assert (mount / "file").read_bytes() == trees.revealing(300_000)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "truncate", "bytes": 100_000, "times": 1},
        {"kind": "drop", "after_bytes": 100_000, "times": 1},
        {"kind": "drop", "after_bytes": 0, "reset": True, "times": 1},
        {"kind": "status", "status": 503, "body": "busy", "times": 1},
        {"kind": "error", "code": 119, "times": 1},
    ],
    ids=str,
)
def test_a_download_that_breaks_goes_on_unseen(nas_with_file: Nas, start_mount: StartMount, fault: dict) -> None:
    mount = start_mount(nas_with_file)
    run("ls", str(mount.path))
    nas_with_file.fault(**fault, method="download")
    assert (mount / "file").read_bytes() == trees.revealing(300_000)


def test_a_nas_that_ignores_ranges_is_read_all_the_same(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    size = 24 << 20
    trees.write_revealing(served / "big", size)
    nas = start_nas(served, "--quirk", "range-requests=ignored")
    mount = start_mount(nas)
    assert run("cat", str(mount / "big")) == trees.revealing(size)
    assert nas.calls["download"] <= 8, "those that were asked for before the first answer, and one stream"
    descriptor = os.open(mount / "big", os.O_RDONLY | os.O_DIRECT)
    try:
        for offset in (20 << 20, 4096, 12 << 20):
            assert os.pread(descriptor, 4096, offset) == trees.revealing(4096, offset=offset)
    finally:
        os.close(descriptor)


def test_a_folder_that_cannot_be_listed_is_an_error_and_not_empty(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    (served / "folder").mkdir()
    (served / "folder" / "file").touch()
    nas = start_nas(served)
    mount = start_mount(nas)
    mount.expect_logs("folder")
    run("ls", str(mount.path))
    nas.fault("error", code=401, method="list", path="folder")
    with pytest.raises(OSError, match=r"\[Errno \d+\]"):
        os.listdir(mount / "folder")
    with pytest.raises(OSError, match=r"\[Errno \d+\]") as caught:
        os.stat(mount / "folder" / "file")
    assert caught.value.errno != errno.ENOENT
    nas.clear_faults()
    assert os.listdir(mount / "folder") == ["file"]


@pytest.mark.parametrize("share", ["data", None])
def test_a_share_whose_volume_is_away_is_an_error_and_not_empty_and_comes_back(
    tmp_path: Path, start_nas: StartNas, start_mount: StartMount, share: str | None
) -> None:
    volume, away = tmp_path / "volume", tmp_path / "away"
    volume.mkdir()
    (volume / "file").write_bytes(b"content")
    mount = start_mount(start_nas(volume), "--dir-ttl", "0.2", share=share)
    mount.expect_logs("does not find this share")
    top = mount.mountpoint if share else mount.mountpoint / "data"
    descriptor = os.open(top, os.O_RDONLY)
    try:
        assert os.listdir(descriptor) == ["file"]
        volume.rename(away)

        def refused() -> bool:
            try:
                assert os.listdir(descriptor) == ["file"], "an empty folder is what a mirror job would make of its copy"
            except OSError as error:
                return error.errno == errno.EIO
            return False

        wait_until(refused, what="the error")
        away.rename(volume)
        wait_until(lambda: os.path.exists(top / "file"), what="the share")
        assert os.listdir(top) == ["file"]
    finally:
        os.close(descriptor)


# ----- bugs of our own ------------------------------------------------------------------------------------------------


def test_a_bug_is_an_input_output_error_for_its_call_and_the_mount_lives(
    served: Path, start_nas: StartNas, start_runner: StartMount
) -> None:
    (served / "bug").mkdir()
    (served / "bug" / "file").touch()
    (served / "bug.txt").write_bytes(b"content")
    (served / "file").write_bytes(b"content")
    mount = start_runner(start_nas(served), "--with-bugs", "--ttl", "1")
    mount.expect_logs("failed in a way nobody foresaw", "^Traceback")
    for _ in range(3):
        for attempt in (
            lambda: os.listdir(mount / "bug"),
            lambda: os.stat(mount / "bug" / "file"),
            lambda: (mount / "bug.txt").read_bytes(),
        ):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)) as caught:
                attempt()
            assert caught.value.errno == errno.EIO
        assert (mount / "file").read_bytes() == b"content"
    assert set(os.listdir(mount.path)) == {"bug", "bug.txt", "file"}
    assert "ZeroDivisionError: a bug met /data/" in mount.log


def test_a_mount_that_crashed_looks_dead_and_not_empty(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    """To a mirror job, an empty folder in its place would look like "all files deleted"."""
    (served / "file").touch()
    nas = start_nas(served)
    with mounted(nas) as mount:
        run("ls", str(mount.path))
        mount.process.kill()
        mount.process.wait(10)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.listdir(mount.path)
        mount.process.returncode = 0  # on purpose
