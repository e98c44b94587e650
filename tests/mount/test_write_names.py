"""POSIX, call by call, for what changes names and attributes: the other half of the table in test_write_posix.py."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import trees
from tests.model.live import live_mount, tree_of
from tests.mount.harness import wait_until
from tests.mount.places import Place, Table, fails, write

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]

BIG = trees.revealing(700_000)
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

row = Table()


def renameat2(source: Path, target: Path, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags):
        raise OSError(ctypes.get_errno(), "renameat2")


# ----- names ------------------------------------------------------------------------------------------------


@row
def mkdir_makes_a_folder_once(place: Place) -> None:
    os.mkdir(place.root / "d", 0o700)
    fails(errno.EEXIST, os.mkdir, place.root / "d")
    fails(errno.ENOENT, os.mkdir, place.root / "missing" / "d")
    assert os.listdir(place.root / "d") == []
    assert place.flushed() == {"d": None}


@row
def rmdir_removes_an_empty_folder_only(place: Place) -> None:
    path = place.there("d/f", b"x")
    fails(errno.ENOTEMPTY, os.rmdir, place.root / "d")
    fails(errno.ENOTDIR, os.rmdir, path)
    os.unlink(path)
    os.rmdir(place.root / "d")
    fails(errno.ENOENT, os.rmdir, place.root / "d")
    assert place.flushed() == {}


@row
def a_folder_with_a_file_that_was_just_made_is_not_empty(place: Place) -> None:
    os.mkdir(place.root / "d")
    write(place.root / "d" / "f", b"x")
    fails(errno.ENOTEMPTY, os.rmdir, place.root / "d")
    os.unlink(place.root / "d" / "f")
    os.rmdir(place.root / "d")
    assert place.flushed() == {}


@row
def unlink_removes_files_only(place: Place) -> None:
    path = place.there("d/f", b"x")
    fails(errno.EISDIR, os.unlink, place.root / "d")
    os.unlink(path)
    fails(errno.ENOENT, os.unlink, path)
    fails(errno.ENOENT, os.stat, path)
    assert place.flushed() == {"d": None}


@row
def a_name_removed_and_made_again_is_new(place: Place) -> None:
    path = place.there("f", b"old")
    for number in range(5):
        os.unlink(path)
        write(path, b"%d" % number)
        assert path.read_bytes() == b"%d" % number
    assert place.flushed() == {"f": b"4"}


@row
def a_file_unlinked_while_open_lives_until_it_is_closed(place: Place) -> None:
    path = place.there("f", BIG)
    reader, writer = os.open(path, os.O_RDONLY), os.open(path, os.O_RDWR)
    os.unlink(path)
    fails(errno.ENOENT, os.stat, path)
    assert os.listdir(place.root) == []
    assert os.fstat(reader).st_nlink == 0
    assert os.pread(reader, len(BIG) + 1, 0) == BIG
    os.pwrite(writer, b"mine", 1000)
    assert os.pread(reader, 6, 999) == BIG[999:1000] + b"mine" + BIG[1004:1005]
    os.ftruncate(writer, 2000)
    assert os.fstat(reader).st_size == 2000
    os.fsync(writer)
    os.close(writer)
    assert os.pread(reader, 4, 1000) == b"mine"
    os.close(reader)
    assert place.flushed() == {}
    wait_until(lambda: os.listdir(place.served) == [], what="the end of the hidden file")  # release follows close


@row
def a_temporary_file_without_a_name_leaves_nothing(place: Place) -> None:
    fd = os.open(place.root / "tmp", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    os.unlink(place.root / "tmp")
    os.write(fd, BIG)
    assert os.pread(fd, len(BIG), 0) == BIG
    os.close(fd)
    assert place.flushed() == {}
    wait_until(lambda: os.listdir(place.served) == [], what="the end of the hidden file")  # release follows close


@row
def hidden_names_of_ours_cannot_be_made(place: Place) -> None:
    fails(errno.EINVAL, os.mkdir, place.root / ".synofs-x")
    fails(errno.EINVAL, os.open, place.root / ".synofs-x", os.O_WRONLY | os.O_CREAT)


@row
def odd_names_are_made_byte_for_byte(place: Place) -> None:
    # A quote or a line's end cannot be said in File Station's upload, and Rename refuses them.
    names = [name for name in trees.ODD_NAMES if not set(name) & set(b'\\"\r\n')]
    for name in names:
        with open(os.path.join(os.fsencode(place.root), name), "wb") as file:
            file.write(name)
    place.mount.flush()
    found = {name: (place.served / os.fsdecode(name)).read_bytes() for name in os.listdir(os.fsencode(place.served))}
    assert {name: content for name, content in found.items() if not name.startswith(b".synofs-")} == {
        name: name for name in names
    }
    assert sorted(os.listdir(os.fsencode(place.root))) == sorted(names)


@row
def links_and_special_files_are_eperm(place: Place) -> None:
    path = place.there("f", b"x")
    fails(errno.EPERM, os.link, path, place.root / "hard")
    fails(errno.EPERM, os.symlink, "f", place.root / "soft")
    fails(errno.EPERM, os.mkfifo, place.root / "fifo")
    assert place.flushed() == {"f": b"x"}


# ----- rename -----------------------------------------------------------------------------------------------


@row
def rename_in_every_form(place: Place) -> None:
    """(clean, just made, edited, open) x (same folder, other folder, both) x (nothing there, a file there)."""
    os.mkdir(place.root / "a")
    os.mkdir(place.root / "b")
    expected: dict[str, bytes | None] = {"a": None, "b": None}
    forms = itertools.product(
        ("clean", "made", "edited", "open"), ("a/{}x", "b/{}", "b/{}x"), ("free", "clean", "made")
    )
    for number, (state, form, target) in enumerate(forms):
        name = f"{number:02}"
        source, dest = place.root / "a" / name, place.root / form.format(name)
        if state == "made":
            write(source, b"content")
        else:
            place.there(f"a/{name}", b"old" if state == "edited" else b"content")
        if target == "clean":
            place.there(form.format(name), b"target")
        elif target == "made":
            write(dest, b"target")
        if state == "edited":
            write(source, b"content")
        fd = os.open(source, os.O_RDWR) if state == "open" else None
        inode = os.stat(source).st_ino
        os.rename(source, dest)
        assert os.stat(dest).st_ino == inode, (state, form, target)
        fails(errno.ENOENT, os.stat, source)
        assert dest.read_bytes() == b"content", (state, form, target)
        if fd is not None:
            os.pwrite(fd, b"CONTENT", 0)
            os.close(fd)
        expected[form.format(name)] = b"CONTENT" if state == "open" else b"content"
    assert place.flushed() == expected


@row
def rename_moves_folders_with_everything_in_them(place: Place) -> None:
    for folder in ("a", "b"):
        os.mkdir(place.root / folder)
    place.there("a/d/old", b"old")
    write(place.root / "a" / "d" / "made", b"made")
    write(place.root / "a" / "d" / "old", b"edited")
    os.mkdir(place.root / "a" / "d" / "deep")
    write(place.root / "a" / "d" / "deep" / "f", b"deep")
    os.rename(place.root / "a" / "d", place.root / "a" / "e")
    os.rename(place.root / "a" / "e", place.root / "b" / "e")
    os.rename(place.root / "b" / "e", place.root / "a" / "g")
    assert (place.root / "a" / "g" / "old").read_bytes() == b"edited"
    assert place.flushed() == {
        "a": None, "b": None, "a/g": None, "a/g/deep": None,
        "a/g/old": b"edited", "a/g/made": b"made", "a/g/deep/f": b"deep",
    }  # fmt: skip


@row
def rename_refuses_what_posix_refuses(place: Place) -> None:
    path = place.there("f", b"x")
    os.makedirs(place.root / "d" / "inner")
    place.there("full/f", b"x")
    fails(errno.EISDIR, os.rename, path, place.root / "d")
    fails(errno.ENOTDIR, os.rename, place.root / "d", path)
    fails(errno.ENOTEMPTY, os.rename, place.root / "d", place.root / "full")
    fails(errno.EINVAL, os.rename, place.root / "d", place.root / "d" / "inner" / "d")
    fails(errno.ENOENT, os.rename, place.root / "missing", path)
    os.rename(path, path)
    os.mkdir(place.root / "empty")
    os.rename(place.root / "d", place.root / "empty")
    assert place.flushed() == {
        "f": b"x", "full": None, "full/f": b"x", "empty": None, "empty/inner": None
    }  # fmt: skip


@row
def rename_noreplace_never_replaces(place: Place) -> None:
    path = place.there("f", b"f")
    other = place.there("g", b"g")
    write(place.root / "made", b"made")
    for target in (other, place.root / "made"):
        fails(errno.EEXIST, renameat2, path, target, RENAME_NOREPLACE)
    renameat2(path, place.root / "h", RENAME_NOREPLACE)
    fails(errno.EINVAL, renameat2, other, place.root / "h", RENAME_EXCHANGE)
    assert place.flushed() == {"h": b"f", "g": b"g", "made": b"made"}


@row
def rename_may_change_the_case_alone(place: Place) -> None:
    place.there("readme", b"x")
    os.rename(place.root / "readme", place.root / "README")
    assert os.listdir(place.root) == ["README"]
    assert place.flushed() == {"README": b"x"}


@row
def a_file_renamed_over_while_it_is_written_is_kept_by_its_writer(place: Place) -> None:
    write(place.root / "new", b"new")
    fd = os.open(place.root / "f", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"unsent")
    os.rename(place.root / "new", place.root / "f")
    assert os.pread(fd, 10, 0) == b"unsent"
    os.write(fd, b" more")
    assert os.pread(fd, 20, 0) == b"unsent more"
    os.close(fd)
    assert (place.root / "f").read_bytes() == b"new"
    assert place.flushed() == {"f": b"new"}


# ----- attributes -------------------------------------------------------------------------------------------


@row
def modes_and_owners_are_accepted_and_stay_what_the_nas_says(place: Place) -> None:
    path = place.there("f", b"x")
    before = os.stat(path)
    os.chmod(path, 0o600)
    os.chown(path, os.getuid(), os.getgid())
    os.chmod(place.root, 0o700)
    after = os.stat(path)
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) & 0o600 == 0o600


@row
def a_time_set_before_close_is_the_nass(place: Place) -> None:
    fd = os.open(place.root / "f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.utime(fd, ns=(0, 1_234_567_890_987_654_321))
    os.close(fd)
    place.mount.flush()
    assert os.stat(place.served / "f").st_mtime_ns == 1_234_567_890_000_000_000
    assert os.stat(place.root / "f").st_mtime_ns == 1_234_567_890_000_000_000


@row
def a_time_set_on_a_file_that_is_there_is_shown_here(place: Place) -> None:
    path = place.there("f", b"x", mtime=1_500_000_000)
    os.utime(path, (0, 1_234_567_890))
    assert os.stat(path).st_mtime == 1_234_567_890
    place.mount.flush()
    assert os.stat(place.served / "f").st_mtime == 1_500_000_000  # nothing in the API can change it
    assert os.stat(path).st_mtime == 1_234_567_890
    write(path, b"y")
    assert os.stat(path).st_mtime > 1_600_000_000


@row
def a_write_moves_mtime_and_ctime_on(place: Place) -> None:
    path = place.there("f", b"x", mtime=1_500_000_000)
    write(path, b"yy")
    status = os.stat(path)
    assert status.st_mtime > 1_600_000_000
    assert status.st_size == 2
    assert status.st_mtime_ns % 10**9 == 0
    place.mount.flush()
    assert os.stat(path).st_mtime == status.st_mtime == os.stat(place.served / "f").st_mtime


@row
def times_of_folders_are_the_nass(place: Place) -> None:
    os.mkdir(place.root / "d")
    os.utime(place.root / "d", (0, 1_234_567_890))  # accepted, so that tar and rsync succeed
    assert os.stat(place.root / "d").st_mtime > 1_600_000_000


# ----- the table --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", list(row))
def test_posix(place: Callable[[str], Place], name: str) -> None:
    row[name](place(name))


def test_moving_between_any_two_folders_of_a_mount_is_never_exdev(tmp_path: Path) -> None:
    """With all shares in one mount: from share to share."""
    (tmp_path / "other").mkdir()
    with live_mount(tmp_path, shares={"other": tmp_path / "other"}) as (mount, served):
        write(mount.root / "data" / "made", BIG)
        os.mkdir(mount.root / "data" / "d")
        write(mount.root / "data" / "d" / "f", b"inside")
        for name in ("made", "d"):
            os.rename(mount.root / "data" / name, mount.root / "other" / name)
        mount.flush()
        assert tree_of(served) == {}
        assert tree_of(tmp_path / "other") == {"made": BIG, "d": None, "d/f": b"inside"}
        fails(errno.EACCES, os.mkdir, mount.root / "share")
        fails(errno.EACCES, os.rmdir, mount.root / "other")


@pytest.mark.parametrize("mode", ["durable", "writeback"])
def test_times_survive_a_remount(tmp_path: Path, mode: str) -> None:
    with live_mount(tmp_path, "--write-mode", mode) as (mount, served):
        (served / "there").write_bytes(b"x")
        os.utime(mount.root / "there", (0, 1_234_567_890))
        write(mount.root / "f", b"copied")
        os.utime(mount.root / "f", (0, 1_111_111_111))
        os.rename(mount.root / "f", mount.root / "g")
        mount.stop()
        mount.start()
        assert os.stat(mount.root / "there").st_mtime == 1_234_567_890
        assert os.stat(mount.root / "g").st_mtime == 1_111_111_111
