"""Commands talk to a mount over its socket: the right user, the right answer, never a hang."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from synofs.app import control
from synofs.app.commands import Request
from synofs.app.control import Command, ControlClient, ControlServer, LongCommand, Tell
from synofs.app.errors import Failure, Problem
from synofs.app.identity import make_runtime_dir, mount_id, runtime_dirs
from synofs.app.mounts import MountEntry

pytestmark = pytest.mark.trio

MOUNT = MountEntry("/mnt/nas", "https://nas:5001", "fuse.synofs", os.getuid())


@pytest.fixture(autouse=True)
def _runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory for each test, with a path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="synofs-", dir="/tmp") as directory:
        monkeypatch.setenv("XDG_RUNTIME_DIR", directory)
        yield


class Status(Request, frozen=True, tag="status"):
    word: str = ""


class Busy(Request, frozen=True, tag="busy"):
    pass


class Broken(Request, frozen=True, tag="broken"):
    pass


class Endless(Request, frozen=True, tag="endless"):
    pass


class Count(Request, frozen=True, tag="count"):
    to: int = 0
    fail: bool = False


async def status(request: Status) -> dict[str, Any]:
    return {"echo": request.word, "pid": os.getpid()}


async def busy(_request: Busy) -> dict[str, Any]:
    raise Failure(Problem.MOUNT_BUSY)


async def broken(_request: Broken) -> dict[str, Any]:
    raise ZeroDivisionError("nobody foresaw this")


async def endless(_request: Endless) -> dict[str, Any]:
    await trio.sleep_forever()
    raise AssertionError


COMMANDS: dict[type[Request], Command] = {Status: status, Busy: busy, Broken: broken, Endless: endless}


async def while_serving(question: Callable[[], Any]) -> Any:
    """Run a caller in a thread while the server runs here."""
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(MOUNT.mountpoint, COMMANDS).serve)
        result = await trio.to_thread.run_sync(question)
        nursery.cancel_scope.cancel()
    return result


async def test_a_command_is_answered() -> None:
    def ask() -> list[dict[str, Any]]:
        with ControlClient.connect(MOUNT) as daemon:
            return [daemon.ask("status", word="one"), daemon.ask("status", word="zwei\n")]

    answers = await while_serving(ask)
    assert [answer["echo"] for answer in answers] == ["one", "zwei\n"]
    assert answers[0]["pid"] == os.getpid()


async def test_a_failure_travels_to_the_caller_with_the_mountpoint() -> None:
    def ask() -> Failure:
        with ControlClient.connect(MOUNT) as daemon, pytest.raises(Failure) as caught:
            daemon.ask("busy")
        return caught.value

    failure = await while_serving(ask)
    assert failure.problem is Problem.MOUNT_BUSY
    assert "/mnt/nas is in use" in failure.line


async def test_a_command_that_breaks_harms_no_other(expect_logs: Callable[..., None]) -> None:
    expect_logs("broken failed in a way nobody foresaw")

    def ask() -> tuple[Problem, str]:
        with ControlClient.connect(MOUNT) as daemon:
            with pytest.raises(Failure) as caught:
                daemon.ask("broken")
            return caught.value.problem, daemon.ask("status", word="alive")["echo"]

    assert await while_serving(ask) == (Problem.INTERNAL, "alive")


NONSENSE = {
    "no JSON": b"no json",
    "a list": b"[]",
    "a number": b"3",
    "no command of ours": b'{"command": "format_disk"}',
    "no command at all": b"{}",
    "a command that is no text": b'{"command": ["status"]}',
    "no UTF-8": b"\xff\xfe",
    "brackets": b"[" * 60_000,
    "braces": b'{"a":' * 10_000,
    "a number without end": b'{"command": "status", "word": ' + b"9" * 5_000 + b"}",
    "half a character": b'{"command": "status", "word": "\\udcff"}',
    "a word too many": b'{"command": "status", "wrod": "one"}',
    "a line that is too long": b" " * (control.LINE_BYTES + 1),
}


@pytest.mark.parametrize("line", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_is_refused(line: bytes, expect_logs: Callable[..., None]) -> None:
    expect_logs("a command was not understood")

    def ask() -> Any:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(5)
            sock.connect(str(runtime_dirs(os.getuid())[0] / f"{mount_id(MOUNT.mountpoint)}.sock"))
            sock.sendall(line + b"\n")
            return json.loads(sock.makefile().readline())

    assert (await while_serving(ask))["problem"] == "NOT_UNDERSTOOD"


async def test_as_many_files_as_a_command_line_holds_can_be_named() -> None:
    words = "/a/folder/é" * 200_000

    def ask() -> Any:
        with ControlClient.connect(MOUNT) as daemon:
            return daemon.ask("status", word=words)["echo"]

    assert await while_serving(ask) == words


async def test_a_daemon_that_does_not_answer_is_told_apart_from_one_that_is_gone() -> None:
    def ask() -> Problem:
        with ControlClient.connect(MOUNT) as daemon, pytest.raises(Failure) as caught:
            daemon.ask("endless", within_seconds=0.05)
        return caught.value.problem

    assert await while_serving(ask) is Problem.NO_ANSWER
    with pytest.raises(Failure) as caught:
        ControlClient.connect(MOUNT)
    assert caught.value.problem is Problem.DAEMON_GONE


async def test_the_socket_is_private_and_goes_away_with_the_server() -> None:
    async with trio.open_nursery() as nursery:
        path: Path = await nursery.start(ControlServer(MOUNT.mountpoint, COMMANDS).serve)
        assert os.stat(path).st_mode & 0o777 == 0o600
        assert os.stat(path.parent).st_mode & 0o777 == 0o700
        nursery.cancel_scope.cancel()
    with pytest.raises(FileNotFoundError):
        os.stat(path)


async def test_the_socket_of_a_dead_daemon_is_replaced() -> None:
    stale = make_runtime_dir() / f"{mount_id(MOUNT.mountpoint)}.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(stale))
    with pytest.raises(Failure) as caught:
        ControlClient.connect(MOUNT)
    assert caught.value.problem is Problem.DAEMON_GONE

    def ask() -> Any:
        with ControlClient.connect(MOUNT) as daemon:
            return daemon.ask("status", word="new")["echo"]

    assert await while_serving(ask) == "new"


async def test_another_user_is_turned_away(monkeypatch: pytest.MonkeyPatch, expect_logs: Callable[..., None]) -> None:
    expect_logs("user 12345 tried to control")
    real = control._caller
    server_thread = threading.get_ident()  # the caller asks who the daemon is from another thread

    def caller(sock: Any) -> tuple[int, int]:
        pid, uid = real(sock)
        return (pid, 12345) if threading.get_ident() == server_thread else (pid, uid)

    monkeypatch.setattr(control, "_caller", caller)

    def ask() -> Problem:
        with ControlClient.connect(MOUNT) as daemon, pytest.raises(Failure) as caught:
            daemon.ask("status")
        return caught.value.problem

    assert await while_serving(ask) is Problem.NOT_YOURS


async def counting(request: Count, tell: Tell) -> dict[str, Any]:
    for number in range(request.to):
        await tell({"number": number})
    if request.fail:
        raise Failure(Problem.MOUNT_BUSY)
    return {"counted": request.to}


async def while_serving_long(question: Callable[[], Any], command: LongCommand) -> Any:
    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(MOUNT.mountpoint, COMMANDS, {Count: command}).serve)
        result = await trio.to_thread.run_sync(question)
        nursery.cancel_scope.cancel()
    return result


async def test_a_command_that_takes_its_time_tells_news_and_then_its_answer() -> None:
    def ask() -> tuple[list[int], dict[str, Any], Problem, dict[str, Any]]:
        numbers: list[int] = []
        with ControlClient.connect(MOUNT) as daemon:
            answer = daemon.follow("count", {"to": 3}, lambda news: numbers.append(news["number"]))
            with pytest.raises(Failure) as caught:
                daemon.follow("count", {"to": 1, "fail": True}, lambda news: None)
            return numbers, answer, caught.value.problem, daemon.ask("status", word="still here")

    numbers, answer, problem, status = await while_serving_long(ask, counting)
    assert (numbers, answer, problem) == ([0, 1, 2], {"counted": 3}, Problem.MOUNT_BUSY)
    assert status["echo"] == "still here"


async def test_a_silent_command_shows_that_it_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "SIGN_OF_LIFE_SECONDS", 0.05)

    async def slow(request: Count, tell: Tell) -> dict[str, Any]:
        await trio.sleep(1)
        return {"done": True}

    def ask() -> dict[str, Any]:
        with ControlClient.connect(MOUNT) as daemon:
            return daemon.follow("count", {}, lambda news: None, silence_seconds=0.5)

    assert await while_serving_long(ask, slow) == {"done": True}


async def test_a_command_ends_with_its_caller() -> None:
    ended = trio.Event()

    async def endless_count(request: Count, tell: Tell) -> dict[str, Any]:
        try:
            await tell({"begun": True})
            await trio.sleep_forever()
        finally:
            ended.set()
        raise AssertionError

    class Enough(Exception):
        pass

    def leave() -> None:
        def stop(news: dict[str, Any]) -> None:
            raise Enough

        with ControlClient.connect(MOUNT) as daemon, pytest.raises(Enough):
            daemon.follow("count", {}, stop)

    async with trio.open_nursery() as nursery:
        await nursery.start(ControlServer(MOUNT.mountpoint, COMMANDS, {Count: endless_count}).serve)
        await trio.to_thread.run_sync(leave)
        with trio.fail_after(5):
            await ended.wait()
        nursery.cancel_scope.cancel()
