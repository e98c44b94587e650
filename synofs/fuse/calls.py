"""The kernel's calls that are being served, and the last ones that were: for the log, for people, and for suspend."""

from __future__ import annotations

import errno
import logging
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import trio

from synofs.fs.names import printable

KEPT_CALLS = 500

access_log = logging.getLogger("synofs.access")  # app/logs.py gives it a file, if somebody wants one


@dataclass(eq=False, slots=True)
class Call:
    verb: str
    about: tuple[int | bytes, ...]  # inode or handle, and a name or an offset
    pid: int
    began_at: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # None: not answered yet
    errno: int = 0

    def line(self) -> str:
        about = " ".join(printable(part.decode("utf-8", "surrogateescape")) if isinstance(part, bytes) else str(part)
                         for part in self.about)  # fmt: skip
        took = time.monotonic() - self.began_at if self.seconds is None else self.seconds
        end = "under way" if self.seconds is None else errno.errorcode.get(self.errno, str(self.errno))
        return f"{self.verb} {about} pid {self.pid}: {'ok' if end == '0' else end}, {took * 1000:.1f} ms"


class Calls:
    def __init__(self) -> None:
        self._under_way: dict[int, Call] = {}
        self._last: deque[Call] = deque(maxlen=KEPT_CALLS)
        self._answered = trio.Event()

    def begin(self, verb: str, arguments: Sequence[object]) -> Call:
        about = tuple(part for part in arguments[:2] if isinstance(part, int | bytes))
        call = Call(verb, about, getattr(arguments[-1], "pid", 0) if arguments else 0)
        self._under_way[id(call)] = call
        return call

    def end(self, call: Call, number: int) -> None:
        call.seconds, call.errno = time.monotonic() - call.began_at, number
        del self._under_way[id(call)]
        self._last.append(call)
        self._answered.set()
        if access_log.handlers:
            access_log.info("%s", call.line())

    def under_way(self) -> list[Call]:
        return list(self._under_way.values())

    def last(self) -> list[Call]:
        return list(self._last)

    async def answered(self) -> None:
        """Return when all that are under way now have been answered."""
        waiting = self.under_way()
        while any(call.seconds is None for call in waiting):
            self._answered = trio.Event()
            await self._answered.wait()
