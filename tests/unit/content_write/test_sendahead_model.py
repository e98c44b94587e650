"""Random programs that write one file while its beginning is sent: the NAS ends up with what they wrote."""

from __future__ import annotations

import os
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synofs.fs.writes import WriteMode
from synofs.remote import Unreachable
from tests.trees import revealing
from tests.unit.content_write.conftest import Areas
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig, running
from tests.unit.content_write.test_sendahead import NEW, SEND_AHEAD
from tests.unit.virtual_time import run_in_virtual_time

STEPS = st.one_of(
    st.tuples(st.just("append"), st.integers(1, 3000)),
    st.tuples(st.just("append"), st.integers(1, 3000)),
    st.tuples(st.just("append"), st.integers(1, 3000)),
    st.tuples(st.just("write"), st.integers(0, 12_000)),
    st.tuples(st.just("cut"), st.integers(0, 12_000)),
    st.tuples(st.just("fsync"), st.just(0)),
    st.tuples(st.just("pause"), st.just(0)),
    st.tuples(st.just("rename"), st.just(0)),
    st.tuples(st.just("reopen"), st.just(0)),
    st.tuples(st.just("fault"), st.integers(0, 3)),
)


@pytest.mark.usefixtures("inline_disk")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(STEPS, min_size=3, max_size=25), replaces=st.booleans())
def test_whatever_a_program_does_the_nas_has_what_was_written(steps: list[tuple[str, int]], replaces: bool) -> None:
    run_in_virtual_time(partial(_run_program, steps, replaces))


async def _run_program(steps: list[tuple[str, int]], replaces: bool) -> None:
    nas = Nas("s")
    if replaces:
        nas.file("/s/f0", b"old")
    with tempfile.TemporaryDirectory() as folder:
        areas = Areas(Path(folder))
        async with running(Rig(nas, await areas(), WriteMode.DURABLE, sendahead=SEND_AHEAD)) as rig:
            path, content = await _take_steps(rig, nas, steps)
            nas.meet_nothing_more()
            assert await rig.flushed() == {path: content}
        await areas.close_all()


async def _take_steps(rig: Rig, nas: Nas, steps: list[tuple[str, int]]) -> tuple[str, bytes]:
    path, content, names = "/s/f0", bytearray(), count(1)
    number = await rig.open(path, NEW)
    for step, value in steps:
        match step:
            case "append":
                data = revealing(value + next(names))[-value:]
                await rig.fs.write(number, len(content), data)
                content += data
            case "write":
                await rig.fs.write(number, value, b"changed")
                content += bytes(max(0, value - len(content)))
                content[value : value + 7] = b"changed"
            case "cut":
                await rig.truncate(path, value)
                content = content[:value] + bytes(max(0, value - len(content)))
            case "fsync":
                await rig.fs.fsync(number)
            case "pause":
                await trio.testing.wait_all_tasks_blocked()
            case "rename":
                new = f"/s/f{next(names)}"
                await rig.rename(path, new)
                path = new
            case "reopen":
                await rig.close(number)
                number = await rig.open(path, os.O_WRONLY)
            case "fault":
                after = value % 2 == 1
                nas.meet(("append", "finish")[value // 2], Unreachable("cut"), after=after)
    await rig.close(number)
    return path, bytes(content)
