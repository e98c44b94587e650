"""POSIX, call by call: a table of names and functions that any mount of the prepared folder has to pass."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import trees
from tests.mount.harness import Mount, Nas, mounted, run, simulated_nas
from tests.mount.places import fails

pytestmark = pytest.mark.mount

SIZE = 300_000
TABLE: dict[str, Callable[[Path], None]] = {}


def check(function: Callable[[Path], None]) -> Callable[[Path], None]:
    TABLE[function.__name__] = function
    return function


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("posix")
    trees.write_revealing(root / "file", SIZE)
    (root / "empty").touch()
    (root / "folder" / "inner").mkdir(parents=True)
    (root / "folder" / "inner" / "file").write_bytes(b"inner")
    trees.make_flat_folder(root / "many", 300)
    (root / "script").write_text("#!/bin/sh\necho it runs\n")
    (root / "script").chmod(0o755)
    return root


@pytest.fixture(scope="module")
def nas(prepared: Path) -> Iterator[Nas]:
    with simulated_nas({"data": prepared}) as nas:
        yield nas


@pytest.fixture(scope="module")
def mount(nas: Nas) -> Iterator[Mount]:
    with mounted(nas) as mount:
        yield mount


@pytest.fixture(scope="module")
def writable_mount(nas: Nas) -> Iterator[Mount]:
    with mounted(nas, writable=True) as mount:
        yield mount


def opened(path: Path, flags: int = os.O_RDONLY) -> int:
    return os.open(path, flags)


# ----- names ------------------------------------------------------------------------------------------------------


@check
def a_missing_name_is_enoent(root: Path) -> None:
    for call in (os.stat, os.lstat, os.listdir, opened, os.readlink, lambda path: os.stat(path / "below")):
        fails(errno.ENOENT, call, root / "missing")


@check
def a_path_through_a_file_is_enotdir(root: Path) -> None:
    fails(errno.ENOTDIR, os.stat, root / "file" / "below")
    fails(errno.ENOTDIR, os.stat, f"{root}/file/")
    fails(errno.ENOTDIR, os.listdir, root / "file")
    fails(errno.ENOTDIR, opened, root / "file", os.O_RDONLY | os.O_DIRECTORY)
    fails(errno.ENOTDIR, os.chdir, root / "file")


@check
def a_name_of_over_255_bytes_is_enametoolong(root: Path) -> None:
    fails(errno.ENAMETOOLONG, os.stat, root / ("x" * 256))
    fails(errno.ENOENT, os.stat, root / ("x" * 255))


@check
def dots_lead_where_they_should(root: Path) -> None:
    assert os.path.samefile(root / "folder" / "inner" / ".." / "..", root)
    assert os.path.samefile(root / "folder" / ".", root / "folder")
    assert os.stat(root / "folder" / "inner" / "..").st_ino == os.stat(root / "folder").st_ino


@check
def case_matters(root: Path) -> None:
    fails(errno.ENOENT, os.stat, root / "FILE")


@check
def a_working_directory_knows_its_name(root: Path) -> None:
    printed = run("sh", "-c", "cd folder/inner && pwd -P && cat file && cd ../.. && cat empty", cwd=root)
    assert printed == f"{root}/folder/inner\ninner".encode()


# ----- attributes -------------------------------------------------------------------------------------------------


@check
def stat_and_fstat_and_lstat_agree(root: Path) -> None:
    descriptor = opened(root / "file")
    try:
        found = [os.stat(root / "file"), os.lstat(root / "file"), os.fstat(descriptor)]
    finally:
        os.close(descriptor)
    assert found[0] == found[1] == found[2]
    assert stat.S_ISREG(found[0].st_mode)
    assert (found[0].st_size, found[0].st_nlink, found[0].st_blksize) == (SIZE, 1, 4096)


@check
def entries_of_a_folder_say_what_stat_says(root: Path) -> None:
    with os.scandir(root) as entries:
        found = list(entries)
    assert {entry.name for entry in found} == {"file", "empty", "folder", "many", "script"}
    for entry in found:
        assert entry.inode() == os.stat(entry.path).st_ino
        assert entry.is_dir() == stat.S_ISDIR(os.stat(entry.path).st_mode)
        assert not entry.is_symlink()


@check
def all_is_on_one_device(root: Path) -> None:
    assert os.stat(root / "file").st_dev == os.stat(root / "folder" / "inner" / "file").st_dev == os.stat(root).st_dev


@check
def o_path_opens_without_reading(root: Path) -> None:
    descriptor = opened(root / "file", os.O_PATH)
    try:
        assert os.fstat(descriptor).st_size == SIZE
        fails(errno.EBADF, os.read, descriptor, 1)
    finally:
        os.close(descriptor)


@check
def openat_and_fstatat_work(root: Path) -> None:
    folder = opened(root / "folder", os.O_RDONLY | os.O_DIRECTORY)
    try:
        assert os.stat("inner/file", dir_fd=folder).st_size == 5
        descriptor = os.open("inner/file", os.O_RDONLY, dir_fd=folder)
        assert os.read(descriptor, 10) == b"inner"
        os.close(descriptor)
        assert os.access("inner/file", os.R_OK, dir_fd=folder)
    finally:
        os.close(folder)


@check
def nothing_is_a_symbolic_link(root: Path) -> None:
    fails(errno.EINVAL, os.readlink, root / "file")
    fails(errno.EINVAL, os.readlink, root / "folder")


@check
def there_are_no_extended_attributes(root: Path) -> None:
    fails(errno.ENOTSUP, os.getxattr, root / "file", "user.name")
    fails(errno.ENOTSUP, os.listxattr, root / "file")
    fails(errno.ENOTSUP, os.getxattr, root / "file", "security.capability")
    fails(errno.ENODATA, os.getxattr, root / "file", "system.posix_acl_access")  # no ACL: the mode says it all


# ----- reading ----------------------------------------------------------------------------------------------------


@check
def reads_end_at_the_end(root: Path) -> None:
    descriptor = opened(root / "file")
    try:
        assert os.pread(descriptor, 100, SIZE - 10) == trees.revealing(10, offset=SIZE - 10)
        assert os.pread(descriptor, 100, SIZE) == b""
        assert os.pread(descriptor, 100, SIZE + 1_000_000) == b""
        assert os.pread(descriptor, 0, 0) == b""
        assert os.lseek(descriptor, -5, os.SEEK_END) == SIZE - 5
        assert os.read(descriptor, 100) == trees.revealing(5, offset=SIZE - 5)
        assert os.read(descriptor, 100) == b""
        fails(errno.EINVAL, os.lseek, descriptor, -1, os.SEEK_SET)
    finally:
        os.close(descriptor)


@check
def an_empty_file_is_empty(root: Path) -> None:
    assert (root / "empty").read_bytes() == b""


@check
def a_folder_cannot_be_read_like_a_file(root: Path) -> None:
    descriptor = opened(root / "folder")
    try:
        fails(errno.EISDIR, os.read, descriptor, 1)
        fails(errno.EISDIR, os.pread, descriptor, 1, 0)
    finally:
        os.close(descriptor)


@check
def vectored_reads_work(root: Path) -> None:
    descriptor = opened(root / "file")
    buffers = [bytearray(7), bytearray(5000), bytearray(1)]
    try:
        assert os.preadv(descriptor, buffers, 4093) == 5008
    finally:
        os.close(descriptor)
    assert b"".join(buffers) == trees.revealing(5008, offset=4093)


@check
def two_descriptors_have_two_positions(root: Path) -> None:
    first, second = opened(root / "file"), opened(root / "file")
    third = os.dup(first)
    try:
        os.read(first, 1000)
        assert os.read(second, 8) == trees.revealing(8)
        assert os.read(third, 8) == trees.revealing(8, offset=1000)
    finally:
        for descriptor in (first, second, third):
            os.close(descriptor)


@check
def sparse_seeks_see_one_piece_of_data(root: Path) -> None:
    descriptor = opened(root / "file")
    try:
        assert os.lseek(descriptor, 0, os.SEEK_DATA) == 0
        assert os.lseek(descriptor, 0, os.SEEK_HOLE) == SIZE
        fails(errno.ENXIO, os.lseek, descriptor, SIZE, os.SEEK_DATA)
    finally:
        os.close(descriptor)


@check
def sendfile_reads_from_the_mount_and_copy_file_range_sends_programs_back_to_reading(root: Path) -> None:
    source = opened(root / "file")
    target = os.open("copy", os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        copied = 0
        while copied < SIZE:
            count = os.sendfile(target, source, copied, SIZE - copied)
            assert count > 0
            copied += count
        assert os.pread(target, SIZE + 1, 0) == trees.revealing(SIZE)
        fails(errno.EXDEV, os.copy_file_range, source, target, 100, 0, 0)
    finally:
        os.close(source)
        os.close(target)


@check
def a_private_mapping_can_be_written_to(root: Path) -> None:
    with open(root / "file", "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as view:
        assert view[5000:9000] == trees.revealing(4000, offset=5000)
        view[5000:5004] = b"mine"
        assert view[5000:5004] == b"mine"
    assert (root / "file").read_bytes()[5000:5004] == trees.revealing(4, offset=5000)


@check
def a_shared_mapping_cannot_be_written_to(root: Path) -> None:
    descriptor = opened(root / "file")
    try:
        fails(errno.EACCES, mmap.mmap, descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    finally:
        os.close(descriptor)


@check
def syncing_what_was_only_read_is_fine(root: Path) -> None:
    descriptor, folder = opened(root / "file"), opened(root / "folder")
    try:
        os.fsync(descriptor)
        os.fdatasync(descriptor)
        os.fsync(folder)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_WILLNEED)
        assert os.pread(descriptor, 8, 0) == trees.revealing(8)
    finally:
        os.close(descriptor)
        os.close(folder)


@check
def locks_work_on_this_machine(root: Path) -> None:
    first, second = opened(root / "file"), opened(root / "file")
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        fails(errno.EAGAIN, fcntl.flock, second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(first, fcntl.LOCK_UN)
        fcntl.flock(second, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(first, fcntl.LOCK_SH | fcntl.LOCK_NB, 10)
    finally:
        os.close(first)
        os.close(second)


@check
def a_program_on_the_mount_runs(root: Path) -> None:
    assert run(root / "script") == b"it runs\n"


# ----- folders ----------------------------------------------------------------------------------------------------


class _Dirent(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_uint64),
        ("off", ctypes.c_int64),
        ("reclen", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = ctypes.c_void_p
_libc.readdir.restype = ctypes.POINTER(_Dirent)
_libc.telldir.restype = ctypes.c_long
for _function in (_libc.readdir, _libc.telldir, _libc.rewinddir, _libc.closedir):
    _function.argtypes = [ctypes.c_void_p]
_libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]


@check
def telldir_and_seekdir_and_rewinddir_find_their_place_again(root: Path) -> None:
    stream = _libc.opendir(os.fsencode(root / "many"))
    assert stream
    try:

        def read() -> list[bytes]:
            names = []
            while entry := _libc.readdir(stream):
                names.append(entry.contents.name)
            return names

        positions = {}
        expected = []
        while True:
            place = _libc.telldir(stream)
            entry = _libc.readdir(stream)
            if not entry:
                break
            positions[place] = len(expected)
            expected.append(entry.contents.name)
        assert len(expected) == len(set(expected)) == 302
        assert {b".", b".."} <= set(expected)
        for place, index in list(positions.items())[::37]:
            _libc.seekdir(stream, place)
            assert read() == expected[index:]
        _libc.rewinddir(stream)
        assert read() == expected
    finally:
        _libc.closedir(stream)


@check
def the_numbers_in_a_listing_are_those_of_stat(root: Path) -> None:
    stream = _libc.opendir(os.fsencode(root / "folder"))
    try:
        numbers = {}
        while entry := _libc.readdir(stream):
            numbers[entry.contents.name] = entry.contents.ino
    finally:
        _libc.closedir(stream)
    assert numbers[b"."] == os.stat(root / "folder").st_ino
    assert numbers[b".."] == os.stat(root).st_ino
    assert numbers[b"inner"] == os.stat(root / "folder" / "inner").st_ino


@check
def statvfs_says_read_only_and_how_long_names_may_be(root: Path) -> None:
    found = os.statvfs(root)
    assert found.f_flag & os.ST_RDONLY
    assert found.f_flag & os.ST_NOSUID
    assert found.f_flag & os.ST_NODEV
    assert found.f_namemax == 255


# ----- changes ----------------------------------------------------------------------------------------------------


@check
def every_change_of_names_is_erofs(root: Path) -> None:
    fails(errno.EROFS, os.mkdir, root / "new")
    fails(errno.EROFS, os.rmdir, root / "folder")
    fails(errno.EROFS, os.unlink, root / "file")
    fails(errno.EROFS, os.rename, root / "file", root / "new")
    fails(errno.EROFS, os.rename, root / "folder", root / "new")
    fails(errno.EROFS, os.symlink, "file", root / "new")
    fails(errno.EROFS, os.link, root / "file", root / "new")
    fails(errno.EROFS, os.mkfifo, root / "new")
    fails(errno.EROFS, os.mknod, root / "new", stat.S_IFREG | 0o600)


@check
def every_change_of_content_is_erofs(root: Path) -> None:
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_APPEND):
        fails(errno.EROFS, os.open, root / "file", flags)
    fails(errno.EROFS, os.open, root / "new", os.O_WRONLY | os.O_CREAT, 0o600)
    fails(errno.EROFS, os.truncate, root / "file", 0)
    fails(errno.EEXIST, os.open, root / "file", os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    assert (root / "file").read_bytes() == trees.revealing(SIZE)


@check
def every_change_of_attributes_is_erofs(root: Path) -> None:
    fails(errno.EROFS, os.chmod, root / "file", 0o777)
    fails(errno.EROFS, os.chown, root / "file", 1, 1)
    fails(errno.EROFS, os.utime, root / "file")
    fails(errno.EROFS, os.setxattr, root / "file", "user.name", b"value")


@check
def access_for_writing_is_refused_and_for_reading_granted(root: Path) -> None:
    assert os.access(root / "file", os.R_OK)
    assert os.access(root / "folder", os.R_OK | os.X_OK)
    assert os.access(root / "script", os.X_OK)
    assert not os.access(root / "file", os.X_OK)
    assert not os.access(root / "file", os.W_OK)
    assert not os.access(root / "folder", os.W_OK)
    assert not os.access(root / "missing", os.F_OK)


@pytest.mark.parametrize("name", TABLE)
def test_posix(mount: Mount, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    TABLE[name](mount.path)


# ----- what the NAS has none of -------------------------------------------------------------------------------------


def test_links_and_special_files_are_eperm_where_writing_is_allowed(writable_mount: Mount, prepared: Path) -> None:
    """What link(2), symlink(2) and mknod(2) say of a filesystem without such things."""
    root = writable_mount.path
    fails(errno.EPERM, os.symlink, "file", root / "new")
    fails(errno.EPERM, os.link, root / "file", root / "new")
    fails(errno.EPERM, os.mkfifo, root / "new")
    if os.geteuid() == 0:
        fails(errno.EPERM, os.mknod, root / "new", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert not os.path.lexists(root / "new")
    assert not os.path.lexists(prepared / "new")


def test_extended_attributes_are_asked_for_once_and_never_again(nas: Nas) -> None:
    """ENOSYS tells the kernel so. Any other answer costs two requests for each file of an `ls -l`."""
    with mounted(nas) as mount:
        fails(errno.ENOTSUP, os.getxattr, mount / "file", "user.name")
        fails(errno.ENOTSUP, os.listxattr, mount / "file")
        shown = subprocess.run(["getfattr", "-d", str(mount / "file")], capture_output=True, check=False)
        assert shown.stdout == b""
        run("ls", "-l", str(mount.path))
        mount.process.send_signal(signal.SIGSTOP)
        try:
            done = subprocess.run(
                [sys.executable, "-c", "import os, sys; os.getxattr(sys.argv[1], 'user.other')", str(mount / "script")],
                capture_output=True,
                timeout=10,
                check=False,
            )
        finally:
            mount.process.send_signal(signal.SIGCONT)
        assert b"Operation not supported" in done.stderr


# ----- rights -------------------------------------------------------------------------------------------------------

MODES = (0o000, 0o200, 0o400, 0o500, 0o600, 0o700)

TRY = """
import os, sys
os.chdir(sys.argv[1])
for name in sorted(os.listdir(".")):
    said = [os.access(name, bits) for bits in (os.R_OK, os.W_OK, os.X_OK)]
    try:
        if os.path.isdir(name):
            os.listdir(name)
        else:
            os.read(os.open(name, os.O_RDONLY), 10)
        done = True
    except PermissionError:
        done = False
    print(name, *said, done)
"""


@pytest.fixture(scope="module")
def with_rights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nas]:
    root = tmp_path_factory.mktemp("rights")
    for mode in MODES:
        (root / f"file {mode:o}").write_bytes(b"content")
        (root / f"file {mode:o}").chmod(mode)
        (root / f"folder {mode:o}").mkdir(mode)
        (root / f"folder {mode:o}").chmod(mode)
    with simulated_nas({"data": root}) as nas:
        yield nas


def outcomes(printed: bytes) -> dict[str, tuple[bool, bool, bool, bool]]:
    found = {}
    for line in printed.decode().splitlines():
        match = re.fullmatch(r"(.*) (True|False) (True|False) (True|False) (True|False)", line)
        assert match, line
        found[match[1]] = tuple(word == "True" for word in match.groups()[1:])
    assert len(found) == 2 * len(MODES)
    return found


def expected_outcomes() -> dict[str, tuple[bool, bool, bool, bool]]:
    """The account has the rights of the owner's bits; the mount is read-only."""
    return {
        f"{kind} {mode:o}": (bool(mode & 0o400), False, bool(mode & 0o100), bool(mode & 0o400))
        for mode in MODES
        for kind in ("file", "folder")
    }


def test_access_agrees_with_open_for_the_mounting_user(with_rights: Nas) -> None:
    """Root among them: what counts is what the NAS lets the account do."""
    with mounted(with_rights) as mount:
        printed = run(sys.executable, "-c", TRY, str(mount.path))
    assert outcomes(printed) == expected_outcomes()


@pytest.fixture
def public_mountpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A mountpoint that other users can get to: the test's own folders are closed to them."""
    folder = Path("/tmp") / f"synofs-public-{os.getpid()}"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    try:
        yield folder / "mnt"
    finally:
        shutil.rmtree(folder)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become another user")


@needs_root
def test_access_agrees_with_open_for_another_user(with_rights: Nas, public_mountpoint: Path) -> None:
    with mounted(with_rights, "--allow-other", at=public_mountpoint) as mount:
        printed = run("runuser", "-u", "nobody", "--", "/usr/bin/python3", "-c", TRY, str(mount.path), cwd=Path("/"))
    assert outcomes(printed) == expected_outcomes()


@needs_root
def test_another_user_sees_nothing_unless_the_mount_allows_others(with_rights: Nas, public_mountpoint: Path) -> None:
    with mounted(with_rights, at=public_mountpoint) as mount:
        refused = subprocess.run(
            ["runuser", "-u", "nobody", "--", "ls", str(mount.path)], capture_output=True, check=False, cwd="/"
        )
        assert os.listdir(mount.path)
    assert refused.returncode != 0
    assert b"Permission denied" in refused.stderr


def test_an_admins_rights_are_shown_as_such(with_rights: Nas, prepared: Path) -> None:
    with simulated_nas({"data": prepared}, account_flags=":admin") as nas, mounted(nas, "--umask", "0") as mount:
        assert stat.S_IMODE(os.stat(mount / "file").st_mode) == 0o555
        assert os.access(mount / "file", os.R_OK | os.X_OK)


def test_owner_group_and_umask_are_what_was_asked_for(nas: Nas) -> None:
    with mounted(nas, "--uid", "4321", "--gid", "8765", "--umask", "077") as mount:
        for name in ("file", "folder", "script"):
            found = os.stat(mount / name)
            assert (found.st_uid, found.st_gid) == (4321, 8765)
            assert found.st_mode & 0o077 == 0
