"""The services of the NAS as a library, against a scripted one: what is sent, and what odd answers come to."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation.changes import Changes
from synofs.filestation.download import Downloader
from synofs.filestation.listing import Pager, PagingOptions
from synofs.filestation.recycling import in_bin, original_of
from synofs.filestation.search import Hit, SearchFilter, sent_pattern
from synofs.filestation.secret import Secret
from synofs.filestation.services import Services
from synofs.filestation.tasks import Progress, TaskOptions, Tasks
from synofs.filestation.wire import Counters
from tests.unit.filestation.scripted_transport import (
    DSM7,
    Answer,
    ScriptedNas,
    Sent,
    answer,
    caller_for,
    failure,
    success,
)

pytestmark = pytest.mark.trio

APIS = {
    f"SYNO.FileStation.{name}": {"path": "entry.cgi", "minVersion": 1, "maxVersion": version}
    for name, version in {
        "BackgroundTask": 3,
        "Compress": 3,
        "DirSize": 2,
        "Extract": 2,
        "Favorite": 2,
        "Search": 2,
        "Sharing": 3,
        "Thumb": 3,
    }.items()
}
TASK = "FileStation_0123E456"  # a number to a careless parser, which is why it is quoted


class Files:
    """Answers to `getinfo` from a dictionary of sizes (None: a folder), and to the rest from functions by name."""

    def __init__(self, sizes: dict[str, int | None], **answers: Callable[[Sent], Answer]) -> None:
        self.sizes = sizes
        self.answers = {name.replace("_", "."): function for name, function in answers.items()}
        self.nas = ScriptedNas(self)
        self.nas.apis = {**DSM7, **APIS}
        caller, _, _ = caller_for(self.nas.transport)
        tasks = Tasks(caller, TaskOptions())
        changes = Changes(caller, tasks, Downloader(caller, Counters()))
        self.services = Services(caller, tasks, Pager(PagingOptions()), changes)

    def __call__(self, sent: Sent) -> Answer:
        name = sent.name.removeprefix("FileStation.")
        if name in self.answers:
            return self.answers[name](sent)
        if name == "List.getinfo":
            return success({"files": [self.record(path) for path in json.loads(sent.parameters["path"])]})
        if name.endswith(".start"):
            return success({"taskid": TASK})
        return success()

    def record(self, path: str) -> dict[str, Any]:
        if path not in self.sizes:
            return {"path": path, "code": 408}
        size = self.sizes[path]
        more = {"size": size or 0, "time": {"mtime": 1}}
        return {"path": path, "name": path.rpartition("/")[2], "isdir": size is None, "additional": more}

    def sent(self, name: str) -> list[dict[str, str]]:
        return [sent.parameters for sent in self.nas.transport.sent if sent.name == f"FileStation.{name}"]


def each(*answers: Answer) -> Callable[[Sent], Answer]:
    """One answer after the other; the last for ever."""
    left = list(answers)
    return lambda sent: left.pop(0) if len(left) > 1 else left[0]


# ----- copies ---------------------------------------------------------------------------------------------------


async def test_a_copy_quotes_what_it_sends_follows_the_task_and_looks_at_the_end(autojump_clock: MockClock) -> None:
    files = Files({"/a": None, "/b": None, "/a/x [1].bin": 100})

    def status(sent: Sent) -> Answer:
        polls = len(files.sent("CopyMove.status"))
        if polls == 3:
            files.sizes["/b/x [1].bin"] = 100
        how_far = {"progress": polls / 3, "processed_size": 33 * polls, "total": 100}
        return success({"finished": polls == 3, **how_far})

    files.answers["CopyMove.status"] = status
    steps: list[Progress] = []
    await files.services.copying.copy("/a/x [1].bin", "/b/x [1].bin", on_progress=steps.append)
    start = files.sent("CopyMove.start")[0]
    assert json.loads(start["path"]) == ["/a/x [1].bin"]
    assert json.loads(start["dest_folder_path"]) == "/b"
    assert start["remove_src"] == "false"
    assert "overwrite" not in start  # false would skip what is there, and call it success
    assert {call["taskid"] for call in files.sent("CopyMove.status")} == {f'"{TASK}"'}
    assert [step.done_bytes for step in steps] == [33, 66]


async def test_a_task_that_is_gone_is_done_only_if_the_copy_is_whole(autojump_clock: MockClock) -> None:
    files = Files({"/a/x": 100, "/b": None}, CopyMove_status=lambda sent: failure(599))
    files.answers["CopyMove.start"] = lambda sent: (files.sizes.update({"/b/x": 60}), success({"taskid": TASK}))[1]
    with pytest.raises(remote.InputOutput, match="did not copy all"):
        await files.services.copying.copy("/a/x", "/b/x")
    del files.sizes["/b/x"]
    files.answers["CopyMove.start"] = lambda sent: (files.sizes.update({"/b/x": 100}), success({"taskid": TASK}))[1]
    await files.services.copying.copy("/a/x", "/b/x")


@pytest.mark.parametrize(
    "ending",
    [
        success({"finished": True, "status": "FAIL", "errors": [{"code": 415, "path": "/a/x"}], "progress": 1}),
        success({"finished": True, "error": {"code": 1000, "errors": [{"code": 415}]}}),
    ],
)
async def test_a_failed_copy_tells_the_nested_reason(ending: Answer, autojump_clock: MockClock) -> None:
    files = Files({"/a/x": 1, "/b": None}, CopyMove_status=lambda sent: ending)
    with pytest.raises(remote.QuotaExceeded):
        await files.services.copying.copy("/a/x", "/b/x")


async def test_a_move_that_fails_half_way_is_put_back_under_its_old_name(autojump_clock: MockClock) -> None:
    """To another name, where the old one is taken: by way of a folder of its own, which is then empty again."""
    files = Files({"/a": None, "/b": None, "/a/x": 7, "/b/x": 1})

    def start(sent: Sent) -> Answer:
        source, folder = json.loads(sent.parameters["path"])[0], json.loads(sent.parameters["dest_folder_path"])
        files.sizes[f"{folder}/{source.rpartition('/')[2]}"] = files.sizes.pop(source)
        return success({"taskid": TASK})

    def make(sent: Sent) -> Answer:
        path = json.loads(sent.parameters["folder_path"])[0] + "/" + json.loads(sent.parameters["name"])[0]
        if path in files.sizes:
            return failure(1100, [{"code": 414, "path": path}])
        files.sizes[path] = None
        return success({"folders": [files.record(path)]})

    def delete(sent: Sent) -> Answer:
        for path in json.loads(sent.parameters["path"]):
            assert not [below for below in files.sizes if below.startswith(f"{path}/")], "it held something"
            del files.sizes[path]
        return success()

    files.answers |= {
        "CopyMove.start": start,
        "CopyMove.status": lambda sent: failure(599),
        "CreateFolder.create": make,
        "Delete.delete": delete,
        "Rename.rename": lambda sent: failure(1200, [{"code": 418, "path": ""}]),
    }
    with pytest.raises(remote.InvalidName):
        await files.services.copying.move("/a/x", "/b/y?")
    assert files.sizes == {"/a": None, "/b": None, "/a/x": 7, "/b/x": 1}


async def test_cancelling_a_copy_stops_it_on_the_nas(autojump_clock: MockClock) -> None:
    files = Files({"/a/x": 1, "/b": None}, CopyMove_status=lambda sent: success({"finished": False}))
    with trio.move_on_after(5):
        await files.services.copying.copy("/a/x", "/b/x")
    assert [call["taskid"] for call in files.sent("CopyMove.stop")] == [f'"{TASK}"']


# ----- searches and sizes ---------------------------------------------------------------------------------------


def hit(path: str) -> dict[str, Any]:
    return {"path": path, "name": path.rpartition("/")[2], "isdir": False, "additional": {"size": 1}}


async def found(files: Files, pattern: str) -> list[str]:
    paths: list[str] = []

    async def take(hits: Sequence[Hit]) -> None:
        paths.extend(one.path for one in hits)

    assert await files.services.search.find("/a", SearchFilter(pattern), take) == len(paths)
    return paths


async def test_a_search_that_the_nas_has_lost_is_started_again_and_every_one_is_cleaned(
    autojump_clock: MockClock,
) -> None:
    first = success({"finished": False, "files": [hit("/a/one")], "total": 1})
    lost = success({"finished": True, "files": []})
    whole = success({"finished": True, "files": [hit("/a/one"), hit("/a/one more")], "total": 2})
    files = Files({}, Search_list=each(first, lost, whole))
    assert await found(files, "one") == ["/a/one", "/a/one more"]
    assert len(files.sent("Search.start")) == len(files.sent("Search.clean")) == len(files.sent("Search.stop")) == 2
    assert all(int(call["limit"]) > 0 for call in files.sent("Search.list"))  # 0 would be nothing
    files = Files({}, Search_list=lambda sent: lost)
    with pytest.raises(remote.Unavailable):
        await found(files, "one")


async def test_a_search_is_cleaned_when_it_is_cancelled_or_fails(autojump_clock: MockClock) -> None:
    files = Files({}, Search_list=lambda sent: success({"finished": False, "files": [], "total": 0}))
    with trio.move_on_after(10):
        await found(files, "x")
    assert len(files.sent("Search.clean")) == 1
    files = Files({}, Search_list=lambda sent: failure(600))
    with pytest.raises(remote.InputOutput):
        await found(files, "x")
    assert len(files.sent("Search.clean")) == 1


@pytest.mark.parametrize(
    ("pattern", "sent"),
    [
        ("photo", "photo"),
        ("*.jpg", "*.jpg"),
        ("my photo", "*my?photo*"),  # a space, a comma or a bracket means something else on each build
        ("a, b.*", "a??b.*"),
        ("[x]", "*?x?*"),
        ("", ""),
    ],
)
async def test_a_pattern_means_the_same_on_every_build(pattern: str, sent: str) -> None:
    assert sent_pattern(pattern) == sent


async def test_hits_that_only_the_nas_takes_for_such_are_left_out(autojump_clock: MockClock) -> None:
    page = success({"finished": True, "files": [hit("/a/my photo"), hit("/a/my_photo")], "total": 2})
    assert await found(Files({}, Search_list=lambda sent: page), "My Photo") == ["/a/my photo"]


async def test_a_count_that_is_lost_each_time_is_made_by_hand(autojump_clock: MockClock) -> None:
    inside = [{"name": "x", "path": "/a/x", "isdir": False, "additional": {"size": 7}}]
    files = Files(
        {"/a": None},
        DirSize_status=lambda sent: failure(599),
        List_list=lambda sent: success({"files": inside, "total": 1, "offset": 0}),
    )
    assert await files.services.measures.size(["/a"]) == (0, 1, 7)
    with pytest.raises(remote.NotFound):
        await files.services.measures.size(["/a", "/missing"])


# ----- links, archives, thumbnails ------------------------------------------------------------------------------


async def test_dates_and_passwords_of_a_link_are_quoted_and_what_became_of_them_is_checked() -> None:
    made = {"links": [{"error": 0, "id": "abc", "path": "/a", "qrcode": "", "url": "https://nas/sharing/abc"}]}
    link = {"id": "abc", "path": "/a", "url": "https://nas/sharing/abc", "has_password": True}
    files = Files(
        {},
        Sharing_create=lambda sent: success(made),
        Sharing_getinfo=each(
            success({**link, "date_expired": "2030-12-31 23:59:59"}), success({**link, "date_expired": ""})
        ),
    )
    day = datetime.date(2030, 12, 31)
    got = await files.services.sharing.create("/a", password=Secret("sesame"), expires=day)
    assert got.url == "https://nas/sharing/abc"
    call = files.sent("Sharing.create")[0]
    assert (call["password"], call["date_expired"]) == ('"sesame"', '"2030-12-31"')
    with pytest.raises(remote.InputOutput, match="last day"):
        await files.services.sharing.create("/a", password=Secret("sesame"), expires=day)
    assert files.sent("Sharing.delete")[0]["id"] == '["abc"]'


async def test_a_path_that_cannot_be_shared_is_refused_with_its_own_reason() -> None:
    made = {"links": [{"error": 408, "id": "", "path": "/a", "url": ""}]}
    files = Files({}, Sharing_create=lambda sent: success(made))
    with pytest.raises(remote.NotFound):
        await files.services.sharing.create("/a")
    with pytest.raises(remote.InvalidRequest):
        await files.services.sharing.create("/a", password=Secret("x" * 17))


async def test_an_archive_counts_as_made_only_when_it_grows_no_more(autojump_clock: MockClock) -> None:
    files = Files({"/a": None, "/b": None})
    sizes = iter([10, 20, 30, 30, 30, 30])

    def status(sent: Sent) -> Answer:
        files.sizes["/b/a.zip"] = next(sizes)
        return failure(599)

    files.answers["Compress.status"] = status
    await files.services.archives.compress(["/a"], "/b/a.zip")
    assert files.sizes["/b/a.zip"] == 30
    assert files.sent("Compress.start")[0]["dest_file_path"] == '"/b/a.zip"'
    with pytest.raises(remote.Exists):
        await files.services.archives.compress(["/a"], "/b/a.zip")


async def test_a_broken_archive_that_goes_round_in_circles_ends() -> None:
    items = {"items": [{"item_id": 5, "name": "round", "is_dir": True}], "total": 1}
    files = Files({}, Extract_list=lambda sent: success(items))
    with pytest.raises(remote.BadAnswer):
        async for _ in files.services.archives.contents("/a.zip"):
            pass


async def test_a_thumbnail_that_is_still_being_made_is_waited_for(autojump_clock: MockClock) -> None:
    image = answer(b"\xff\xd8image", content_type="image/jpeg")
    not_yet = answer(b"<html>", 404, content_type="text/html")
    files = Files({}, Thumb_get=each(not_yet, not_yet, image))
    assert await files.services.thumbnails.get("/a/x.jpg") == b"\xff\xd8image"
    with pytest.raises(remote.NotFound):
        await Files({}, Thumb_get=lambda sent: not_yet).services.thumbnails.get("/a/x.txt")
    with pytest.raises(remote.BadAnswer):
        await Files({}, Thumb_get=lambda sent: success()).services.thumbnails.get("/a/x.jpg")


# ----- the recycle bin ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "in_the_bin"),
    [("/a", "/a/#recycle"), ("/a/x/y", "/a/#recycle/x/y"), ("/a/b/#recycle", "/a/#recycle/b/#recycle")],
)
async def test_what_was_deleted_keeps_its_path_below_the_bin(path: str, in_the_bin: str) -> None:
    assert in_bin(path) == in_bin(in_the_bin) == in_the_bin
    assert original_of(in_the_bin) == path


async def test_emptying_reports_what_the_nas_left(autojump_clock: MockClock) -> None:
    files = Files(
        {"/a/#recycle": None, "/a/#recycle/x": 1},
        List_list=lambda sent: success({"files": [hit("/a/#recycle/x")], "total": 1, "offset": 0}),
        Delete_status=lambda sent: failure(599),
    )
    with pytest.raises(remote.InputOutput):
        await files.services.recycle_bin.empty("/a")
    assert json.loads(files.sent("Delete.start")[0]["path"]) == ["/a/#recycle/x"]
