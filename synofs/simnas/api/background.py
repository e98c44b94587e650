"""The calls around background tasks: start, status, stop, and SYNO.FileStation.BackgroundTask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..nas import Answer, Call, Method
from ..tasks import Task, task_id_of


def start_task(call: Call, report: dict[str, Any], work: Callable[[Task], None]) -> dict[str, str]:
    """Starts a task for a call; the answer of that call."""
    shown = {name: call.params.text(name) for name in ("path", "dest_folder_path", "file_path") if name in call.params}
    owner = call.session.account.name
    task = call.nas.tasks.start(call.api, call.version, call.method, owner, shown, report, work)
    return {"taskid": task.id}


async def status(call: Call) -> Answer:
    """How a task goes; 599 for one whose end has been told, or that never was."""
    return call.nas.tasks.status(task_id_of(call.params, call.nas.quirks), call.api)


async def stop(call: Call) -> Answer:
    """Stops a task. An unknown one is no error."""
    call.nas.tasks.stop(task_id_of(call.params, call.nas.quirks), forget=True)
    return None


async def list_tasks(call: Call) -> Answer:
    """BackgroundTask.list: the tasks of the account."""
    wanted = call.params.texts("api_filter")
    tasks = [t for t in call.nas.tasks.of(call.session.account.name) if not wanted or t.api in wanted]
    descending = call.params.descending
    if call.params.choice("sort_by", ("crtime", "finished"), "crtime") == "finished":
        tasks.sort(key=lambda task: task.finished, reverse=descending)
    else:
        tasks.sort(key=lambda task: (task.crtime, task.number), reverse=descending)
    offset, page = call.params.page(tasks)
    return {"offset": offset, "tasks": [_record(task) for task in page], "total": len(tasks)}


def _record(task: Task) -> dict[str, Any]:
    report = task.report
    return {
        "api": task.api,
        "crtime": task.crtime,
        "finished": task.finished,
        "method": task.method,
        "params": task.params,
        "path": report.get("path", ""),
        "processed_num": report.get("processed_num", 0),
        "processed_size": report.get("processed_size", 0),
        "processing_path": report.get("processing_path", ""),
        "progress": report.get("progress", 0),
        "taskid": task.id,
        "total": report.get("total", -1),
        "version": task.version,
    }


async def clear_finished(call: Call) -> Answer:
    call.nas.tasks.clear_finished(call.session.account.name, call.params.texts("taskid"))
    return None


METHODS: dict[str, dict[str, Method]] = {
    "SYNO.FileStation.BackgroundTask": {"list": list_tasks, "clear_finished": clear_finished}
}
