"""Small files in a zip: believed file by file, given up when it is of no use."""

from __future__ import annotations

import contextlib
import io
import json
import tracemalloc
import zipfile

import pytest
import trio

from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.manyfiles import MAX_USELESS, unpacked
from synofs.remote import BadAnswer
from tests.trees import revealing
from tests.unit.filestation.scripted_transport import Answer, ScriptedNas, Sent, answer, credentials, failure, success
from tests.unit.virtual_time import in_virtual_time

FILES = [("/s/d/a", 10), ("/s/d/b", 2000)]
CONTENTS = {"a": revealing(10), "b": revealing(2000)}


def zipped(contents: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED, folder: str = "") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", how) as archive:
        for name, content in contents.items():
            archive.writestr(folder + name, content)
    return packed.getvalue()


def client_of(answers: Answer) -> tuple[FileStationClient, ScriptedNas]:
    def files(sent: Sent) -> Answer:
        assert sent.name == "FileStation.Download.download"
        assert json.loads(sent.parameters["path"]) == ["/s/d/a", "/s/d/b"]
        return answers

    nas = ScriptedNas(files)
    return FileStationClient(ClientOptions(url="https://nas"), credentials(), transport=nas.transport), nas


@in_virtual_time
@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("folder", ["", "d/", "s/d/"])
async def test_each_file_comes_whole_however_it_is_packed(how: int, folder: str) -> None:
    client, nas = client_of(answer(zipped(CONTENTS, how, folder)))
    await client.connect()
    assert await client.read_files(FILES) == [CONTENTS["a"], CONTENTS["b"]]
    assert nas.transport.count("FileStation.Download.download") == 1


@in_virtual_time
@pytest.mark.parametrize(
    "useless",
    [
        failure(408),
        failure(103),
        success(),
        answer(b"PK but no zip"),
        answer(zipped(CONTENTS)[:-30]),
        answer(zipped({"c": b"x"})),
        answer(zipped({"a": b"x", "b": b"x"})),
        answer(b"\0" * 1_000_000),
        answer(b"<html>", status=404),
    ],
)
async def test_what_is_of_no_use_is_read_alone_and_not_asked_for_for_ever(useless: Answer) -> None:
    client, nas = client_of(useless)
    await client.connect()
    for _ in range(5):
        assert await client.read_files(FILES) == [None, None]
    assert client.files_at_once == 1
    asked = nas.transport.count("FileStation.Download.download")
    await client.read_files(FILES)
    assert nas.transport.count("FileStation.Download.download") == asked >= MAX_USELESS


@in_virtual_time
async def test_two_bad_moments_do_not_end_it_for_the_life_of_a_mount() -> None:
    """Files that go while a folder is read, or that may not be read, fail all of a zip on some builds."""
    moment: Answer = failure(408)
    nas = ScriptedNas(lambda sent: moment)
    client = FileStationClient(ClientOptions(url="https://nas"), credentials(), transport=nas.transport)
    await client.connect()
    for _ in range(3):
        for _ in range(5):
            await client.read_files(FILES)
        assert client.files_at_once == 1
        await trio.sleep(700)
        assert client.files_at_once > 1
    assert nas.transport.count("FileStation.Download.download") <= MAX_USELESS + 2, "and it is not tried often"
    moment = answer(zipped(CONTENTS))
    assert await client.read_files(FILES) == [CONTENTS["a"], CONTENTS["b"]]


@in_virtual_time
async def test_no_address_is_longer_than_web_servers_take() -> None:
    """nginx and Apache take 8 kB unless told otherwise, and a character of a name may take nine bytes of it."""
    wanted = [f"/s/{'記録' * 40}/{number:02}" for number in range(16)]

    def files(sent: Sent) -> Answer:
        if len(sent.request.query) > 8000:
            return answer(b"", status=414)
        names = [path.rpartition("/")[2] for path in json.loads(sent.parameters["path"])]
        return answer(zipped({name: name.encode() for name in names}))

    client = FileStationClient(ClientOptions(url="https://nas"), credentials(), transport=ScriptedNas(files).transport)
    await client.connect()
    found = await client.read_files([(path, 2) for path in wanted])
    assert found == [b"%02d" % number for number in range(16)]
    assert client.files_at_once > 1


def test_a_name_that_is_in_the_zip_twice_is_not_believed() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in ("d/a", "d/b", "other/a"):
            archive.writestr(name, name[-1] * 9 + name[0])
    assert unpacked(packed.getvalue(), {b"a": 10, b"b": 10}) == {b"b": b"bbbbbbbbbd"}


@in_virtual_time
async def test_a_file_that_has_changed_is_left_out() -> None:
    client, _ = client_of(answer(zipped(CONTENTS | {"a": revealing(11)})))
    await client.connect()
    assert await client.read_files(FILES) == [None, CONTENTS["b"]]
    assert client.files_at_once > 1


def test_a_damaged_file_is_not_believed() -> None:
    archive = bytearray(zipped(CONTENTS, zipfile.ZIP_STORED))
    archive[archive.index(CONTENTS["b"]) + 1000] ^= 1
    with pytest.raises(BadAnswer):
        unpacked(bytes(archive), {b"a": 10, b"b": 2000})


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_does_not_go_off(how: int) -> None:
    bomb = zipped({"a": bytes(200_000_000)}, how)
    lying = bytearray(bomb)
    size = (200_000_000).to_bytes(4, "little")
    while size in lying:
        lying[lying.index(size) : lying.index(size) + 4] = (10).to_bytes(4, "little")
    tracemalloc.start()
    try:
        assert unpacked(bomb, {b"a": 10}) == {}
        with contextlib.suppress(BadAnswer):
            assert unpacked(bytes(lying), {b"a": 10}) == {}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("name", ["é ü", "日本"])
@pytest.mark.parametrize("marked", [True, False])
def test_names_are_compared_as_bytes(name: str, marked: bool) -> None:
    archive = zipped({name: b"0123456789"}, zipfile.ZIP_STORED)
    if not marked:  # as Info-ZIP on Linux writes them
        archive = archive.replace(b"\x00\x08\x00\x00", b"\x00\x00\x00\x00")
        with zipfile.ZipFile(io.BytesIO(archive)) as packed:
            assert packed.infolist()[0].flag_bits & 0x800 == 0
    assert unpacked(archive, {name.encode(): 10}) == {name.encode(): b"0123456789"}
