"""Who is asking: a program that a person works with, or one that crawls through files on its own.

The desktop takes a FUSE mount for a local disk (GLib knows a short list of network filesystems by name), so
thumbnailers and indexers read whole photographs and videos through it. The kernel tells the number of the thread
behind each call; its process has a name.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import trio


class Caller(NamedTuple):
    """Who made a call, as the kernel tells it. `pid` is that of a thread."""

    pid: int
    uid: int


class Kind(Enum):
    OTHER = 0
    FILE_MANAGER = 1
    THUMBNAILER = 2
    INDEXER = 3
    PREVIEWER = 4  # the part of a file manager that makes thumbnails itself


# Names are matched in their first 15 bytes, all that the kernel keeps: `gdk-pixbuf-thumbnailer` is `gdk-pixbuf-thum`.
_KINDS = (
    (Kind.PREVIEWER, re.compile(r"pcmanfm/loader")),
    (Kind.THUMBNAILER, re.compile(r"tumblerd|.*thumb.*|.*-thum?")),
    (Kind.INDEXER, re.compile(r"tracker-.*|localsearch.*|baloo_?file.*|updatedb.*|recollindex|file")),
    (Kind.FILE_MANAGER, re.compile(r"thunar|pcmanfm(-qt)?|nautilus|nemo|caja|dolphin|spacefm", re.IGNORECASE)),
)


# Threads that do something else than their process, by the names that these programs give them (libfm 1.3).
_THREADS = frozenset({("pcmanfm", "loader")})


def kind_of_name(name: str) -> Kind:
    return next((kind for kind, pattern in _KINDS if pattern.fullmatch(name)), Kind.OTHER)


def process_name(pid: int) -> str:
    """The name of the process that a thread belongs to, with the thread's own ("pcmanfm/loader") where that matters;
    "" when it is gone, or out of our sight."""
    try:
        status = Path(f"/proc/{pid}/status").read_text(errors="replace")
        process = re.search(r"^Tgid:\s*(\d+)$", status, re.MULTILINE)
        thread = re.search(r"^Name:\s*(.*)$", status, re.MULTILINE)
        name = Path(f"/proc/{process[1] if process else pid}/comm").read_text(errors="replace").strip()
        return f"{name}/{thread[1]}" if thread and (name, thread[1]) in _THREADS else name
    except OSError:
        return ""


class Callers:
    """What kind of program a thread belongs to, remembered for a moment: numbers are used again."""

    def __init__(
        self, name_of: Callable[[int], str] = process_name, *, believed_seconds: float = 2.0, most: int = 256
    ) -> None:
        self._name_of = name_of
        self._believed_seconds = believed_seconds
        self._most = most
        self._known: OrderedDict[int, tuple[float, Kind]] = OrderedDict()

    def kind(self, caller: Caller | None) -> Kind:
        if caller is None or caller.pid <= 0:  # the kernel itself, or a process in a namespace out of our sight
            return Kind.OTHER
        now = trio.current_time()
        known = self._known.get(caller.pid)
        if known is not None and known[0] > now:
            return known[1]
        kind = kind_of_name(self._name_of(caller.pid))
        self._known[caller.pid] = (now + self._believed_seconds, kind)
        self._known.move_to_end(caller.pid)
        while len(self._known) > self._most:
            self._known.popitem(last=False)
        return kind
