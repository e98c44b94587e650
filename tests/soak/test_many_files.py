"""The short form of very many files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak.many_files import MOST_BYTES_PER_FILE, run

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


def test_many_files_are_walked_in_bounded_memory_and_each_name_of_a_changing_folder_is_shown_once(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    tally = run(tmp_path, files=20_000, entries=10_000, rounds=3)
    with capsys.disabled():
        print(f"\n{tally}")
    assert tally.wrong == []
    assert tally.bytes_per_file < MOST_BYTES_PER_FILE
    assert tally.changes > 50
