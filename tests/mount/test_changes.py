"""What changes on the NAS behind the mount's back."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import trees
from tests.mount.harness import Mount, Nas, run, wait_until

pytestmark = pytest.mark.mount

StartNas = Callable[..., Nas]
StartMount = Callable[..., Mount]

TTL = 1.0
SHORT = ("--dir-ttl", "1", "--attr-ttl", "1")
LONG = ("--dir-ttl", "600", "--attr-ttl", "600")


@pytest.fixture
def nas(served: Path, start_nas: StartNas) -> Nas:
    for number in range(5):
        (served / f"file {number}").write_bytes(b"old %d" % number)
    return start_nas(served)


def change(path: Path, content: bytes) -> None:
    """Write content, and make sure that the time that a NAS shows (whole seconds) is another one."""
    before = int(path.stat().st_mtime)
    path.write_bytes(content)
    os.utime(path, (before + 2, before + 2))


def shown(mount: Mount) -> set[str]:
    return set(run("ls", "-A", str(mount.path)).decode().split("\n")) - {""}


# ----- seen after the TTL, and not before ---------------------------------------------------------------------------


def test_within_its_ttl_a_listing_stays_as_it_was(nas: Nas, served: Path, start_mount: StartMount) -> None:
    mount = start_mount(nas, *LONG)
    before = shown(mount)
    (served / "new").write_bytes(b"new")
    (served / "file 0").unlink()
    (served / "file 1").write_bytes(b"another size")
    assert shown(mount) == before
    assert os.stat(mount / "file 1").st_size == 5
    assert not os.path.exists(mount / "new")


def test_a_new_file_is_seen_after_the_ttl(nas: Nas, served: Path, start_mount: StartMount) -> None:
    mount = start_mount(nas, *SHORT)
    assert not os.path.exists(mount / "new")
    (served / "new").write_bytes(b"new")
    wait_until(lambda: os.path.exists(mount / "new"), 10 * TTL)
    assert (mount / "new").read_bytes() == b"new"
    wait_until(lambda: "new" in shown(mount), 10 * TTL)


def test_a_deleted_file_is_gone_after_the_ttl(nas: Nas, served: Path, start_mount: StartMount) -> None:
    mount = start_mount(nas, *SHORT)
    assert (mount / "file 2").read_bytes() == b"old 2"
    (served / "file 2").unlink()
    wait_until(lambda: not os.path.exists(mount / "file 2"), 10 * TTL)
    wait_until(lambda: "file 2" not in shown(mount), 10 * TTL)
    with pytest.raises(FileNotFoundError):
        (mount / "file 2").read_bytes()


@pytest.mark.parametrize("content", [b"new 3", b"longer than before", b""])
def test_a_changed_file_is_seen_after_the_ttl(nas: Nas, served: Path, start_mount: StartMount, content: bytes) -> None:
    mount = start_mount(nas, *SHORT)
    assert (mount / "file 3").read_bytes() == b"old 3"
    change(served / "file 3", content)
    wait_until(lambda: (mount / "file 3").read_bytes() == content, 10 * TTL)
    assert os.stat(mount / "file 3").st_size == len(content)


def test_changed_rights_are_seen_after_the_ttl(nas: Nas, served: Path, start_mount: StartMount) -> None:
    mount = start_mount(nas, *SHORT)
    assert (mount / "file 4").read_bytes() == b"old 4"
    (served / "file 4").chmod(0)
    wait_until(lambda: os.stat(mount / "file 4").st_mode & 0o777 == 0, 10 * TTL)
    with pytest.raises(PermissionError):
        (mount / "file 4").read_bytes()


def test_a_file_that_becomes_a_folder_is_seen_as_one(nas: Nas, served: Path, start_mount: StartMount) -> None:
    mount = start_mount(nas, *SHORT)
    number = os.stat(mount / "file 0").st_ino
    (served / "file 0").unlink()
    (served / "file 0").mkdir()
    (served / "file 0" / "inside").write_bytes(b"inside")
    wait_until(lambda: os.path.isdir(mount / "file 0"), 10 * TTL)
    assert os.stat(mount / "file 0").st_ino != number
    assert (mount / "file 0" / "inside").read_bytes() == b"inside"


def test_a_renamed_folder_is_found_under_its_new_name(nas: Nas, served: Path, start_mount: StartMount) -> None:
    (served / "old name" / "deep").mkdir(parents=True)
    (served / "old name" / "deep" / "file").write_bytes(b"content")
    mount = start_mount(nas, *SHORT)
    assert (mount / "old name" / "deep" / "file").read_bytes() == b"content"
    (served / "old name").rename(served / "new name")
    wait_until(lambda: not os.path.exists(mount / "old name" / "deep" / "file"), 10 * TTL)
    assert (mount / "new name" / "deep" / "file").read_bytes() == b"content"


def test_a_working_directory_that_is_deleted_is_no_trouble(nas: Nas, served: Path, start_mount: StartMount) -> None:
    (served / "folder").mkdir()
    mount = start_mount(nas, *SHORT)
    script = 'cd "$0/folder" && echo there && read line && ls -d . ; ls .. > /dev/null; exit 0'
    with subprocess.Popen(
        ["sh", "-c", script, str(mount.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as shell:
        assert shell.stdout is not None
        assert shell.stdin is not None
        assert shell.stdout.readline() == b"there\n"
        (served / "folder").rmdir()
        wait_until(lambda: not os.path.exists(mount / "folder"), 10 * TTL)
        shell.communicate(b"\n", timeout=20)
    assert shell.returncode == 0
    assert shown(mount)


# ----- pushed to the kernel --------------------------------------------------------------------------------------


def test_what_a_listing_finds_changed_is_pushed_to_the_kernel(nas: Nas, served: Path, start_mount: StartMount) -> None:
    """The kernel would believe names and attributes for ten minutes more."""
    mount = start_mount(nas, "--dir-ttl", "1", "--attr-ttl", "600")
    shown(mount)
    assert (mount / "file 1").read_bytes() == b"old 1"
    assert not os.path.exists(mount / "new")
    change(served / "file 1", b"grown")
    (served / "file 2").unlink()
    (served / "new").touch()

    def refreshed() -> bool:
        shown(mount)  # finds its listing too old
        return (
            os.stat(mount / "file 1").st_size == 5
            and (mount / "file 1").read_bytes() == b"grown"
            and not os.path.exists(mount / "file 2")
            and os.path.exists(mount / "new")
        )

    wait_until(refreshed, 20 * TTL)


IN_DELETE_SELF, IN_ATTRIB, IN_DELETE, IN_IGNORED = 0x400, 0x4, 0x200, 0x8000

WATCH = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
fd = libc.inotify_init1(0)
for path in sys.argv[1:]:
    assert libc.inotify_add_watch(fd, os.fsencode(path), 0xFFF) > 0
print("watching", flush=True)
while True:
    data, position = os.read(fd, 4096), 0
    while position < len(data):
        watch, mask, cookie, length = struct.unpack_from("iIII", data, position)
        name = data[position + 16 : position + 16 + length].rstrip(b"\\0")
        position += 16 + length
        print(watch, hex(mask), name.decode(), flush=True)
"""


def test_a_deletion_on_the_nas_is_seen_by_inotify(nas: Nas, served: Path, start_mount: StartMount) -> None:
    """What FUSE can tell of a change elsewhere: that a watched file is gone. (No FUSE filesystem can report a name
    that appears: the kernel has no notification for it.)"""
    mount = start_mount(nas, *SHORT)
    shown(mount)
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, str(mount / "file 2")], stdout=subprocess.PIPE, text=True
    ) as watcher:
        try:
            assert watcher.stdout is not None
            assert watcher.stdout.readline() == "watching\n"
            (served / "file 2").unlink()

            def told() -> bool:
                shown(mount)
                ready, _, _ = select.select([watcher.stdout], [], [], 0.1)
                if not ready:
                    return False
                mask = int(watcher.stdout.readline().split()[1], 16)
                return bool(mask & (IN_DELETE_SELF | IN_IGNORED))

            wait_until(told, 20 * TTL)
        finally:
            watcher.kill()


def test_a_folder_in_use_is_polled_so_that_changes_show_up_by_themselves(
    nas: Nas, served: Path, start_mount: StartMount
) -> None:
    """Within the TTLs that the kernel was given: only the poll can have told it."""
    mount = start_mount(nas, "--dir-ttl", "5", "--attr-ttl", "600")
    shown(mount)
    shown(mount)  # somebody came back: in use
    nas.reset()
    change(served / "file 1", b"grown by a colleague")
    descriptor = os.open(mount / "file 1", os.O_PATH)
    try:
        # fstat of an open file asks the kernel alone; the kernel believes its attributes for ten minutes.
        wait_until(lambda: os.fstat(descriptor).st_size == 20, 30)
    finally:
        os.close(descriptor)
    assert nas.calls["list"] >= 1


# ----- a file that changes while it is read ---------------------------------------------------------------------------

SIZE = 8 << 20


def rewrite_in_place(path: Path, size: int) -> None:
    with path.open("r+b") as file:
        file.write(trees.revealing(size, version=1))
        file.truncate(size)


def replace_by_rename(path: Path, size: int) -> None:
    other = path.with_name("other")
    trees.write_revealing(other, size, version=1, mtime=None)
    other.rename(path)


@pytest.mark.parametrize("ttl", [SHORT, LONG], ids=["short TTL", "long TTL"])
@pytest.mark.parametrize("growth", [0, 4096, -4096], ids=["same size", "longer", "shorter"])
@pytest.mark.parametrize("how", [rewrite_in_place, replace_by_rename])
def test_a_file_rewritten_while_a_reader_holds_it_is_never_a_mix(
    served: Path, start_nas: StartNas, start_mount: StartMount, how: Callable, growth: int, ttl: tuple[str, ...]
) -> None:
    trees.write_revealing(served / "file", SIZE)
    nas = start_nas(served)
    mount = start_mount(nas, *ttl)
    mount.expect_logs("the file was changed on the NAS")
    with open(mount / "file", "rb", buffering=0) as reader:
        seen = trees.versions_in(reader.read(65536))
        assert seen == {0}
        how(served / "file", SIZE + growth)
        position = reader.tell()

        def read_on() -> None:
            nonlocal position, seen
            while data := reader.read(65536):
                seen |= trees.versions_in(data, position)
                position += len(data)

        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            read_on()
        assert seen == {0}, "what was read until then is no mix"
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            os.pread(reader.fileno(), 65536, SIZE // 2)
    assert (mount / "file").read_bytes() == trees.revealing(SIZE + growth, version=1)


def test_a_reader_that_has_everything_in_the_page_cache_keeps_the_old_version(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.write_revealing(served / "file", 500_000)
    mount = start_mount(start_nas(served), *LONG)
    with open(mount / "file", "rb", buffering=0) as reader:
        assert reader.readall() == trees.revealing(500_000)
        replace_by_rename(served / "file", 500_000)
        reader.seek(0)
        assert reader.readall() == trees.revealing(500_000)


def test_a_mapped_file_that_changes_is_an_error_or_the_old_version(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.write_revealing(served / "file", SIZE)
    mount = start_mount(start_nas(served), *LONG)
    mount.expect_logs("the file was changed on the NAS")
    program = """
import mmap, sys
with open(sys.argv[1], "rb") as file:
    view = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    view.madvise(mmap.MADV_RANDOM)
    sys.stdout.buffer.write(view[:4096]); sys.stdout.flush()
    sys.stdin.readline()
    sys.stdout.buffer.write(view[6 << 20 : (6 << 20) + 4096])
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(mount / "file")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None
        first = reader.stdout.read(4096)
        assert trees.versions_in(first) == {0}
        replace_by_rename(served / "file", SIZE)
        rest, _ = reader.communicate(b"\n", timeout=30)
    assert (reader.returncode, rest) == (-signal.SIGBUS, b"")


@pytest.mark.parametrize("growth", [4096, -4096], ids=["longer", "shorter"])
def test_a_file_that_changes_between_open_and_first_read_is_read_anew(
    served: Path, start_nas: StartNas, start_mount: StartMount, growth: int
) -> None:
    trees.write_revealing(served / "file", SIZE)
    mount = start_mount(start_nas(served), *LONG)
    run("ls", "-l", str(mount.path))
    with open(mount / "file", "rb", buffering=0) as reader:
        replace_by_rename(served / "file", SIZE + growth)
        assert reader.readall() == trees.revealing(SIZE + growth, version=1)


def test_a_file_deleted_while_a_reader_holds_it_is_stale(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.write_revealing(served / "file", SIZE)
    mount = start_mount(start_nas(served), *LONG)
    with open(mount / "file", "rb", buffering=0) as reader:
        assert trees.versions_in(reader.read(4096)) == {0}
        (served / "file").unlink()
        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
            os.pread(reader.fileno(), 65536, 6 << 20)


def test_a_file_that_grows_at_its_end_can_be_followed_by_reopening(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    (served / "log").write_bytes(b"line 1\n")
    mount = start_mount(start_nas(served), *SHORT)
    assert (mount / "log").read_bytes() == b"line 1\n"
    change(served / "log", b"line 1\nline 2\n")
    wait_until(lambda: run("tail", "-n", "1", str(mount / "log")) == b"line 2\n", 10 * TTL)


# ----- a huge folder that changes while it is read ----------------------------------------------------------------


@contextlib.contextmanager
def getdents(path: Path, bytes_at_once: int = 4096) -> Iterator[Callable[[], list[str] | None]]:
    """Read a folder step by step: each call gives the next names, None at the end. (scandir reads 32 KiB ahead.)"""
    number = {"x86_64": 217, "aarch64": 61}[platform.machine()]
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    buffer = ctypes.create_string_buffer(bytes_at_once)

    def step() -> list[str] | None:
        count = libc.syscall(number, descriptor, buffer, bytes_at_once)
        if count < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        names, position = [], 0
        while position < count:
            length = struct.unpack_from("H", buffer, position + 16)[0]
            names.append(os.fsdecode(buffer.raw[position + 19 : position + length].split(b"\0")[0]))
            position += length
        return names if count else None

    try:
        yield step
    finally:
        os.close(descriptor)


def test_the_first_names_of_a_huge_folder_come_before_the_last_page(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.make_flat_folder(served / "huge", 12_000)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.fault("hang", api="List", method="list", path="huge", skip=1)  # all pages but the first
    with getdents(mount / "huge") as step:
        assert len(step() or []) > 20
        nas.clear_faults()
        count = 0
        while (names := step()) is not None:
            count += len(names)
    assert count > 11_000


def test_what_is_in_a_huge_folder_throughout_appears_exactly_once_while_it_changes(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    huge = served / "huge"
    trees.make_flat_folder(huge, 6_000)
    nas = start_nas(served, "--latency-ms", "20")
    mount = start_mount(nas, *SHORT)
    names: list[str] = []
    removed, added = set(), set()
    with getdents(mount / "huge") as step:
        number = 0
        while (more := step()) is not None:
            names += more
            for _ in range(40):  # at every place of the folder, before and behind the reader
                number += 1
                gone = huge / f"{(number * 37) % 6_000:06}"
                if gone.exists():
                    gone.unlink()
                    removed.add(gone.name)
                if number % 4:
                    new = f"{(number * 53) % 6_000:06} new"
                    (huge / new).touch()
                    added.add(new)
            if number % 400 == 0:
                run("ls", str(mount / "huge"))  # somebody else has it listed anew meanwhile
    names = [name for name in names if name not in (".", "..")]
    assert len(names) == len(set(names)), "no name twice"
    throughout = {f"{n:06}" for n in range(6_000)} - removed
    assert throughout <= set(names)
    assert set(names) <= throughout | removed | added
    assert len(removed) > 100


def test_a_folder_deleted_while_it_is_read_ends_without_trouble(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.make_flat_folder(served / "folder", 3_000)
    mount = start_mount(start_nas(served), *SHORT)
    run("ls", str(mount / "folder"))
    names: list[str] = []
    with getdents(mount / "folder") as step:
        names += step() or []
        run("rm", "-r", str(served / "folder"))
        wait_until(lambda: not os.path.exists(mount / "folder"), 10 * TTL)
        with contextlib.suppress(FileNotFoundError):
            while (more := step()) is not None:
                names += more
    assert len(names) == len(set(names))
    assert not os.path.exists(mount / "folder")


def test_inode_numbers_are_stable_when_the_kernel_forgets(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can make the kernel forget")
    trees.make_wide_tree(served, folders=20, entries=200)
    mount = start_mount(start_nas(served), *SHORT)

    def numbers() -> dict[bytes, int]:
        root = os.fsencode(mount.path)
        return {path: os.lstat(os.path.join(root, path)).st_ino for path, _ in trees.walk(root)}

    before = numbers()
    Path("/proc/sys/vm/drop_caches").write_text("2\n")
    assert numbers() == before
    assert len(set(before.values())) == 200


def test_time_does_not_stand_still_for_an_idle_mount(nas: Nas, served: Path, start_mount: StartMount) -> None:
    """The oldest trick of a stale cache: nothing happens for a while, and then everything is old."""
    mount = start_mount(nas, *SHORT)
    shown(mount)
    change(served / "file 0", b"while nobody looked")
    started = time.monotonic()
    wait_until(lambda: time.monotonic() > started + TTL + 0.2)
    assert (mount / "file 0").read_bytes() == b"while nobody looked"
