"""The NAS's own list of background tasks: copies, searches, archives, whoever of the account started them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.parsing import MAX_SIZE, Empty, Number, whole


class BackgroundTask(msgspec.Struct, frozen=True, rename={"id": "taskid", "created": "crtime"}):
    id: str
    api: str = ""
    version: int = 1
    finished: bool = False
    created: Number = 0  # seconds since 1970
    path: str = ""
    processing_path: str = ""
    processed_size: Number = 0
    progress: Number = 0  # 0 to 1
    total: Number = -1


class _Tasks(msgspec.Struct, frozen=True):
    tasks: list[BackgroundTask] = []
    total: int | None = None


def _believable(task: BackgroundTask) -> BackgroundTask:
    """With numbers that can be shown and reckoned with."""
    return msgspec.structs.replace(
        task,
        created=whole(task.created, MAX_SIZE),
        processed_size=whole(task.processed_size, MAX_SIZE),
        progress=float(min(task.progress, 1)) if task.progress > 0 else 0,
        total=whole(task.total, MAX_SIZE) if task.total >= 0 else -1,
    )


class BackgroundTasks:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def list(self) -> Sequence[BackgroundTask]:
        return [_believable(task) for task in (await self._caller.call(calls.background_tasks(), _Tasks)).tasks]

    async def clear_finished(self) -> None:
        await self._caller.call(calls.background_clear(), Empty)

    async def stop(self, task: BackgroundTask) -> None:
        """A task that has ended meanwhile is no error."""
        await self._caller.call(calls.background_stop(task.api, task.version, task.id), Empty)
