"""Whole folders from pages that are no snapshot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from synofs.filestation.listing import Pager, PagingOptions
from synofs.filestation.parsing import Listing, Record
from synofs.remote import BadAnswer, Overloaded, RemoteEntry

SMALL = PagingOptions(first_page=10, page=20, ahead=3, first_step_back=2)


class Folder:
    """A folder on a NAS: sorted by name, cut into pages as it is at that moment."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = sorted(names)
        self.cap = 0
        self.before_page: Callable[[int], None] = lambda number: None
        self.asked: list[tuple[int, int]] = []
        self.total: Callable[[], int | None] = lambda: len(self.names)
        self.at_once = 0
        self.most_at_once = 0

    async def fetch(self, offset: int, limit: int) -> Listing:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await trio.lowlevel.checkpoint()
        self.before_page(len(self.asked))
        self.asked.append((offset, limit))
        self.at_once -= 1
        names = self.names[offset:]
        if limit:
            names = names[:limit]
        if self.cap:
            names = names[: self.cap]
        records = [Record(name=name, path=f"/s/{name}", isdir=False) for name in names]
        return Listing(files=records, total=self.total())


class Received:
    def __init__(self) -> None:
        self.pages: list[list[str]] = []

    def __call__(self, page: Sequence[RemoteEntry]) -> None:
        self.pages.append([entry.name for entry in page])

    @property
    def names(self) -> list[str]:
        return [name for page in self.pages for name in page]


def names_of(count: int) -> list[str]:
    return [f"{number:06}" for number in range(0, 2 * count, 2)]


def listed(folder: Folder, options: PagingOptions = SMALL, pager: Pager | None = None) -> Received:
    received = Received()

    async def main() -> None:
        await (pager or Pager(options)).list(folder.fetch, received, "/s")

    trio.run(main)
    return received


@pytest.mark.parametrize("capped", [0, 15])
@pytest.mark.parametrize("vanishing", [0, 1, 3])
@pytest.mark.parametrize("count", [5, 40, 400])
def test_a_folder_in_which_names_come_and_go_without_a_pause_is_listed_all_the_same(
    count: int, vanishing: int, capped: int
) -> None:
    """Between counting and looking, some are gone: the page is shorter than its total says."""
    lasting = names_of(count)
    folder = Folder(lasting)
    folder.cap = capped

    def churn(number: int) -> None:
        fleeting = [f"{(7919 * (number + k)) % (2 * count + 9):06}x" for k in range(5 + number % 3)]
        folder.names = sorted([*lasting, *fleeting])

    folder.before_page = churn
    folder.total = lambda: len(folder.names) + vanishing
    received = listed(folder)
    assert len(received.names) == len(set(received.names))
    assert set(lasting) <= set(received.names)
    assert len(folder.asked) <= 20 + 8 * count


@pytest.mark.parametrize("total", [None, 3])
def test_an_answer_that_is_no_listing_is_not_an_empty_folder(total: int | None) -> None:
    async def fetch(offset: int, limit: int) -> Listing:
        return Listing(total=total)

    with pytest.raises(BadAnswer, match="no listing"):
        trio.run(Pager(SMALL).list, fetch, Received(), "/s")


@pytest.mark.parametrize("count", [0, 1, 9, 10, 11, 28, 29, 30, 47, 48, 49, 100, 500])
def test_a_folder_at_rest_is_listed_in_order_whatever_its_size(count: int) -> None:
    folder = Folder(names_of(count))
    assert listed(folder).names == folder.names


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 5000, 5999, 6000, 10_000, 20_000, 100_000])
def test_the_number_of_calls_is_what_was_promised(count: int) -> None:
    folder = Folder(names_of(count))
    listed(folder, PagingOptions())
    promised = 1 if count <= 1000 else math.ceil(count / 5000) + 1
    assert len(folder.asked) <= promised


def test_the_first_entries_come_before_the_last_page_is_asked_for() -> None:
    folder = Folder(names_of(500))
    received = Received()
    seen: list[int] = []
    folder.before_page = lambda number: seen.append(len(received.names))

    async def main() -> None:
        await Pager(SMALL).list(folder.fetch, received, "/s")

    trio.run(main)
    assert seen[0] == 0
    assert seen[1] >= 10
    assert sorted(seen) == seen
    assert received.pages[0] == folder.names[:10]


def test_pages_are_fetched_together_but_not_all_of_them() -> None:
    folder = Folder(names_of(2000))
    listed(folder)
    assert folder.most_at_once == SMALL.ahead


def test_a_server_that_caps_its_pages_is_understood_and_remembered() -> None:
    folder = Folder(names_of(500))
    folder.cap = 7
    pager = Pager(SMALL)
    assert listed(folder, pager=pager).names == folder.names
    assert pager.cap == 7
    again = Folder(names_of(500))
    again.cap = 7
    listed(again, pager=pager)
    assert {limit for _, limit in again.asked} == {7}


def test_a_cap_between_the_first_and_the_other_pages() -> None:
    folder = Folder(names_of(500))
    folder.cap = 15
    assert listed(folder).names == folder.names


def test_a_server_without_totals_is_read_to_its_end() -> None:
    folder = Folder(names_of(95))
    folder.total = lambda: None
    assert listed(folder).names == folder.names


def test_a_server_that_ignores_paging_is_read_once() -> None:
    folder = Folder(names_of(95))
    real = folder.fetch
    folder.fetch = lambda offset, limit: real(0, 0)  # type: ignore[method-assign]
    assert listed(folder).names == folder.names


# ----- folders that change ----------------------------------------------------------------------------------------


def test_entries_that_go_before_a_boundary_make_no_hole() -> None:
    folder = Folder(names_of(100))
    lasting = folder.names[8:]

    def change(number: int) -> None:
        if number == 1:
            del folder.names[:8]

    folder.before_page = change
    names = listed(folder).names
    assert [name for name in names if name in lasting] == lasting
    assert len(set(names)) == len(names)


def test_entries_that_come_before_a_boundary_make_no_doubles() -> None:
    folder = Folder(names_of(100))
    lasting = list(folder.names)

    def change(number: int) -> None:
        if number == 1:
            folder.names[0:0] = [f" new {i}" for i in range(8)]

    folder.before_page = change
    names = listed(folder).names
    assert [name for name in names if name in lasting] == lasting
    assert len(set(names)) == len(names)


def test_the_boundary_itself_may_go() -> None:
    folder = Folder(names_of(100))
    boundary = folder.names[9]

    def change(number: int) -> None:
        if number == 1:
            folder.names.remove(boundary)

    folder.before_page = change
    names = listed(folder).names
    assert set(names) >= set(folder.names)


def test_a_folder_that_is_emptied_meanwhile_ends() -> None:
    folder = Folder(names_of(100))
    folder.before_page = lambda number: folder.names.clear() if number == 1 else None
    assert listed(folder).names == names_of(100)[:10]


steps = st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 10_000)), max_size=30), min_size=1, max_size=12)


@settings(max_examples=400, deadline=None)
@given(
    count=st.integers(0, 200),
    changes=steps,
    cap=st.sampled_from([0, 0, 0, 5, 13]),
    step_back=st.sampled_from([2, 64]),
)
def test_whatever_changes_lasting_entries_come_once(
    count: int, changes: list[list[tuple[bool, int]]], cap: int, step_back: int
) -> None:
    """The proof in listing.py, tried: additions and removals anywhere, before any page."""
    folder = Folder(names_of(count))
    folder.cap = cap
    lasting = set(folder.names)

    def change(number: int) -> None:
        if number == 0 or number > len(changes):
            return
        for adds, where in changes[number - 1]:
            if adds:
                new = f"{where % 400:06}.{number}"
                if new not in folder.names:
                    folder.names = sorted([*folder.names, new])
            elif folder.names:
                gone = folder.names.pop(where % len(folder.names))
                lasting.discard(gone)

    folder.before_page = change
    received = Received()

    async def main() -> None:
        options = PagingOptions(first_page=10, page=20, ahead=3, first_step_back=step_back)
        await Pager(options).list(folder.fetch, received, "/s")

    try:
        trio.run(main)
    except BadAnswer:
        # A server that caps even the one call for everything, on a folder that never rests, cannot be listed.
        assert cap
        return
    names = received.names
    assert len(set(names)) == len(names)
    assert lasting <= set(names)
    in_order = [name for name in names if name in lasting]
    if (0, 0) not in folder.asked:
        assert in_order == sorted(in_order)


def test_a_sort_that_flips_equal_names_is_noticed() -> None:
    """The proof needs one order; if the NAS orders "A" and "a" now so and now so, the count tells."""
    folder = Folder(names_of(10))
    shown = [*folder.names[:9], "x", "X", *[f"y{i}" for i in range(20)]]
    flipped = [*folder.names[:9], "X", "x", *[f"y{i}" for i in range(20)]]

    async def fetch(offset: int, limit: int) -> Listing:
        folder.asked.append((offset, limit))
        names = (shown if len(folder.asked) == 1 else flipped)[offset:][: limit or None]
        return Listing(files=[Record(name=name, isdir=False) for name in names], total=len(shown))

    folder.fetch = fetch  # type: ignore[method-assign]
    names = listed(folder).names
    assert sorted(names) == sorted(shown)
    assert folder.asked[-1] == (0, 0)


# ----- servers that lie -------------------------------------------------------------------------------------------


def test_a_total_that_is_too_large_is_a_bad_answer_after_a_few_calls() -> None:
    folder = Folder(names_of(100))
    folder.total = lambda: 1000
    with pytest.raises(BadAnswer):
        listed(folder)
    assert len(folder.asked) < 30


def test_empty_pages_too_early_are_a_bad_answer() -> None:
    folder = Folder(names_of(100))
    real = folder.fetch

    async def fetch(offset: int, limit: int) -> Listing:
        page = await real(offset, limit)
        return page if offset == 0 and limit else Listing(files=[], total=100)

    folder.fetch = fetch  # type: ignore[method-assign]
    with pytest.raises(BadAnswer):
        listed(folder)


def test_an_endless_listing_ends() -> None:
    async def fetch(offset: int, limit: int) -> Listing:
        await trio.lowlevel.checkpoint()
        records = [Record(name=f"{number:09}", isdir=False) for number in range(offset, offset + limit)]
        return Listing(files=records, total=offset + limit + 1000)

    with pytest.raises(BadAnswer, match="does not end"):
        trio.run(Pager(PagingOptions()).list, fetch, lambda page: None, "/s")


def test_the_same_page_for_ever_ends() -> None:
    async def fetch(offset: int, limit: int) -> Listing:
        await trio.lowlevel.checkpoint()
        return Listing(files=[Record(name=f"{i}", isdir=False) for i in range(limit or 10)], total=10_000)

    with pytest.raises(BadAnswer):
        trio.run(Pager(SMALL).list, fetch, lambda page: None, "/s")


def test_doubles_within_one_listing_are_dropped() -> None:
    folder = Folder([*names_of(50), *names_of(50)])
    names = listed(folder).names
    assert names == names_of(50)


def test_a_failure_of_a_later_page_is_the_listings_failure() -> None:
    folder = Folder(names_of(500))

    def fail(number: int) -> None:
        if number == 3:
            raise Overloaded("402", path="/s")

    folder.before_page = fail
    with pytest.raises(Overloaded):
        listed(folder)


def test_a_failure_of_the_receiver_reaches_the_caller_as_it_is() -> None:
    folder = Folder(names_of(500))
    calls = 0

    def on_page(page: Sequence[RemoteEntry]) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        trio.run(Pager(SMALL).list, folder.fetch, on_page, "/s")


def test_a_capped_folder_in_which_as_many_names_come_as_go_is_listed_whole() -> None:
    folder = Folder(names_of(300))
    folder.cap = 20
    lasting = set(folder.names[::2])
    changes = iter(range(0, 300, 2))

    def change(number: int) -> None:
        if number and number < 12:  # one goes ahead of the reader, one comes behind
            folder.names.remove(names_of(300)[299 - next(changes)])
            folder.names = sorted([*folder.names, f"!{number:03}"])

    folder.before_page = change
    received = Received()
    trio.run(Pager(SMALL).list, folder.fetch, received, "/s")
    assert lasting <= set(received.names)
    assert len(received.names) == len(set(received.names))
