from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from synofs.content.writeback import Outcome, State, Writeback, WritebackOptions
from tests.unit.virtual_time import in_virtual_time

pytestmark = in_virtual_time

FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class Temporary(Exception):
    pass


class Final(Exception):
    pass


class Item:
    """Something to send. Each attempt ends as `ends` says, in order; the last end stays."""

    def __init__(self, name: str, *ends: Outcome | Exception) -> None:
        self.name = name
        self.ends = list(ends) or [Outcome.CLEAN]
        self.sent_at: list[float] = []
        self.gate: trio.Event | None = None
        self.refused: Exception | None = None


class Rig:
    def __init__(self, in_flight: int = 4) -> None:
        options = WritebackOptions(
            in_flight=in_flight, first_pause_seconds=FIRST_PAUSE, longest_pause_seconds=LONGEST_PAUSE
        )
        self.queue: Writeback[Item] = Writeback(self._send, lambda e: isinstance(e, Temporary), self._refuse, options)
        self.order: list[str] = []
        self.busy = 0
        self.busiest = 0
        self.refuse_fails = 0

    async def _send(self, item: Item) -> Outcome:
        self.order.append(item.name)
        item.sent_at.append(trio.current_time())
        self.busy += 1
        self.busiest = max(self.busiest, self.busy)
        try:
            await trio.sleep(0.001)
            if item.gate is not None:
                await item.gate.wait()
        finally:
            self.busy -= 1
        end = item.ends.pop(0) if len(item.ends) > 1 else item.ends[0]
        if isinstance(end, Exception):
            raise end
        return end

    async def _refuse(self, item: Item, error: Exception) -> None:
        await trio.lowlevel.checkpoint()
        if self.refuse_fails:
            self.refuse_fails -= 1
            raise OSError("no room in the recovery folder")
        item.refused = error
        self.queue.discard(item)  # it is clean from here on, as for the filesystem

    def state(self, item: Item) -> State | None:
        return next((entry.state for entry in self.queue.entries if entry.item is item), None)


@pytest.fixture
async def rig(nursery: trio.Nursery) -> AsyncIterator[Rig]:
    rig = Rig()
    await nursery.start(rig.queue.run)
    return rig


@pytest.fixture
async def narrow(nursery: trio.Nursery) -> Rig:
    rig = Rig(in_flight=2)
    await nursery.start(rig.queue.run)
    return rig


async def test_what_is_added_waits_for_the_word(rig: Rig) -> None:
    item = Item("a")
    rig.queue.add(item, "a")
    await trio.sleep(1000)
    assert (item.sent_at, rig.state(item), rig.queue.pending(), rig.queue.unsent()) == ([], State.IDLE, 1, 0)


async def test_what_is_enqueued_is_sent_at_once_and_leaves(rig: Rig) -> None:
    item = Item("a")
    started = trio.current_time()
    rig.queue.enqueue(item, "a")
    await rig.queue.settle(item, patience_seconds=1)
    assert (item.sent_at, rig.state(item), rig.queue.pending()) == ([started], None, 0)


async def test_it_lingers_before_it_is_sent(rig: Rig) -> None:
    item = Item("a")
    started = trio.current_time()
    rig.queue.enqueue(item, "a", linger_seconds=0.5)
    assert rig.state(item) is State.WAITING
    await rig.queue.drain()
    assert item.sent_at == [started + 0.5]


async def test_while_file_after_file_is_written_uploads_wait_two_seconds_at_most(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0
    look = rig.queue._start_due

    def counted(nursery: trio.Nursery) -> None:
        nonlocal looks
        looks += 1
        look(nursery)

    monkeypatch.setattr(rig.queue, "_start_due", counted)
    items = [Item(str(number)) for number in range(40)]
    looked = []
    for item in items:
        rig.queue.enqueue(item, item.name, linger_seconds=0.5)
        looked.append(looks)
        await trio.sleep(0.1)
    sent_at = [item.sent_at[0] - trio.current_time() + 4 for item in items if item.sent_at]
    assert min(sent_at) == pytest.approx(2, abs=0.11)
    assert looked[19] <= 6, "the processor is the writer's: the queue does not look again for each file"
    await rig.queue.drain()
    assert sorted(int(name) for name in rig.order) == list(range(40))


async def test_whoever_waits_for_it_ends_the_lingering(rig: Rig) -> None:
    item = Item("a")
    started = trio.current_time()
    rig.queue.enqueue(item, "a", linger_seconds=0.5)
    rig.queue.enqueue(item, "a")
    await rig.queue.settle(item, patience_seconds=1)
    assert item.sent_at == [started]


async def test_no_more_are_sent_at_once_than_allowed_and_in_order(narrow: Rig) -> None:
    items = [Item(str(number)) for number in range(20)]
    for item in items:
        narrow.queue.enqueue(item, item.name)
    await narrow.queue.drain()
    assert narrow.busiest == 2
    # Those two that are sent at once may overtake each other, nobody else.
    assert all(abs(int(name) - position) <= 1 for position, name in enumerate(narrow.order))
    assert len(narrow.order) == 20


async def test_a_slow_one_does_not_hold_up_the_others(narrow: Rig) -> None:
    slow = Item("slow")
    slow.gate = trio.Event()
    others = [Item(str(number)) for number in range(5)]
    for item in (slow, *others):
        narrow.queue.enqueue(item, item.name)
    await trio.sleep(1)
    assert [narrow.state(item) for item in others] == [None] * 5
    assert narrow.state(slow) is State.SENDING
    slow.gate.set()
    await narrow.queue.drain()


async def test_what_changed_while_it_was_sent_stays_in_the_queue(rig: Rig) -> None:
    item = Item("a", Outcome.DIRTY)
    rig.queue.enqueue(item, "a")
    await rig.queue.settle(item, patience_seconds=1)
    assert rig.state(item) is State.IDLE
    again = Item("b", Outcome.AGAIN, Outcome.CLEAN)
    rig.queue.enqueue(again, "b")
    await rig.queue.settle(again, patience_seconds=1)
    assert (len(again.sent_at), rig.state(again)) == (2, None)


async def test_asked_for_while_it_is_sent_it_is_sent_again(rig: Rig) -> None:
    item = Item("a", Outcome.DIRTY, Outcome.CLEAN)
    item.gate = trio.Event()
    rig.queue.enqueue(item, "a")
    await wait_all_tasks_blocked()
    await trio.sleep(0.1)
    rig.queue.enqueue(item, "a")
    item.gate.set()
    await rig.queue.settle(item, patience_seconds=1)
    assert (len(item.sent_at), rig.state(item)) == (2, None)


async def test_pauses_grow_up_to_the_longest_and_never_end(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs(r"a: not sent yet \(attempt 1,", r"a: not sent yet \(attempt 10,")
    failures = 40
    item = Item("a", *[Temporary()] * failures, Outcome.CLEAN)
    rig.queue.enqueue(item, "a")
    await rig.queue.drain()
    assert len(item.sent_at) == failures + 1
    pauses = [after - before for before, after in zip(item.sent_at, item.sent_at[1:], strict=False)]
    for number, pause in enumerate(pauses):
        assert pause == pytest.approx(min(LONGEST_PAUSE, FIRST_PAUSE * 2**number), rel=0.26)
    assert sum(pauses[-10:]) > 9 * LONGEST_PAUSE * 0.75


async def test_a_success_forgets_the_failures(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs("not sent yet")
    item = Item("a", Temporary(), Temporary(), Outcome.DIRTY, Temporary(), Outcome.CLEAN)
    rig.queue.enqueue(item, "a")
    await rig.queue.drain()
    rig.queue.enqueue(item, "a")
    await rig.queue.drain()
    assert item.sent_at[4] - item.sent_at[3] == pytest.approx(FIRST_PAUSE, rel=0.26)


async def test_when_the_nas_is_back_nobody_waits_out_a_pause(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs("not sent yet")
    items = [Item(name, *[Temporary()] * 20, Outcome.CLEAN) for name in "ab"]
    for item in items:
        rig.queue.enqueue(item, item.name)
    await trio.sleep(200)
    attempts = [len(item.sent_at) for item in items]
    assert all(rig.state(item) is State.WAITING for item in items)
    now = trio.current_time()
    rig.queue.retry_all()
    await trio.sleep(0.1)
    assert [item.sent_at[count] for item, count in zip(items, attempts, strict=True)] == [now, now]


# ----- waiting for it -------------------------------------------------------------------------------------------


async def test_settling_gives_up_after_its_patience_and_the_queue_goes_on(
    rig: Rig, expect_logs: Callable[..., None]
) -> None:
    expect_logs("not sent yet")
    error = Temporary("the NAS is away")
    item = Item("a", *[error] * 7, Outcome.CLEAN)
    started = trio.current_time()
    rig.queue.enqueue(item, "a")
    with pytest.raises(Temporary) as caught:
        await rig.queue.settle(item, patience_seconds=30)
    assert caught.value is error
    assert trio.current_time() - started == pytest.approx(30, abs=0.1)
    await rig.queue.drain()
    assert (len(item.sent_at), rig.state(item)) == (8, None)


async def test_a_failure_within_the_patience_is_not_told(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs("not sent yet")
    item = Item("a", Temporary(), Temporary(), Outcome.CLEAN)
    rig.queue.enqueue(item, "a")
    await rig.queue.settle(item, patience_seconds=30)
    assert len(item.sent_at) == 3


async def test_a_long_upload_is_waited_for_whatever_the_patience(rig: Rig) -> None:
    item = Item("a")
    item.gate = trio.Event()
    rig.queue.enqueue(item, "a")
    settled = trio.Event()

    async def settle() -> None:
        await rig.queue.settle(item, patience_seconds=30)
        settled.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(settle)
        await trio.sleep(10_000)
        assert not settled.is_set()
        item.gate.set()


async def test_settling_what_lingers_longer_than_the_patience_still_waits(rig: Rig) -> None:
    item = Item("a")
    rig.queue.enqueue(item, "a", linger_seconds=50)
    await rig.queue.settle(item, patience_seconds=1)
    assert len(item.sent_at) == 1


async def test_settling_what_is_not_in_the_queue_returns(rig: Rig) -> None:
    await rig.queue.settle(Item("a"), patience_seconds=1)


async def test_what_nobody_wants_any_more_is_not_sent(rig: Rig) -> None:
    item = Item("a")
    rig.queue.enqueue(item, "a", linger_seconds=5)

    async def discard() -> None:
        await trio.sleep(1)
        rig.queue.discard(item)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(discard)
        await rig.queue.settle(item, patience_seconds=1)
    await trio.sleep(100)
    assert (item.sent_at, rig.queue.pending()) == ([], 0)


async def test_an_item_that_becomes_dirty_while_it_leaves_stays_in_the_queue(rig: Rig) -> None:
    """The upload is over, the bytes are being forgotten, and the next writer is there already."""
    item = Item("a")
    item.gate = trio.Event()
    rig.queue.enqueue(item, "a")
    await trio.sleep(0.1)
    rig.queue.discard(item)
    rig.queue.add(item, "a")
    item.gate.set()
    await trio.sleep(0.1)
    assert rig.state(item) is State.IDLE
    rig.queue.enqueue(item, "a")
    await rig.queue.drain()
    assert len(item.sent_at) == 2


async def test_draining_waits_for_all_but_those_still_being_written(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs("not sent yet")
    items = [Item("fails", Temporary(), Outcome.CLEAN), Item("lingers"), Item("queued")]
    rig.queue.add(Item("open"), "open")
    for item in items:
        rig.queue.enqueue(item, item.name, linger_seconds=3 if item.name == "lingers" else 0)
    await rig.queue.drain()
    assert [entry.name for entry in rig.queue.entries] == ["open"]


# ----- refusals ---------------------------------------------------------------------------------------------------


async def test_a_final_refusal_is_handed_over_once_and_told_to_who_waits(
    rig: Rig, expect_logs: Callable[..., None]
) -> None:
    expect_logs("a: the NAS refuses it for good")
    item = Item("a", Final("quota"))
    rig.queue.enqueue(item, "a")
    with pytest.raises(Final, match="quota"):
        await rig.queue.settle(item, patience_seconds=30)
    await trio.sleep(1000)
    assert (len(item.sent_at), str(item.refused), rig.queue.pending()) == (1, "quota", 0)


async def test_what_cannot_be_put_aside_is_not_dropped(rig: Rig, expect_logs: Callable[..., None]) -> None:
    expect_logs("a: the NAS refuses it for good", "a: it could not be put aside")
    rig.refuse_fails = 1
    item = Item("a", Final("quota"))
    rig.queue.enqueue(item, "a")
    await trio.sleep(1)
    assert (item.refused, rig.queue.unsent()) == (None, 1)
    await rig.queue.drain()
    assert str(item.refused) == "quota"


async def test_a_paused_queue_begins_nothing_and_rests(rig: Rig) -> None:
    rig.queue.pause()
    items = [Item("a"), Item("b")]
    rig.queue.enqueue(items[0], "a")
    rig.queue.enqueue(items[1], "b", linger_seconds=1)
    await trio.sleep(1000)  # virtual time does not pass while anything spins
    assert rig.order == []
    rig.queue.resume()
    await rig.queue.drain()
    assert sorted(rig.order) == ["a", "b"]
