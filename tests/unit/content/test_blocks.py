from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from synofs.content.blocks import BlockCache, ContentKey
from synofs.remote import Fingerprint

SIZE = 64
MAX_BYTES = 40


def key(inode: int, mtime: int = 0) -> ContentKey:
    return ContentKey(inode, Fingerprint(SIZE, mtime))


def content(which: ContentKey) -> bytes:
    """Every byte of every version of every file is another one."""
    first = which.inode * 2 * SIZE + which.version.mtime_ns * SIZE
    return bytes(first + n for n in range(SIZE))


def view(which: ContentKey, start: int, end: int) -> memoryview:
    return memoryview(content(which))[start:end]


def test_a_piece_is_found_by_any_byte_in_it() -> None:
    cache = BlockCache(100)
    cache.add(key(0), 10, view(key(0), 10, 20))
    assert cache.find(key(0), 9) is None
    assert cache.find(key(0), 20) is None
    for offset in (10, 15, 19):
        assert cache.find(key(0), offset) == (10, view(key(0), 10, 20))


def test_gaps_are_what_is_missing_in_order() -> None:
    cache = BlockCache(100)
    assert cache.gaps(key(0), 5, 60) == [(5, 60)]
    cache.add(key(0), 10, view(key(0), 10, 20))
    cache.add(key(0), 30, view(key(0), 30, 40))
    assert cache.gaps(key(0), 0, 64) == [(0, 10), (20, 30), (40, 64)]
    assert cache.gaps(key(0), 12, 18) == []
    assert cache.gaps(key(0), 15, 35) == [(20, 30)]
    assert cache.gaps(key(0), 20, 30) == [(20, 30)]


def test_another_version_of_a_file_has_no_pieces() -> None:
    cache = BlockCache(100)
    cache.add(key(0, mtime=0), 0, view(key(0), 0, 64))
    assert cache.find(key(0, mtime=1), 0) is None
    assert not cache.has_any(key(0, mtime=1))


def test_the_least_recently_used_piece_goes_first() -> None:
    cache = BlockCache(30)
    for start in (0, 10, 20):
        cache.add(key(0), start, view(key(0), start, start + 10))
    cache.find(key(0), 5)
    cache.add(key(0), 30, view(key(0), 30, 40))
    assert cache.gaps(key(0), 0, 40) == [(10, 20)]


def test_a_piece_larger_than_the_cache_is_not_kept() -> None:
    cache = BlockCache(10)
    cache.add(key(0), 0, view(key(0), 0, 64))
    assert cache.bytes_used == 0


keys = st.builds(key, st.integers(0, 1), st.integers(0, 1))
offsets = st.integers(0, SIZE)


class AgainstAModel(RuleBasedStateMachine):
    """The model: which bytes were ever added. The cache may have forgotten, and may never be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.cache = BlockCache(MAX_BYTES)
        self.added: dict[ContentKey, set[int]] = {}

    @rule(which=keys, start=offsets, end=offsets)
    def add(self, which: ContentKey, start: int, end: int) -> None:
        start, end = sorted((start, end))
        new = sum(gap_end - gap_start for gap_start, gap_end in self.cache.gaps(which, start, end))
        has_room = self.cache.bytes_used + new <= MAX_BYTES
        self.cache.add(which, start, view(which, start, end))
        self.added.setdefault(which, set()).update(range(start, end))
        if has_room:
            assert self.cache.gaps(which, start, end) == []

    @rule(which=keys, offset=offsets)
    def find(self, which: ContentKey, offset: int) -> None:
        found = self.cache.find(which, offset)
        if found is not None:
            start, data = found
            assert start <= offset < start + len(data)
            assert bytes(data) == content(which)[start : start + len(data)]
            assert self.added[which] >= set(range(start, start + len(data)))

    @rule(which=keys, start=offsets, end=offsets)
    def gaps(self, which: ContentKey, start: int, end: int) -> None:
        start, end = sorted((start, end))
        missing = {n for gap_start, gap_end in self.cache.gaps(which, start, end) for n in range(gap_start, gap_end)}
        for offset in range(start, end):
            assert (offset in missing) == (self.cache.find(which, offset) is None)
        assert missing <= set(range(start, end))

    @rule(which=keys)
    def drop(self, which: ContentKey) -> None:
        self.cache.drop(which)
        assert not self.cache.has_any(which)
        assert self.cache.gaps(which, 0, SIZE) == [(0, SIZE)]

    @invariant()
    def it_keeps_within_its_bound_and_counts_right(self) -> None:
        pieces = [data for files in self.cache._files.values() for data in files.data.values()]
        assert self.cache.bytes_used == sum(len(data) for data in pieces) <= MAX_BYTES
        assert len(self.cache._recent) == len(pieces)

    @invariant()
    def pieces_never_overlap(self) -> None:
        for files in self.cache._files.values():
            assert files.starts == sorted(files.data)
            end = 0
            for start in files.starts:
                assert start >= end
                assert len(files.data[start]) > 0
                end = start + len(files.data[start])


AgainstAModel.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
