"""What is served is as the files of most people are: written long ago."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.datasets import Data

MINUTE_SECONDS = 60.0


@pytest.mark.parametrize(
    "make",
    [
        lambda data: data.tree(10),
        lambda data: data.flat(10),
        lambda data: data.big(1 << 20),
        lambda data: data.small(10),
        lambda data: data.many(1, 10),
        lambda data: data.source(whole=False),
    ],
    ids=["tree", "flat", "big", "small", "many", "source"],
)
def test_no_file_looks_as_if_somebody_were_still_writing_it(make: Callable[[Data], str], tmp_path: Path) -> None:
    """Of a file that is so young that a rewrite would not show in its time, a careful mount keeps nothing."""
    made = tmp_path / make(Data(tmp_path))
    latest = time.time() - MINUTE_SECONDS
    assert [path for path in (made, *made.rglob("*")) if path.stat().st_mtime > latest] == []


def test_git_need_not_read_the_files_of_the_source_tree(tmp_path: Path) -> None:
    """It reads again what is not older than its index."""
    made = tmp_path / Data(tmp_path).source(whole=False)
    index = (made / ".git/index").stat().st_mtime
    assert [path for path in made.rglob("*.py") if path.stat().st_mtime >= index] == []
