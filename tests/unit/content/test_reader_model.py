"""Reads, changes and closes in any order, against what may be read."""

from __future__ import annotations

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from synofs.content.readahead import ReadAheadOptions
from synofs.content.reader import Reader, ReaderOptions
from synofs.remote import Changed
from tests.trees import revealing, versions_in
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import run_in_virtual_time

PATH = "/s/file"

OPTIONS = ReaderOptions(
    memory_bytes=6000,
    request_bytes=2000,
    small_read_bytes=300,
    readahead=ReadAheadOptions(
        small_file_bytes=500, random_block_bytes=128, first_window_bytes=500, max_window_bytes=4000, slack_bytes=300
    ),
)

steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 3), st.floats(0, 1), st.integers(1, 1500)),
        st.tuples(st.just("change"), st.sampled_from([0, 0, 1])),
        st.tuples(st.just("wait"), st.floats(0, 1)),
        st.tuples(st.just("reopen"), st.integers(0, 3)),
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 10_000), st.booleans(), steps)
def test_whatever_happens_a_handle_reads_its_version_or_an_error(size: int, ranges: bool, plan: list) -> None:
    """Reads in any order by four handles, several at once, while the file is rewritten at any moment."""

    store = MemoryStore(piece_bytes=170)
    store.ignores_ranges = not ranges
    store.file(PATH, revealing(size), mtime=0)
    reader = Reader(store, OPTIONS)

    class Open:
        def __init__(self) -> None:
            version = store.version(PATH)
            self.file = reader.open(1, version, lambda: PATH)
            self.size = version.size
            self.is_closed = False
            self.seen: set[int] = set()

    async def run() -> None:
        versions = 1

        async def read(handle: Open, where: float, length: int) -> None:
            if handle.is_closed:
                return
            offset = int(where * handle.size)
            try:
                data = bytes(await handle.file.read(offset, length))
            except Changed:
                assert versions > 1
            else:
                assert len(data) == min(handle.size, offset + length) - offset
                handle.seen |= versions_in(data, offset)
                assert len(handle.seen) <= 1

        async with trio.open_nursery() as serving:
            await serving.start(reader.run)
            handles = [Open() for _ in range(4)]
            with trio.fail_after(1000):
                async with trio.open_nursery() as nursery:
                    for step in plan:
                        match step:
                            case ("read", number, where, length):
                                nursery.start_soon(read, handles[number], where, length)
                            case ("wait", seconds):
                                await trio.sleep(seconds)
                            case ("reopen", number):
                                handles[number].file.close()
                                handles[number].is_closed = True
                                handles[number] = Open()
                            case ("change", growth):
                                content = revealing(store.version(PATH).size + growth, versions)
                                store.file(PATH, content, mtime=versions)
                                versions += 1
            assert reader.cache_bytes <= OPTIONS.memory_bytes
            serving.cancel_scope.cancel()

    run_in_virtual_time(run)
