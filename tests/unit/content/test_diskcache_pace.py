"""A disk that is slower than the line: what is kept of what was read, and how long a reader waits for that at most.

In virtual time. The disk cache writes as ever, and then takes as long as the disk would.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import trio

from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.readahead import MIB
from synofs.content.reader import Reader, ReaderOptions
from tests.unit.content.test_line import BYTES_PER_SECOND, Line, read_whole
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

SIZE = 512 * MIB
ROUND_TRIP_SECONDS = 0.02
LINE_SECONDS = SIZE / BYTES_PER_SECOND

_T = TypeVar("_T")


class SlowDisk(DiskCache):
    def __init__(self, folder: Path, bytes_per_second: float) -> None:
        super().__init__(folder, DiskCacheOptions(floor_bytes=0))
        self.bytes_per_second = bytes_per_second
        self.mended = trio.Event()

    async def _guarded(self, work: Callable[[], _T], otherwise: _T) -> _T:
        before = self.bytes_used
        result = work()
        if written := max(0, self.bytes_used - before):
            with trio.move_on_after(written / self.bytes_per_second):
                await self.mended.wait()
        return result


async def read(disk: DiskCache, line: Line, files: int = 1) -> float:
    """Read them one after the other and end the mount; the seconds until the last byte of them was there."""
    async with trio.open_nursery() as nursery:
        reader = Reader(line, ReaderOptions(), disk)
        await nursery.start(reader.run)
        seconds = sum([await read_whole(reader, line, number) for number in range(files)])
        nursery.cancel_scope.cancel()
    await disk.close()
    return seconds


async def downloads_after_a_remount(folder: Path) -> int:
    line = Line(SIZE, ROUND_TRIP_SECONDS)
    await read(SlowDisk(folder, math.inf), line)
    return line.downloads


async def test_what_is_read_a_little_faster_than_the_disk_writes_is_all_there_after_a_remount(tmp_path: Path) -> None:
    seconds = await read(SlowDisk(tmp_path, 0.75 * BYTES_PER_SECOND), Line(SIZE, ROUND_TRIP_SECONDS))
    assert seconds <= LINE_SECONDS + 2.2, "the wait is for what the queue does not hold"
    assert await downloads_after_a_remount(tmp_path) == 0


async def test_a_disk_as_fast_as_the_line_is_never_waited_for(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path, BYTES_PER_SECOND)
    assert await read(disk, Line(SIZE, ROUND_TRIP_SECONDS)) <= LINE_SECONDS * 1.01 + ROUND_TRIP_SECONDS
    assert await downloads_after_a_remount(tmp_path) == 0


async def test_a_slow_disk_is_waited_for_two_seconds_and_a_twentieth_of_the_time_however_much_is_read(
    tmp_path: Path,
) -> None:
    disk = SlowDisk(tmp_path, BYTES_PER_SECOND / 4)
    seconds = await read(disk, Line(SIZE, ROUND_TRIP_SECONDS), files=4)
    assert seconds <= 1.06 * 4 * LINE_SECONDS + 2.1


async def test_a_disk_that_hangs_is_waited_for_half_a_second(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path, 1e-9)
    line = Line(SIZE, ROUND_TRIP_SECONDS)
    async with trio.open_nursery() as nursery:
        reader = Reader(line, ReaderOptions(), disk)
        await nursery.start(reader.run)
        assert await read_whole(reader, line) <= 1.01 * LINE_SECONDS + 0.5 + ROUND_TRIP_SECONDS
        disk.mended.set()
        nursery.cancel_scope.cancel()


async def test_what_waits_to_be_written_is_bounded(tmp_path: Path) -> None:
    disk = SlowDisk(tmp_path, 1e-9)
    async with trio.open_nursery() as nursery:
        await nursery.start(disk.run)
        for start in range(0, SIZE, MIB):
            disk.add("/share/file", Line(SIZE, 0).version_there, start, memoryview(bytes(MIB)))
            await trio.sleep(0.001)
        assert 100 * MIB <= disk._queued_bytes <= 128 * MIB
        disk.mended.set()
        nursery.cancel_scope.cancel()
