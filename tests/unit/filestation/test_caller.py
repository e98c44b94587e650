"""Repeating, giving up, and telling the lanes, against a scripted NAS."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation import calls
from synofs.filestation.calls import ApiCall
from synofs.filestation.parsing import Listing
from synofs.filestation.transport import (
    CertificateUntrusted,
    ConnectFailed,
    NotHttp,
    ReceiveFailed,
    ReceiveTimeout,
    Redirected,
)
from tests.unit.filestation.scripted_transport import (
    Answer,
    ScriptedNas,
    Sent,
    answer,
    caller_for,
    failure,
    success,
)

pytestmark = pytest.mark.trio

READ = calls.get_info(["/a"])
CHANGE = calls.create_folder("/a", "b")


def failing(times: int, problem: Callable[[], Answer]) -> Callable[[Sent], Answer]:
    left = times

    def files(sent: Sent) -> Answer:
        nonlocal left
        left -= 1
        return problem() if left >= 0 else success()

    return files


TEMPORARY: list[Callable[[], Answer]] = [
    lambda: failure(402),
    lambda: failure(117),
    lambda: answer(b"<html>", 502),
    lambda: answer(b"<html>", 503),
    lambda: answer(b"<html>", 504),
    lambda: answer(b"slow down", 429),
    lambda: answer(b"<html>", 500),
    lambda: answer(b"<html>maintenance</html>"),
    lambda: ReceiveFailed("reset"),
    lambda: ConnectFailed("refused"),
    lambda: NotHttp("?"),
]


@pytest.mark.parametrize("problem", TEMPORARY)
async def test_reading_outlasts_a_temporary_problem(problem: Callable[[], Answer], autojump_clock: MockClock) -> None:
    nas = ScriptedNas(failing(3, problem))
    caller, _, _ = caller_for(nas.transport)
    await caller.call(READ, Listing)
    assert nas.transport.count("FileStation.List.getinfo") == 4


@pytest.mark.parametrize("problem", TEMPORARY)
async def test_reading_fails_within_its_deadline_with_what_was_wrong(
    problem: Callable[[], Answer], autojump_clock: MockClock
) -> None:
    nas = ScriptedNas(failing(10_000, problem))
    caller, _, _ = caller_for(nas.transport)
    start = trio.current_time()
    with pytest.raises(remote.Unavailable) as caught:
        await caller.call(READ, Listing)
    assert trio.current_time() - start <= 20
    assert not isinstance(caught.value, remote.TimedOut), "the reason is known better than that"
    assert 5 < nas.transport.count("FileStation.List.getinfo") < 20


@pytest.mark.parametrize(
    "problem",
    [lambda: failure(402), lambda: answer(b"", 502), lambda: ReceiveFailed("reset"), lambda: ReceiveTimeout("late")],
)
async def test_a_change_is_never_repeated_once_it_may_have_arrived(problem: Callable[[], Answer]) -> None:
    nas = ScriptedNas(failing(1, problem))
    caller, _, _ = caller_for(nas.transport)
    with pytest.raises(remote.Unavailable):
        await caller.call(CHANGE, Listing)
    assert nas.transport.count("FileStation.CreateFolder.create") == 1


async def test_a_change_that_never_left_is_repeated(autojump_clock: MockClock) -> None:
    nas = ScriptedNas(failing(3, lambda: ConnectFailed("refused")))
    caller, _, _ = caller_for(nas.transport)
    await caller.call(CHANGE, Listing)
    assert nas.transport.count("FileStation.CreateFolder.create") == 4


async def test_a_change_is_replayed_after_a_dead_session() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await caller.call(READ, Listing)
    nas.live.clear()
    await caller.call(CHANGE, Listing)
    assert nas.transport.count("FileStation.CreateFolder.create") == 2


@pytest.mark.parametrize(
    "problem",
    [
        lambda: failure(408),
        lambda: failure(407),
        lambda: CertificateUntrusted("self-signed"),
        lambda: Redirected("elsewhere", target="https://other"),
    ],
)
async def test_a_final_answer_is_not_asked_for_again(problem: Callable[[], Answer]) -> None:
    nas = ScriptedNas(failing(1, problem))
    caller, _, _ = caller_for(nas.transport)
    with pytest.raises(remote.RemoteError):
        await caller.call(READ, Listing)
    assert nas.transport.count("FileStation.List.getinfo") == 1


async def test_a_reset_of_a_reused_connection_is_repeated_once_at_once_on_a_new_one() -> None:
    nas = ScriptedNas(failing(1, lambda: ReceiveFailed("reset", reused=True)))
    caller, _, lanes = caller_for(nas.transport)
    start = trio.current_time()
    await caller.call(READ, Listing)
    assert trio.current_time() - start < 0.1
    assert [s.request.fresh_connection for s in nas.transport.sent[-2:]] == [False, True]
    assert lanes.state().allowed == 6


async def test_a_nas_that_hangs_is_given_up_at_the_deadline(autojump_clock: MockClock) -> None:
    async def hang(sent: Sent) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    nas = ScriptedNas(hang)
    caller, _, lanes = caller_for(nas.transport, deadline_seconds=7)
    start = trio.current_time()
    with pytest.raises(remote.TimedOut) as caught:
        await caller.call(READ, Listing)
    assert trio.current_time() - start == pytest.approx(7)
    assert caught.value.path == "/a"
    assert lanes.state().active == 0


async def test_what_waits_between_two_tries_holds_no_lane(autojump_clock: MockClock) -> None:
    nas = ScriptedNas(lambda sent: failure(402) if "busy" in sent.parameters["path"] else success())
    caller, _, lanes = caller_for(nas.transport, max_requests=1)
    async with trio.open_nursery() as nursery:

        async def busy() -> None:
            with pytest.raises(remote.Overloaded):
                await caller.call(calls.get_info(["/busy"]), Listing)

        for _ in range(5):
            nursery.start_soon(busy)
        await trio.sleep(2)
        before = trio.current_time()
        await caller.call(READ, Listing)
        assert trio.current_time() == before, "nobody stood in the way"
    assert lanes.state().allowed < 1.5


async def test_an_overloaded_nas_gets_fewer_calls_at_once(autojump_clock: MockClock) -> None:
    at_once = most = 0
    limit = 2

    async def files(sent: Sent) -> Answer:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        try:
            await trio.sleep(0.1)
            return failure(402) if at_once > limit else success()
        finally:
            at_once -= 1

    nas = ScriptedNas(files)
    caller, _, lanes = caller_for(nas.transport, deadline_seconds=120)
    async with trio.open_nursery() as nursery:
        for number in range(40):
            nursery.start_soon(caller.call, calls.get_info([f"/{number}"]), Listing)
    assert most == 6
    assert lanes.state().allowed < 4


async def test_an_api_that_the_nas_lacks_is_unsupported_without_asking() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    with pytest.raises(remote.Unsupported):
        await caller.call(ApiCall("SYNO.FileStation.Nothing", 1, "get"), Listing)
    assert "FileStation.Nothing.get" not in nas.transport.names()


async def test_calls_are_counted_by_name() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    for _ in range(3):
        await caller.call(READ, Listing)
    assert caller.wire._counters.api_calls["SYNO.FileStation.List.getinfo"] == 3
