"""What a person at this desktop has to know, as desktop notifications (D-Bus, `org.freedesktop.Notifications`).

Only what they would want to act upon, and what they were left waiting for:

- a file that the NAS refused, and where it is kept;
- a file that somebody else changed meanwhile, and what ours is called now;
- a NAS that went away, and that came back;
- that everything is on the NAS and this machine may be switched off: when somebody was waiting for that, because a
  `synofs flush` took long, or because the NAS had been away with files unsent.

Optional: needs jeepney (the extra `desktop`) and a session bus. Nothing here ever fails or waits: a mount does not
depend on a desktop.
"""

from __future__ import annotations

import html
import importlib.util
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import trio

log = logging.getLogger(__name__)

BUS_SECONDS = 5.0
GATHER_SECONDS = 1.0  # what comes together is told together
LONG_WAIT_SECONDS = 5.0  # who waited so long has turned to something else
QUEUED_AT_MOST = 200

_NORMAL, _CRITICAL = 1, 2  # urgency; a critical one stays on the screen until it is clicked away


@dataclass(frozen=True, slots=True)
class Notice:
    kind: str
    summary: str
    body: str
    is_critical: bool = False
    many: str = ""  # the summary for several of a kind, with {count}


def is_available() -> bool:
    """Whether there is a desktop to speak to, and the library to do so."""
    return bool(os.environ.get("DBUS_SESSION_BUS_ADDRESS")) and importlib.util.find_spec("jeepney") is not None


def merged(notices: list[Notice]) -> list[Notice]:
    """One for each kind; of several, the bodies of the first few."""
    kinds: dict[str, list[Notice]] = {}
    for notice in notices:
        kinds.setdefault(notice.kind, []).append(notice)
    result = []
    for alike in kinds.values():
        first = alike[0]
        if len(alike) > 1 and first.many:
            lines = [notice.summary for notice in alike[:5]] + (["..."] if len(alike) > 5 else [])
            first = Notice(
                first.kind, first.many.format(count=len(alike)), "\n".join(lines), is_critical=first.is_critical
            )
        else:
            first = alike[-1]
        result.append(first)
    return result


class Notices:
    """The methods may be called from anywhere in trio's thread, and return at once."""

    def __init__(self, nas: str, drain: Callable[[], Awaitable[None]] | None, unsent: Callable[[], int]) -> None:
        """`drain` returns when nothing is unsent; None for a read-only mount."""
        self._nas = nas
        self._drain = drain
        self._unsent = unsent
        self._sender, self._receiver = trio.open_memory_channel[Notice](QUEUED_AT_MOST)
        self._ended = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._draining = False
        self._shown: dict[str, int] = {}  # kind -> the number that the desktop gave its last notice

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            async for notice in self._receiver:
                await trio.sleep(GATHER_SECONDS)
                notices = [notice]
                while True:
                    try:
                        notices.append(self._receiver.receive_nowait())
                    except (trio.WouldBlock, trio.EndOfChannel):
                        break
                for one in merged(notices):
                    await self._show(one)
            self._ended.set()

    async def finish(self, within_seconds: float) -> None:
        """Show what is still to be shown; nothing more is taken."""
        self._sender.close()
        with trio.move_on_after(within_seconds):
            await self._ended.wait()

    def _tell(self, notice: Notice) -> None:
        try:
            self._sender.send_nowait(notice)
        except (trio.WouldBlock, trio.ClosedResourceError):
            log.debug("too many notices at once, or too late; left out: %s", notice.summary)

    # ----- what there is to tell ------------------------------------------------------------------------------------

    def conflict(self, path: str, ours: str) -> None:
        self._tell(
            Notice(
                "conflict",
                f"Changed by somebody else: {_name(path)}",
                f"Their version keeps the name. Yours is “{_name(ours)}”, beside it.",
                many="{count} files were changed by somebody else",
            )
        )

    def refusal(self, path: str, reason: str, kept: str) -> None:
        self._tell(
            Notice(
                "refusal",
                f"Not saved on {self._nas}: {_name(path)}",
                f"The NAS refused it: {reason}.\nWhat you wrote is kept in {kept}",
                is_critical=True,
                many="{count} files could not be saved on " + self._nas.replace("{", "{{").replace("}", "}}"),
            )
        )

    def nas_changed(self, there: bool) -> None:
        unsent = self._unsent()
        if there:
            waiting = f"{_files(unsent)} on the way to it now." if unsent else ""
            self._tell(Notice("nas", f"{self._nas} is back", waiting))
        else:
            waiting = f" {_files(unsent)} waiting to be sent, safe on this disk." if unsent else ""
            body = f"What was opened before can still be looked at.{waiting}"
            self._tell(Notice("nas", f"{self._nas} does not answer", body))
            if unsent:
                self._promise()

    def waited(self, seconds: float) -> None:
        """Somebody asked for everything to be sent, and it is, after that time."""
        if seconds >= LONG_WAIT_SECONDS:
            self._all_sent()

    def _promise(self) -> None:
        if self._drain is not None and self._nursery is not None and not self._draining:
            self._draining = True
            self._nursery.start_soon(self._await_empty, self._drain)

    async def _await_empty(self, drain: Callable[[], Awaitable[None]]) -> None:
        try:
            await drain()
        finally:
            self._draining = False
        if not self._unsent():
            self._all_sent()

    def _all_sent(self) -> None:
        self._tell(Notice("sent", "Safe to power off", f"Everything is on {self._nas}."))

    # ----- D-Bus ----------------------------------------------------------------------------------------------------

    async def _show(self, notice: Notice) -> None:
        replaces = self._shown.get(notice.kind, 0)
        with trio.move_on_after(2 * BUS_SECONDS):
            try:
                self._shown[notice.kind] = await trio.to_thread.run_sync(
                    notify, notice, replaces, abandon_on_cancel=True
                )
            except Exception as exc:  # no bus any more, nobody there who shows notices, an odd answer: all the same
                log.debug("a notice could not be shown (%s): %s", exc, notice.summary)


def notify(notice: Notice, replaces: int) -> int:
    """Show it, in place of an earlier one; returns the desktop's number for it. Blocks for seconds at most."""
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import open_dbus_connection
    from jeepney.wrappers import unwrap_msg

    service = DBusAddress(
        "/org/freedesktop/Notifications", "org.freedesktop.Notifications", "org.freedesktop.Notifications"
    )
    hints = {"urgency": ("y", _CRITICAL if notice.is_critical else _NORMAL), "desktop-entry": ("s", "synofs")}
    body = html.escape(notice.body, quote=False)  # markup for some desktops, and a file's name may look like it
    arguments: tuple[Any, ...] = ("synofs", replaces, "network-server", notice.summary, body, [], hints, -1)
    with open_dbus_connection(bus="SESSION") as connection:
        reply = connection.send_and_get_reply(
            new_method_call(service, "Notify", "susssasa{sv}i", arguments), timeout=BUS_SECONDS
        )
        return int(unwrap_msg(reply)[0])


def _name(path: str) -> str:
    """A name that can be sent over the bus, whatever its bytes."""
    return path.rpartition("/")[2].encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _files(count: int) -> str:
    return "1 file is" if count == 1 else f"{count} files are"
