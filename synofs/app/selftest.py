"""The mount looks at itself, for systemd's watchdog: no answer in time, no WATCHDOG=1.

The look is taken by a process of its own. A thread of ours that hangs in our own filesystem could not be killed: the
kernel waits for the answer, which only we could give, and we could not end while the thread waits. When systemd kills
us instead, the kernel breaks the connection off and the other process gets its error.
"""

from __future__ import annotations

import logging
import subprocess
import sys

import trio

from synofs.app.mounts import DEAD, PROBE
from synofs.app.sdnotify import Notifier

log = logging.getLogger(__name__)


class SelfTest:
    def __init__(self, mountpoint: str, within_seconds: float) -> None:
        self._command = [sys.executable, "-I", "-S", "-c", PROBE, mountpoint]
        self._within_seconds = within_seconds
        self._process: trio.Process | None = None  # a look that was taken and has not come back

    async def passes(self) -> bool:
        """Whether the mount answers in time, were it with an error of the NAS's."""
        if self._process is None:
            self._process = await trio.lowlevel.open_process(
                self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
        with trio.move_on_after(self._within_seconds):
            code = await self._process.wait()
            self._process = None
            return code not in DEAD
        return False


async def feed_watchdog(systemd: Notifier, test: SelfTest, every_seconds: float) -> None:
    """Send WATCHDOG=1 after each passed test, until cancelled."""
    while True:
        if await test.passes():
            systemd.alive()
        else:
            log.error("the mount did not answer its own question; systemd is not told that all is well")
        await trio.sleep(every_seconds)
