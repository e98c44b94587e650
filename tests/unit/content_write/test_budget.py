from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from synofs.content.budget import BudgetOptions, DiskBudget
from synofs.content.errors import LocalDiskFull

MIB = 1024 * 1024
OPTIONS = BudgetOptions(max_dirty_bytes=100 * MIB, floor_bytes=10 * MIB, check_every_bytes=4 * MIB)


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`free(bytes)`: so much is left on the disk from now on. Looks are counted in `free.looks`."""
    state = {"free": 1000 * MIB}

    def statvfs(path: object) -> SimpleNamespace:
        set_free.looks += 1  # type: ignore[attr-defined]
        return SimpleNamespace(f_bavail=state["free"], f_frsize=1)

    def set_free(count: int) -> None:
        state["free"] = count

    set_free.looks = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(os, "statvfs", statvfs)
    return set_free


@pytest.fixture
def budget(tmp_path: Path, free: Callable[[int], None]) -> DiskBudget:
    return DiskBudget(tmp_path, OPTIONS)


def test_the_limit_is_kept_to_the_byte(budget: DiskBudget) -> None:
    budget.reserve(100 * MIB - 1)
    budget.reserve(1)
    with pytest.raises(LocalDiskFull, match="--cache-size"):
        budget.reserve(1)
    assert budget.dirty_bytes == 100 * MIB
    budget.give_back(1)
    budget.reserve(1)


def test_the_writer_is_refused_before_the_disk_is_full(budget: DiskBudget, free: Callable[[int], None]) -> None:
    budget.reserve(1 * MIB)
    free(10 * MIB + 100)
    budget.reserve(2 * MIB, 2 * MIB)  # no look is due yet
    with pytest.raises(LocalDiskFull, match="almost full"):
        budget.reserve(2 * MIB, 2 * MIB)
    assert budget.dirty_bytes == 3 * MIB


def test_a_look_at_the_disk_is_taken_now_and_then_only(budget: DiskBudget, free: Callable[[int], None]) -> None:
    for _ in range(10_000):
        budget.reserve(4096, 4096)
    assert free.looks <= 10_000 * 4096 // OPTIONS.check_every_bytes + 2  # type: ignore[attr-defined]


def test_writing_into_holes_counts_although_nothing_grows(budget: DiskBudget, free: Callable[[int], None]) -> None:
    budget.reserve(50 * MIB)  # a sparse file
    free(10 * MIB + 100)
    with pytest.raises(LocalDiskFull, match="almost full"):
        budget.reserve(0, MIB)
    assert budget.dirty_bytes == 50 * MIB


def test_a_reservation_larger_than_what_is_free_is_refused_at_once(
    budget: DiskBudget, free: Callable[[int], None]
) -> None:
    free(30 * MIB)
    with pytest.raises(LocalDiskFull):
        budget.reserve(25 * MIB)
    assert budget.dirty_bytes == 0


def test_what_shrinks_is_never_refused(budget: DiskBudget, free: Callable[[int], None]) -> None:
    budget.reserve(100 * MIB)
    free(0)
    budget.reserve(0)
    budget.reserve(-5)
    budget.give_back(200 * MIB)
    assert budget.dirty_bytes == 0
