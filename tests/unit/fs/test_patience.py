"""A change is waited for while the NAS shows signs of life, and no longer."""

from __future__ import annotations

import pytest
import trio

from synofs.fs.errors import DeadlineExceeded
from synofs.fs.patience import Patience, PatienceOptions
from synofs.remote import Unreachable
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

SILENT = 60.0


class Nas:
    def __init__(self) -> None:
        self.away = False
        self.moves = 0

    def activity(self) -> int:
        return self.moves


@pytest.fixture
def nas() -> Nas:
    return Nas()


@pytest.fixture
async def patience(nas: Nas, nursery: trio.Nursery) -> Patience:
    patience = Patience(PatienceOptions(silent_seconds=SILENT))
    patience.nas = nas
    await nursery.start(patience.run)
    return patience


async def test_a_change_that_moves_is_waited_for_without_end(patience: Patience, nas: Nas) -> None:
    with patience.waiting():
        for _ in range(1000):
            nas.moves += 1
            await trio.sleep(SILENT - 1)


async def test_silence_ends_it(patience: Patience, nas: Nas) -> None:
    begun = trio.current_time()

    async def call() -> None:
        with patience.waiting():
            await trio.sleep(30)
            nas.moves += 1
            await trio.sleep_forever()

    with pytest.raises(DeadlineExceeded):
        await call()
    assert 30 + SILENT <= trio.current_time() - begun <= 30 + SILENT + 1


@pytest.mark.parametrize("away_already", [True, False])
async def test_a_nas_that_is_away_ends_it_within_a_second(patience: Patience, nas: Nas, away_already: bool) -> None:
    nas.away = away_already
    away_after = 0 if away_already else 10
    begun = trio.current_time()

    async def call() -> None:
        with patience.waiting():
            await trio.sleep(away_after)
            nas.away = True
            await trio.sleep_forever()

    with pytest.raises(Unreachable):
        await call()
    assert trio.current_time() - begun <= away_after + 1.1


async def test_what_ends_in_time_is_left_alone_even_if_the_nas_is_away(patience: Patience, nas: Nas) -> None:
    nas.away = True
    with patience.waiting():
        await trio.sleep(0.5)


async def test_a_failure_of_the_call_itself_comes_through(patience: Patience) -> None:
    with pytest.raises(ZeroDivisionError), patience.waiting():
        raise ZeroDivisionError


async def test_a_caller_that_is_cancelled_is_cancelled(patience: Patience) -> None:
    with trio.move_on_after(1) as limit, patience.waiting():
        await trio.sleep_forever()
    assert limit.cancelled_caught
