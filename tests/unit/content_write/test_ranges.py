from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from synofs.content.ranges import RangeSet

END = 40
_positions = st.integers(0, END)
_steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _positions, _positions),
        st.tuples(st.just("clip"), _positions, _positions),
    ),
    max_size=25,
)


def replay(steps: list[tuple[str, int, int]]) -> tuple[RangeSet, set[int]]:
    """The same changes to a range set and to a plain set of positions."""
    ranges, model = RangeSet(), set()
    for what, a, b in steps:
        if what == "add":
            ranges.add(a, b)
            model |= set(range(a, b))
        else:
            ranges.clip(a)
            model = {position for position in model if position < a}
    return ranges, model


@given(_steps)
def test_it_holds_exactly_the_positions_that_were_added_and_not_clipped(steps: list[tuple[str, int, int]]) -> None:
    ranges, model = replay(steps)
    assert {position for start, end in ranges for position in range(start, end)} == model


@given(_steps)
def test_its_ranges_are_sorted_and_never_touch(steps: list[tuple[str, int, int]]) -> None:
    ranges, _ = replay(steps)
    found = list(ranges)
    assert len(found) == len(ranges)
    assert all(start < end for start, end in found)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(found))


@given(_steps, _positions, _positions)
def test_gaps_are_what_is_missing_in_order_and_as_few_as_possible(
    steps: list[tuple[str, int, int]], start: int, end: int
) -> None:
    ranges, model = replay(steps)
    gaps = ranges.gaps(start, end)
    assert [position for gap in gaps for position in range(*gap)] == [p for p in range(start, end) if p not in model]
    assert all(a < b for a, b in gaps)
    assert all(before[1] < after[0] for before, after in itertools.pairwise(gaps))


@given(_steps, _positions, _positions)
def test_adding_every_gap_fills_the_stretch(steps: list[tuple[str, int, int]], start: int, end: int) -> None:
    ranges, _ = replay(steps)
    for gap in ranges.gaps(start, end):
        ranges.add(*gap)
    assert ranges.gaps(start, end) == []
