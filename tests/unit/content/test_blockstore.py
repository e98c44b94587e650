"""How bytes get to the local disk, and what is there afterwards."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from synofs.content.blockstore import BlockStore, Piece
from synofs.remote import Fingerprint
from tests.trees import revealing

MIB = 1024**2
SIZE = 3 * MIB + 5
VERSION = Fingerprint(SIZE, 1_700_000_000 * 10**9)
CONTENT = revealing(SIZE)
PATH = "/s/film"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[BlockStore]:
    store = BlockStore(tmp_path / "cache", 1 << 30, 0)
    store.open()
    yield store
    store.close()


def on_a_page(data: bytes) -> memoryview:
    """As what was received lies in memory."""
    room = mmap.mmap(-1, len(data), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    room[:] = data
    return memoryview(room)


def pieces(starts: list[int]) -> list[Piece]:
    ends = [*starts[1:], SIZE]
    return [Piece(PATH, VERSION, s, on_a_page(CONTENT[s:e])) for s, e in zip(starts, ends, strict=True)]


def kept(store: BlockStore) -> bytes:
    found = store.find(PATH, VERSION)
    assert found is not None
    return b"".join(store.read(found, stretch) or b"" for stretch in found.stretches)


def bytes_in_page_cache(folder: Path) -> int:
    """Of the only data file (mincore(2))."""
    (data,) = (path for path in (folder / "cache" / "data").rglob("*") if path.is_file())
    with open(data, "r+b") as file, mmap.mmap(file.fileno(), 0) as view:
        flags = (ctypes.c_ubyte * -(-len(view) // mmap.PAGESIZE))()
        first = ctypes.c_char.from_buffer(view)
        libc = ctypes.CDLL(None, use_errno=True)
        assert libc.mincore(ctypes.byref(first), ctypes.c_size_t(len(view)), flags) == 0, os.strerror(
            ctypes.get_errno()
        )
        del first
        return sum(flag & 1 for flag in flags) * mmap.PAGESIZE


def test_large_runs_leave_the_page_cache_to_others_where_the_filesystem_allows_that(
    store: BlockStore, tmp_path: Path
) -> None:
    try:
        os.close(os.open(tmp_path / "probe", os.O_WRONLY | os.O_CREAT | os.O_DIRECT))
    except OSError:
        pytest.skip("the filesystem of the temporary folder does not know O_DIRECT")
    large, tail = pieces([0, 64 * 1024, MIB, 2 * MIB, 3 * MIB])[:-1], pieces([0, 3 * MIB])[1:]
    store.write(large, direct=True)
    assert bytes_in_page_cache(tmp_path) == 0
    store.write(tail, direct=True)
    assert kept(store) == CONTENT


def test_a_slow_disk_may_take_large_runs_later(store: BlockStore, tmp_path: Path) -> None:
    store.write(pieces([0, MIB, 2 * MIB]), direct=False)
    assert bytes_in_page_cache(tmp_path) == -(-SIZE // mmap.PAGESIZE) * mmap.PAGESIZE
    assert kept(store) == CONTENT


@pytest.mark.parametrize("starts", [[0], [0, MIB + 1, 2 * MIB], [0, 1, 2, 3 * MIB]], ids=str)
def test_what_is_not_in_whole_blocks_is_kept_all_the_same(store: BlockStore, starts: list[int]) -> None:
    store.write(pieces(starts), direct=True)
    assert kept(store) == CONTENT


def test_what_lies_elsewhere_in_memory_is_kept_all_the_same(store: BlockStore) -> None:
    odd = memoryview(bytearray(b"." + CONTENT))[1:]  # the kernel refuses it with EINVAL, on a disk
    run = [Piece(PATH, VERSION, start, odd[start : start + MIB]) for start in range(0, 3 * MIB, MIB)]
    store.write(run, direct=True)
    assert kept(store) == CONTENT[: 3 * MIB]
