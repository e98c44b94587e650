"""What a new small file costs: no bound, no turn of the scheduler but for its local disk, no waiting for the NAS."""

from __future__ import annotations

import os
from collections.abc import Awaitable

import pyfuse3
import pytest
import trio

from synofs.fs.inodes import ROOT_NUMBER
from synofs.fs.writes import WriteMode
from synofs.fuse.calls import Calls
from synofs.fuse.operations import Operations
from tests.unit.content_write.conftest import Areas, inline_disk, open_area
from tests.unit.content_write.nas import Nas
from tests.unit.content_write.rig import Rig, use_nas_clock
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time
__all__ = ["inline_disk", "open_area"]  # fixtures

CTX = pyfuse3.RequestContext()
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL


class CountedCalls(Calls):
    """How many were bounded."""

    def __init__(self) -> None:
        super().__init__()
        self.bounded: list[str] = []

    def limited_to(self, call, seconds):
        self.bounded.append(call.verb)
        return super().limited_to(call, seconds)


class Steps(trio.abc.Instrument):
    """Of the task that makes it."""

    def __init__(self) -> None:
        self._task = trio.lowlevel.current_task()
        self.count = 0

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += task is self._task


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch) -> Nas:
    nas = Nas("s")
    use_nas_clock(monkeypatch, nas)
    return nas


async def mount(nas: Nas, open_area: Areas, mode: WriteMode, nursery: trio.Nursery) -> Operations:
    rig = Rig(nas, await open_area(), mode)
    await rig.start(nursery)
    operations = Operations(rig.fs, 10.0, CountedCalls())
    await rig.names()  # the folder is known
    return operations


async def copy(operations: Operations, name: bytes) -> dict[str, int]:
    """`cp` of a small file. The task steps of each call."""
    steps: dict[str, int] = {}

    async def counted(verb: str, call: Awaitable[object]) -> object:
        watch = Steps()
        trio.lowlevel.add_instrument(watch)
        try:
            return await call
        finally:
            trio.lowlevel.remove_instrument(watch)
            steps[verb] = watch.count

    missing = await counted("lookup", operations.lookup(ROOT_NUMBER, name, CTX))
    assert isinstance(missing, pyfuse3.EntryAttributes)
    info, _ = await counted("create", operations.create(ROOT_NUMBER, name, 0o644, FLAGS, CTX))  # type: ignore[misc]
    await counted("write", operations.write(info.fh, 0, bytes(32 * 1024)))
    await counted("flush", operations.flush(info.fh))
    await counted("release", operations.release(info.fh))
    return steps


async def test_in_writeback_mode_only_its_close_waits_and_that_for_the_local_disk_alone(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    operations = await mount(nas, open_area, WriteMode.WRITEBACK, nursery)
    await copy(operations, b"first")  # asks whether the folder may be written to
    calls = operations.calls
    assert isinstance(calls, CountedCalls)
    calls.bounded.clear()
    nas.calls.clear()
    steps = await copy(operations, b"second")
    assert calls.bounded == []
    assert nas.methods() == []
    assert [steps[verb] for verb in ("lookup", "create", "write", "release")] == [0, 0, 0, 0]
    assert steps["flush"] <= 2  # into a thread and back


async def test_what_waits_for_the_nas_is_bounded(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    operations = await mount(nas, open_area, WriteMode.DURABLE, nursery)
    calls = operations.calls
    assert isinstance(calls, CountedCalls)
    await copy(operations, b"first")
    assert calls.bounded == ["flush", "release"]
    calls.bounded.clear()
    await trio.sleep(1000)  # what was listed is old
    await operations.lookup(ROOT_NUMBER, b"first", CTX)
    await operations.getattr(ROOT_NUMBER, CTX)
    assert calls.bounded == ["lookup"]


async def test_a_call_is_not_at_hand_while_the_folder_is_not_known(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    operations = await mount(nas, open_area, WriteMode.WRITEBACK, nursery)
    at_hand, root = operations.fs.at_hand, operations.fs.inodes.root
    assert at_hand.name(root, b"new")
    assert not at_hand.new_name(root, b"new"), "the NAS is asked whether the folder may be written to"
    await copy(operations, b"old")
    assert at_hand.new_name(root, b"new")
    assert not at_hand.new_name(root, b"old")
    await trio.sleep(1000)
    assert not at_hand.name(root, b"new")
    assert not at_hand.new_name(root, b"new")


async def test_what_is_about_to_grow_old_is_not_at_hand(
    nas: Nas, open_area: Areas, inline_disk: None, nursery: trio.Nursery
) -> None:
    """It could be old by the time that it is used: the call would wait for the NAS, and without a bound."""
    nas.file("/s/f", b"content")
    operations = await mount(nas, open_area, WriteMode.DURABLE, nursery)
    at_hand, fs = operations.fs.at_hand, operations.fs
    file = await fs.lookup(fs.inodes.root, b"f")
    assert file is not None
    folder = await operations.opendir(ROOT_NUMBER, CTX)

    def answers() -> set[bool]:
        root = fs.inodes.root
        names = at_hand.name(root, b"f"), at_hand.name(root, b"new"), at_hand.new_name(root, b"new")
        return {*names, at_hand.attributes(file), at_hand.entries(folder, 0)}

    listing = fs.inodes.root.listing
    assert listing is not None
    until = listing.checked_at + fs.options.dir_ttl_seconds
    await trio.sleep_until(until - 1.0)
    assert answers() == {True}
    await trio.sleep_until(until - 0.05)
    assert answers() == {False}
    await operations.releasedir(folder)
