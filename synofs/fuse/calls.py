"""The kernel's calls that are being served, and the last ones that were: for the log, for people, and for suspend."""

from __future__ import annotations

import errno
import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import trio

from synofs.fs.names import printable

KEPT_CALLS = 500

# Which arguments are folders that the kernel keeps locked until it is answered.
_LOCKED = {
    "lookup": (0,),
    "create": (0,),
    "mkdir": (0,),
    "mknod": (0,),
    "symlink": (0,),
    "link": (1,),
    "unlink": (0,),
    "rmdir": (0,),
    "rename": (0, 2),
}

_TOLD = (int, bytes)  # isinstance takes three times as long with `int | bytes`

access_log = logging.getLogger("synofs.access")  # app/logs.py gives it a file, if somebody wants one


@dataclass(eq=False, slots=True)
class Call:
    verb: str
    about: tuple[int | bytes, ...]  # inode or handle, and a name or an offset
    pid: int
    began_at: float = field(default_factory=time.monotonic)
    seconds: float | None = None  # None: not answered yet
    errno: int = 0
    locked: tuple[object, ...] = ()
    limit: trio.CancelScope | None = None  # within which it is served

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
        self._locked: Counter[object] = Counter()
        self.given_up = False
        self.on_unlock: Callable[[], None] = lambda: None

    def locks(self, directory: int) -> bool:
        """Does the kernel keep this folder locked until we have answered?"""
        return directory in self._locked

    def begin(self, verb: str, arguments: Sequence[object]) -> Call:
        about = tuple([part for part in arguments[:2] if isinstance(part, _TOLD)])
        call = Call(verb, about, getattr(arguments[-1], "pid", 0) if arguments else 0)
        if verb in _LOCKED:
            call.locked = tuple([arguments[index] for index in _LOCKED[verb] if index < len(arguments)])
            for directory in call.locked:
                self._locked[directory] += 1
        self._under_way[id(call)] = call
        return call

    def limited_to(self, call: Call, seconds: float) -> trio.CancelScope:
        """For `with`: what ends the call when its time is over, or when all are given up."""
        call.limit = trio.CancelScope(deadline=trio.current_time() + (0 if self.given_up else seconds))
        return call.limit

    def give_up(self) -> None:
        """The mount is being ended: what is under way, and what still comes, fails at once."""
        self.given_up = True
        for call in self._under_way.values():
            if call.limit is not None:
                call.limit.cancel()

    def end(self, call: Call, number: int) -> None:
        call.seconds, call.errno = time.monotonic() - call.began_at, number
        del self._under_way[id(call)]
        self._last.append(call)
        self._answered.set()
        if call.locked:
            self._unlock(call.locked)
        if access_log.handlers:
            access_log.info("%s", call.line())

    def _unlock(self, directories: tuple[object, ...]) -> None:
        for directory in directories:
            self._locked[directory] -= 1
            if not self._locked[directory]:
                del self._locked[directory]
                self.on_unlock()

    def under_way(self) -> list[Call]:
        return list(self._under_way.values())

    def last(self) -> list[Call]:
        return list(self._last)

    async def answered(self) -> None:
        """Return when all that are under way now have been answered."""
        waiting = self.under_way()
        while any(call.seconds is None for call in waiting):
            if self._answered.is_set():
                self._answered = trio.Event()
            await self._answered.wait()
