"""Background tasks: finished once, raw ids, tiny and late ones; MD5 and DirSize; BackgroundTask."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import pytest


def start_md5(nas: Any, path: str = "/media/f") -> str:
    task: str = nas.get("MD5", 2, "start", file_path=path).data["taskid"]
    return task


def status(nas: Any, task: str) -> Any:
    return nas.get("MD5", 2, "status", taskid=task)


def settle(nas: Any) -> None:
    """Waits until every task has ended, without asking any for its status."""
    while any(not task["finished"] for task in nas.get("BackgroundTask", 3, "list").data["tasks"]):
        pass


@pytest.fixture
def file(share: Path) -> bytes:
    content = b"hello" * 100_000
    (share / "f").write_bytes(content)
    return content


def test_md5(nas: Any, file: bytes) -> None:
    data = nas.finish("MD5", start_md5(nas))
    assert data == {"finished": True, "md5": hashlib.md5(file).hexdigest()}


def test_md5_of_what_is_no_file(nas: Any, share: Path) -> None:
    (share / "d").mkdir()
    for path in ("/media/d", "/media/gone"):
        assert nas.get("MD5", 2, "start", file_path=path).code == 408


def test_dirsize_does_not_count_the_root(nas: Any, share: Path) -> None:
    (share / "d" / "e").mkdir(parents=True)
    (share / "d" / "e" / "f").write_text("12345")
    (share / "d" / "g").write_text("123")
    task = nas.get("DirSize", 2, "start", path=["/media/d"]).data["taskid"]
    assert nas.finish("DirSize", task) == {"finished": True, "num_dir": 1, "num_file": 2, "total_size": 8}


def test_the_finished_status_is_told_once(nas: Any, file: bytes) -> None:
    task = start_md5(nas)
    nas.finish("MD5", task)
    assert status(nas, task).code == 599
    assert nas.get("BackgroundTask", 3, "list").data["tasks"] == []


def test_an_unknown_task_is_599(nas: Any) -> None:
    assert status(nas, "FileStation_0123456789ABCDEF").code == 599
    assert nas.get("MD5", 2, "status").code == 599


def test_a_task_of_another_api_is_599(nas: Any, file: bytes) -> None:
    assert nas.get("DirSize", 2, "status", taskid=start_md5(nas)).code == 599


def test_a_raw_taskid_is_understood_for_some_ids_always_the_same(start: Any, file: bytes) -> None:
    nas = start("--quirk", "tiny-tasks=never")
    found = 0
    for _ in range(40):
        task = start_md5(nas)
        understood = nas.get("MD5", 2, "status", raw={"taskid": task}).json["success"]
        assert understood == (zlib.crc32(task.encode()) % 5 < 2)
        assert nas.get("MD5", 2, "status", raw={"taskid": task}).json["success"] <= understood
        found += understood
    assert 0 < found < 40


@pytest.mark.parametrize(("variant", "understood"), [("always", True), ("never", False)])
def test_raw_taskids_may_be_understood_always_or_never(start: Any, file: bytes, variant: str, understood: bool) -> None:
    nas = start("--quirk", f"raw-taskid={variant}", "--quirk", "tiny-tasks=never")
    for _ in range(5):
        task = start_md5(nas)
        reply = nas.get("MD5", 2, "status", raw={"taskid": task})
        assert reply.json["success"] is understood


def poll_after_the_end(nas: Any, count: int) -> list[bool]:
    """Whether the first status of tasks that have ended is told."""
    result = []
    for _ in range(count):
        task = start_md5(nas)
        settle(nas)
        reply = status(nas, task)
        result.append(reply.json["success"])
        assert status(nas, task).code == 599
    return result


@pytest.mark.parametrize(
    ("variant", "told"),
    [
        ("sometimes", [True, True, True, False, True, True, True, False]),
        ("never", [True] * 8),
        ("always", [False] * 8),
    ],
)
def test_a_tiny_task_may_be_gone_before_the_first_poll(start: Any, file: bytes, variant: str, told: list[bool]) -> None:
    assert poll_after_the_end(start("--quirk", f"tiny-tasks={variant}"), 8) == told


def test_a_task_may_not_be_registered_yet(start: Any, file: bytes) -> None:
    nas = start("--quirk", "late-tasks=yes", "--quirk", "tiny-tasks=never")
    task = start_md5(nas)
    assert status(nas, task).code == 599
    assert nas.finish("MD5", task)["md5"] == hashlib.md5(file).hexdigest()


def test_stop_of_an_unknown_task_is_no_error(nas: Any) -> None:
    assert nas.get("MD5", 2, "stop", taskid="FileStation_X").json == {"success": True}


def test_background_task_list(nas: Any, file: bytes, share: Path) -> None:
    (share / "d").mkdir()
    first = start_md5(nas)
    second = nas.get("CopyMove", 3, "start", path="/media/f", dest_folder_path="/media/d").data["taskid"]
    settle(nas)
    data = nas.get("BackgroundTask", 3, "list").data
    assert (data["offset"], data["total"]) == (0, 2)
    assert [task["taskid"] for task in data["tasks"]] == [first, second]
    assert set(data["tasks"][1]) == {
        "api",
        "crtime",
        "finished",
        "method",
        "params",
        "path",
        "processed_num",
        "processed_size",
        "processing_path",
        "progress",
        "taskid",
        "total",
        "version",
    }
    assert data["tasks"][1]["params"] == {"path": "/media/f", "dest_folder_path": "/media/d"}
    only = nas.get("BackgroundTask", 3, "list", api_filter=["SYNO.FileStation.MD5"]).data
    assert [task["taskid"] for task in only["tasks"]] == [first]
    newest = nas.get("BackgroundTask", 3, "list", sort_direction="desc", limit=1).data
    assert [task["taskid"] for task in newest["tasks"]] == [second]


def test_clear_finished(nas: Any, file: bytes) -> None:
    first, second = start_md5(nas), start_md5(nas)
    settle(nas)
    nas.get("BackgroundTask", 3, "clear_finished", taskid=[first])
    assert [t["taskid"] for t in nas.get("BackgroundTask", 3, "list").data["tasks"]] == [second]
    nas.get("BackgroundTask", 3, "clear_finished")
    assert nas.get("BackgroundTask", 3, "list").data["total"] == 0


def test_tasks_belong_to_an_account(nas: Any, file: bytes) -> None:
    start_md5(nas)
    nas.login("root")
    assert nas.get("BackgroundTask", 3, "list").data["total"] == 0


def test_a_restart_forgets_tasks(nas: Any, file: bytes) -> None:
    task = start_md5(nas)
    nas.fault("restart")
    nas.login()
    assert status(nas, task).code == 599
