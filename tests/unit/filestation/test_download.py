"""Ranges of files: only what is certainly the file is delivered."""

from __future__ import annotations

import re
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from synofs import remote
from synofs.filestation.download import Downloader
from synofs.filestation.transport import BodyCut, BodySink, Head, ReceiveFailed, Request, Response
from synofs.filestation.wire import Counters
from tests.trees import revealing
from tests.unit.filestation.scripted_transport import (
    Answer,
    ScriptedNas,
    ScriptedTransport,
    Sent,
    answer,
    caller_for,
    failure,
    success,
)

pytestmark = pytest.mark.trio

SIZE = 20_000
CONTENT = revealing(SIZE)

ATTACHMENT = {"content-disposition": 'attachment; filename="f"', "content-type": "application/octet-stream"}


def part(first: int, last: int, *, total: Any = SIZE, body: bytes | None = None, **more: str) -> Response:
    body = CONTENT[first : last + 1] if body is None else body
    headers = {
        **ATTACHMENT,
        "content-range": f"bytes {first}-{last}/{total}",
        "content-length": str(last - first + 1),
        **{name.replace("_", "-"): value for name, value in more.items()},
    }
    return Response(Head(206, headers), body)


def whole(body: bytes = CONTENT, *, length: bool = True, **headers: str) -> Response:
    announced = {"content-length": str(len(body))} if length else {}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(Head(200, {**ATTACHMENT, **announced, **named}), body)


def asked(sent: Sent) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", sent.request.headers["Range"])
    assert found, "only bytes=a-b is known to work"
    return int(found[1]), int(found[2])


def honest(sent: Sent) -> Answer:
    return part(*asked(sent))


class Receiver:
    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.data = bytearray()

    async def __call__(self, offset: int, piece: memoryview) -> None:
        assert offset == self.offset + len(self.data), "in order, without gaps"
        self.data += piece


class Reading:
    """A downloader on a scripted NAS; `files` answers downloads, `exists` getinfo."""

    def __init__(self, files: Any, *, exists: bool = True, deadline_seconds: float = 20) -> None:
        def script(sent: Sent) -> Any:
            if sent.name == "FileStation.List.getinfo":
                record = {"name": "f", "path": "/s/f", "isdir": False} if exists else {"code": 408, "path": "/s/f"}
                return success({"files": [record]})
            return files(sent)

        self.nas = ScriptedNas(script)
        self.counters = Counters()
        caller, _, _ = caller_for(self.nas.transport, deadline_seconds=deadline_seconds)
        self.downloader = Downloader(caller, self.counters)

    async def read(self, offset: int = 1000, length: int = 5000, size: int = SIZE) -> bytes:
        receiver = Receiver(offset)
        await self.downloader.read_range("/s/f", offset, length, size, receiver)
        return bytes(receiver.data)

    @property
    def downloads(self) -> list[Sent]:
        return [sent for sent in self.nas.transport.sent if sent.name == "FileStation.Download.download"]


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, SIZE), (1, 2), (SIZE - 1, 1), (999, 1001)])
async def test_a_range_is_delivered_exactly(offset: int, length: int) -> None:
    reading = Reading(honest)
    assert await reading.read(offset, length) == CONTENT[offset : offset + length]
    [sent] = reading.downloads
    assert sent.request.method == "GET"
    assert asked(sent) == (offset, offset + length - 1)
    assert (sent.parameters["mode"], sent.parameters["path"]) == ('"download"', '["/s/f"]')
    assert sent.request.headers["Accept-Encoding"] == "identity"
    assert not reading.downloader.ranges_ignored
    assert reading.counters.bytes_read == length


async def test_nothing_is_asked_for_nothing() -> None:
    reading = Reading(honest)
    assert await reading.read(0, 0, 0) == b""
    assert reading.downloads == []


async def test_a_server_that_ignores_ranges_is_read_and_remembered() -> None:
    reading = Reading(lambda sent: whole())
    assert await reading.read(7000, 3000) == CONTENT[7000:10_000]
    assert reading.downloader.ranges_ignored
    assert reading.counters.bytes_read < SIZE, "the rest is not waited for"


async def test_a_part_that_the_server_cuts_shorter_is_continued() -> None:
    reading = Reading(lambda sent: part(asked(sent)[0], min(asked(sent)[0] + 1499, asked(sent)[1])))
    assert await reading.read(1000, 4000) == CONTENT[1000:5000]
    assert [asked(sent)[0] for sent in reading.downloads] == [1000, 2500, 4000]


@pytest.mark.parametrize("total", [SIZE - 1, SIZE + 1, 0])
async def test_another_total_means_that_the_file_has_changed(total: int) -> None:
    reading = Reading(lambda sent: part(*asked(sent), total=total))
    with pytest.raises(remote.Changed):
        await reading.read()


async def test_another_length_of_the_whole_means_that_the_file_has_changed() -> None:
    reading = Reading(lambda sent: whole(CONTENT[:-1]))
    with pytest.raises(remote.Changed):
        await reading.read()


async def test_a_range_that_cannot_be_satisfied_means_that_the_file_is_shorter() -> None:
    reading = Reading(lambda sent: answer(b"", 416, content_range="bytes */10"))
    with pytest.raises(remote.Changed):
        await reading.read()


@pytest.mark.parametrize(
    "wrong",
    [
        part(1001, 5999),
        part(999, 5999),
        part(1000, 6000),
        part(1000, 5999, content_range="bytes 1000-5999"),
        part(1000, 5999, content_range="items 1000-5999/20000"),
        part(1000, 5999, content_range=""),
        part(1000, 5999, content_length="4999"),
        part(1000, 5999, content_encoding="gzip"),
        part(1000, 5999, content_range="bytes 5999-1000/20000"),
        whole(content_encoding="gzip"),
    ],
)
async def test_a_part_that_is_not_the_one_asked_for_is_never_delivered(
    wrong: Response, autojump_clock: MockClock
) -> None:
    reading = Reading(lambda sent: wrong)
    receiver = Receiver(1000)
    with pytest.raises(remote.BadAnswer):
        await reading.downloader.read_range("/s/f", 1000, 5000, SIZE, receiver)
    assert receiver.data == b""


async def test_a_json_file_is_a_file() -> None:
    body = b'{"success": false, "error": {"code": 119}}'
    reading = Reading(lambda sent: whole(body, content_type="application/json"))
    assert await reading.read(0, len(body), len(body)) == body
    assert reading.nas.logins == 1


@pytest.mark.parametrize(
    "body", [b'{"success": true}', b"<html>Sign in</html>", b"", CONTENT], ids=["success", "html", "empty", "bytes"]
)
async def test_what_is_no_attachment_is_no_file(body: bytes, autojump_clock: MockClock) -> None:
    reading = Reading(lambda sent: answer(body, content_type="application/octet-stream"))
    with pytest.raises(remote.BadAnswer):
        await reading.read()


async def test_a_dead_session_in_place_of_bytes_is_renewed_and_the_range_replayed() -> None:
    reading = Reading(honest)
    await reading.read()
    reading.nas.live.clear()
    assert await reading.read() == CONTENT[1000:6000]
    assert reading.nas.logins == 2
    assert len(reading.downloads) == 3


GONE = [
    answer(b"<html>bad gateway</html>", 502),
    answer(b"<html>not found</html>", 404),
    failure(408),
    failure(407),
]


@pytest.mark.parametrize("reply", GONE)
async def test_every_way_to_say_that_the_file_is_gone(reply: Response) -> None:
    reading = Reading(lambda sent: reply, exists=False)
    with pytest.raises(remote.NotFound):
        await reading.read()
    assert len(reading.downloads) == 1


async def test_502_for_a_file_that_is_there_is_repeated(autojump_clock: MockClock) -> None:
    replies = [answer(b"<html>", 502), answer(b"<html>", 502)]
    reading = Reading(lambda sent: replies.pop() if replies else honest(sent))
    assert await reading.read() == CONTENT[1000:6000]


async def test_407_for_a_file_that_is_there_is_a_refusal() -> None:
    reading = Reading(lambda sent: failure(407))
    with pytest.raises(remote.PermissionDenied):
        await reading.read()


@pytest.mark.parametrize(
    "headers", [{"content_type": "application/zip"}, {"content_disposition": "attachment; filename=f.zip"}]
)
async def test_a_folder_that_took_the_files_place_is_not_read_as_its_zip(headers: dict[str, str]) -> None:
    reading = Reading(lambda sent: whole(b"PK" * 9000, length=False, **headers))
    with pytest.raises(remote.IsADirectory):
        await reading.read()


async def test_a_whole_of_unknown_length_must_reach_far_enough(autojump_clock: MockClock) -> None:
    reading = Reading(lambda sent: whole(CONTENT[:3000], length=False))
    with pytest.raises(remote.ShortBody):
        await reading.read(1000, 5000)


# ----- broken connections -----------------------------------------------------------------------------------------


class TearingTransport(ScriptedTransport):
    """Breaks the bodies of its first downloads after so many bytes."""

    def __init__(self, inner: ScriptedTransport, breaks_after: list[int]) -> None:
        super().__init__(inner._script)
        self.sent = inner.sent
        self._breaks_after = breaks_after

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        if sink is None or not self._breaks_after:
            return await super().send(request, sink)
        return await super().send(request, _Tearing(sink, self._breaks_after.pop(0)))


class _Tearing:
    def __init__(self, sink: BodySink, breaks_after: int) -> None:
        self._sink = sink
        self._left = breaks_after

    def wants(self, head: Head) -> bool:
        return self._sink.wants(head)

    async def take(self, piece: memoryview) -> bool:
        if self._left < len(piece):
            if self._left:
                await self._sink.take(piece[: self._left])
            raise BodyCut("broken")
        self._left -= len(piece)
        return await self._sink.take(piece)


def tearing(breaks_after: list[int], **more: Any) -> Reading:
    reading = Reading(honest, **more)
    reading.downloader._caller.wire._transport = TearingTransport(reading.nas.transport, breaks_after)
    return reading


async def test_a_broken_body_is_resumed_where_it_broke(autojump_clock: MockClock) -> None:
    reading = tearing([1234])
    assert await reading.read() == CONTENT[1000:6000]
    assert [asked(sent)[0] for sent in reading.downloads] == [1000, 2234]


async def test_a_body_that_breaks_again_is_short(autojump_clock: MockClock) -> None:
    reading = tearing([1234, 100, 100])
    receiver = Receiver(1000)
    with pytest.raises(remote.ShortBody):
        await reading.downloader.read_range("/s/f", 1000, 5000, SIZE, receiver)
    assert receiver.data == CONTENT[1000:2334]
    assert len(reading.downloads) == 2


async def test_connections_that_break_before_the_first_byte_are_repeated(autojump_clock: MockClock) -> None:
    problems = [ReceiveFailed("x"), ReceiveFailed("x"), ReceiveFailed("x")]
    reading = Reading(lambda sent: problems.pop() if problems else honest(sent))
    assert await reading.read() == CONTENT[1000:6000]


async def test_a_file_that_changes_between_the_two_halves_is_not_mixed(autojump_clock: MockClock) -> None:
    reading = tearing([1234])
    totals = [SIZE, SIZE + 1]
    reading.downloader._caller.wire._transport._script = lambda sent: (  # type: ignore[attr-defined]
        part(*asked(sent), total=totals.pop(0)) if "Download" in sent.name else reading.nas.script(sent)
    )
    with pytest.raises(remote.Changed):
        await reading.read()


async def test_the_receivers_own_failure_reaches_the_caller() -> None:
    reading = Reading(honest)

    async def full(offset: int, piece: memoryview) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await reading.downloader.read_range("/s/f", 0, 100, SIZE, full)


async def test_a_slow_receiver_slows_the_download(autojump_clock: MockClock) -> None:
    reading = Reading(honest)

    async def slow(offset: int, piece: memoryview) -> None:
        await trio.sleep(100)

    start = trio.current_time()
    await reading.downloader.read_range("/s/f", 0, 5000, SIZE, slow)
    assert trio.current_time() - start == pytest.approx(500)
