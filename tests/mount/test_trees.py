"""Whole trees through the real kernel: every byte and every field against the folder that the NAS serves."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import trees
from tests.mount.harness import Mount, mounted, run, simulated_nas

pytestmark = pytest.mark.mount

GIB = 1 << 30
SPARSE_SIZE = 5 * GIB
FIO = [
    "--name=job",
    "--filename=fio",
    "--size=16m",
    "--verify=crc32c",
    "--verify_interval=4k",
    "--verify_fatal=1",
    "--verify_state_save=0",
    "--output=/dev/null",
]
ISLANDS = (0, 4096, GIB - 4096, 3 * GIB + 123 * 4096, SPARSE_SIZE - 4096)


@pytest.fixture(scope="module")
def sparse_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sparse")
    trees.write_sparse(root / "sparse", SPARSE_SIZE, ISLANDS)
    trees.write_revealing(root / "revealing", 48 << 20)
    # fio's own marks, to be checked through the mount.
    run("fio", *FIO, "--rw=write", "--bs=128k", "--do_verify=0", cwd=root)
    return root


@pytest.fixture(scope="module")
def folders(library_tree: Path, wide_tree: Path, odd_tree: Path, sparse_tree: Path) -> dict[str, Path]:
    return {"library": library_tree, "wide": wide_tree, "odd": odd_tree, "sparse": sparse_tree}


@pytest.fixture(scope="module")
def mount(folders: dict[str, Path]) -> Iterator[Mount]:
    with simulated_nas(folders) as nas, mounted(nas, "--uid", "1234", "--gid", "5678", share=None) as mount:
        yield mount


def shown_mode(served: os.stat_result) -> int:
    """On a read-only mount by an account that is no admin: the owner's rights for all, less the umask of 022."""
    mode = stat.S_IFMT(served.st_mode)
    if served.st_mode & stat.S_IRUSR:
        mode |= 0o444
    if served.st_mode & stat.S_IXUSR:
        mode |= 0o111
    return mode


def fields(path: bytes) -> dict[str, object]:
    found = os.lstat(path)
    return {
        "mode": oct(found.st_mode),
        "size": found.st_size,
        "blocks": found.st_blocks,
        "mtime": found.st_mtime_ns,
        "ctime": found.st_ctime_ns,
        "nlink": found.st_nlink,
        "uid": found.st_uid,
        "gid": found.st_gid,
    }


def expected_fields(path: bytes) -> dict[str, object]:
    served = os.lstat(path)
    return {
        "mode": oct(shown_mode(served)),
        "size": served.st_size,
        "blocks": -(-served.st_size // 512),
        "mtime": int(served.st_mtime) * 10**9,
        "ctime": int(served.st_ctime) * 10**9,
        "nlink": 1,
        "uid": 1234,
        "gid": 5678,
    }


@pytest.mark.parametrize("tree", ["library", "wide", "odd", "sparse"])
def test_every_name_and_every_stat_field_is_right(mount: Mount, folders: dict[str, Path], tree: str) -> None:
    source, shown = os.fsencode(folders[tree]), os.fsencode(mount / tree)
    expected = list(trees.walk(source))
    assert list(trees.walk(shown)) == expected
    assert expected
    wrong = []
    for path, _ in [(b".", True), *expected]:
        want, got = expected_fields(os.path.join(source, path)), fields(os.path.join(shown, path))
        if want != got:
            wrong.append((path, want, got))
    assert wrong == []


def read_in_order(root: bytes) -> Iterator[tuple[bytes, bytes]]:
    for path, is_dir in trees.walk(root):
        if not is_dir:
            with open(os.path.join(root, path), "rb") as file:
                yield path, file.read()


@pytest.mark.parametrize("tree", ["library", "odd"])
def test_every_byte_of_every_file_is_right(mount: Mount, folders: dict[str, Path], tree: str) -> None:
    shown = os.fsencode(mount / tree)
    count = 0
    for path, expected in read_in_order(os.fsencode(folders[tree])):
        with open(os.path.join(shown, path), "rb") as file:
            assert file.read() == expected, path
        count += 1
    assert count > 90


def test_every_20th_of_20000_files_is_right(mount: Mount, folders: dict[str, Path]) -> None:
    paths = [path for path, is_dir in trees.walk(os.fsencode(folders["wide"])) if not is_dir]
    assert len(paths) == 19_000
    for path in paths[::20]:
        expected = Path(os.fsdecode(os.path.join(os.fsencode(folders["wide"]), path))).read_bytes()
        assert Path(os.fsdecode(os.path.join(os.fsencode(mount / "wide"), path))).read_bytes() == expected


def test_inode_numbers_tell_all_entries_apart(mount: Mount) -> None:
    numbers = {}
    root = os.fsencode(mount / "wide")
    for path, _ in trees.walk(root):
        numbers[os.lstat(os.path.join(root, path)).st_ino] = path
    assert len(numbers) == 20_000


def test_every_odd_name_is_found_by_its_bytes_and_by_no_others(mount: Mount) -> None:
    root = os.fsencode(mount / "odd")
    for name in trees.ODD_NAMES + trees.NOT_UTF8_NAMES:
        assert os.path.isfile(os.path.join(root, name))
        assert os.path.isfile(os.path.join(root, b"folders", name, name))
    for name in (b"Upper", b"x" * 254, b"100%25", b"latin1-\xc3\xa9t\xc3\xa9", b" leading and trailing", b"a"):
        assert not os.path.lexists(os.path.join(root, name))
    with pytest.raises(OSError, match="File name too long"):
        os.lstat(os.path.join(root, b"x" * 256))


# ----- programs -------------------------------------------------------------------------------------------------


def test_find_finds_every_entry(mount: Mount, folders: dict[str, Path]) -> None:
    for tree in ("wide", "odd", "library"):
        expected = {path for path, _ in trees.walk(os.fsencode(folders[tree]))}
        printed = run("find", ".", "-mindepth", "1", "-print0", cwd=mount / tree)
        assert {os.path.normpath(path) for path in printed.split(b"\0") if path} == expected


def test_find_by_type_and_size_agrees(mount: Mount, folders: dict[str, Path]) -> None:
    for query in (["-type", "d"], ["-type", "f", "-size", "+10k"], ["-empty", "-type", "f"], ["-newer", "./os.py"]):
        found = [
            sorted(run("find", ".", *query, cwd=root).split(b"\n")) for root in (mount / "library", folders["library"])
        ]
        assert found[0] == found[1]
        assert len(found[0]) > 2


def test_ls_shows_what_it_shows_of_the_source(mount: Mount, folders: dict[str, Path]) -> None:
    for options in ("-1AR", "-1ARpSr", "-1ARX"):
        assert run("ls", options, cwd=mount / "odd") == run("ls", options, cwd=folders["odd"])
    unsorted = run("ls", "-1f", cwd=mount / "wide").split(b"\n")
    assert sorted(unsorted) == sorted(run("ls", "-1f", cwd=folders["wide"]).split(b"\n"))


def test_cp_r_copies_every_byte_and_the_times(mount: Mount, folders: dict[str, Path], tmp_path: Path) -> None:
    for tree in ("library", "odd"):
        run("cp", "-r", "--preserve=timestamps", str(mount / tree), str(tmp_path))
        run("diff", "-r", str(tmp_path / tree), str(folders[tree]))
        for path, _ in trees.walk(os.fsencode(folders[tree])):
            copied = os.stat(os.path.join(os.fsencode(tmp_path / tree), path))
            assert copied.st_mtime == int(os.stat(os.path.join(os.fsencode(folders[tree]), path)).st_mtime)


def test_tar_packs_what_can_be_unpacked_and_compared(mount: Mount, folders: dict[str, Path], tmp_path: Path) -> None:
    archive = tmp_path / "archive.tar"
    run("tar", "-cf", str(archive), "-C", str(mount / "odd"), ".")
    run("tar", "--warning=no-timestamp", "-xf", str(archive), "-C", str(tmp_path))
    archive.unlink()
    run("diff", "-r", str(tmp_path), str(folders["odd"]))


def test_sha256sum_agrees(mount: Mount, folders: dict[str, Path]) -> None:
    names = sorted(run("find", ".", "-type", "f", "-name", "*.py", "-print0", cwd=folders["library"]).split(b"\0"))[1:]
    assert len(names) > 200
    assert run("sha256sum", *names, cwd=mount / "library") == run("sha256sum", *names, cwd=folders["library"])


def test_rsync_finds_no_difference(mount: Mount, folders: dict[str, Path]) -> None:
    def differences(*options: str, tree: str) -> bytes:
        return run("rsync", "-rn", "--itemize-changes", *options, f"{mount / tree}/", f"{folders[tree]}/")

    assert differences("--checksum", tree="library") == b""
    assert differences("--checksum", tree="odd") == b""
    assert differences("--times", "--modify-window=1", tree="wide") == b""


def test_du_and_stat_agree(mount: Mount, folders: dict[str, Path]) -> None:
    assert run("du", "-sb", "sparse/sparse", cwd=mount.path).split()[0] == b"%d" % SPARSE_SIZE
    for tree in ("library", "odd"):
        assert run("du", "-sb", ".", cwd=mount / tree) == run("du", "-sb", ".", cwd=folders[tree])
    assert run("stat", "-c", "%F %s", str(mount / "sparse" / "revealing")) == b"regular file 50331648\n"


def test_df_shows_the_volume_of_the_nas(mount: Mount, folders: dict[str, Path]) -> None:
    shown, served = os.statvfs(mount.path), os.statvfs(folders["wide"])
    assert shown.f_blocks * shown.f_frsize == served.f_blocks * served.f_frsize
    assert shown.f_namemax == 255


# ----- big files ------------------------------------------------------------------------------------------------


def test_the_islands_of_a_sparse_file_are_where_they_belong(mount: Mount) -> None:
    descriptor = os.open(mount / "sparse" / "sparse", os.O_RDONLY)
    try:
        for island in ISLANDS:
            assert os.pread(descriptor, 4096, island) == trees.revealing(4096, offset=island)
        for gap in (8192, GIB - 8192, GIB, 2 * GIB + 5, SPARSE_SIZE - 8192):
            assert os.pread(descriptor, 4096, gap) == bytes(4096)
        assert os.pread(descriptor, 4096, SPARSE_SIZE - 10) == trees.revealing(10, offset=SPARSE_SIZE - 10)
        assert os.pread(descriptor, 4096, SPARSE_SIZE) == b""
        assert os.pread(descriptor, 4096, SPARSE_SIZE + GIB) == b""
        assert os.lseek(descriptor, 0, os.SEEK_END) == SPARSE_SIZE
    finally:
        os.close(descriptor)


REVEALING_SIZE = 48 << 20


@pytest.mark.parametrize(
    ("command", "offset", "length"),
    [
        (["head", "-c", "100000", "revealing"], 0, 100_000),
        (["tail", "-c", "100000", "revealing"], REVEALING_SIZE - 100_000, 100_000),
        (["tail", "-c", "+50000001", "revealing"], 50_000_000, REVEALING_SIZE - 50_000_000),
        (["dd", "if=revealing", "bs=4096", "skip=1000", "count=3", "status=none"], 4_096_000, 12_288),
        (["dd", "if=revealing", "bs=1M", "skip=7", "count=2", "status=none", "iflag=direct"], 7 << 20, 2 << 20),
        (["dd", "if=revealing", "bs=999", "skip=1", "count=1000", "status=none"], 999, 999_000),
        (["cat", "revealing"], 0, REVEALING_SIZE),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_programs_read_the_right_part_of_a_file(mount: Mount, command: list[str], offset: int, length: int) -> None:
    assert run(*command, cwd=mount / "sparse") == trees.revealing(length, offset=offset)


MMAP = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
    for offset in map(int, sys.argv[2:]):
        sys.stdout.buffer.write(view[offset : offset + 5000])
"""


def test_a_mapped_file_shows_the_right_bytes(mount: Mount) -> None:
    offsets = [0, 10_000_001, REVEALING_SIZE - 5000, 4096, 30_000_000]
    got = run("python3", "-c", MMAP, str(mount / "sparse" / "revealing"), *map(str, offsets))
    assert got == b"".join(trees.revealing(5000, offset=offset) for offset in offsets)


@pytest.mark.parametrize(
    "pattern",
    [
        ["--rw=read", "--bs=128k"],
        ["--rw=randread", "--bs=4k", "--io_size=4m"],
        ["--rw=randread", "--bsrange=4k-256k", "--io_size=16m", "--numjobs=3"],
        ["--rw=read", "--bs=1m", "--direct=1"],
    ],
    ids=" ".join,
)
def test_fio_verifies_what_it_reads(mount: Mount, pattern: list[str]) -> None:
    run("fio", *FIO, *pattern, "--readonly", cwd=mount / "sparse")
