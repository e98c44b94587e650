"""Signing in and staying signed in, against a scripted NAS."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from synofs import remote
from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.discovery import APIS
from synofs.filestation.parsing import Listing
from synofs.filestation.secret import Secret
from synofs.filestation.transport import ConnectFailed, ReceiveFailed
from synofs.filestation.wire import Placement
from tests.unit.filestation.scripted_transport import (
    Answer,
    ScriptedNas,
    Sent,
    answer,
    caller_for,
    credentials,
    failure,
    success,
)

pytestmark = pytest.mark.trio


async def call(caller: Caller, path: str = "/a") -> Listing:
    return await caller.call(calls.get_info([path]), Listing)


async def test_discovery_then_one_sign_in_then_the_call() -> None:
    nas = ScriptedNas()
    caller, auth, _ = caller_for(nas.transport)
    await call(caller)
    await call(caller)
    names = ["API.Info.query", "API.Auth.login", "FileStation.List.getinfo", "FileStation.List.getinfo"]
    assert nas.transport.names() == names
    assert auth.sign_ins == 1


async def test_the_password_travels_in_a_post_body_only() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    [login] = [sent for sent in nas.transport.sent if sent.name == "API.Auth.login"]
    assert login.request.method == "POST"
    assert login.request.query == ""
    assert login.parameters == {
        "api": "SYNO.API.Auth",
        "version": "7",
        "method": "login",
        "account": "ann",
        "passwd": "pass word",
        "session": "FileStation",
        "format": "sid",
        "enable_syno_token": "yes",
    }


async def test_every_call_carries_session_and_token() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    sent = nas.transport.sent[-1]
    assert (sent.sid, sent.token) == ("sid1", "token1")
    assert "sid1" not in sent.request.query


async def test_an_old_dsm_is_asked_in_its_own_versions() -> None:
    nas = ScriptedNas()
    nas.apis = {
        "SYNO.API.Auth": {"path": "auth.cgi", "minVersion": 1, "maxVersion": 4},
        "SYNO.FileStation.List": {"path": "entry.cgi", "minVersion": 1, "maxVersion": 2},
    }
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    login = nas.transport.sent[1]
    assert (login.request.path, login.parameters["version"]) == ("/webapi/auth.cgi", "4")
    assert "enable_syno_token" not in login.parameters


async def test_discovery_asks_only_for_what_is_used_and_at_both_places() -> None:
    nas = ScriptedNas()
    original = nas.transport._script

    def script(sent: Sent) -> Answer | Awaitable[Answer]:
        return answer(b"<html>", 404) if sent.request.path.endswith("query.cgi") else original(sent)

    nas.transport._script = script
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    first, second = nas.transport.sent[:2]
    assert first.parameters["query"].split(",") == list(APIS)
    assert (first.request.path, second.request.path) == ("/webapi/query.cgi", "/webapi/entry.cgi")


@pytest.mark.parametrize(
    "reply", [answer(b"<html>hello</html>"), answer({"hello": "world"}), answer({"success": True}), answer(b"", 404)]
)
async def test_a_host_that_is_no_nas(reply: Answer) -> None:
    nas = ScriptedNas()
    nas.transport._script = lambda sent: reply
    caller, _, _ = caller_for(nas.transport)
    with pytest.raises(remote.NotANas):
        await call(caller)
    assert len(nas.transport.sent) == 2


# ----- one for all ------------------------------------------------------------------------------------------------


async def in_parallel(count: int, what: Callable[[int], Awaitable[Any]]) -> list[Any]:
    outcomes: list[Any] = [None] * count

    async def one(number: int) -> None:
        try:
            outcomes[number] = await what(number)
        except remote.RemoteError as exc:
            outcomes[number] = exc

    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(one, number)
    return outcomes


async def test_a_hundred_first_calls_sign_in_once() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await in_parallel(100, lambda number: call(caller, f"/{number}"))
    assert nas.logins == 1
    assert nas.transport.count("FileStation.List.getinfo") == 100


@pytest.mark.parametrize("code", [106, 107, 119, 150])
async def test_a_hundred_calls_that_meet_one_dead_session_sign_in_once_and_replay_once(code: int) -> None:
    nas = ScriptedNas()
    nas.dead_code = code
    caller, _, _ = caller_for(nas.transport, max_requests=100)
    await call(caller)
    nas.live.clear()
    outcomes = await in_parallel(100, lambda number: call(caller, f"/{number}"))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert nas.logins == 2
    assert nas.transport.count("FileStation.List.getinfo") == 1 + 100 + 100
    assert nas.transport.count("API.Auth.token") == (1 if code == 119 else 0)


async def test_a_caller_that_gives_up_does_not_take_the_sign_in_with_it(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()

    async def slow_login(sent: Sent) -> Answer:
        await trio.sleep(5)
        return success(nas.new_session())

    nas.on_login = slow_login
    caller, _, _ = caller_for(nas.transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(call, caller)
        with trio.move_on_after(1) as hurried:
            await call(caller)
    assert hurried.cancelled_caught
    assert nas.logins == 1


async def test_calls_share_a_failed_sign_in_and_each_gets_an_error_of_its_own() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: failure(400)
    caller, _, _ = caller_for(nas.transport)
    outcomes = await in_parallel(100, lambda number: call(caller))
    assert {type(outcome) for outcome in outcomes} == {remote.WrongPassword}
    assert len({id(outcome) for outcome in outcomes}) == 100
    assert nas.logins == 1


@pytest.mark.parametrize("code", [400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 105])
async def test_a_refused_sign_in_is_never_tried_again(code: int) -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: failure(code)
    caller, auth, _ = caller_for(nas.transport)
    for _ in range(5):
        with pytest.raises(remote.SignInRefused) as caught:
            await call(caller)
        assert caught.value.code == code
    assert nas.logins == 1

    nas.on_login = None
    auth.set_credentials(credentials())
    await call(caller)
    assert nas.logins == 2


async def test_a_sign_in_refused_later_is_not_tried_again_either() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    nas.live.clear()
    nas.on_login = lambda sent: failure(400)
    for _ in range(5):
        with pytest.raises(remote.WrongPassword):
            await call(caller)
    assert nas.logins == 2


async def test_no_secret_is_in_any_refusal() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: failure(400)
    caller, _, _ = caller_for(nas.transport, credentials(otp=Secret("123456")))
    with pytest.raises(remote.WrongPassword) as caught:
        await call(caller)
    shown = repr(caught.value) + str(caught.value)
    assert "pass word" not in shown
    assert "123456" not in shown


# ----- sessions that die ------------------------------------------------------------------------------------------


async def test_a_fresh_session_that_is_not_taken_moves_to_the_parameters_without_a_second_sign_in() -> None:
    nas = ScriptedNas()
    nas.accepts = lambda sent: "_sid" in sent.parameters and sent.sid in nas.live
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    await call(caller)
    assert nas.logins == 1
    assert nas.transport.count("FileStation.List.getinfo") == 3
    assert nas.transport.sent[-1].parameters["SynoToken"] == "token1"


async def test_a_fresh_session_that_is_never_taken_does_not_loop() -> None:
    nas = ScriptedNas()
    nas.accepts = lambda sent: False
    caller, _, _ = caller_for(nas.transport)
    for _ in range(5):
        with pytest.raises(remote.SignInNotAllowed):
            await call(caller)
    assert nas.logins == 2
    assert len(nas.transport.sent) < 12


async def test_after_a_while_a_fresh_session_that_was_not_taken_is_replaced(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()
    nas.accepts = lambda sent: sent.sid == "sid3"
    caller, _, _ = caller_for(nas.transport)
    with pytest.raises(remote.SignInNotAllowed):
        await call(caller)
    await trio.sleep(60)
    await call(caller)
    assert nas.logins == 3


@pytest.mark.parametrize("code", [106, 107, 119, 150])
async def test_a_session_that_dies_before_its_first_use_is_replaced(code: int) -> None:
    nas = ScriptedNas()
    nas.dead_code = code
    caller, auth, _ = caller_for(nas.transport)
    await auth.session()
    nas.live.clear()
    await call(caller)
    assert nas.logins == 2
    assert "Cookie" in nas.transport.sent[-1].request.headers


async def test_a_new_syno_token_is_enough_where_only_the_token_was_wrong() -> None:
    nas = ScriptedNas()
    good_token = "token1"
    nas.accepts = lambda sent: sent.sid in nas.live and sent.token == good_token
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    good_token = "newer"
    nas.on_token = lambda sent: success({"synotoken": "newer"}) if sent.sid in nas.live else failure(119)
    await in_parallel(20, lambda number: call(caller))
    assert nas.logins == 1
    assert nas.transport.count("API.Auth.token") == 1


async def test_a_new_syno_token_that_does_not_help_leads_to_one_sign_in() -> None:
    nas = ScriptedNas()
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    nas.live.clear()
    nas.on_token = lambda sent: success({"synotoken": "newer"})
    await call(caller)
    assert nas.logins == 2
    assert nas.transport.count("API.Auth.token") == 1


async def test_105_is_about_the_file_while_the_session_works() -> None:
    nas = ScriptedNas(lambda sent: failure(105) if "secret" in sent.parameters["path"] else success())
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    with pytest.raises(remote.PermissionDenied):
        await call(caller, "/secret")
    assert nas.logins == 1
    assert nas.transport.names()[-1] == "FileStation.List.getinfo"


async def test_105_from_a_session_that_was_quiet_for_long_is_looked_into(autojump_clock: MockClock) -> None:
    def files(sent: Sent) -> Answer:
        return failure(105) if "secret" in sent.parameters.get("path", "") else success()

    nas = ScriptedNas(files)
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    await trio.sleep(3600)
    with pytest.raises(remote.PermissionDenied):
        await call(caller, "/secret")
    assert nas.logins == 1
    assert nas.transport.names()[-1] == "FileStation.List.list_share"


async def test_105_from_a_dead_session_signs_in_again(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()
    nas.dead_code = 105
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    nas.live.clear()
    await trio.sleep(3600)
    await call(caller)
    assert nas.logins == 2


@pytest.mark.parametrize("dead_code", [119, 105])
async def test_a_restart_of_the_nas_is_outlasted(autojump_clock: MockClock, dead_code: int) -> None:
    nas = ScriptedNas()
    nas.dead_code = dead_code
    caller, _, lanes = caller_for(nas.transport)
    await call(caller)
    original = nas.transport._script
    down_until = trio.current_time() + 8
    nas.live.clear()

    def script(sent: Sent) -> Answer | Awaitable[Answer]:
        return ConnectFailed("refused") if trio.current_time() < down_until else original(sent)

    nas.transport._script = script
    outcomes = await in_parallel(50, lambda number: call(caller, f"/{number}"))
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert nas.logins == 2
    assert nas.transport.count("API.Info.query") >= 2, "it may have come back with another DSM"
    assert lanes.state().allowed == 6


async def test_a_sign_in_that_fails_for_a_moment_is_repeated_even_for_a_change(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()
    attempts = 0

    def login(sent: Sent) -> Answer:
        nonlocal attempts
        attempts += 1
        return ReceiveFailed("reset") if attempts == 1 else success(nas.new_session())

    nas.on_login = login
    caller, _, _ = caller_for(nas.transport)
    await caller.call(calls.create_folder("/a", "b"), Listing)
    assert nas.transport.count("FileStation.CreateFolder.create") == 1


# ----- two factors ------------------------------------------------------------------------------------------------


async def logged_in(nas: ScriptedNas, **more: Any) -> tuple[Caller, Any]:
    caller, auth, _ = caller_for(nas.transport, credentials(**more))
    await call(caller)
    return caller, auth


def logins(nas: ScriptedNas) -> list[dict[str, str]]:
    return [sent.parameters for sent in nas.transport.sent if sent.name == "API.Auth.login"]


@pytest.mark.parametrize("member", ["did", "device_id"])
async def test_a_code_is_used_once_and_the_device_is_remembered(member: str) -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: success(nas.new_session(**{member: "device"}))
    caller, auth = await logged_in(nas, otp=Secret("123456"), device_name="laptop")
    assert auth.device_id == "device"
    first = logins(nas)[0]
    assert (first["otp_code"], first["enable_device_token"], first["device_name"]) == ("123456", "yes", "laptop")

    nas.live.clear()
    await call(caller)
    second = logins(nas)[1]
    assert "otp_code" not in second
    assert (second["device_id"], second["device_name"]) == ("device", "laptop")


async def test_a_remembered_device_is_sent_with_its_name() -> None:
    nas = ScriptedNas()
    await logged_in(nas, device_id=Secret("device"), device_name="laptop")
    login = logins(nas)[0]
    assert (login["device_id"], login["device_name"]) == ("device", "laptop")
    assert "enable_device_token" not in login


async def test_v6_is_asked_for_the_device_where_v7_gives_none() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: success(
        nas.new_session(**({"did": "device"} if sent.parameters["version"] == "6" else {}))
    )
    _, auth = await logged_in(nas, otp=Secret("123456"))
    assert auth.device_id == "device"
    assert [login["version"] for login in logins(nas)] == ["7", "6"]
    assert nas.live == {"sid1"}, "the second session is signed out, and the first one used"
    assert nas.transport.sent[-1].sid == "sid1"


async def test_a_code_that_serves_only_once_costs_the_device_but_not_the_session() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: (
        failure(404) if sent.parameters["version"] == "6" else success(nas.new_session(device_id=""))
    )
    _, auth = await logged_in(nas, otp=Secret("123456"))
    assert auth.device_id is None


async def test_a_device_that_is_forgotten_is_told_as_such() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: failure(403)
    with pytest.raises(remote.OtpNeeded, match="not remembered"):
        await logged_in(nas, device_id=Secret("old"))


async def test_a_new_code_replaces_an_old_device() -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: success(nas.new_session(did="new"))
    _, auth = await logged_in(nas, otp=Secret("123456"), device_id=Secret("old"))
    assert auth.device_id == "new"
    assert "device_id" not in logins(nas)[0]


# ----- the end ----------------------------------------------------------------------------------------------------


async def test_signing_out_names_the_session_everywhere() -> None:
    nas = ScriptedNas()
    caller, auth, _ = caller_for(nas.transport)
    await call(caller)
    await auth.sign_out()
    logout = nas.transport.sent[-1]
    assert logout.name == "API.Auth.logout"
    assert logout.parameters["_sid"] == "sid1"
    assert logout.request.headers["Cookie"] == "id=sid1"
    assert logout.request.query == ""
    await auth.sign_out()
    assert nas.transport.count("API.Auth.logout") == 1


async def test_signing_out_of_a_dead_nas_is_silent() -> None:
    nas = ScriptedNas()
    caller, auth, _ = caller_for(nas.transport)
    await call(caller)
    nas.transport._script = lambda sent: ConnectFailed("refused")
    await auth.sign_out()


@pytest.mark.parametrize("sid", ["", "a b", "a\nb", "a\r\nX-Evil: 1"])
async def test_a_session_that_could_forge_a_header_is_refused(sid: str) -> None:
    nas = ScriptedNas()
    nas.on_login = lambda sent: success({"sid": sid})
    caller, _, _ = caller_for(nas.transport, deadline_seconds=0.1)
    with pytest.raises(remote.BadAnswer):
        await call(caller)


async def test_a_session_that_is_no_cookie_goes_into_the_parameters() -> None:
    nas = ScriptedNas()
    nas.live.add("a;b")
    nas.on_login = lambda sent: success({"sid": "a;b"})
    caller, _, _ = caller_for(nas.transport)
    await call(caller)
    assert nas.transport.sent[-1].parameters["_sid"] == "a;b"
    assert "Cookie" not in nas.transport.sent[-1].request.headers
    assert Placement.COOKIE is not Placement.PARAMETERS


async def test_no_sign_in_takes_longer_than_its_limit(autojump_clock: MockClock) -> None:
    nas = ScriptedNas()

    async def never(sent: Sent) -> Answer:
        await trio.sleep_forever()
        raise AssertionError

    nas.on_login = never
    _, auth, _ = caller_for(nas.transport)
    with pytest.raises(remote.TimedOut):
        await auth.session()
    await wait_all_tasks_blocked()
    assert trio.current_time() == pytest.approx(30, abs=1)
