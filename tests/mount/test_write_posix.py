"""POSIX, call by call, for what changes content: a table of names and functions, run in both write modes.

Each row works in a folder of its own. What is on the NAS afterwards is compared with what the row says, and
docs/SEMANTICS.md lists the rows. Names and attributes are in test_write_names.py.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import trees
from tests.model.live import live_mount
from tests.mount.places import Place, Table, fails

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]

BIG = trees.revealing(700_000)

row = Table()


# ----- open -------------------------------------------------------------------------------------------------


@row
def o_creat_makes_an_empty_file(place: Place) -> None:
    os.close(os.open(place.root / "f", os.O_WRONLY | os.O_CREAT))
    assert os.stat(place.root / "f").st_size == 0
    assert place.flushed() == {"f": b""}


@row
def o_excl_refuses_an_existing_name(place: Place) -> None:
    path = place.there("f", b"old")
    fails(errno.EEXIST, os.open, path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    os.close(os.open(place.root / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL))
    fails(errno.EEXIST, os.open, place.root / "new", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert place.flushed() == {"f": b"old", "new": b""}


@row
def o_trunc_empties_at_open(place: Place) -> None:
    path = place.there("f", BIG)
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
    assert os.fstat(fd).st_size == 0
    os.write(fd, b"short")
    os.close(fd)
    assert path.read_bytes() == b"short"
    assert place.flushed() == {"f": b"short"}


@row
def o_append_writes_at_the_end_wherever_it_was(place: Place) -> None:
    path = place.there("f", b"one")
    first = os.open(path, os.O_WRONLY | os.O_APPEND)
    second = os.open(path, os.O_WRONLY | os.O_APPEND)
    for fd, data in ((first, b" two"), (second, b" three"), (first, b" four")):
        os.lseek(fd, 0, os.SEEK_SET)
        os.write(fd, data)
    os.close(first)
    os.close(second)
    assert place.flushed() == {"f": b"one two three four"}


@row
def a_read_only_descriptor_cannot_write(place: Place) -> None:
    path = place.there("f", b"old")
    fd = os.open(path, os.O_RDONLY)
    fails(errno.EBADF, os.write, fd, b"x")
    fails(errno.EINVAL, os.ftruncate, fd, 0)
    os.close(fd)
    assert place.flushed() == {"f": b"old"}


@row
def o_creat_in_a_missing_folder_is_enoent(place: Place) -> None:
    fails(errno.ENOENT, os.open, place.root / "missing" / "f", os.O_WRONLY | os.O_CREAT)
    fails(errno.EISDIR, os.open, place.root, os.O_WRONLY)


@row
def o_tmpfile_is_refused(place: Place) -> None:
    fails(errno.EOPNOTSUPP, os.open, place.root, os.O_WRONLY | os.O_TMPFILE)


@row
def o_sync_means_the_nas_after_each_write(place: Place) -> None:
    fd = os.open(place.root / "f", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
    os.write(fd, b"one")
    assert (place.served / "f").read_bytes() == b"one"
    os.write(fd, b" two")
    assert (place.served / "f").read_bytes() == b"one two"
    os.close(fd)


# ----- write ------------------------------------------------------------------------------------------------


@row
def writes_land_where_they_should(place: Place) -> None:
    path = place.there("f", BIG)
    expected = bytearray(BIG)
    fd = os.open(path, os.O_RDWR)
    for offset, length in ((0, 1), (4095, 2), (131_071, 200_000), (699_999, 1), (500_000, 70_000)):
        data = trees.revealing(length, 9, offset)
        os.pwrite(fd, data, offset)
        expected[offset : offset + length] = data
        assert (
            os.pread(fd, length + 2, max(0, offset - 1))
            == expected[max(0, offset - 1) : max(0, offset - 1) + length + 2]
        )
    os.close(fd)
    assert path.read_bytes() == expected
    assert place.flushed() == {"f": bytes(expected)}


@row
def a_write_beyond_the_end_leaves_zeros(place: Place) -> None:
    path = place.there("f", b"abc")
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"end", 1_000_000)
    assert os.pread(fd, 10, 0) == b"abc" + bytes(7)
    os.close(fd)
    assert os.stat(path).st_size == 1_000_003
    assert place.flushed() == {"f": b"abc" + bytes(999_997) + b"end"}


@row
def truncate_cuts_and_extends_by_path_and_by_descriptor(place: Place) -> None:
    for number, size in enumerate((0, 10, len(BIG), len(BIG) + 5000)):
        for how in ("path", "descriptor"):
            path = place.there(f"{how}{number}", BIG)
            if how == "path":
                os.truncate(path, size)
            else:
                fd = os.open(path, os.O_RDWR)
                os.ftruncate(fd, size)
                os.close(fd)
            assert os.stat(path).st_size == size
            assert path.read_bytes() == BIG[:size].ljust(size, b"\0")
    found = place.flushed()
    assert {name: len(content or b"") for name, content in found.items()} == {
        f"{how}{number}": size
        for number, size in enumerate((0, 10, len(BIG), len(BIG) + 5000))
        for how in ("path", "descriptor")
    }
    assert found["path3"] == BIG + bytes(5000)


@row
def what_was_cut_off_does_not_come_back(place: Place) -> None:
    path = place.there("f", BIG)
    fd = os.open(path, os.O_RDWR)
    os.ftruncate(fd, 100)
    os.ftruncate(fd, 5000)
    os.pwrite(fd, b"x", 4000)
    os.close(fd)
    expected = BIG[:100] + bytes(3900) + b"x" + bytes(999)
    assert path.read_bytes() == expected
    assert place.flushed() == {"f": expected}


@row
def fsync_and_fdatasync_mean_the_nas(place: Place) -> None:
    fd = os.open(place.root / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"one")
    os.fsync(fd)
    assert (place.served / "f").read_bytes() == b"one"
    os.write(fd, b" two")
    os.fdatasync(fd)
    assert (place.served / "f").read_bytes() == b"one two"
    os.close(fd)


@row
def sync_of_the_folder_succeeds(place: Place) -> None:
    fd = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


@row
def a_shared_mapping_is_written_back(place: Place) -> None:
    path = place.there("f", BIG)
    fd = os.open(path, os.O_RDWR)
    with mmap.mmap(fd, 0) as mapped:
        mapped[10:14] = b"mine"
        mapped[400_000:400_004] = b"mine"
        mapped.flush()
        assert os.pread(fd, 4, 10) == b"mine"
        mapped[600_000:600_004] = b"late"
    os.close(fd)
    expected = bytearray(BIG)
    for offset, data in ((10, b"mine"), (400_000, b"mine"), (600_000, b"late")):
        expected[offset : offset + 4] = data
    assert path.read_bytes() == expected
    assert place.flushed() == {"f": bytes(expected)}


@row
def a_mapping_outlives_its_descriptor(place: Place) -> None:
    fd = os.open(place.root / "f", os.O_RDWR | os.O_CREAT)
    os.ftruncate(fd, 10_000)
    mapped = mmap.mmap(fd, 0)
    os.close(fd)
    mapped[5000:5005] = b"after"
    mapped.close()
    assert place.flushed() == {"f": bytes(5000) + b"after" + bytes(4995)}


@row
def fallocate_is_refused_and_posix_fallocate_is_emulated(place: Place) -> None:
    fd = os.open(place.root / "f", os.O_RDWR | os.O_CREAT)
    libc = ctypes.CDLL(None, use_errno=True)
    for mode in (0, 1, 3):  # allocate; keep the size; punch a hole
        done = libc.fallocate(fd, mode, ctypes.c_long(0), ctypes.c_long(8192))
        assert (done, ctypes.get_errno()) == (-1, errno.EOPNOTSUPP)
    os.posix_fallocate(fd, 0, 8192)
    os.close(fd)
    assert place.flushed() == {"f": bytes(8192)}


@row
def copy_file_range_and_sendfile_copy(place: Place) -> None:
    path = place.there("f", BIG)
    source = os.open(path, os.O_RDONLY)
    for name, copy in (("range", os.copy_file_range), ("sendfile", None)):
        target = os.open(place.root / name, os.O_WRONLY | os.O_CREAT)
        position = 0
        while position < len(BIG):
            if copy is not None:
                count = copy(source, target, len(BIG) - position, position, position)
            else:
                count = os.sendfile(target, source, position, len(BIG) - position)
            position += count
        os.close(target)
    os.close(source)
    assert place.flushed() == {"f": BIG, "range": BIG, "sendfile": BIG}


@row
def a_file_open_twice_is_one_file(place: Place) -> None:
    path = place.there("f", b"0123456789")
    one = os.open(path, os.O_RDWR)
    two = os.open(path, os.O_RDWR)
    os.pwrite(one, b"A", 0)
    assert os.pread(two, 2, 0) == b"A1"
    os.pwrite(two, b"B", 1)
    assert os.pread(one, 3, 0) == b"AB2"
    os.ftruncate(two, 5)
    assert os.fstat(one).st_size == 5
    os.close(one)
    os.close(two)
    assert place.flushed() == {"f": b"AB234"}


@row
def a_descriptor_inherited_by_a_child_writes(place: Place) -> None:
    with open(place.root / "log", "wb") as log:
        for number in range(3):
            subprocess.run([sys.executable, "-c", f"print({number})"], stdout=log, check=True)
    assert place.flushed() == {"log": b"0\n1\n2\n"}


# ----- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(row))
def test_posix(place: Callable[[str], Place], name: str) -> None:
    row[name](place(name))


@pytest.mark.parametrize("mode", ["durable", "writeback"])
@pytest.mark.parametrize("pattern", ["write", "randwrite"])
def test_fio_verifies_what_it_wrote(tmp_path: Path, mode: str, pattern: str) -> None:
    if shutil.which("fio") is None:
        pytest.skip("fio is not installed")
    with live_mount(tmp_path, "--write-mode", mode) as (mount, served):
        words = [
            "fio", "--name=f", f"--filename={mount.root}/f", f"--rw={pattern}", "--bs=4k-64k", "--size=8m",
            "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--ioengine=psync", "--fallocate=none",
            "--output-format=terse", "--randseed=1",
        ]  # fmt: skip
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        mount.flush()
        again = [*words, "--verify_only=1"]
        again[again.index(f"--filename={mount.root}/f")] = f"--filename={served}/f"
        done = subprocess.run(again, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
