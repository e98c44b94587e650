"""The place at the kernel's device: kept by who answers at once, never kept by who does not come back."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.fuse.turns import Turns

pytestmark = pytest.mark.trio


class Device:
    """Calls of one byte, served by tasks as pyfuse3 serves the kernel's."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.kernel, self.fuse = socket.socketpair()
        self.served: list[tuple[bytes, str]] = []

    async def serve(self, answer: Callable[[bytes], Awaitable[bool]]) -> None:
        while True:
            async with self.turns:
                await self.turns.wait_readable(self.fuse.fileno())
            call = self.fuse.recv(1)
            self.served.append((call, trio.lowlevel.current_task().name))
            if not await answer(call):
                return

    def call(self, calls: bytes) -> None:
        self.kernel.sendall(calls)

    def by_whom(self) -> list[str]:
        return [name for _, name in self.served]


@pytest.fixture
async def device() -> AsyncIterator[Device]:
    turns = Turns()
    trio.lowlevel.add_instrument(turns)
    device = Device(turns)
    yield device
    device.kernel.close()
    device.fuse.close()
    trio.lowlevel.remove_instrument(turns)


async def at_once(call: bytes) -> bool:
    return True


async def test_who_answers_at_once_keeps_the_place(device: Device, nursery: trio.Nursery) -> None:
    for name in ("a", "b", "c"):
        nursery.start_soon(device.serve, at_once, name=name)
    for _ in range(5):
        await wait_all_tasks_blocked()
        device.call(b".")
    await wait_all_tasks_blocked()
    assert len(device.served) == 5
    assert len(set(device.by_whom())) == 1


async def test_who_waits_for_something_else_leaves_the_place_to_another(device: Device, nursery: trio.Nursery) -> None:
    come = trio.Event()

    async def wait_if_asked(call: bytes) -> bool:
        if call == b"w":
            await come.wait()
        return True

    for name in ("a", "b"):
        nursery.start_soon(device.serve, wait_if_asked, name=name)
    await wait_all_tasks_blocked()
    device.call(b"w")
    await wait_all_tasks_blocked()
    device.call(b"..")
    await wait_all_tasks_blocked()
    waiting, *others = device.by_whom()
    assert len(others) == 2
    assert waiting not in others
    come.set()
    await wait_all_tasks_blocked()
    device.call(b"w")  # with one that waits for its turn, and no other
    await wait_all_tasks_blocked()
    assert len(device.served) == 4


async def test_the_place_of_a_task_that_ends_is_taken(device: Device, nursery: trio.Nursery) -> None:
    async def end(call: bytes) -> bool:
        return call != b"e"

    for name in ("a", "b", "c"):
        nursery.start_soon(device.serve, end, name=name)
    await wait_all_tasks_blocked()
    device.call(b"e")
    await wait_all_tasks_blocked()
    device.call(b"e.")
    await wait_all_tasks_blocked()
    assert [call for call, _ in device.served] == [b"e", b"e", b"."]
    assert len(set(device.by_whom())) == 3


async def test_a_task_that_is_cancelled_while_it_has_the_place_or_waits_for_it_does_not_keep_it(
    device: Device, nursery: trio.Nursery
) -> None:
    scopes = []
    for name in ("a", "b", "c"):
        scope = trio.CancelScope()

        async def serve(scope: trio.CancelScope = scope) -> None:
            with scope:
                await device.serve(at_once)

        nursery.start_soon(serve, name=name)
        scopes.append(scope)
        await wait_all_tasks_blocked()
    scopes[0].cancel()
    scopes[1].cancel()
    await wait_all_tasks_blocked()
    device.call(b".")
    await wait_all_tasks_blocked()
    assert device.by_whom() == ["c"]


async def test_a_flood_of_calls_leaves_other_tasks_their_turns(device: Device, nursery: trio.Nursery) -> None:
    flood = 1000

    async def one_more(call: bytes) -> bool:
        device.call(b".")
        return len(device.served) < flood

    nursery.start_soon(device.serve, one_more)
    device.call(b".")
    turns = 0
    while len(device.served) < flood:
        await trio.lowlevel.checkpoint()
        turns += 1
    assert turns > flood / 20
