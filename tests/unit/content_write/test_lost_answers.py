"""Making and removing names while answers are lost: what was done counts, what was not is asked for again."""

from __future__ import annotations

import pytest
import trio

from synofs.remote import Away, NotFound, PermissionDenied, TimedOut, Unreachable
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

HUNG_UP = Unreachable("it hung up without an answer")
LOST = TimedOut("no answer")


async def test_an_unlink_that_the_nas_never_saw_is_asked_for_again(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", HUNG_UP)
    await rig.unlink("/s/f")
    assert (nas.files(), await rig.names()) == ({}, [])


async def test_an_unlink_whose_answer_was_lost_is_done(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", LOST, after=True)
    await rig.unlink("/s/f")
    assert nas.count("remove") == 1
    assert (nas.files(), await rig.names()) == ({}, [])


async def test_what_somebody_put_in_the_place_while_the_answer_was_lost_stays(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    gate = nas.gate("remove", path="/s/f", after=True)
    nas.meet("remove", LOST, after=True)

    async def unlink() -> None:
        with pytest.raises(TimedOut):
            await rig.unlink("/s/f")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unlink)
        await gate.reached.wait()
        nas.file("/s/f", b"a colleague's")
        gate.open()
    assert nas.files() == {"/s/f": b"a colleague's"}
    assert nas.count("remove") == 1


async def test_an_unlink_that_is_carried_out_late_is_done(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", LOST)
    nas.meet("remove", NotFound("gone"), skip=1)
    await rig.unlink("/s/f")
    assert nas.count("remove") == 2


async def test_a_nas_that_never_answers_is_asked_three_times(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", HUNG_UP, times=99)
    with pytest.raises(Unreachable, match="hung up"):
        await rig.unlink("/s/f")
    assert nas.count("remove") == 3


@pytest.mark.parametrize("error", [Away("away"), PermissionDenied("no")])
async def test_a_nas_that_is_away_or_refuses_is_asked_once(rig: Rig, nas: Nas, error: Exception) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", error)
    with pytest.raises(type(error)):
        await rig.unlink("/s/f")
    assert nas.count("remove") == 1


async def test_when_nobody_can_look_the_lost_answer_is_what_is_told(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    nas.meet("remove", HUNG_UP)
    nas.meet("get_entries", LOST, path="/s/f")
    with pytest.raises(Unreachable, match="hung up"):
        await rig.unlink("/s/f")


async def test_rmdir_and_mkdir_that_the_nas_never_saw_are_asked_for_again(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.meet("remove", HUNG_UP)
    await rig.rmdir("/s/d")
    assert await rig.names() == []
    nas.meet("make_dir", HUNG_UP)
    await rig.mkdir("/s/d")
    assert await rig.names() == ["d"]


async def test_an_rmdir_whose_answer_was_lost_is_done(rig: Rig, nas: Nas) -> None:
    nas.folder("/s/d")
    nas.meet("remove", LOST, after=True)
    await rig.rmdir("/s/d")
    assert nas.count("remove") == 1
    assert await rig.names() == []


async def test_a_refused_unlink_of_an_open_file_keeps_no_hidden_name(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    handle = await rig.open("/s/f")
    nas.meet("rename", PermissionDenied("no"))
    with pytest.raises(PermissionDenied):
        await rig.unlink("/s/f")
    await trio.sleep(120)
    assert rig.area.journal.leftovers() == []
    await rig.close(handle)
    assert nas.files() == {"/s/f": b"x"}


@pytest.mark.parametrize("done", [False, True], ids=["never seen", "done"])
async def test_an_unlink_of_an_open_file_whose_answer_was_lost_is_done(rig: Rig, nas: Nas, done: bool) -> None:
    nas.file("/s/f", b"x")
    handle = await rig.open("/s/f")
    nas.meet("rename", LOST if done else HUNG_UP, after=done)
    await rig.unlink("/s/f")
    assert await rig.names() == []
    assert nas.count("rename") == (1 if done else 2)
    assert await rig.fs.read(handle, 0, 10) == b"x"
    await rig.close(handle)
    assert nas.files() == {}


async def test_an_unlink_of_an_open_file_that_is_carried_out_late_is_done(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"x")
    handle = await rig.open("/s/f")
    nas.meet("rename", HUNG_UP)
    nas.meet("rename", NotFound("gone"), after=True)
    await rig.unlink("/s/f")
    assert await rig.names() == []
    await rig.close(handle)
    assert nas.files() == {}


async def test_what_somebody_put_in_the_place_of_an_open_file_while_the_answer_was_lost_stays(
    rig: Rig, nas: Nas
) -> None:
    nas.file("/s/f", b"x")
    handle = await rig.open("/s/f")
    gate = nas.gate("rename", path="/s/f")
    nas.meet("rename", LOST)

    async def unlink() -> None:
        with pytest.raises(TimedOut):
            await rig.unlink("/s/f")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(unlink)
        await gate.reached.wait()
        nas.file("/s/f", b"a colleague's")
        gate.open()
    await rig.close(handle)
    assert nas.files() == {"/s/f": b"a colleague's"}
    assert nas.count("rename") == 1
