"""How much of a line's bandwidth a sequential reader gets: in virtual time, so the answer is the same everywhere."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

from synofs.content.readahead import KIB, MIB
from synofs.content.reader import Reader, ReaderOptions
from synofs.remote import Fingerprint, OnData, RemoteEntry, Rights
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

BYTES_PER_SECOND = 125_000_000
SECOND = 1_000_000_000


class Line(MemoryStore):
    """A NAS at the end of a line: each request costs a round trip, and all share the bandwidth."""

    def __init__(self, size: int, round_trip_seconds: float) -> None:
        super().__init__()
        self.size = size
        self.version_there = Fingerprint(size, 1000 * SECOND)
        self.round_trip_seconds = round_trip_seconds
        self.free_at = 0.0
        self.downloads = self.questions = self.bytes_sent = 0

    async def get_entries(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        self.questions += 1
        await trio.sleep(self.round_trip_seconds + self.answer_seconds)
        ns = self.version_there.mtime_ns
        return [RemoteEntry("file", False, self.size, ns, ns, ns, Rights.ALL)]

    async def read_range(self, path: str, offset: int, length: int, size: int, on_data: OnData) -> None:
        self.downloads += 1
        await trio.sleep(self.round_trip_seconds)
        position = offset
        while position < offset + length:
            count = min(MIB - position % MIB, offset + length - position)
            self.free_at = max(self.free_at, trio.current_time()) + count / BYTES_PER_SECOND
            await trio.sleep_until(self.free_at)
            self.bytes_sent += count
            await on_data(position, memoryview(bytes(count)))
            position += count


async def read_whole(reader: Reader, line: Line, number: int = 1) -> float:
    """Reads a file as `cp` does; the seconds until its last byte was there."""
    file = reader.open(number, line.version_there, lambda: f"/share/file {number}")
    started = trio.current_time()
    position = 0
    while data := await file.read(position, MIB):
        position += len(data)
    seconds = trio.current_time() - started
    assert position == line.size
    file.close()
    return seconds


async def seconds_to_read(line: Line, nursery: trio.Nursery) -> float:
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    return await read_whole(reader, line)


@pytest.mark.parametrize(("round_trip_ms", "share"), [(5, 0.999), (20, 0.995), (50, 0.985)])
async def test_a_copy_of_a_big_file_runs_at_the_speed_of_the_line(
    nursery: trio.Nursery, round_trip_ms: int, share: float
) -> None:
    size = 1024 * MIB
    line = Line(size, round_trip_ms / 1000)
    best = size / BYTES_PER_SECOND + line.round_trip_seconds
    assert best / await seconds_to_read(line, nursery) >= share
    assert line.downloads <= 40
    assert line.questions <= 80, "about one proof for each 16 MiB"


async def test_only_the_first_bytes_and_the_last_ones_proof_take_a_round_trip(nursery: trio.Nursery) -> None:
    """A question that was under way when the last bytes came is not waited for, nor what lies between the first
    download and the second, for who reads a MiB at once."""
    size = 256 * MIB
    line = Line(size, 0.02)
    assert await seconds_to_read(line, nursery) <= size / BYTES_PER_SECOND + 2 * line.round_trip_seconds + 0.005


@pytest.mark.parametrize("answer_seconds", [0.0, 0.001, 0.01])
async def test_a_random_read_asks_for_one_proof_whichever_answer_comes_first(
    nursery: trio.Nursery, answer_seconds: float
) -> None:
    line = Line(1024 * MIB, 0.02)
    line.answer_seconds = answer_seconds
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    file = reader.open(1, line.version_there, lambda: "/share/file")
    for number in range(1, 11):
        await file.read(number * 80 * MIB + 4096, 4096)
        await trio.sleep(1)
    assert (line.downloads, line.questions) == (10, 9)  # the first needs none


@pytest.mark.parametrize("handles", [1, 2])
async def test_programs_that_read_at_random_beside_each_other_move_32_kib_for_each_read(
    nursery: trio.Nursery, handles: int
) -> None:
    line = Line(1024 * MIB, 0.02)
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    files = [reader.open(1, line.version_there, lambda: "/share/file") for _ in range(handles)]

    async def look_around(number: int, delay_seconds: float) -> None:
        await trio.sleep(delay_seconds)
        for step in range(50):
            offset = (step * 37 + number * 513) % 1000 * MIB + 600 * KIB
            await files[number % handles].read(offset, 4 * KIB)

    async with trio.open_nursery() as programs:
        for number in range(2):
            programs.start_soon(look_around, number, number * 0.007)
    assert line.bytes_sent <= 100 * 32 * KIB


async def test_who_jumps_on_gets_nothing_of_what_lies_between(nursery: trio.Nursery) -> None:
    line = Line(1024 * MIB, 0.02)
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    file = reader.open(1, line.version_there, lambda: "/share/file")
    for start in range(0, 900 * MIB, 100 * MIB):
        await file.read(start, 128 * KIB)
        await file.read(start + 128 * KIB, 128 * KIB)
    assert line.bytes_sent <= 9 * (2 * 128 + 512) * KIB


async def test_who_stops_reading_early_has_moved_little_more_than_the_windows_that_were_opened(
    nursery: trio.Nursery,
) -> None:
    line = Line(1024 * MIB, 0.02)
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    file = reader.open(1, line.version_there, lambda: "/share/file")
    for position in range(3):
        await file.read(position * MIB, MIB)
    await trio.sleep(5)
    assert reader.cache_bytes <= (6 + 12) * MIB


async def test_a_slow_line_asks_for_proofs_at_most_four_times_a_second(nursery: trio.Nursery) -> None:
    line = Line(64 * MIB, 0.05)
    line.free_at = trio.current_time() + 20  # busy with something else first
    seconds = await seconds_to_read(line, nursery)
    assert line.questions <= line.downloads + 4 * seconds


@pytest.mark.parametrize("wanted", [128 * KIB, MIB])
async def test_who_looks_at_the_start_of_a_huge_file_moves_little(nursery: trio.Nursery, wanted: int) -> None:
    line = Line(1024 * MIB, 0.02)
    reader = Reader(line, ReaderOptions())
    await nursery.start(reader.run)
    file = reader.open(1, line.version_there, lambda: "/share/file")
    await file.read(0, wanted)
    await trio.sleep(5)
    assert line.downloads == 1
    assert reader.cache_bytes <= wanted + max(512 * KIB, 2 * wanted)
