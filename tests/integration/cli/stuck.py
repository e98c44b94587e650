"""`synofs mount` with a bug in it: a name `stuck` blocks the loop in which everything happens, for ever."""

from __future__ import annotations

import sys
import threading

from synofs.cli.main import main
from synofs.fs.filesystem import Filesystem

looked_up = Filesystem.lookup


async def lookup(self, parent, name):
    if name == b"stuck":
        wait_for_ever()
    return await looked_up(self, parent, name)


def wait_for_ever() -> None:
    threading.Lock().acquire() and threading.Event().wait()


Filesystem.lookup = lookup  # type: ignore[method-assign]

if __name__ == "__main__":
    sys.exit(main())
