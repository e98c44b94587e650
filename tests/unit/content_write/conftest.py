from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio

from synofs import threads
from synofs.content.budget import BudgetOptions
from synofs.content.cachedir import CacheDir, open_cache_dir
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.fs.writes import WriteMode
from tests.unit.content_write.crashes import without_threads
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.put_rig import PutRig
from tests.unit.content_write.rig import Rig, use_nas_clock
from tests.unit.content_write.staged import BASE_VERSION

MIB = 1024 * 1024
ROOMY = BudgetOptions(max_dirty_bytes=1024 * MIB, floor_bytes=0)


@pytest.fixture
def inline_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disk work happens where it is asked for: with virtual time, nothing is left to the speed of threads."""
    monkeypatch.setattr(trio.to_thread, "run_sync", without_threads)
    monkeypatch.setattr(threads, "run_sync", without_threads)


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


@pytest.fixture
async def area(open_area: Areas) -> StagingArea:
    return await open_area()


@pytest.fixture
async def new(area: StagingArea) -> StagedFile:
    return await area.stage("/s/new", None, empty=True)


@pytest.fixture
async def edit(area: StagingArea) -> StagedFile:
    return await area.stage("/s/edit", BASE_VERSION, empty=False)


async def done(area: StagingArea, staged: StagedFile) -> None:
    """The NAS has it, and the area has forgotten it."""
    assert area.done(staged)
    await area.flush()


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch) -> Nas:
    nas = Nas("s")
    use_nas_clock(monkeypatch, nas)
    return nas


@pytest.fixture
def two_folders(nas: Nas) -> None:
    nas.folder("/s/a")
    nas.folder("/s/b")


@pytest.fixture(params=list(WriteMode), ids=lambda mode: mode.value)
def mode(request: pytest.FixtureRequest) -> WriteMode:
    return request.param


@pytest.fixture
async def rig(nas: Nas, mode: WriteMode, open_area: Areas, inline_disk: None, nursery: trio.Nursery) -> Rig:
    """A mount in both modes."""
    rig = Rig(nas, await open_area(), mode)
    await rig.start(nursery)
    return rig


@pytest.fixture
async def durable(nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery) -> Rig:
    rig = Rig(nas, await open_area(), WriteMode.DURABLE)
    await rig.start(nursery)
    return rig


@pytest.fixture
async def writeback(nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery) -> Rig:
    rig = Rig(nas, await open_area(), WriteMode.WRITEBACK)
    await rig.start(nursery)
    return rig


@pytest.fixture
async def put_rig(nas: Nas, open_area: Areas, inline_disk: None) -> PutRig:
    return PutRig(nas, await open_area())
