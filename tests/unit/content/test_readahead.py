from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synofs.content.readahead import GENTLE, KIB, MIB, ReadAhead, ReadAheadOptions, Want

OPTIONS = ReadAheadOptions()
PLENTY = 64 * MIB


@pytest.mark.parametrize("size", [1, 4 * KIB, 1 * MIB])
@pytest.mark.parametrize("start", [0, 0.5, 0.99])
def test_a_small_file_is_wanted_whole_whatever_is_read_of_it(size: int, start: float) -> None:
    offset = int(size * start)
    assert ReadAhead(size, OPTIONS).on_read(offset, min(size, offset + 10), PLENTY) == Want(0, size)


def test_the_window_grows_eightfold_each_time_half_of_it_is_used_up() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    ahead = []
    for start in range(0, 256 * MIB, 128 * KIB):
        want = pattern.on_read(start, start + 128 * KIB, PLENTY)
        assert want.start == start
        if not ahead or want.end != ahead[-1][1]:
            ahead.append((start + 128 * KIB, want.end))
    windows = [end - read for read, end in ahead]
    assert windows[:4] == [512 * KIB, 4 * MIB, 32 * MIB, 64 * MIB]
    assert set(windows[4:]) == {64 * MIB}


def test_while_the_reader_waits_for_a_proof_the_second_window_grows_once_at_each_place() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    want = pattern.on_read(0, 128 * KIB, PLENTY)
    assert pattern.on_wait(PLENTY) == want.end, "a head costs little, whoever has read the file before"
    position = 512 * KIB
    want = pattern.on_read(position - 128 * KIB, position, PLENTY)
    assert want.end == position + 4 * MIB
    assert pattern.on_wait(PLENTY) == pattern.on_wait(PLENTY) == position + 16 * MIB
    assert pattern.on_read(position, position + 128 * KIB, PLENTY).end == position + 16 * MIB
    assert pattern.on_wait(PLENTY) == position + 128 * KIB + 32 * MIB
    for start in range(position, 16 * MIB, 128 * KIB):
        pattern.on_read(start, start + 128 * KIB, PLENTY)
        assert pattern.on_wait(PLENTY) <= start + 128 * KIB + 32 * MIB


def test_random_reads_open_no_window_while_they_wait_for_a_proof() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    for start in (100 * MIB, 700 * MIB, 300 * MIB):
        for offset in (start, start + 4 * KIB, start + 8 * KIB):
            want = pattern.on_read(offset, offset + 4 * KIB, PLENTY)
            assert pattern.on_wait(PLENTY) <= want.end


def test_the_window_of_a_waiting_reader_keeps_to_the_files_share_of_the_memory_and_to_its_end() -> None:
    for size, limit in ((1024 * MIB, 5 * MIB), (7 * MIB, PLENTY)):
        pattern = ReadAhead(size, OPTIONS)
        for start in range(0, 6 * MIB, 128 * KIB):
            pattern.on_read(start, start + 128 * KIB, limit)
            assert pattern.on_wait(limit) <= min(size, start + 128 * KIB + limit)


def test_a_head_costs_little() -> None:
    want = ReadAhead(1024 * MIB, OPTIONS).on_read(0, 128 * KIB, PLENTY)
    assert want == Want(0, 640 * KIB)


def test_who_begins_with_large_reads_gets_twice_as_much_ahead() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    assert pattern.on_read(0, MIB, PLENTY) == Want(0, 3 * MIB)
    assert pattern.on_read(MIB, 2 * MIB, PLENTY) == Want(MIB, 18 * MIB)


def test_who_looks_at_many_files_gets_little_ahead_however_large_the_reads() -> None:
    assert ReadAhead(1024 * MIB, GENTLE).on_read(0, MIB, PLENTY) == Want(0, MIB + 32 * KIB)


def test_the_window_keeps_to_the_files_share_of_the_memory() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    for start in range(0, 64 * MIB, 128 * KIB):
        want = pattern.on_read(start, start + 128 * KIB, 2 * MIB)
        assert want.end - (start + 128 * KIB) <= 2 * MIB


def test_with_next_to_no_memory_the_first_window_remains() -> None:
    want = ReadAhead(1024 * MIB, OPTIONS).on_read(0, 128 * KIB, 1)
    assert want == Want(0, 640 * KIB)


def test_the_end_of_the_file_is_the_end_of_what_is_wanted() -> None:
    size = 2 * MIB + 3
    pattern = ReadAhead(size, OPTIONS)
    for start in range(0, size, 128 * KIB):
        want = pattern.on_read(start, min(size, start + 128 * KIB), PLENTY)
        assert want.end <= size
    assert want.end == size


def test_a_random_read_wants_what_was_asked_rounded_to_32_kib() -> None:
    size = 1024 * MIB
    pattern = ReadAhead(size, OPTIONS)
    assert pattern.on_read(500 * MIB + 5, 500 * MIB + 4101, PLENTY) == Want(500 * MIB, 500 * MIB + 32 * KIB)
    # Over a boundary: both blocks.
    assert pattern.on_read(100 * MIB - 1, 100 * MIB + 1, PLENTY) == Want(100 * MIB - 32 * KIB, 100 * MIB + 32 * KIB)
    # The last block is short.
    assert pattern.on_read(size - 10, size, PLENTY) == Want(size - 32 * KIB, size)


@pytest.mark.parametrize("order", [(0, 2, 1, 3, 5, 4), (0, 1, 3, 2, 4, 5), (0, 3, 1, 2, 5, 4)])
def test_reads_that_arrive_out_of_order_are_still_sequential(order: tuple[int, ...]) -> None:
    """The kernel keeps a few reads of one reader in flight."""
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    furthest = 0
    for number in order:
        start = number * 128 * KIB
        want = pattern.on_read(start, start + 128 * KIB, PLENTY)
        furthest = max(furthest, want.end)
    assert furthest > 6 * 128 * KIB + 512 * KIB


def test_a_seek_ends_the_window_and_reading_on_opens_a_new_one() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    for start in range(0, 16 * MIB, 128 * KIB):
        pattern.on_read(start, start + 128 * KIB, PLENTY)
    first = pattern.on_read(500 * MIB, 500 * MIB + 128 * KIB, PLENTY)
    assert first == Want(500 * MIB, 500 * MIB + 128 * KIB)
    second = pattern.on_read(500 * MIB + 128 * KIB, 500 * MIB + 256 * KIB, PLENTY)
    assert second == Want(500 * MIB + 128 * KIB, 500 * MIB + 256 * KIB + 512 * KIB)


def test_who_reads_a_few_pages_where_it_jumped_to_gets_four_times_as_much_ahead() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    for start in (100 * MIB, 700 * MIB, 300 * MIB):
        pattern.on_read(start, start + 4 * KIB, PLENTY)
        second = pattern.on_read(start + 4 * KIB, start + 8 * KIB, PLENTY)
        assert second == Want(start, start + 64 * KIB), "4 x 8 KiB beyond, in blocks"
        third = pattern.on_read(start + 8 * KIB, start + 64 * KIB, PLENTY)
        assert third.end <= start + 5 * 64 * KIB


def test_a_small_read_near_the_last_one_is_a_jump_too() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    for start in (0, 100 * KIB, 60 * KIB, 300 * KIB):
        want = pattern.on_read(start, start + 4 * KIB, PLENTY)
    assert want == Want(288 * KIB, 320 * KIB)


def test_who_reads_backwards_in_small_steps_gets_whole_blocks() -> None:
    pattern = ReadAhead(1024 * MIB, OPTIONS)
    starts = range(500 * MIB, 499 * MIB, -4 * KIB)
    wanted = [pattern.on_read(start, start + 4 * KIB, PLENTY) for start in starts]
    assert all(want.start % (32 * KIB) == 0 for want in wanted)
    assert all(want.end - start <= 64 * KIB for start, want in zip(starts, wanted, strict=True))


@given(
    st.integers(1, 64 * MIB),
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 1 * MIB)), min_size=1, max_size=30),
    st.integers(0, 64 * MIB),
)
def test_what_was_asked_is_always_wanted_and_nothing_beyond_the_file(
    size: int, reads: list[tuple[float, int]], memory: int
) -> None:
    pattern = ReadAhead(size, OPTIONS)
    for where, length in reads:
        start = int(where * (size - 1))
        end = min(size, start + length)
        want = pattern.on_read(start, end, memory)
        assert 0 <= want.start <= start
        assert end <= want.end <= size
