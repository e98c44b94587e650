"""How commands talk to a running mount: JSON lines over a unix socket.

A caller sends one object per line, `{"command": NAME, ...}` (app/commands.py), and gets one line back: `{"ok": {...}}`,
or a `Failure` as JSON. Commands that take their time send lines `{"news": {...}}` before it, at least one every few
seconds, and end when their caller goes away. The socket lies in a directory that only the mount's user can enter,
and the kernel says who calls: anyone but that user and root is turned away.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import trio

from synofs.app.commands import Request, decoder
from synofs.app.errors import Failure, Problem, failure_of
from synofs.app.identity import make_runtime_dir, mount_id, require_private, runtime_dirs
from synofs.app.mounts import MountEntry
from synofs.fs.names import printable

log = logging.getLogger(__name__)

LINE_BYTES = 8 * 1024 * 1024  # Linux takes 2 MiB of arguments (ARG_MAX), and JSON makes some of them longer
ANSWER_SECONDS = 5.0
SIGN_OF_LIFE_SECONDS = 5.0  # between two lines of a command that takes its time
SILENCE_SECONDS = 30.0  # of such a command, until it counts as hanging

Arguments = Mapping[str, Any]
Command = Callable[[Any], Awaitable[dict[str, Any]]]
Tell = Callable[[dict[str, Any]], Awaitable[None]]
LongCommand = Callable[[Any, Tell], Awaitable[dict[str, Any]]]


def _caller(sock: Any) -> tuple[int, int]:
    """pid and uid of the process at the other end."""
    pid, uid, _gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return pid, uid


class ControlServer:
    """The daemon's end. A command that fails in any way is answered with a failure and harms nobody else."""

    def __init__(
        self,
        mountpoint: str,
        commands: Mapping[type[Request], Command],
        long_commands: Mapping[type[Request], LongCommand] | None = None,
    ) -> None:
        self._mountpoint = mountpoint
        self._commands = commands
        self._long_commands = long_commands or {}
        self._decode = decoder([*self._commands, *self._long_commands])

    async def serve(self, task_status: trio.TaskStatus[Path] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled; the started value is the socket's path."""
        path = make_runtime_dir() / f"{mount_id(self._mountpoint)}.sock"
        path.unlink(missing_ok=True)  # of a daemon that died; a live one would still be mounted here
        with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            await sock.bind(str(path))
            try:
                path.chmod(0o600)
                sock.listen(16)
                async with trio.open_nursery() as nursery:
                    await nursery.start(trio.serve_listeners, self._talk, [trio.SocketListener(sock)])
                    task_status.started(path)
            finally:
                path.unlink(missing_ok=True)

    async def _talk(self, stream: trio.SocketStream) -> None:
        try:
            await self._converse(stream)
        except (trio.BrokenResourceError, _CallerGone):
            return
        except Exception:  # whatever a caller says, the mount lives on
            log.exception("a talk with a command ended in a way nobody foresaw")

    async def _converse(self, stream: trio.SocketStream) -> None:
        _pid, uid = _caller(stream.socket)
        received = b""
        async for piece in stream:
            received += piece
            while b"\n" in received:
                line, _, received = received.partition(b"\n")
                await self._send(stream, await self._answer(stream, line, uid))
            if len(received) > LINE_BYTES:
                await self._send(stream, self._refused(Failure(Problem.NOT_UNDERSTOOD, detail="a line without end")))
                return

    async def _answer(self, stream: trio.SocketStream, line: bytes, uid: int) -> dict[str, Any]:
        if uid not in (0, os.getuid()):
            log.warning("user %d tried to control this mount", uid)
            return Failure(Problem.NOT_YOURS, mountpoint=self._mountpoint).to_json()
        try:
            request = self._decode(line)
        except Failure as exc:
            return self._refused(exc)
        kind = type(request)
        command = self._commands.get(kind) or partial(self._at_length, stream, self._long_commands[kind])
        try:
            return {"ok": await command(request)}
        except _CallerGone:
            raise
        except Failure as exc:
            return exc.with_facts(mountpoint=self._mountpoint).to_json()
        except Exception as exc:
            failure = failure_of(exc, mountpoint=self._mountpoint)
            if failure.problem is Problem.INTERNAL:
                log.exception("the command %s failed in a way nobody foresaw", kind.__name__.lower())
            return failure.to_json()

    def _refused(self, failure: Failure) -> dict[str, Any]:
        log.warning("a command was not understood: %s", printable(failure.facts["detail"]))
        return failure.with_facts(mountpoint=self._mountpoint).to_json()

    async def _at_length(self, stream: trio.SocketStream, command: LongCommand, request: Request) -> dict[str, Any]:
        """Run a command that tells news on its way. It ends when its caller goes away, as on Ctrl-C."""
        sending = trio.Lock()

        async def tell(news: dict[str, Any]) -> None:
            async with sending:
                await stream.send_all(json.dumps({"news": news}).encode() + b"\n")

        async def show_life() -> None:
            while True:
                await trio.sleep(SIGN_OF_LIFE_SECONDS)
                await tell({})

        gone = False

        async def watch(scope: trio.CancelScope) -> None:
            nonlocal gone
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some(1)  # a caller waits for its answer: whatever comes is the end
            gone = True
            scope.cancel()

        result: dict[str, Any] = {}
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, nursery.cancel_scope)
            nursery.start_soon(self._as_long_as_heard, show_life, nursery.cancel_scope)
            try:
                result = await command(request, tell)
            except trio.BrokenResourceError:
                gone = True
            except Exception as exc:
                failure = exc
            nursery.cancel_scope.cancel()
        if gone:
            raise _CallerGone
        if failure is not None:
            raise failure
        return result

    async def _as_long_as_heard(self, talk: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await talk()
        except trio.BrokenResourceError:
            scope.cancel()

    async def _send(self, stream: trio.SocketStream, answer: dict[str, Any]) -> None:
        # Shielded: the answer to "umount" is due when the mount, and with it this server, is at its end.
        with trio.CancelScope(shield=True, deadline=trio.current_time() + ANSWER_SECONDS):
            await stream.send_all(json.dumps(answer).encode() + b"\n")


class _CallerGone(Exception):
    """Nobody is left to answer."""


class ControlClient:
    """The caller's end: one connection, blocking. Closed with `close` or by a with-block."""

    def __init__(self, mount: MountEntry, sock: socket.socket) -> None:
        self._mount = mount
        self._sock = sock
        self._file = sock.makefile("rb")
        self.daemon_pid, _uid = _caller(sock)
        # Taken while it certainly lives, so that a later process with the same number is not mistaken for it.
        self._pidfd = os.pidfd_open(self.daemon_pid)

    @classmethod
    def connect(cls, mount: MountEntry) -> ControlClient:
        """Raises `DAEMON_GONE` when nobody listens, `NOT_YOURS` when somebody does, but not to us."""
        name = f"{mount_id(mount.mountpoint)}.sock"
        for directory in runtime_dirs(mount.owner_uid):
            sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                require_private(directory, mount.owner_uid)
                sock.settimeout(ANSWER_SECONDS)
                sock.connect(str(directory / name))
                return cls(mount, sock)
            except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError):
                sock.close()
            except PermissionError as exc:
                sock.close()
                if os.getuid() not in (0, mount.owner_uid):
                    raise Failure(Problem.NOT_YOURS, mountpoint=mount.mountpoint) from exc
            except OSError as exc:
                sock.close()
                raise Failure(Problem.NO_ANSWER, mountpoint=mount.mountpoint) from exc
        problem = Problem.DAEMON_GONE if os.getuid() in (0, mount.owner_uid) else Problem.NOT_YOURS
        raise Failure(problem, mountpoint=mount.mountpoint)

    def ask(self, command: str, *, within_seconds: float = ANSWER_SECONDS, **arguments: object) -> dict[str, Any]:
        """The daemon's answer; its failure is raised. `NO_ANSWER` when none comes in time."""
        return self.follow(command, arguments, lambda news: None, silence_seconds=within_seconds)

    def follow(
        self,
        command: str,
        arguments: Arguments,
        on_news: Callable[[dict[str, Any]], None],
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> dict[str, Any]:
        """The answer to a command that takes its time; what it tells on its way goes to `on_news`."""
        self._sock.settimeout(silence_seconds)
        answer = self._exchange(json.dumps({"command": command, **arguments}).encode() + b"\n")
        while "news" in answer:
            if answer["news"]:
                on_news(answer["news"])
            answer = self._exchange()
        if "ok" not in answer:
            raise Failure.from_json(answer)
        result: dict[str, Any] = answer["ok"]
        return result

    def _exchange(self, request: bytes = b"") -> dict[str, Any]:
        """The next line of the daemon's."""
        try:
            self._sock.sendall(request)
            line = self._file.readline()
        except OSError as exc:
            raise Failure(Problem.NO_ANSWER, mountpoint=self._mount.mountpoint) from exc
        if not line:
            raise Failure(Problem.DAEMON_GONE, mountpoint=self._mount.mountpoint)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def wait_for_end(self, seconds: float) -> bool:
        """Wait until the daemon's process has ended; False when it has not by then."""
        return bool(select.select([self._pidfd], [], [], seconds)[0])

    def close(self) -> None:
        os.close(self._pidfd)
        self._file.close()
        self._sock.close()

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
