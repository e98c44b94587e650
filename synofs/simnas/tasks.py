"""Background tasks: started by one call, asked about by others, gone once their end has been told.

A finished task is told about once; every later question gets 599, as if it had never been. A task that ends
before anyone asks may be gone at once (`tiny-tasks`).
"""

from __future__ import annotations

import secrets
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from .quirks import Quirks
from .wire import ApiError, Params

NO_SUCH_TASK = 599

# With tiny-tasks=sometimes: each fourth task that ends unseen vanishes.
_VANISHING = 4

# With copymove-failure=599: how long a task that failed looks as if it ran.
_PRETENDS_SECONDS = 2.0


class Stopped(Exception):
    """The task was told to stop."""


@dataclass
class Task:
    """One background task. Its fields are written by the thread that works and read by the calls that ask."""

    id: str
    number: int
    api: str
    version: int
    method: str
    owner: str
    params: dict[str, Any]
    report: dict[str, Any]
    """What `status` says besides `finished`."""
    crtime: int = field(default_factory=lambda: int(time.time()))
    finished: bool = False
    finished_at: float = 0.0
    failure_code: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)
    polls: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)

    def check_stopped(self) -> None:
        if self.stop.is_set():
            raise Stopped

    def fail(self, code: int, path: str) -> None:
        """Notes that one path of the task failed."""
        self.errors.append({"code": code, "path": path})


class Tasks:
    """All tasks of the NAS. Safe to use from several threads."""

    def __init__(self, quirks: Quirks) -> None:
        self._quirks = quirks
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._started = 0
        self._workers = ThreadPoolExecutor(max_workers=8, thread_name_prefix="task")

    def start(
        self,
        api: str,
        version: int,
        method: str,
        owner: str,
        params: dict[str, Any],
        report: dict[str, Any],
        work: Callable[[Task], None],
    ) -> Task:
        """Starts `work` in a thread. An ApiError of it without a path is its failure as a whole."""
        with self._lock:
            self._started += 1
            task_id = f"FileStation_{secrets.token_hex(8).upper()}"
            task = Task(task_id, self._started, api, version, method, owner, params, report)
            self._tasks[task_id] = task
        self._workers.submit(self._run, task, work)
        return task

    def _run(self, task: Task, work: Callable[[Task], None]) -> None:
        try:
            work(task)
        except Stopped:
            pass
        except ApiError as error:
            task.fail(error.code, str(task.report.get("path", "")))
        except OSError:
            task.fail(401, str(task.report.get("path", "")))
        finally:
            task.finished_at = time.monotonic()
            task.finished = True
            task.done.set()

    def status(self, task_id: str | None, api: str) -> dict[str, Any]:
        """What a task says of itself. Its end is told once."""
        with self._lock:
            task = self._find(task_id, api)
            task.polls += 1
            if task.polls == 1 and self._quirks.late_tasks == "yes":
                raise ApiError(NO_SUCH_TASK)
            if not task.finished:
                return {"finished": False, **task.report}
            if self._pretends(task):
                return {"finished": False, **task.report}
            del self._tasks[task.id]
            if self._vanishes(task):
                raise ApiError(NO_SUCH_TASK)
        return {"finished": True, **task.report, **self._failure(task)}

    def _pretends(self, task: Task) -> bool:
        return (
            bool(task.errors)
            and self._quirks.copymove_failure == "599"
            and time.monotonic() - task.finished_at < _PRETENDS_SECONDS
        )

    def _vanishes(self, task: Task) -> bool:
        if task.errors:
            return self._quirks.copymove_failure == "599"
        if task.polls > (2 if self._quirks.late_tasks == "yes" else 1):
            return False
        if self._quirks.tiny_tasks == "sometimes":
            return task.number % _VANISHING == 0
        return self._quirks.tiny_tasks == "always"

    def _failure(self, task: Task) -> dict[str, Any]:
        if not task.errors:
            return {}
        if self._quirks.copymove_failure == "error":
            return {"error": {"code": task.failure_code, "errors": task.errors}}
        return {"errors": task.errors, "progress": 1, "status": "FAIL"}

    def find(self, task_id: str | None, api: str) -> Task:
        """A task, without touching it; 599 if there is none."""
        with self._lock:
            return self._find(task_id, api)

    def _find(self, task_id: str | None, api: str) -> Task:
        task = self._tasks.get(task_id or "")
        if task is None or task.api != api:
            raise ApiError(NO_SUCH_TASK)
        return task

    def stop(self, task_id: str | None, *, forget: bool) -> None:
        """Tells a task to stop; an unknown one is no error."""
        with self._lock:
            task = self._tasks.get(task_id or "")
            if task is not None:
                task.stop.set()
                if forget:
                    del self._tasks[task.id]

    def of(self, owner: str) -> list[Task]:
        """The tasks of an account."""
        with self._lock:
            return [task for task in self._tasks.values() if task.owner == owner]

    def clear_finished(self, owner: str, task_ids: list[str]) -> None:
        with self._lock:
            for task in list(self._tasks.values()):
                if task.finished and task.owner == owner and (not task_ids or task.id in task_ids):
                    del self._tasks[task.id]

    def forget_all(self) -> None:
        """As a restart of the NAS does: running tasks end where they are."""
        with self._lock:
            for task in self._tasks.values():
                task.stop.set()
            self._tasks.clear()

    def close(self) -> None:
        self.forget_all()
        self._workers.shutdown(wait=False, cancel_futures=True)


def task_id_of(params: Params, quirks: Quirks) -> str | None:
    """The `taskid` of a call. Unquoted, it is understood for some ids only, always the same."""
    task_ids = params.texts("taskid")
    if not task_ids:
        return None
    task_id = task_ids[0]
    if params.is_quoted("taskid") or quirks.raw_taskid == "always":
        return task_id
    understood = quirks.raw_taskid == "sometimes" and zlib.crc32(task_id.encode()) % 5 < 2
    return task_id if understood else None
