"""A thread that notices when the program's one loop has stopped, and says where it stands.

Everything happens in one trio thread. If a bug blocks it, no call is answered and no log line written, and systemd,
which hears nothing any more, starts the mount anew (unsent files are in the journal). This thread writes down the
stacks before that, so that somebody can mend it. It counts its own sleeps, not the clock: a machine that slept, or a
process that was stopped, is no stuck loop.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback

import trio

log = logging.getLogger(__name__)

STUCK_SECONDS = 10.0
PAUSE_SECONDS = 0.5


class LoopWatch:
    def __init__(self, stuck_seconds: float = STUCK_SECONDS) -> None:
        self._looks = max(1, round(stuck_seconds / PAUSE_SECONDS))
        self._beats = 0
        self._ended = threading.Event()

    async def run(self) -> None:
        """Until cancelled."""
        thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        thread.start()
        try:
            while True:
                self._beats += 1
                await trio.sleep(PAUSE_SECONDS)
        finally:
            self._ended.set()

    def _watch(self) -> None:
        beats, silent = self._beats, 0
        while not self._ended.wait(PAUSE_SECONDS):
            if self._beats != beats:
                if silent >= self._looks:
                    log.warning("the loop goes on, after about %.0f s", silent * PAUSE_SECONDS)
                beats, silent = self._beats, 0
                continue
            silent += 1
            if silent == self._looks:
                log.critical(
                    "the loop has stood still for %.0f s; no call is answered. All threads:\n%s",
                    silent * PAUSE_SECONDS,
                    thread_stacks(),
                )


def thread_stacks() -> str:
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    return "\n".join(
        f"thread {names.get(ident, ident)}:\n{''.join(traceback.format_stack(frame))}"
        for ident, frame in sys._current_frames().items()
    )
