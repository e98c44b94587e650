"""Proving uploads in bulk."""

from __future__ import annotations

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from synofs.fs.confirm import Confirmer
from synofs.remote import RemoteEntry, Unreachable
from tests.unit.content_write.nas import Nas
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

GATHER = 0.25


@pytest.fixture
def nas() -> Nas:
    nas = Nas("s")
    nas.folder("/s/d")
    for number in range(300):
        nas.file(f"/s/{number}", b"x" * number)
    return nas


class Asker:
    def __init__(self, confirmer: Confirmer) -> None:
        self.confirmer = confirmer
        self.answers: dict[str, RemoteEntry | Exception | None] = {}
        self.answered_at: dict[str, float] = {}

    async def ask(self, path: str) -> None:
        try:
            self.answers[path] = await self.confirmer.look(path)
        except Unreachable as error:
            self.answers[path] = error
        self.answered_at[path] = trio.current_time()


@pytest.fixture
async def asker(nas: Nas, nursery: trio.Nursery) -> Asker:
    confirmer = Confirmer(nas, GATHER)
    nursery.start_soon(confirmer.run)
    return Asker(confirmer)


async def ask_all(asker: Asker, paths: list[str], pause: float = 0.0) -> None:
    async with trio.open_nursery() as nursery:
        for path in paths:
            nursery.start_soon(asker.ask, path)
            if pause:
                await trio.sleep(pause)


async def test_each_gets_its_own_answer(asker: Asker, nas: Nas) -> None:
    await ask_all(asker, ["/s/3", "/s/nothing", "/s/d"])
    sizes = {path: entry and (entry.size, entry.is_dir) for path, entry in asker.answers.items()}
    assert sizes == {"/s/3": (3, False), "/s/nothing": None, "/s/d": (0, True)}


async def test_a_few_are_asked_for_by_name_in_one_call(asker: Asker, nas: Nas) -> None:
    await ask_all(asker, [f"/s/{number}" for number in range(50)])
    assert nas.methods() == ["get_entries"]


async def test_many_of_one_folder_are_proved_by_listing_it_once(asker: Asker, nas: Nas) -> None:
    paths = [f"/s/{number}" for number in range(300)]
    await ask_all(asker, paths)
    assert nas.methods() == ["list_dir"]
    assert all(asker.answers[path].size == int(path[3:]) for path in paths)


async def test_a_folder_known_to_be_huge_is_not_listed_for_some(asker: Asker, nas: Nas) -> None:
    for number in range(20_000):
        nas.file(f"/s/d/{number}")
    await ask_all(asker, [f"/s/d/{number}" for number in range(150)])
    nas.calls.clear()
    await ask_all(asker, [f"/s/d/{number}" for number in range(150)])
    assert nas.methods() == ["get_entries"]


async def test_uploads_that_end_one_after_the_other_are_asked_for_together(asker: Asker, nas: Nas) -> None:
    await ask_all(asker, [f"/s/{number}" for number in range(20)], pause=GATHER / 2)
    assert len(nas.calls) == 1


async def test_nobody_waits_for_ever_because_others_keep_coming(asker: Asker, nas: Nas) -> None:
    started = trio.current_time()
    await ask_all(asker, [f"/s/{number}" for number in range(100)], pause=GATHER / 2)
    assert asker.answered_at["/s/0"] - started <= 20 * GATHER


async def test_where_somebody_waits_nothing_is_gathered(asker: Asker, nas: Nas) -> None:
    started = trio.current_time()
    with asker.confirmer.urgent():
        await asker.ask("/s/1")
    assert trio.current_time() == started


async def test_who_comes_to_wait_ends_the_gathering(asker: Asker, nas: Nas) -> None:
    started = trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.ask, "/s/1")
        await wait_all_tasks_blocked()
        with asker.confirmer.urgent():
            await trio.lowlevel.checkpoint()
            while "/s/1" not in asker.answers:
                await trio.lowlevel.checkpoint()
    assert asker.answered_at["/s/1"] == started


async def test_who_waits_for_all_of_them_gathers_them_all_the_same(asker: Asker, nas: Nas) -> None:
    started = trio.current_time()
    with asker.confirmer.hurried():
        await ask_all(asker, [f"/s/{number}" for number in range(20)], pause=GATHER / 10)
    assert len(nas.calls) == 1
    assert trio.current_time() - started <= 20 * GATHER / 10 + GATHER / 5


async def test_a_failure_is_told_to_each_and_the_next_question_is_a_new_one(asker: Asker, nas: Nas) -> None:
    nas.meet("get_entries", Unreachable("away"))
    await ask_all(asker, ["/s/1", "/s/2"])
    assert all(isinstance(answer, Unreachable) for answer in asker.answers.values())
    nas.meet("list_dir", Unreachable("away"))
    await ask_all(asker, [f"/s/{number}" for number in range(200)])
    assert all(isinstance(answer, Unreachable) for answer in asker.answers.values())
    await asker.ask("/s/1")
    assert asker.answers["/s/1"].size == 1


async def test_the_nas_is_asked_after_the_question(asker: Asker, nas: Nas) -> None:
    """An answer that was on its way when the question came does not count."""
    gate = nas.gate("get_entries", after=True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(asker.ask, "/s/new")
        await gate.reached.wait()
        nas.write("/s/new", b"12345")
        second = Asker(asker.confirmer)
        nursery.start_soon(second.ask, "/s/new")
        await wait_all_tasks_blocked()
        gate.open()
    assert asker.answers["/s/new"] is None
    assert second.answers["/s/new"].size == 5


async def test_the_same_path_asked_for_twice_is_answered_twice(asker: Asker, nas: Nas) -> None:
    second = Asker(asker.confirmer)
    async with trio.open_nursery() as nursery:
        for one in (asker, second):
            for number in range(150):
                nursery.start_soon(one.ask, f"/s/{number}")
    assert asker.answers == second.answers
    assert all(isinstance(answer, RemoteEntry) for answer in second.answers.values())
