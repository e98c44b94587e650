"""The double that the unit tests read from keeps the same contract as the client and every other store."""

from __future__ import annotations

import pytest

from synofs.remote import Space

# Collected here once more, against the double below.
from tests.contract.test_store_contract import (  # noqa: F401
    test_a_file_is_no_folder,
    test_a_file_that_is_gone_is_not_found,
    test_a_folder_is_listed_once_and_whole,
    test_a_folder_that_is_not_there_cannot_be_listed,
    test_a_range_is_read_exactly,
    test_an_entry_tells_kind_size_and_time,
    test_another_size_is_a_change,
    test_below_a_file_nothing_is_there,
    test_looking_at_nothing_asks_nothing,
    test_many_paths_are_looked_at_together_in_their_order,
    test_space_is_known_for_a_share,
    test_the_root_and_a_share_can_be_looked_at,
    test_the_root_lists_the_shares,
)
from tests.unit.memory_store import MemoryStore

pytestmark = pytest.mark.trio


class Side:
    share = "s"
    root = "/s/test"

    def __init__(self) -> None:
        self.store = MemoryStore(page_entries=10)
        self.store.capacities["s"] = Space(100, 50)
        self.make_dir("/s")
        self.make_dir(self.root)

    def put(self, path: str, content: bytes, mtime: int = 1_600_000_000) -> None:
        self.store.file(path, content, mtime=mtime)

    def make_dir(self, path: str) -> None:
        self.store.folder(path)

    def remove(self, path: str) -> None:
        self.store.remove(path)


@pytest.fixture
def far() -> Side:
    return Side()
