"""Tasks, changes and uploads, where builds of DSM differ; against a scripted NAS."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation.changes import Changes
from synofs.filestation.download import Downloader
from synofs.filestation.tasks import TaskOptions, Tasks
from synofs.filestation.transport import BodySink, ReceiveFailed, Request, Response
from synofs.filestation.upload import Uploader, UploadOptions
from synofs.filestation.wire import Counters
from tests.unit.filestation.scripted_transport import (
    Answer,
    ScriptedNas,
    Sent,
    answer,
    caller_for,
    failure,
    success,
)

pytestmark = pytest.mark.trio


class Files:
    """A NAS with files (path -> content; None for a folder) and answers of a test's own for single methods."""

    def __init__(self, *paths: str) -> None:
        self.content: dict[str, bytes | None] = {path: b"x" for path in paths}
        self.answers: dict[str, Callable[[Sent], Answer]] = {}
        self.nas = ScriptedNas(self._files)
        caller, _, _ = caller_for(self.nas.transport)
        self.caller = caller
        self.downloader = Downloader(caller, Counters())
        self.changes = Changes(caller, Tasks(caller, TaskOptions()), self.downloader)

    def _files(self, sent: Sent) -> Answer:
        name = sent.name.removeprefix("FileStation.")
        if name in self.answers:
            return self.answers[name](sent)
        if name == "List.getinfo":
            return success({"files": [self.record(path) for path in json.loads(sent.parameters["path"])]})
        if name == "List.list":
            return failure(408)
        raise AssertionError(f"an unexpected call: {name}")

    def record(self, path: str) -> dict[str, Any]:
        if path not in self.content:
            return {"code": 408, "path": path}
        content = self.content[path]
        details = {"size": len(content or b""), "time": {"mtime": 1}, "perm": {}}
        return {"name": path.rpartition("/")[2], "path": path, "isdir": content is None, "additional": details}

    def count(self, name: str) -> int:
        return self.nas.transport.count(f"FileStation.{name}")

    def move(self, source: str, target: str) -> None:
        self.content[target] = self.content.pop(source)


def status(**members: Any) -> Answer:
    return success({"finished": False, "progress": 0, **members})


# ----- moving -----------------------------------------------------------------------------------------------------


def moving(files: Files, statuses: Iterator[Answer], *, moves: bool = True) -> None:
    def start(sent: Sent) -> Answer:
        if moves:
            files.move("/s/a", "/s/d/a")
        return success({"taskid": "FileStation_1"})

    files.answers["CopyMove.start"] = start
    files.answers["CopyMove.status"] = lambda sent: next(statuses)
    files.answers["CopyMove.stop"] = lambda sent: success()


async def test_a_task_that_is_gone_before_its_first_status_is_done_at_once(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    moving(files, iter([failure(599)]))
    start = trio.current_time()
    await files.changes.move("/s/a", "/s/d", overwrite=False)
    assert trio.current_time() - start < 0.1


async def test_a_task_that_is_registered_late_is_waited_for(autojump_clock: MockClock) -> None:
    files = Files("/s/a")

    def late() -> Iterator[Answer]:
        yield failure(599)
        yield failure(599)
        yield status(processed_size=1)
        files.move("/s/a", "/s/d/a")
        yield status(finished=True, progress=1)

    moving(files, late(), moves=False)
    await files.changes.move("/s/a", "/s/d", overwrite=False)


async def test_a_task_that_vanishes_in_the_middle_is_looked_after(autojump_clock: MockClock) -> None:
    files = Files("/s/a")

    def vanishing() -> Iterator[Answer]:
        yield status(processed_size=1)
        files.move("/s/a", "/s/d/a")
        yield failure(599)

    moving(files, vanishing(), moves=False)
    await files.changes.move("/s/a", "/s/d", overwrite=False)


FAILED = [
    {"finished": True, "status": "FAIL", "errors": [{"code": 407, "path": "/s/a"}], "progress": 1},
    {"finished": True, "errors": [{"code": 407, "path": "/s/a"}]},
    {"finished": True, "error": {"code": 1001, "errors": [{"code": 407}]}},
    {"finished": True, "error": {"code": 407}},
]


@pytest.mark.parametrize("reply", FAILED)
async def test_every_way_to_report_a_failed_task(reply: dict[str, Any], autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    moving(files, iter([success(reply)]), moves=False)
    with pytest.raises(remote.PermissionDenied):
        await files.changes.move("/s/a", "/s/d", overwrite=False)


async def test_a_failed_task_without_a_reason(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    moving(files, iter([success({"finished": True, "status": "FAIL"})]), moves=False)
    with pytest.raises(remote.InputOutput):
        await files.changes.move("/s/a", "/s/d", overwrite=False)


async def test_success_that_moved_nothing_is_an_error(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    moving(files, iter([status(finished=True)]), moves=False)
    with pytest.raises(remote.InputOutput):
        await files.changes.move("/s/a", "/s/d", overwrite=True)
    files = Files("/s/a", "/s/d/a")
    moving(files, iter([status(finished=True)]), moves=False)
    with pytest.raises(remote.Exists):
        await files.changes.move("/s/a", "/s/d", overwrite=False)


async def test_nothing_but_599_and_no_source_is_not_found(autojump_clock: MockClock) -> None:
    files = Files()
    moving(files, iter(lambda: failure(599), None), moves=False)
    with pytest.raises(remote.NotFound):
        await files.changes.move("/s/a", "/s/d", overwrite=False)


async def test_a_task_that_is_lost_in_a_restart_is_worth_another_try_and_the_second_time_a_failure(
    autojump_clock: MockClock,
) -> None:
    files = Files("/s/a", "/s/d/a")
    for expected in (remote.Unavailable, remote.InputOutput, remote.Unavailable):
        moving(files, iter(lambda: failure(599), None), moves=False)
        with pytest.raises(expected) as caught:
            await files.changes.move("/s/a", "/s/d", overwrite=True)
        assert caught.value.temporary is (expected is remote.Unavailable)


async def test_cancelling_stops_the_task(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    counter = iter(range(10_000))
    moving(files, (status(processed_size=size) for size in counter), moves=False)
    with trio.move_on_after(5) as scope:
        await files.changes.move("/s/a", "/s/d", overwrite=False)
    assert scope.cancelled_caught
    assert files.count("CopyMove.stop") == 1
    stopped = files.nas.transport.sent[-1]
    assert stopped.parameters["taskid"] == '"FileStation_1"'


async def test_a_task_that_does_not_come_on_is_given_up_and_stopped(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    moving(files, iter(lambda: status(processed_size=1), None), moves=False)
    with pytest.raises(remote.TimedOut):
        await files.changes.move("/s/a", "/s/d", overwrite=False)
    assert files.count("CopyMove.stop") == 1


async def test_a_start_that_was_torn_is_not_repeated() -> None:
    files = Files("/s/a")
    files.answers["CopyMove.start"] = lambda sent: ReceiveFailed("reset")
    with pytest.raises(remote.Unreachable):
        await files.changes.move("/s/a", "/s/d", overwrite=False)
    assert files.count("CopyMove.start") == 1


async def test_a_task_is_polled_gently(autojump_clock: MockClock) -> None:
    files = Files("/s/a")

    def slow() -> Iterator[Answer]:
        for size in range(60):
            yield status(processed_size=size)
        files.move("/s/a", "/s/d/a")
        yield status(finished=True)

    moving(files, slow(), moves=False)
    start = trio.current_time()
    await files.changes.move("/s/a", "/s/d", overwrite=False)
    assert trio.current_time() - start == pytest.approx(58.44, abs=1)


# ----- folders, names, removing -----------------------------------------------------------------------------------


async def test_a_nas_that_refuses_existing_folders_is_asked_once_for_each_folder() -> None:
    files = Files()

    def create(sent: Sent) -> Answer:
        path = f"/s/{json.loads(sent.parameters['name'])[0]}"
        if path in files.content:
            return failure(1100, [{"code": 414, "path": path}])
        files.content[path] = None
        return success({"folders": [files.record(path)]})

    files.answers["CreateFolder.create"] = create
    await files.changes.make_dir("/s/first")
    learning = len(files.nas.transport.sent)
    await files.changes.make_dir("/s/second")
    assert len(files.nas.transport.sent) == learning + 1
    with pytest.raises(remote.Exists):
        await files.changes.make_dir("/s/second")


async def test_a_nas_that_takes_existing_folders_is_looked_at_before_each() -> None:
    files = Files()

    def create(sent: Sent) -> Answer:
        path = f"/s/{json.loads(sent.parameters['name'])[0]}"
        files.content.setdefault(path, None)
        return success({"folders": [files.record(path)]})

    files.answers["CreateFolder.create"] = create
    await files.changes.make_dir("/s/first")
    for path in ("/s/first", "/s/second"):
        files.content[path] = None
        with pytest.raises(remote.Exists):
            await files.changes.make_dir(path)


@pytest.mark.parametrize("reply", [success(), success({"folders": []}), success({"folders": [{"name": "d"}]})])
async def test_a_made_folder_that_is_not_described_is_looked_at(reply: Response) -> None:
    files = Files()

    def create(sent: Sent) -> Answer:
        files.content["/s/d"] = None
        return reply

    files.answers["CreateFolder.create"] = create
    assert (await files.changes.make_dir("/s/d")).is_dir


async def test_success_without_a_folder_is_an_error() -> None:
    files = Files()
    files.answers["CreateFolder.create"] = lambda sent: success()
    with pytest.raises(remote.InputOutput):
        await files.changes.make_dir("/s/d")


@pytest.mark.parametrize("code", [400, 401, 414, 417, 421])
async def test_a_folder_with_entries_is_found_out_whatever_the_code(code: int) -> None:
    files = Files()
    files.content["/s/d"] = None
    files.answers["Delete.delete"] = lambda sent: failure(900, [{"code": code, "path": "/s/d"}])
    files.answers["List.list"] = lambda sent: success({"files": [{"name": "x", "isdir": False}], "total": 1})
    with pytest.raises(remote.NotEmpty):
        await files.changes.remove("/s/d")


async def test_what_cannot_be_removed_for_another_reason_says_so() -> None:
    files = Files("/s/a")
    files.answers["Delete.delete"] = lambda sent: failure(900, [{"code": 407}])
    with pytest.raises(remote.PermissionDenied):
        await files.changes.remove("/s/a")
    files.answers["Delete.delete"] = lambda sent: failure(900)
    with pytest.raises(remote.InputOutput):
        await files.changes.remove("/s/a")


async def test_a_nas_without_check_permission_lets_the_upload_tell() -> None:
    files = Files()
    files.nas.apis = {name: api for name, api in files.nas.apis.items() if "CheckPermission" not in name}
    await files.changes.check_writable("/s", "x")


# ----- MD5 --------------------------------------------------------------------------------------------------------


async def test_an_md5_task_that_is_lost_is_started_again(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    files.answers["MD5.start"] = lambda sent: success({"taskid": "t"})
    digest = "0123456789ABCDEF0123456789ABCDEF"
    statuses = iter([failure(599), status(), status(finished=True, md5=digest)])
    files.answers["MD5.status"] = lambda sent: next(statuses)
    assert await files.changes.md5("/s/a") == digest.lower()
    assert files.count("MD5.start") == 2


async def test_the_md5_of_a_file_too_small_for_any_task_is_computed_here(autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    files.content["/s/a"] = b"content"
    files.answers["MD5.start"] = lambda sent: success({"taskid": "t"})
    files.answers["MD5.status"] = lambda sent: failure(599)
    headers = {"content_disposition": "attachment", "content_range": "bytes 0-6/7"}
    files.answers["Download.download"] = lambda sent: answer(b"content", 206, **headers)
    assert await files.changes.md5("/s/a") == hashlib.md5(b"content").hexdigest()


@pytest.mark.parametrize("md5", [None, "", "xyz", "0" * 31])
async def test_what_is_no_md5_is_a_bad_answer(md5: str | None, autojump_clock: MockClock) -> None:
    files = Files("/s/a")
    files.answers["MD5.start"] = lambda sent: success({"taskid": "t"})
    files.answers["MD5.status"] = lambda sent: status(finished=True, md5=md5)
    with pytest.raises(remote.BadAnswer):
        await files.changes.md5("/s/a")


# ----- uploads ----------------------------------------------------------------------------------------------------


class Uploading(Files):
    """Takes uploads apart: `posted` has the parts and headers of each."""

    def __init__(self, *paths: str, version: int = 3, options: UploadOptions | None = None) -> None:
        super().__init__(*paths)
        upload = {"path": "entry.cgi", "minVersion": 2, "maxVersion": version}
        self.nas.apis = {**self.nas.apis, "SYNO.FileStation.Upload": upload}
        self.posted: list[tuple[dict[str, bytes], dict[str, str]]] = []
        self.answers["Upload.upload"] = lambda sent: success({"blSkip": False})
        self.counters = Counters()
        self.uploader = Uploader(self.caller, self.changes, self.counters, options or UploadOptions())
        send = self.nas.transport.send

        async def reading(request: Request, sink: BodySink | None = None) -> Response:
            if request.body is not None and not isinstance(request.body, bytes):
                body = b""
                for piece in request.body.pieces():
                    body += piece
                    request.body.sent(len(piece))
                assert len(body) == request.body.length
                self.posted.append((_parts(body, request.headers["Content-Type"]), dict(request.headers)))
            return await send(request, sink)

        self.nas.transport.send = reading  # type: ignore[method-assign]

    async def upload(self, content: bytes, *, overwrite: bool = False, path: str = "/s/d/new", **more: Any) -> None:
        source = io.BytesIO(content)
        await self.uploader.upload(path, source, len(content), 1_234_567_890_123, overwrite=overwrite, **more)


def _parts(body: bytes, content_type: str) -> dict[str, bytes]:
    boundary = content_type.partition("boundary=")[2].encode()
    parts = {}
    for part in body.split(b"--" + boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        parts[head.partition(b'name="')[2].partition(b'"')[0].decode()] = value.removesuffix(b"\r\n")
    return parts


async def test_an_upload_names_its_session_outside_of_the_body() -> None:
    nas = Uploading()
    await nas.upload(b"content")
    [(parts, headers)] = nas.posted
    assert parts == {"path": b"/s/d", "create_parents": b"false", "mtime": b"1234567", "file": b"content"}
    assert list(parts)[-1] == "file"
    assert headers["Cookie"] == "id=sid1"
    sent = nas.nas.transport.sent[-1]
    assert (sent.parameters["api"], sent.parameters["method"]) == ("SYNO.FileStation.Upload", "upload")


@pytest.mark.parametrize(("version", "word"), [(2, b"true"), (3, b"overwrite")])
async def test_overwriting_is_said_in_the_words_of_the_version(version: int, word: bytes) -> None:
    nas = Uploading(version=version)
    await nas.upload(b"x", overwrite=True)
    await nas.upload(b"x", overwrite=False)
    assert nas.posted[0][0]["overwrite"] == word
    assert "overwrite" not in nas.posted[1][0]


async def test_success_that_wrote_nothing_means_that_something_is_there() -> None:
    nas = Uploading()
    nas.answers["Upload.upload"] = lambda sent: success({"blSkip": True, "file": "new"})
    with pytest.raises(remote.Exists):
        await nas.upload(b"x")


async def test_an_upload_without_a_reply_is_taken_for_one() -> None:
    nas = Uploading()
    nas.answers["Upload.upload"] = lambda sent: success()
    await nas.upload(b"x")


async def test_a_dead_session_in_an_upload_sends_the_source_again_from_its_start() -> None:
    nas = Uploading()
    await nas.upload(b"first")
    nas.nas.live.clear()
    progress: list[int] = []
    await nas.upload(b"content", on_progress=progress.append)
    assert [parts["file"] for parts, _ in nas.posted[1:]] == [b"content", b"content"]
    assert progress[-1] == 7


SLICES = UploadOptions(max_post_bytes=10, slice_bytes=4)


def slicing(nas: Uploading, content: bytes, md5: str | None = None) -> None:
    pieces: list[bytes] = []

    def upload(sent: Sent) -> Answer:
        parts, headers = nas.posted[-1]
        number = len(pieces)
        assert headers.get("X-TMP-FILE") == (f"slice.{number}" if number else None)
        pieces.append(parts["file"])
        if headers["X-FILE-CHUNK-END"] == "true":
            nas.content["/s/d/new"] = b"".join(pieces)
            return success({"blSkip": False, "progress": 1})
        return success({"blSkip": False, "progress": 1, "tmpfile": f"slice.{number + 1}"})

    nas.answers["Upload.upload"] = upload
    nas.answers["MD5.start"] = lambda sent: success({"taskid": "t"})
    digest = md5 or hashlib.md5(content).hexdigest()
    nas.answers["MD5.status"] = lambda sent: status(finished=True, md5=digest)


async def test_a_large_file_goes_in_slices_and_is_compared(autojump_clock: MockClock) -> None:
    nas = Uploading(options=SLICES)
    content = b"0123456789abcd"
    slicing(nas, content)
    progress: list[int] = []
    await nas.upload(content, on_progress=progress.append)
    assert nas.content["/s/d/new"] == content
    assert [headers["X-FILE-CHUNK-END"] for _, headers in nas.posted] == ["false", "false", "false", "true"]
    assert {headers["X-FILE-SIZE"] for _, headers in nas.posted} == {"14"}
    assert {headers["X-TYPE-NAME"] for _, headers in nas.posted} == {"SLICEUPLOAD"}
    assert progress == sorted(progress)
    assert progress[-1] == 14
    assert nas.counters.bytes_written == 14


async def test_slices_that_arrive_wrong_are_noticed(autojump_clock: MockClock) -> None:
    nas = Uploading(options=SLICES)
    slicing(nas, b"", md5="0" * 32)
    with pytest.raises(remote.ShortBody):
        await nas.upload(b"0123456789abcd")


async def test_a_slice_that_may_have_arrived_is_never_sent_again(autojump_clock: MockClock) -> None:
    nas = Uploading(options=SLICES)
    replies: list[Answer] = [success({"tmpfile": "t"}), ReceiveFailed("reset")]
    nas.answers["Upload.upload"] = lambda sent: replies.pop(0)
    with pytest.raises(remote.Unreachable):
        await nas.upload(b"0123456789abcd")
    assert len(nas.posted) == 2


async def test_a_slice_meets_a_dead_session_and_is_replayed(autojump_clock: MockClock) -> None:
    nas = Uploading(options=SLICES)
    await nas.upload(b"first")
    content = b"0123456789abcd"
    slicing(nas, content)
    whole = nas.answers["Upload.upload"]
    died = False

    def upload(sent: Sent) -> Answer:
        nonlocal died
        if "X-TMP-FILE" in nas.posted[-1][1] and not died:
            died = True
            nas.nas.live.clear()
            return failure(119)
        return whole(sent)

    nas.answers["Upload.upload"] = upload
    await nas.upload(content)
    assert nas.content["/s/d/new"] == content


async def test_a_lost_temporary_file_is_temporary(autojump_clock: MockClock) -> None:
    nas = Uploading(options=SLICES)
    replies = [success({"tmpfile": "t"}), failure(401)]
    nas.answers["Upload.upload"] = lambda sent: replies.pop(0)
    with pytest.raises(remote.Unavailable):
        await nas.upload(b"0123456789abcd")


@pytest.mark.parametrize("tmpfile", [None, "", "a\r\nX-Evil: 1"])
async def test_a_slice_without_a_usable_continuation(tmpfile: str | None) -> None:
    nas = Uploading(options=SLICES)
    nas.answers["Upload.upload"] = lambda sent: success({"tmpfile": tmpfile})
    with pytest.raises(remote.Unavailable):
        await nas.upload(b"0123456789abcd")
    assert len(nas.posted) == 1


async def test_a_growing_file_announces_more_than_it_has_sent_until_its_end(autojump_clock: MockClock) -> None:
    nas = Uploading()
    growing = nas.uploader.begin("/s/d/new", overwrite=False)
    assert growing is not None
    nas.answers["Upload.upload"] = lambda sent: success({"tmpfile": "t"})
    await growing.append(io.BytesIO(b"0123"), 3, 4, 5_000_000_000)
    await growing.append(io.BytesIO(b"01234567"), 6, 8, 6_000_000_000)
    await growing.finish(io.BytesIO(b"0123456789"), 10, 7_000_000_000)
    assert [(parts["file"], parts["mtime"]) for parts, _ in nas.posted] == [
        (b"012", b"5000"), (b"345", b"6000"), (b"6789", b"7000")
    ]  # fmt: skip
    assert [(h["X-FILE-SIZE"], h["X-FILE-CHUNK-END"], h.get("X-TMP-FILE")) for _, h in nas.posted] == [
        ("4", "false", None), ("8", "false", "t"), ("10", "true", "t")
    ]  # fmt: skip
    assert growing.sent == 10


@pytest.mark.parametrize(
    ("code", "error"), [(401, remote.BeginningLost), (1800, remote.BeginningLost), (416, remote.NoSpace)]
)
async def test_a_refusal_to_go_on_says_that_nothing_is_there_unless_it_is_about_the_file(
    autojump_clock: MockClock, code: int, error: type[Exception]
) -> None:
    nas = Uploading()
    growing = nas.uploader.begin("/s/d/new", overwrite=False)
    assert growing is not None
    replies = [success({"tmpfile": "t"}), failure(code)]
    nas.answers["Upload.upload"] = lambda sent: replies.pop(0)
    await growing.append(io.BytesIO(b"0123"), 3, 4, 0)
    with pytest.raises(error):
        await growing.finish(io.BytesIO(b"0123456789"), 10, 0)
    with pytest.raises(remote.BeginningLost):  # and it is not gone on with
        await growing.finish(io.BytesIO(b"0123456789"), 10, 0)
    assert len(nas.posted) == 2


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_name_that_cannot_be_quoted_gets_there_by_renaming(overwrite: bool) -> None:
    nas = Uploading()
    renamed: list[tuple[str, str]] = []

    def rename(sent: Sent) -> Answer:
        [path], [name] = json.loads(sent.parameters["path"]), json.loads(sent.parameters["name"])
        renamed.append((path, name))
        nas.content[f"/s/d/{name}"] = b"x"
        return success({"files": [nas.record(f"/s/d/{name}")]})

    nas.answers["Rename.rename"] = rename
    nas.answers["Delete.delete"] = lambda sent: success()
    await nas.upload(b"x", path='/s/d/a "quoted"\nname', overwrite=overwrite)
    [(path, name)] = renamed
    assert name == 'a "quoted"\nname'
    assert path.startswith("/s/d/.synofs-")
    assert nas.count("Delete.delete") == int(overwrite)


async def test_a_name_that_the_nas_refuses_leaves_no_temporary_file() -> None:
    nas = Uploading()
    removed: list[str] = []

    def delete(sent: Sent) -> Answer:
        removed.extend(json.loads(sent.parameters["path"]))
        return success()

    nas.answers["Rename.rename"] = lambda sent: failure(1200, [{"code": 418}])
    nas.answers["Delete.delete"] = delete
    with pytest.raises(remote.InvalidName):
        await nas.upload(b"x", path='/s/d/"')
    assert len(removed) == 1
    assert removed[0].startswith("/s/d/.synofs-")
