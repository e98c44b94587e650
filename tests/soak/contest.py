"""What the harnesses that compare synofs with its peers have in common."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.mounts import CONTESTANTS, Mount
from tests.benchmarks.servers import SERVERS, Server
from tests.bounded.scenarios import FaultyLine

SETTLE_SECONDS = 60.0


@dataclass(frozen=True)
class Outcome:
    """`bad` of `of`; `about` says what was counted, and the flags that were added to those of the contestant."""

    bad: int
    of: int
    about: str
    beside: str = ""  # what else was seen

    def __str__(self) -> str:
        return f"{self.bad:,} of {self.of:,}" + (f"; {self.beside}" if self.beside else "")


class Contest:
    """One contestant, an empty folder and a server of it of its own, behind a line that can be cut."""

    def __init__(self, name: str, root: Path, work: Path) -> None:
        self.name = name
        self.contestant = CONTESTANTS[name]
        self.folder = root / "share"
        self.folder.mkdir()
        self.server: Server = SERVERS[self.contestant.server_kind](root, work / "server")
        self._work = work

    @contextlib.contextmanager
    def served(self) -> Iterator[Contest]:
        try:
            self.server.start(FaultyLine)
            yield self
        finally:
            self.server.stop()

    def mount(self, machine: str = "mount", *options: str) -> Mount:
        """The same `machine` has the same caches, from mount to mount."""
        return Mount(self.contestant, self.server, self.folder.name, self._work / machine, options=options)

    def line(self, command: str) -> None:
        line = self.server.line
        assert isinstance(line, FaultyLine)
        line(command)

    def texts(self) -> set[str]:
        """What is in the files on the server, under whatever name."""
        return {path.read_text(errors="replace") for path in self.folder.rglob("*") if path.is_file()}


def settled(is_done: Callable[[], bool]) -> None:
    """Wait until all has arrived, or nothing more comes."""
    give_up_at = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < give_up_at and not is_done():
        time.sleep(0.5)
