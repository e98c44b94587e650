from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from synofs.content.budget import BudgetOptions
from synofs.content.cachedir import CacheDir, open_cache_dir
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.content.stagingdisk import StagingDisk
from tests.unit.content_write.crashes import without_threads

MIB = 1024 * 1024
ROOMY = BudgetOptions(max_dirty_bytes=1024 * MIB, floor_bytes=0)


@pytest.fixture
def inline_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk work happens where it is asked for: with virtual time, nothing is left to the speed of threads."""
    monkeypatch.setattr(StagingDisk, "_in_thread", without_threads)
    monkeypatch.setattr(StagingDisk, "run_bulk", without_threads)


class Areas:
    """`await areas()` -> an area in `tmp_path`, or in a copy of it, with what it recovered."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[StagingArea, CacheDir] = {}

    async def __call__(self, folder: Path | None = None, budget: BudgetOptions = ROOMY) -> StagingArea:
        cache_dir = open_cache_dir(folder or self._folder, "test")
        area = StagingArea(cache_dir, budget)
        self._open[area] = cache_dir
        await area.open()
        return area

    async def close(self, area: StagingArea) -> None:
        await area.close()
        self._open.pop(area).close()

    async def close_all(self) -> None:
        for area in list(self._open):
            await self.close(area)


@pytest.fixture
async def open_area(tmp_path: Path) -> AsyncIterator[Areas]:
    areas = Areas(tmp_path)
    yield areas
    await areas.close_all()


async def done(area: StagingArea, staged: StagedFile) -> None:
    """The NAS has it, and the area has forgotten it."""
    assert area.done(staged)
    await area.flush()
