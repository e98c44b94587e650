"""Whatever is written into the control socket, a caller is told what is wrong with it, and nothing is done."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synofs.app import commands
from synofs.app.commands import Request
from synofs.app.control import ControlServer
from synofs.app.errors import Failure, Problem
from synofs.app.nas_account import AccountServices
from synofs.app.nas_files import FileServices
from synofs.filestation.secret import Secret

SECRET = "correct horse battery"
# For each command all that it must be told, and all that it may be told.
GOOD: dict[type[Request], tuple[dict[str, Any], dict[str, Any]]] = {
    commands.Status: ({}, {}),
    commands.Debug: ({}, {}),
    commands.Refresh: ({"path": "/a"}, {}),
    commands.Flush: ({}, {"timeout_seconds": 3}),
    commands.Umount: ({}, {"timeout_seconds": 0.5}),
    commands.Copy: ({"source": "/a", "target": "/b"}, {"move": True, "into": True, "overwrite": False}),
    commands.Search: ({"path": "/", "filter": {"pattern": "x"}}, {}),
    commands.Du: ({"path": "/a"}, {}),
    commands.Md5: ({"path": "/a"}, {}),
    commands.Compress: (
        {"archive": "/a.zip", "sources": ["/a"], "format": "zip", "level": "best"},
        {"password": SECRET},
    ),
    commands.Extract: (
        {"archive": "/a.zip", "folder": "/"},
        {"items": ["a"], "password": SECRET, "overwrite": True, "subfolder": True},
    ),
    commands.Peek: ({"archive": "/a.zip"}, {"password": SECRET}),
    commands.ShareCreate: ({"path": "/a"}, {"password": SECRET, "expires": "2030-01-31"}),
    commands.ShareList: ({}, {}),
    commands.ShareRemove: ({"by": "path", "value": "/a", "shown": "to a"}, {}),
    commands.TrashList: ({"path": "/"}, {}),
    commands.TrashRestore: ({"path": "/a"}, {"overwrite": True}),
    commands.TrashEmpty: ({"path": "/a"}, {}),
    commands.FavList: ({}, {}),
    commands.FavAdd: ({"path": "/a"}, {"name": "A"}),
    commands.FavRemove: ({"path": "/a"}, {}),
    commands.TasksList: ({}, {}),
    commands.TasksStop: ({"id": "FileStation_1"}, {}),
    commands.TasksClear: ({}, {}),
    commands.Thumb: ({"path": "/a", "size": "small"}, {}),
}
VALUES = (None, 3, True, 1.5, "text", [3], {"a": 1})
MAY_BE_NULL = {"name", "password", "expires"}
decode = commands.decoder(GOOD)


def line(kind: type[Request], **arguments: object) -> bytes:
    return json.dumps({"command": kind.__struct_config__.tag, **arguments}).encode()


def refusal(text: bytes) -> str:
    with pytest.raises(Failure) as caught:
        decode(text)
    assert caught.value.problem is Problem.NOT_UNDERSTOOD
    return caught.value.line


def test_every_command_is_attacked_here() -> None:
    own = {one for one in vars(commands).values() if isinstance(one, type) and issubclass(one, Request)} - {Request}
    nas: set[type[Request]] = set()
    for services in (FileServices, AccountServices):
        nas |= services(None).handlers().keys()  # type: ignore[arg-type]
    assert own == GOOD.keys()
    assert own - nas == {commands.Status, commands.Debug, commands.Refresh, commands.Flush, commands.Umount}


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_a_command_is_taken_with_what_it_needs_and_refused_without_any_part_of_it(kind: type[Request]) -> None:
    needed, more = GOOD[kind]
    assert type(decode(line(kind, **needed))) is kind
    assert type(decode(line(kind, **needed, **more, **{"as": "cp"}))) is kind
    for missing in needed:
        rest = {name: value for name, value in needed.items() if name != missing}
        assert f"missing required field `{missing}`" in refusal(line(kind, **rest))
    assert "unknown field `colour`" in refusal(line(kind, **needed, colour="red"))


@pytest.mark.parametrize("kind", GOOD, ids=lambda kind: kind.__name__)
def test_an_argument_of_the_wrong_type_is_refused_by_its_name(kind: type[Request]) -> None:
    needed, more = GOOD[kind]
    for name, good in {**needed, **more, "as": "cp"}.items():
        right = {type(good)} | ({int, float} if name == "timeout_seconds" else set())
        for value in VALUES:
            if type(value) in right or (value is None and name in MAY_BE_NULL):
                continue
            assert f"$.{name}" in refusal(line(kind, **{**needed, name: value}))


@pytest.mark.parametrize("path", ["a", "../etc", "a/b", ""])
def test_a_path_begins_at_the_mountpoint(path: str) -> None:
    assert "$.path" in refusal(line(commands.Md5, path=path))
    assert "$.sources[0]" in refusal(line(commands.Compress, **GOOD[commands.Compress][0] | {"sources": [path]}))


@pytest.mark.parametrize("seconds", ["NaN", "Infinity", "1e999", "-1", "9" * 400])
def test_a_time_that_is_none_is_refused(seconds: str) -> None:
    refusal(b'{"command": "flush", "timeout_seconds": %s}' % seconds.encode())


@pytest.mark.parametrize("kind", [kind for kind in GOOD if "password" in GOOD[kind][1]], ids=lambda kind: kind.__name__)
def test_a_password_is_in_no_message(kind: type[Request]) -> None:
    request = decode(line(kind, **GOOD[kind][0], password=SECRET))
    assert SECRET not in repr(request)
    password = request.password  # type: ignore[attr-defined]
    assert isinstance(password, Secret)
    assert password.reveal() == SECRET
    assert SECRET not in refusal(line(kind, **GOOD[kind][0], password=[SECRET]))
    assert SECRET not in refusal(line(kind, password=SECRET, more=1))


# ----- over a connection ----------------------------------------------------------------------------------------

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
names = st.sampled_from(sorted({name for needed, more in GOOD.values() for name in (*needed, *more)} | {"as", "zzz"}))
tags = st.sampled_from(sorted(str(kind.__struct_config__.tag) for kind in GOOD))
objects = st.builds(
    lambda tag, arguments: json.dumps({"command": tag, **arguments}).encode(),
    tags | anything,
    st.dictionaries(names, anything, max_size=4),
)
lines = st.lists(st.binary(max_size=200) | objects | st.builds(lambda value: json.dumps(value).encode(), anything))


@given(lines=lines, cut=st.integers(1, 64))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_is_sent_each_line_has_one_answer_and_no_traceback(
    lines: list[bytes], cut: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr("synofs.app.control._caller", lambda sock: (1, 0))
    done: list[Request] = []

    async def take(request: Request) -> dict[str, Any]:
        done.append(request)
        return {"done": True}

    async def talk() -> list[dict[str, Any]]:
        server = ControlServer("/mnt/nas", dict.fromkeys(GOOD, take))
        ours, theirs = trio.testing.memory_stream_pair()
        theirs.socket = None  # type: ignore[attr-defined]
        received = b""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server._talk, theirs)  # type: ignore[arg-type]
            text = b"".join(one.replace(b"\n", b" ") + b"\n" for one in lines)
            for start in range(0, len(text), cut):
                await ours.send_all(text[start : start + cut])
            await ours.send_eof()
            while received.count(b"\n") < len(lines):
                received += await ours.receive_some()
            nursery.cancel_scope.cancel()
        return [json.loads(answer) for answer in received.splitlines()]

    answers = trio.run(talk)
    assert len(answers) == len(lines)
    assert sum("ok" in answer for answer in answers) == len(done)
    assert all("ok" in answer or answer["problem"] == "NOT_UNDERSTOOD" for answer in answers)
    assert not caplog.records
