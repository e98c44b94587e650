"""What goes on inside, for whoever has to find out why: the stacks of all tasks, the queues and the caches.

SIGUSR1 writes the stacks to the log (of threads even when the loop stands still), SIGUSR2 the rest, as
`synofs status --debug` shows it.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import time
import traceback
from collections.abc import Iterator
from typing import Any

import trio

from synofs.app.assembly import Parts
from synofs.fs.names import printable

log = logging.getLogger(__name__)

LAST_CALLS = 50
SHOWN_INODES = 50


async def obey_signals(parts: Parts) -> None:
    """Until cancelled."""
    faulthandler.unregister(signal.SIGUSR1)  # what was good for the start
    with trio.open_signal_receiver(signal.SIGUSR1, signal.SIGUSR2) as signals:
        # After trio, and chained: it writes the threads' stacks at once, whatever the loop does, and then trio gets it.
        faulthandler.register(signal.SIGUSR1, all_threads=True, chain=True)
        try:
            async for number in signals:
                if number == signal.SIGUSR1:
                    log.info("the stacks of all tasks:\n%s", task_stacks())
                else:
                    log.info("queues and caches:\n%s", json.dumps(inside(parts), indent=1))
        finally:
            faulthandler.unregister(signal.SIGUSR1)


def task_stacks() -> str:
    root = trio.lowlevel.current_root_task()
    return "\n".join(_stacks(root, 0)) if root is not None else ""


def _stacks(task: trio.lowlevel.Task, depth: int) -> Iterator[str]:
    indent = "  " * depth
    yield f"{indent}task {task.name}"
    for frame, line in task.iter_await_frames():
        summary = traceback.FrameSummary(frame.f_code.co_filename, line, frame.f_code.co_name)
        yield f"{indent}    {summary.filename}:{summary.lineno} {summary.name}: {summary.line}"
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from _stacks(child, depth + 1)


def inside(parts: Parts) -> dict[str, Any]:
    client, statistics = parts.client.stats(), trio.lowlevel.current_statistics()
    now = time.monotonic()
    return {
        "calls_under_way": [
            {"call": call.line(), "seconds": round(now - call.began_at, 3)} for call in parts.mount.calls.under_way()
        ],
        "last_calls": [call.line() for call in parts.mount.calls.last()[-LAST_CALLS:]],
        "tasks": statistics.tasks_living,
        "requests": {
            "under_way": client.active_requests,
            "waiting": client.waiting_requests,
            "allowed": client.allowed_requests,
        },
        "nas": {"away_since": parts.client.health.away_since, "trouble": parts.client.health.trouble},
        "filesystem": parts.filesystem.counters(),
        "inodes": [
            {**held, "path": printable(str(held["path"]))} for held in parts.filesystem.inodes.held(SHOWN_INODES)
        ],
        "uploads": parts.filesystem.uploads(),
        "folders_being_listed": parts.filesystem.being_listed(),
    }
