"""The life of one mount's process: sign in, mount, serve, unmount, sign out.

A process that is asked to end (SIGTERM, SIGINT, unmount) unmounts, signs out and exits with 0. One that crashes
leaves the mountpoint in place, where every access fails with "Transport endpoint is not connected": an empty folder
would tell a backup that all files were deleted. `synofs mount` and `synofs umount` clear what a dead process left.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import resource
import signal
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import trio

from synofs.app import commands, utab
from synofs.app.assembly import Parts, mount_source, serve_mount
from synofs.app.control import Command, ControlServer, Tell
from synofs.app.debugging import inside, obey_signals, task_stacks
from synofs.app.errors import Failure, Problem, failure_of
from synofs.app.heap import share_one_heap
from synofs.app.logs import log_path
from synofs.app.loopwatch import LoopWatch
from synofs.app.mounts import unmount
from synofs.app.nas_services import nas_commands
from synofs.app.order import Order
from synofs.app.sdnotify import Notifier, watchdog_seconds
from synofs.app.selftest import SelfTest, feed_watchdog
from synofs.app.status import one_line, snapshot
from synofs.app.supervision import kept_alive

log = logging.getLogger(__name__)

LET_GO_SECONDS = 1.0  # after an unmount, the kernel tells us sooner than that
TELL_SECONDS = 0.5  # between two lines of progress
AWAY_REMEDY = "the NAS does not answer, and gets it when it is back; to unmount all the same: synofs umount --force"
LOOK_SECONDS = 5.0  # a NAS that is away is found out sooner
END_SECONDS = 30.0  # for all of an end but the uploads
STATUS_SECONDS = 10.0  # between two STATUS= lines for systemd


def run(order: Order, on_ready: Callable[[], None]) -> None:
    """Serve a mount until it ends; `on_ready` is called once it answers. Raises `Failure` and nothing else."""
    settings = order.settings
    # Until app/debugging.py listens, and whenever it does not: the kernel's own answer to both is to kill.
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, all_threads=True)
    share_one_heap()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would have the password in it
    os.umask(0o077)  # what is made here is for this user; each place sees to that itself, and none may forget it
    try:
        trio.run(_Service(order, on_ready).run)
    except BaseException as exc:
        failure = failure_of(
            exc,
            nas=settings.url,
            host=settings.address.host,
            user=settings.user,
            share=settings.share,
            mountpoint=settings.mountpoint,
            log=log_path(settings.mountpoint),
        )
        if failure.problem is Problem.INTERNAL:
            log.exception("the mount ended in a way nobody foresaw")
        raise failure from exc


class _Service:
    def __init__(self, order: Order, on_ready: Callable[[], None]) -> None:
        self._settings = order.settings
        self._credentials = order.credentials
        self._on_ready = on_ready
        self._systemd = Notifier.from_environment()
        self._started_at = time.time()
        self._parts: Parts | None = None  # set once mounted
        self._nursery: trio.Nursery | None = None
        self._ending = False

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._obey_signals, nursery.cancel_scope)
            async with trio.open_nursery() as serving:
                self._parts = await serving.start(serve_mount, self._settings, self._credentials)
                long_commands = nas_commands(self._parts, self._settings) | {commands.Flush: self._flush_at_length}
                control = ControlServer(self._settings.mountpoint, self._commands(), long_commands)
                await nursery.start(control.serve)
                nursery.start_soon(kept_alive, self._report_to_systemd, "the report to systemd")
                nursery.start_soon(LoopWatch().run)
                nursery.start_soon(kept_alive, partial(obey_signals, self._parts), "the answer to signals")
                if (limit := watchdog_seconds()) is not None:
                    # Two thirds of the time, at most, from one message to the next.
                    test = SelfTest(self._settings.mountpoint, within_seconds=limit / 3)
                    feed = partial(feed_watchdog, self._systemd, test, limit / 3)
                    nursery.start_soon(kept_alive, feed, "the look at ourselves")
                if self._settings.netdev:
                    await trio.to_thread.run_sync(utab.record, self._settings.mountpoint, mount_source(self._settings))
                log.info("mounted %s on %s", self._settings.url, self._settings.mountpoint)
                self._systemd.ready(one_line(self._snapshot()))
                self._on_ready()
            if self._settings.netdev:
                await trio.to_thread.run_sync(utab.forget, self._settings.mountpoint)
            log.info("unmounted %s", self._settings.mountpoint)
            nursery.cancel_scope.cancel()

    async def _obey_signals(
        self, scope: trio.CancelScope, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """The first signal ends the mount in order; another one does not wait for anything."""
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                log.info("ending on %s", signal.Signals(number).name)
                within_seconds = self._settings.drain_seconds + END_SECONDS
                self._systemd.stopping(f"unmounting, {self._pending()} uploads pending", within_seconds)
                if self._parts is None or self._ending:
                    scope.cancel()
                else:
                    self._parts.mount.stop()
                self._ending = True

    async def _report_to_systemd(self) -> None:
        while True:
            await trio.sleep(STATUS_SECONDS)
            self._systemd.status(one_line(self._snapshot()))

    def _pending(self) -> int:
        return 0 if self._parts is None else int(self._snapshot()["pending_uploads"])

    def _snapshot(self) -> dict[str, Any]:
        assert self._parts is not None
        return snapshot(self._parts, self._settings, self._started_at)

    # ----- what commands ask for --------------------------------------------------------------------------------

    def _commands(self) -> dict[type[commands.Request], Command]:
        return {
            commands.Status: self._status,
            commands.Refresh: self._refresh,
            commands.Umount: self._umount,
            commands.Debug: self._debug,
        }

    async def _status(self, _request: commands.Status) -> dict[str, Any]:
        await self._look_at_the_nas()
        return self._snapshot()

    async def _look_at_the_nas(self) -> None:
        """Nobody may have used the mount for hours, and a NAS that went away meanwhile is not "online"."""
        assert self._parts is not None
        with trio.move_on_after(LOOK_SECONDS):
            await self._parts.client.health.find_out()

    async def _debug(self, _request: commands.Debug) -> dict[str, Any]:
        assert self._parts is not None
        await self._look_at_the_nas()
        return {**self._snapshot(), "inside": inside(self._parts), "stacks": task_stacks().splitlines()}

    async def _refresh(self, request: commands.Refresh) -> dict[str, Any]:
        assert self._parts is not None
        inside = request.path
        share = self._settings.share
        await self._parts.filesystem.refresh((f"/{share}{inside}" if share else inside).rstrip("/") or "/")
        return {}

    async def _flush(self, timeout_seconds: float) -> dict[str, Any]:
        """Succeed only if all that was written is on the NAS."""
        assert self._parts is not None
        writes = self._parts.filesystem.writes
        started = trio.current_time()
        if writes is not None:
            with trio.move_on_after(timeout_seconds):
                await writes.drain()
        status = self._snapshot()
        if status["pending_uploads"]:
            why = {"instead": AWAY_REMEDY} if self._parts.client.health.away_since else {}
            raise Failure(Problem.UPLOADS_PENDING, pending=status["pending_uploads"], **why)
        if status["failed_uploads"]:
            raise Failure(Problem.UPLOADS_FAILED, failed=status["failed_uploads"])
        if self._parts.notices is not None:
            self._parts.notices.waited(trio.current_time() - started)
        return {}

    async def _flush_at_length(self, request: commands.Flush, tell: Tell) -> dict[str, Any]:
        """The same, telling how far it is; ends when its caller goes away."""
        failure: Failure | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_uploads, tell)
            try:
                await self._flush(request.timeout_seconds)
            except Failure as exc:  # as it is, and not as a nursery would wrap it
                failure = exc
            nursery.cancel_scope.cancel()
        if failure is not None:
            raise failure
        return {}

    async def _tell_uploads(self, tell: Tell) -> None:
        """Bytes may be sent twice, and files come on meanwhile: it is about right, and never more than all."""
        assert self._parts is not None
        sent_before = None
        total = 0
        while True:
            status = self._snapshot()
            sent_before = status["bytes_written"] if sent_before is None else sent_before
            done = status["bytes_written"] - sent_before
            total = max(total, status["dirty_bytes"])
            why = "the NAS is away" if self._parts.client.health.away_since else None
            news = {"left": status["pending_uploads"], "done_bytes": min(done, total), "total_bytes": total, "why": why}
            await tell({"progress": {**news, "fraction": min(done / total, 1.0) if total else None}})
            await trio.sleep(TELL_SECONDS)

    async def _umount(self, request: commands.Umount) -> dict[str, Any]:
        """Flush, then have the kernel unmount; it refuses while the mount is in use."""
        try:
            await self._flush(request.timeout_seconds)
        except Failure as failure:
            if failure.problem is not Problem.UPLOADS_FAILED:  # those are safe in the recovery folder
                raise
        with trio.CancelScope(shield=True):  # the unmount ends this process; its caller still gets an answer
            await trio.to_thread.run_sync(lambda: unmount(self._settings.mountpoint))
        assert self._nursery is not None
        self._nursery.start_soon(self._end_without_the_kernel)
        return {}

    async def _end_without_the_kernel(self) -> None:
        """A container that was started while we were mounted has a copy of the mount in its own namespace. The kernel
        would keep us for it, with the folder for unsent files, and nobody could mount this NAS again."""
        assert self._parts is not None
        await trio.sleep(LET_GO_SECONDS)
        self._parts.mount.stop(unmounted=True)
