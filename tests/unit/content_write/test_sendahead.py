"""A big file's beginning goes to the NAS while the rest is being written; whatever happens meanwhile, what was written
is what arrives."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import trio
import trio.testing

from synofs.content.sendahead import SendAheadOptions
from synofs.fs.writes import WriteMode
from synofs.remote import (
    BeginningLost,
    InvalidRequest,
    PermissionDenied,
    TimedOut,
    Unreachable,
)
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import SECOND, Nas
from tests.unit.content_write.rig import HIDDEN, Rig, running
from tests.unit.virtual_time import in_virtual_time

pytestmark = [in_virtual_time, pytest.mark.usefixtures("inline_disk")]

FROM, SLICE, PIECE = 4000, 1000, 500
CONTENT = revealing(10_000)
NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
TRIAL = f"/s/{HIDDEN}-try"
SEND_AHEAD = SendAheadOptions(from_bytes=FROM, slice_bytes=SLICE, ready_bytes=FROM)


@pytest.fixture
async def fresh(nas: Nas, open_area: Areas, nursery: trio.Nursery) -> Rig:
    rig = Rig(nas, await open_area(), WriteMode.DURABLE, sendahead=SEND_AHEAD)
    await rig.start(nursery)
    return rig


@pytest.fixture
async def rig(fresh: Rig, nas: Nas) -> Rig:
    """The trial of slices is over."""
    await fresh.close(await begun(fresh, "/s/first"))
    await fresh.unlink("/s/first")
    nas.calls.clear()
    return fresh


async def write_on(rig: Rig, number: int, content: bytes, start: int = 0) -> None:
    """As a program copies: piece after piece, with pauses in which slices go."""
    for position in range(start, len(content), PIECE):
        await rig.fs.write(number, position, content[position : position + PIECE])
        await trio.testing.wait_all_tasks_blocked()


async def begun(rig: Rig, path: str = "/s/f", content: bytes = CONTENT, flags: int = NEW) -> int:
    number = await rig.open(path, flags)
    await write_on(rig, number, content)
    return number


# ----- sent ahead ---------------------------------------------------------------------------------------------------


async def test_the_beginning_is_sent_before_the_file_is_closed_and_close_sends_the_rest(rig: Rig, nas: Nas) -> None:
    number = await begun(rig)
    assert nas.count("append") > 2
    assert rig.visible() == {}  # nothing is to be seen of it
    await rig.close(number)
    (last,) = [call for call in nas.calls if call.method == "finish"]
    assert 0 < last.length <= SLICE + PIECE
    assert nas.count("upload") == 0
    assert rig.visible() == {"/s/f": CONTENT}


async def test_a_slice_carries_all_that_was_written_meanwhile(rig: Rig, nas: Nas) -> None:
    gate = nas.gate("append")
    number = await begun(rig)
    gate.open()
    await trio.testing.wait_all_tasks_blocked()
    assert nas.count("append") == 2
    await rig.close(number)
    assert rig.visible() == {"/s/f": CONTENT}


async def test_a_small_file_and_one_written_here_and_there_are_sent_as_a_whole(rig: Rig, nas: Nas) -> None:
    await rig.close(await begun(rig, "/s/small", CONTENT[: FROM - 1]))
    number = await rig.open("/s/random", NEW)
    await rig.fs.write(number, 9000, CONTENT[9000:])
    await write_on(rig, number, CONTENT)
    await rig.close(number)
    assert nas.count("append") == 0
    assert rig.visible() == {"/s/small": CONTENT[: FROM - 1], "/s/random": CONTENT}


async def test_a_size_given_at_first_is_no_reason_to_send_zeros(rig: Rig, nas: Nas) -> None:
    number = await rig.open("/s/f", NEW)
    await rig.truncate("/s/f", len(CONTENT))
    await write_on(rig, number, CONTENT)
    await rig.close(number)
    assert nas.count("append") == 0
    assert rig.visible() == {"/s/f": CONTENT}


async def test_in_writeback_mode_nobody_waits_and_nothing_is_sent_ahead(
    nas: Nas, open_area: Areas, nursery: trio.Nursery
) -> None:
    rig = Rig(nas, await open_area(), WriteMode.WRITEBACK, sendahead=SEND_AHEAD)
    await rig.start(nursery)
    await rig.close(await begun(rig))
    assert nas.count("append") == 0
    assert await rig.flushed() == {"/s/f": CONTENT}


async def test_a_time_that_is_given_late_goes_with_the_last_slice(rig: Rig, nas: Nas) -> None:
    number = await begun(rig)
    await rig.utimens("/s/f", 5 * SECOND)
    await rig.close(number)
    assert nas.version("/s/f").mtime_ns == 5 * SECOND
    assert nas.count("upload") == 0


async def test_a_file_that_replaces_another_goes_beside_it_first(rig: Rig, nas: Nas) -> None:
    nas.file("/s/f", b"old")
    await trio.sleep(600)
    number = await begun(rig)
    assert nas.asked("append")[0] == f"/s/{HIDDEN}/f"
    await trio.sleep(600)  # nobody tidies the hidden folder up meanwhile
    assert f"/s/{HIDDEN}" in nas.tree()
    await rig.close(number)
    assert (nas.count("finish"), nas.count("upload")) == (1, 0)
    assert await rig.flushed() == {"/s/f": CONTENT}


# ----- the trial ----------------------------------------------------------------------------------------------------


async def test_slices_are_tried_out_of_sight_before_a_file_is_trusted_to_them(fresh: Rig, nas: Nas) -> None:
    await fresh.names()
    nas.calls.clear()
    number = await begun(fresh)
    assert nas.asked("append")[:2] == [TRIAL, "/s/f"]
    await fresh.close(number)
    await fresh.close(await begun(fresh, "/s/g"))
    assert nas.asked("append").count(TRIAL) == 1
    await trio.sleep(60)
    assert nas.files() == {"/s/f": CONTENT, "/s/g": CONTENT}  # and nothing is left of the trial


@pytest.mark.parametrize("knows", ["nothing of slices", "the first size only"])
async def test_a_nas_that_does_not_put_slices_together_gets_whole_files_only(fresh: Rig, nas: Nas, knows: str) -> None:
    nas.slices = knows
    number = await begun(fresh)
    assert fresh.visible() == {}
    await fresh.close(number)
    await fresh.close(await begun(fresh, "/s/g"))
    assert "/s/g" not in nas.asked("append")
    assert nas.asked("upload") == ["/s/f", "/s/g"]
    assert await fresh.flushed() == {"/s/f": CONTENT, "/s/g": CONTENT}


async def test_a_file_goes_once_a_first_slice_stays_out_of_sight_and_nothing_of_it_counts_before_the_trial_is_over(
    fresh: Rig, nas: Nas
) -> None:
    gate = nas.gate("finish")
    number = await begun(fresh)
    assert nas.count("append") > 2
    async with trio.open_nursery() as nursery:
        nursery.start_soon(fresh.close, number)
        await gate.reached.wait()
        await trio.testing.wait_all_tasks_blocked()
        assert nas.asked("finish") == [TRIAL]
        gate.open()
    assert nas.asked("finish") == [TRIAL, "/s/f"]
    assert fresh.visible() == {"/s/f": CONTENT}


async def test_a_trial_that_fails_ends_the_slices_that_are_on_their_way(fresh: Rig, nas: Nas) -> None:
    nas.slices = "the first size only"
    trial = nas.gate("finish")
    gate = nas.gate("append", skip=1)
    number = await begun(fresh)
    assert gate.reached.is_set()
    trial.open()
    await fresh.close(number)  # though the gate was never opened
    assert nas.asked("upload") == ["/s/f"]
    assert fresh.visible() == {"/s/f": CONTENT}


async def test_a_trial_that_was_cut_off_is_tried_again_with_the_next_file(fresh: Rig, nas: Nas) -> None:
    nas.meet("append", Unreachable("cut"))
    await fresh.close(await begun(fresh))
    await fresh.close(await begun(fresh, "/s/g"))
    assert (nas.asked("upload"), nas.asked("finish")[-1]) == (["/s/f"], "/s/g")
    assert await fresh.flushed() == {"/s/f": CONTENT, "/s/g": CONTENT}


# ----- sent in vain -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", ["overwrite", "truncate", "cut and write on"])
async def test_what_is_changed_after_it_was_sent_is_sent_again(rig: Rig, nas: Nas, change: str) -> None:
    number = await begun(rig)
    expected = bytearray(CONTENT)
    if change == "overwrite":
        await rig.fs.write(number, 10, b"header")
        expected[10:16] = b"header"
    else:
        await rig.truncate("/s/f", 5)
        del expected[5:]
        if change == "cut and write on":
            await rig.fs.write(number, 5, CONTENT[::-1])
            expected += CONTENT[::-1]
    await rig.close(number)
    assert nas.count("finish") == 0
    assert rig.visible() == {"/s/f": bytes(expected)}


async def test_a_change_of_what_was_not_sent_yet_costs_nothing(rig: Rig, nas: Nas) -> None:
    content = CONTENT + bytes(SLICE // 2)
    number = await begun(rig, content=content)
    await rig.fs.write(number, len(content) - 3, b"end")
    await rig.close(number)
    assert nas.count("upload") == 0
    assert rig.visible() == {"/s/f": content[:-3] + b"end"}


async def test_a_change_while_a_slice_is_on_its_way_ends_it(rig: Rig, nas: Nas) -> None:
    gate = nas.gate("append")
    number = await begun(rig)
    assert gate.reached.is_set()
    await rig.fs.write(number, 0, b"x")
    await rig.close(number)  # though the gate was never opened
    assert rig.visible() == {"/s/f": b"x" + CONTENT[1:]}


async def test_a_new_name_is_where_it_goes(rig: Rig, nas: Nas) -> None:
    number = await begun(rig)
    await rig.rename("/s/f", "/s/g")
    await rig.close(number)
    assert rig.visible() == {"/s/g": CONTENT}


async def test_an_unlinked_file_is_not_sent(rig: Rig, nas: Nas) -> None:
    number = await begun(rig)
    await rig.unlink("/s/f")
    before = len(nas.calls)
    await rig.fs.write(number, len(CONTENT), CONTENT)
    await trio.testing.wait_all_tasks_blocked()
    await rig.close(number)
    assert rig.visible() == {}
    assert "finish" not in nas.methods()
    assert "append" not in nas.methods()[before:]


@pytest.mark.parametrize("error", [Unreachable("cut"), TimedOut("silent"), InvalidRequest("no"), BeginningLost("no")])
@pytest.mark.parametrize("skip", [0, 1])
async def test_a_slice_that_fails_costs_a_whole_upload_at_close_and_no_error(
    rig: Rig, nas: Nas, error: Exception, skip: int
) -> None:
    nas.meet("append", error, skip=skip)
    await rig.close(await begun(rig))
    assert (nas.count("append"), nas.count("finish"), nas.count("upload")) == (skip + 1, 0, 1)
    assert rig.visible() == {"/s/f": CONTENT}


@pytest.mark.parametrize(
    ("error", "again"), [(InvalidRequest("no"), False), (BeginningLost("no"), False), (PermissionDenied("no"), True)]
)
async def test_a_nas_that_refuses_slices_is_asked_once(rig: Rig, nas: Nas, error: Exception, again: bool) -> None:
    nas.meet("append", error)
    await rig.close(await begun(rig))
    await rig.close(await begun(rig, "/s/g"))
    assert ("/s/g" in nas.asked("append")) == again
    assert rig.visible() == {"/s/f": CONTENT, "/s/g": CONTENT}


async def test_a_beginning_that_the_nas_has_lost_is_sent_again_at_once(rig: Rig, nas: Nas) -> None:
    nas.meet("finish", BeginningLost("gone"))
    await rig.close(await begun(rig))
    assert rig.visible() == {"/s/f": CONTENT}


async def test_a_last_slice_whose_answer_is_lost_is_looked_for_first(
    rig: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    nas.meet("finish", TimedOut("no answer"), after=True)
    await rig.close(await begun(rig))
    assert nas.count("upload") == 0
    assert rig.visible() == {"/s/f": CONTENT}


@pytest.mark.parametrize("replaces", [False, True])
async def test_what_somebody_else_writes_meanwhile_stays_theirs(
    rig: Rig, nas: Nas, expect_logs: Callable[..., None], replaces: bool
) -> None:
    expect_logs("somebody else changed it")
    if replaces:
        nas.file("/s/f", b"old")
        await trio.sleep(600)
    number = await begun(rig)
    nas.write("/s/f", b"theirs")
    await rig.close(number)
    files = await rig.flushed()
    assert files.pop("/s/f") == b"theirs"
    assert list(files.values()) == [CONTENT]


async def test_a_nas_that_is_nearly_full_gets_nothing_that_may_turn_out_useless(rig: Rig, nas: Nas) -> None:
    nas.free_bytes = len(CONTENT) + 5000
    await trio.sleep(600)
    rig.fs.statfs()
    await trio.testing.wait_all_tasks_blocked()
    number = await begun(rig)
    assert 0 < nas.count("append") < 5  # as long as there is room for as much again
    await rig.close(number)
    assert rig.visible() == {"/s/f": CONTENT}


async def test_a_bug_in_it_ends_neither_the_file_nor_the_mount(
    rig: Rig, nas: Nas, expect_logs: Callable[..., None]
) -> None:
    expect_logs("nobody foresaw")
    nas.meet("append", ValueError("bug"))
    await rig.close(await begun(rig))
    assert rig.visible() == {"/s/f": CONTENT}


async def test_while_uploads_are_held_up_nothing_is_sent_ahead(rig: Rig, nas: Nas) -> None:
    rig.writes.queue.pause("asleep")
    number = await begun(rig)
    assert nas.count("append") == 0
    rig.writes.queue.resume("asleep")
    await rig.close(number)
    assert rig.visible() == {"/s/f": CONTENT}


async def test_the_end_of_the_mount_leaves_no_descriptor(nas: Nas, open_area: Areas) -> None:
    area = await open_area()
    async with running(Rig(nas, area, WriteMode.DURABLE, sendahead=SEND_AHEAD)) as rig:
        nas.gate("append")
        number = await begun(rig)
        await rig.fs.write(number, 0, b"x")
        await rig.close(number)
        number = await begun(rig, "/s/g")
        assert _data_files_open() != []
    await area.close()
    assert _data_files_open() == []


def _data_files_open() -> list[str]:
    links = [f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd")]
    return [
        target for target in (os.readlink(link) for link in links if os.path.lexists(link)) if "/staging/" in target
    ]
