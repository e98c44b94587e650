"""Tasks that a mount can do without for a moment: a bug in one of them is written down, and it begins anew."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


async def kept_alive(work: Callable[[], Awaitable[None]], name: str) -> None:
    """Run it, again after each failure, until it returns or is cancelled."""
    pause = PAUSE_SECONDS
    while True:
        try:
            await work()
        except Exception:
            log.exception("%s failed in a way nobody foresaw, and begins anew in %.0f s", name, pause)
        else:
            return
        await trio.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)
