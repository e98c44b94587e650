"""Suspend: the machine sleeps only when no program waits for us, and wakes up without dead connections.

A process that waits in a filesystem call cannot be frozen, and a kernel that cannot freeze everybody gives the suspend
up after 20 seconds. So we ask logind for time (a "delay" inhibitor, systemd-logind's D-Bus interface
`org.freedesktop.login1`), answer everything when it is about to suspend, and let go.

Optional: needs jeepney (the extra `desktop`) and a system bus with logind on it. Without them everything else works.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any

import trio

log = logging.getLogger(__name__)

LOGIN = "org.freedesktop.login1"
MANAGER_PATH = "/org/freedesktop/login1"
MANAGER = "org.freedesktop.login1.Manager"
READY_SECONDS = 3.0  # logind waits for 5 (InhibitDelayMaxSec=)
AGAIN_SECONDS = 60.0  # between two attempts to reach logind


def is_available() -> bool:
    return importlib.util.find_spec("jeepney") is not None


CLOCK_SECONDS = 5.0
SLEPT_SECONDS = 2.0


async def watch_clock(after: Callable[[], None]) -> None:
    """For machines without logind: one clock stands still while the machine sleeps, the other goes on."""
    known = _asleep_seconds()
    while True:
        await trio.sleep(CLOCK_SECONDS)
        present = _asleep_seconds()
        if present - known > SLEPT_SECONDS:
            log.info("the machine has slept for %.0f s", present - known)
            after()
        known = present


def _asleep_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.clock_gettime(time.CLOCK_MONOTONIC)


class Suspend:
    def __init__(self, before: Callable[[], Awaitable[None]], after: Callable[[], None]) -> None:
        """`before` answers everything that is in flight, and returns when that is done; `after` the machine is back."""
        self._before = before
        self._after = after
        self._lock: int | None = None  # logind's descriptor: as long as it is open, suspend waits
        self._asleep = False

    async def run(self) -> None:
        """Until cancelled. Never fails: a mount does not depend on logind."""
        while True:
            try:
                await self._follow_logind()
            except (Exception, BaseExceptionGroup) as exc:
                if isinstance(exc, BaseExceptionGroup) and exc.split(Exception)[1] is not None:
                    raise
                log.debug("logind: %s", exc)
            finally:
                self._let_go()
            if self._asleep:  # nobody will tell us that the machine is back
                self._wake()
            await trio.sleep(AGAIN_SECONDS)

    async def _follow_logind(self) -> None:
        from jeepney import DBusAddress, HeaderFields, MatchRule, MessageType, message_bus, new_method_call
        from jeepney.io.trio import open_dbus_connection

        manager = DBusAddress(MANAGER_PATH, LOGIN, MANAGER)
        rule = MatchRule(type="signal", sender=LOGIN, interface=MANAGER, member="PrepareForSleep", path=MANAGER_PATH)
        inhibit = new_method_call(
            manager, "Inhibit", "ssss", ("sleep", "synofs", "Programs that wait for the NAS are answered", "delay")
        )
        async with await open_dbus_connection("SYSTEM", enable_fds=True) as bus:
            await bus.send(message_bus.AddMatch(rule))
            asked = await _send(bus, inhibit)
            logind = None
            while True:
                message = await bus.receive()
                fields, kind = message.header.fields, message.header.message_type
                if fields.get(HeaderFields.reply_serial) == asked and asked is not None:
                    if kind is not MessageType.method_return:
                        raise OSError(f"no inhibitor: {fields.get(HeaderFields.error_name)}")
                    logind = fields.get(HeaderFields.sender)
                    self._hold(message.body[0].to_raw_fd())
                elif (
                    kind is MessageType.signal
                    and fields.get(HeaderFields.member) == "PrepareForSleep"
                    and fields.get(HeaderFields.sender) == logind
                    and logind is not None
                ):
                    if message.body[0]:
                        await self._sleep()
                    else:
                        self._wake()
                        asked = await _send(bus, inhibit)

    async def _sleep(self) -> None:
        log.info("the machine goes to sleep")
        self._asleep = True
        try:
            with trio.move_on_after(READY_SECONDS):
                await self._before()
        finally:
            self._let_go()

    def _wake(self) -> None:
        log.info("the machine is awake again")
        self._asleep = False
        self._after()

    def _hold(self, descriptor: int) -> None:
        self._let_go()
        self._lock = descriptor
        if self._asleep:  # the answer came too late
            self._let_go()

    def _let_go(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


async def _send(bus: Any, message: Any) -> int:
    serial = next(bus.outgoing_serial)
    await bus.send(message, serial=serial)
    return int(serial)
