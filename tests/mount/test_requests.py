"""How many requests things cost. Counted by the NAS, so the numbers are exact."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import trees
from tests.mount.harness import FIRST_PAGE, PAGE, Mount, Nas, run

pytestmark = pytest.mark.mount

StartNas = Callable[..., Nas]
StartMount = Callable[..., Mount]


def test_a_cold_find_over_d_folders_lists_d_folders(
    wide_tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(wide_tree)
    mount = start_mount(nas)
    nas.reset()
    found = run("find", str(mount.path), "-print0").count(b"\0")
    assert found == 20_001
    folders = 1_001
    assert folders - 1 <= nas.listings <= folders + 2  # the mount itself may have looked at the top one
    assert set(nas.calls) <= {"list", "list_share", "request"}
    assert sum(nas.calls.values()) <= folders / 2, "many folders go together in one request"


def test_a_cold_find_where_the_nas_lists_folders_one_by_one(
    wide_tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(wide_tree, "--quirk", "compound=not-for-files")
    mount = start_mount(nas)
    nas.reset()
    found = run("find", str(mount / "folder 0003"), "-type", "d", "-print0").count(b"\0")
    assert nas.listings <= found + 2 + 16, "the one request that was refused, and what was in it"
    assert nas.calls["request"] == 1


def test_a_cold_find_from_the_list_of_shares_down(
    library_tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(library_tree)
    mount = start_mount(nas, share=None)
    nas.reset()
    run("find", str(mount.path))
    folders = 2 + sum(is_dir for _, is_dir in trees.walk(os.fsencode(library_tree)))
    assert nas.listings <= folders + 2
    assert set(nas.calls) <= {"list", "list_share", "request"}


def test_a_cold_find_over_a_part_of_a_tree_lists_nothing_beside_it(
    wide_tree: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    nas = start_nas(wide_tree)
    mount = start_mount(nas)
    nas.reset()
    found = run("find", str(mount / "folder 0003"), "-type", "d", "-print0").count(b"\0")
    assert found == 111
    assert nas.listings <= found + 2


def test_ls_l_after_ls_costs_nothing(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    trees.make_flat_folder(served / "flat", 500)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount / "flat"))
    nas.reset()
    for _ in range(3):
        assert run("ls", "-la", str(mount / "flat")).count(b"\n") == 503
    run("stat", str(mount / "flat" / "000007"))
    run("du", "-s", str(mount / "flat"))
    run("find", str(mount / "flat"), "-newer", "/etc/passwd", "-size", "+1M")
    assert nas.calls == {}


def test_cat_of_a_small_file_in_a_listed_folder_is_one_download_and_nothing_else(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    for number in range(20):
        trees.write_revealing(served / f"file {number}", 10_000 * number + 1)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("cat", str(mount / "file 15")) == trees.revealing(150_001)
    assert nas.calls == {"download": 1}
    assert nas.stats["bytes_sent"] == 150_001


def test_cat_in_a_folder_that_nobody_has_listed_is_one_listing_and_one_download(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    (served / "a").mkdir()
    trees.write_revealing(served / "a" / "file", 1000)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("cat", str(mount / "a" / "file")) == trees.revealing(1000)
    assert nas.calls == {"list": 1, "download": 1}


def test_a_second_read_comes_from_the_page_cache(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    trees.write_revealing(served / "file", 500_000)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("cat", str(mount / "file"))
    nas.reset()
    for _ in range(3):
        assert run("cat", str(mount / "file")) == trees.revealing(500_000)
    assert nas.calls == {}


@pytest.mark.parametrize("count", [999, 1_000, 1_001, 10_000])
def test_a_folder_costs_a_first_page_and_one_call_for_each_further_page(
    served: Path, start_nas: StartNas, start_mount: StartMount, count: int
) -> None:
    trees.make_flat_folder(served / "flat", count)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("ls", "-f", str(mount / "flat")).count(b"\n") == count + 2
    rest = max(0, count - FIRST_PAGE)
    assert nas.calls["list"] <= 1 + -(-rest // PAGE)
    assert nas.calls["list"] <= -(-count // PAGE) + 1
    nas.reset()
    run("ls", "-l", str(mount / "flat"))
    assert nas.calls == {}


def test_a_nas_with_small_pages_costs_one_call_for_each(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    trees.make_flat_folder(served / "flat", 950)
    nas = start_nas(served, "--page-cap", "100")
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("ls", "-f", str(mount / "flat")).count(b"\n") == 952
    assert nas.calls["list"] <= 10 + 1


def test_the_second_look_for_a_missing_name_costs_nothing(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    (served / "file").touch()
    nas = start_nas(served)
    mount = start_mount(nas)
    assert not os.path.exists(mount / "missing")
    nas.reset()
    for name in ("missing", "missing", ".Trash-1000", ".hidden", "autorun.inf"):
        assert not os.path.exists(mount / name)
    assert nas.calls == {}


@contextlib.contextmanager
def suspended(mount: Mount) -> Iterator[None]:
    """The mount's process stands still: what works inside the block, the kernel does alone."""
    mount.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        mount.process.send_signal(signal.SIGCONT)


def test_names_and_attributes_and_missing_names_are_remembered_by_the_kernel(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    """Not even the mount is asked again: git and thumbnailers look for the same missing names all the time."""
    (served / "file").touch()
    mount = start_mount(start_nas(served))
    run("ls", "-l", str(mount.path))
    run("test", "!", "-e", str(mount / "missing"))
    with suspended(mount):
        run("test", "!", "-e", str(mount / "missing"), seconds=10)
        assert run("ls", "-l", str(mount / "file"), seconds=10).startswith(b"-r--r--r-- 1")


TWO_READERS = """
import os, sys, threading
path, offset = sys.argv[1], int(sys.argv[2])
barrier = threading.Barrier(8)
results = set()
def read():
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    barrier.wait()
    results.add(os.pread(descriptor, 65536, offset))
    os.close(descriptor)
threads = [threading.Thread(target=read) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
assert len(results) == 1
sys.stdout.buffer.write(results.pop())
"""


@pytest.mark.parametrize("offset", [0, 300_000])
def test_readers_of_one_block_cause_one_request(
    served: Path, start_nas: StartNas, start_mount: StartMount, offset: int
) -> None:
    trees.write_revealing(served / "file", 700_000)
    nas = start_nas(served, "--latency-ms", "100")
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    got = run("python3", "-c", TWO_READERS, str(mount / "file"), str(offset))
    assert got == trees.revealing(65536, offset=offset)
    assert nas.calls == {"download": 1}


def test_random_reads_of_a_big_file_move_little(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    trees.write_sparse(served / "big", 2 << 30, (0,))
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    descriptor = os.open(mount / "big", os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        for number in range(50):
            assert os.pread(descriptor, 4096, (number * 37 % 50 + 1) * (40 << 20)) == bytes(4096)
    finally:
        os.close(descriptor)
    assert nas.stats["bytes_sent"] <= 50 * 32 * 1024 + 50 * 1024  # the getinfo answers
    assert nas.calls["download"] == 50


@pytest.mark.parametrize("distance", [4 << 10, 100 << 10])
def test_a_few_pages_here_and_there_move_little(
    served: Path, start_nas: StartNas, start_mount: StartMount, distance: int
) -> None:
    """As a database reads: a page, one near it, then elsewhere."""
    trees.write_sparse(served / "big", 2 << 30, (0,))
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    descriptor = os.open(mount / "big", os.O_RDONLY)
    try:
        for number in range(50):
            place = (number * 37 % 50 + 1) * (40 << 20)
            assert os.pread(descriptor, 4096, place) == os.pread(descriptor, 4096, place + distance) == bytes(4096)
    finally:
        os.close(descriptor)
    assert nas.stats["bytes_sent"] <= 50 * 128 * 1024 + 100 * 1024, "the kernel itself asks for 16 KiB after the second"


MAPPED = """
import mmap, sys
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as view:
    view.madvise(int(sys.argv[2]))
    for number in range(20):
        assert view[(number * 37 % 20 + 1) * (40 << 20)] == 0
"""


@pytest.mark.parametrize(("advice", "most"), [(mmap.MADV_NORMAL, 1024 + 32), (mmap.MADV_RANDOM, 32)])
def test_pages_of_a_mapped_file_move_what_the_kernel_asks_for(
    served: Path, start_nas: StartNas, start_mount: StartMount, advice: int, most: int
) -> None:
    trees.write_sparse(served / "big", 1 << 30, (0,))
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    run("python3", "-c", MAPPED, str(mount / "big"), str(advice))
    assert nas.stats["bytes_sent"] <= 20 * (most + 1) * 1024


def test_the_head_of_a_big_file_moves_little(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    trees.write_sparse(served / "big", 2 << 30, (0,))
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("head", "-c", "4096", str(mount / "big")) == trees.revealing(4096)
    assert nas.stats["bytes_sent"] <= 8 << 20
    assert nas.calls["download"] <= 4


def test_a_sequential_read_downloads_every_byte_once(
    served: Path, start_nas: StartNas, start_mount: StartMount
) -> None:
    size = 96 << 20
    trees.write_revealing(served / "big", size)
    nas = start_nas(served)
    mount = start_mount(nas)
    run("ls", str(mount.path))
    nas.reset()
    assert run("sha256sum", str(mount / "big"))[:64] == run("sha256sum", str(served / "big"))[:64]
    stats, calls = nas.stats, nas.calls
    assert size <= stats["bytes_sent"] <= size + 100_000
    assert calls["download"] <= 24
    assert calls.get("getinfo", 0) <= 2 * calls["download"]
    assert set(calls) <= {"download", "getinfo"}


@pytest.mark.parametrize("share", [None, "data"])
def test_the_first_df_shows_the_space_and_costs_nothing(
    served: Path, start_nas: StartNas, start_mount: StartMount, share: str | None
) -> None:
    nas = start_nas(served)
    nas.reset()
    mount = start_mount(nas, share=share)
    shown, there = os.statvfs(mount.mountpoint), os.statvfs(served)
    assert shown.f_blocks * shown.f_frsize == there.f_blocks * there.f_frsize
    files = {name for name in nas.calls if name not in ("query", "login", "token")}
    assert (files, nas.calls["list_share"]) == ({"list_share"}, 1)


def test_an_unused_mount_asks_nothing(served: Path, start_nas: StartNas, start_mount: StartMount) -> None:
    nas = start_nas(served)
    mount = start_mount(nas)
    nas.reset()
    for _ in range(5):
        assert os.path.isdir(mount.mountpoint), "the root never needs the NAS"
        os.stat(mount.mountpoint)
    assert nas.calls == {}
