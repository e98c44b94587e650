"""Background tasks of the NAS, to their end.

A task's last status can be read once; after that, and after a restart, the NAS does not know the task. A short
task may be gone before its first status, and on some builds a status that comes too soon finds no task yet. So 599
means "not yet" or "done", and only a look at what the task was to do tells which.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import msgspec
import trio

from synofs.filestation import calls
from synofs.filestation.api_errors import NO_SUCH_TASK, error_for
from synofs.filestation.caller import Caller
from synofs.filestation.calls import ApiCall
from synofs.filestation.parsing import MAX_SIZE, Empty, Number, whole
from synofs.remote import BadAnswer, RemoteError, TimedOut

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TaskOptions:
    early_seconds: float = 2.0  # a missing source was seen to give nothing but 599 for so long
    standstill_seconds: float = 120.0  # a status that does not change
    stop_seconds: float = 3.0
    # Of one task, however much it tells meanwhile: a NAS copies some 10 TB between its volumes in that time.
    longest_seconds: float = 86_400.0


class Started(msgspec.Struct, frozen=True):
    taskid: str


class Status(msgspec.Struct, frozen=True):
    """Of all kinds of tasks that are followed here."""

    finished: bool = False
    status: str | None = None  # "FAIL"
    error: Any = None
    errors: Any = None
    progress: Number | None = None
    processed_size: Number | None = None
    processing_path: str | None = None
    md5: str | None = None
    num_dir: Number | None = None
    num_file: Number | None = None
    total_size: Number | None = None
    total: Number | None = None  # bytes; -1 while they are being counted


class Progress(NamedTuple):
    """How far a task is, as much as it tells."""

    fraction: float | None = None
    done_bytes: int | None = None
    total_bytes: int | None = None
    files: int | None = None
    path: str | None = None  # what it is working on


OnTaskProgress = Callable[[Progress], None]

PATIENT = float("inf")  # for tasks that do not tell how far they are


class Tasks:
    """Starts tasks and follows them."""

    def __init__(self, caller: Caller, options: TaskOptions) -> None:
        self._caller = caller
        self._options = options

    async def run(
        self,
        start: ApiCall,
        is_done: Callable[[], Awaitable[bool]],
        *,
        early_seconds: float | None = None,
        standstill_seconds: float | None = None,
        on_progress: OnTaskProgress | None = None,
    ) -> Status | None:
        """Start a task and wait for its end. `None`: the NAS does not know it, and `is_done` may not say so either.

        `early_seconds` is how long a task that is not known yet is waited for, `standstill_seconds` how long one that
        tells nothing new. `on_progress` is told of each step on the way. Cancelling stops the task.
        """
        taskid = (await self._caller.call(start, Started)).taskid
        if not taskid:
            raise BadAnswer("the NAS started a task without an id", path=start.path)
        try:
            options = replace(
                self._options,
                early_seconds=self._options.early_seconds if early_seconds is None else early_seconds,
                standstill_seconds=self._options.standstill_seconds
                if standstill_seconds is None
                else standstill_seconds,
            )
            return await self._follow(start, taskid, is_done, options, on_progress)
        except (trio.Cancelled, TimedOut):
            await self._stop(start, taskid)
            raise

    async def _follow(
        self,
        start: ApiCall,
        taskid: str,
        is_done: Callable[[], Awaitable[bool]],
        options: TaskOptions,
        on_progress: OnTaskProgress | None,
    ) -> Status | None:
        call = calls.task_status(start, taskid)
        started = changed_at = trio.current_time()
        last: Status | None = None
        for delay in poll_delays():
            await trio.sleep(delay)
            try:
                status = await self._caller.call(call, Status)
            except RemoteError as exc:
                if exc.code != NO_SUCH_TASK:
                    raise
                if await is_done() or last is not None:
                    return None
                if trio.current_time() - started > options.early_seconds:
                    return None
                continue
            if status.finished:
                self._raise_failure(start, status)
                return status
            if trio.current_time() - started > options.longest_seconds:
                raise TimedOut("the NAS: its task does not end", path=start.path)
            if status != last:
                last, changed_at = status, trio.current_time()
                if on_progress is not None:
                    on_progress(progress_of(status))
            elif trio.current_time() - changed_at > options.standstill_seconds:
                raise TimedOut("the NAS: its task does not come on", path=start.path)
        raise AssertionError("there is always another delay")

    def _raise_failure(self, start: ApiCall, status: Status) -> None:
        """A failed task has a status "FAIL", a list of errors, or an error in its data, depending on the build."""
        if status.error:
            raise error_for(start.api, status.error, path=start.path)
        if status.errors or (status.status or "").upper() == "FAIL":
            raise error_for(start.api, {"code": 1000, "errors": status.errors}, path=start.path)

    async def _stop(self, start: ApiCall, taskid: str) -> None:
        deadline = trio.current_time() + self._options.stop_seconds
        with trio.CancelScope(shield=True, deadline=deadline):
            try:
                await self._caller.call(calls.task_stop(start, taskid), Empty)
            except RemoteError as exc:
                log.debug("stopping a task failed: %s", exc)


def progress_of(status: Status) -> Progress:
    done = status.processed_size if status.total_size is None else status.total_size
    fraction = status.progress
    return Progress(
        fraction=float(min(fraction, 1)) if fraction is not None and fraction >= 0 else None,
        done_bytes=whole(done, MAX_SIZE) if done is not None else None,
        total_bytes=whole(status.total, MAX_SIZE) if status.total is not None and status.total >= 0 else None,
        files=whole(status.num_file, MAX_SIZE) if status.num_file is not None else None,
        path=status.processing_path,
    )


def poll_delays() -> Iterator[float]:
    """40 ms for the tasks that are quick, as most are; 1 s for those that take their time."""
    yield 0.04
    yield 0.1
    yield 0.3
    while True:
        yield 1.0
