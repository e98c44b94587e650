"""Thumbnails: an image is handed on, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from synofs.filestation.thumbnails import thumbnail
from synofs.filestation.transport import Head, Response
from synofs.remote import BadAnswer, NotFound, Overloaded, PermissionDenied
from tests.unit.filestation.scripted_transport import Answer, ScriptedNas, Sent, answer, caller_for, failure, success

pytestmark = pytest.mark.trio

PICTURE = b"\xff\xd8\xff picture"


def picture(sent: Sent) -> Answer:
    return Response(Head(200, {"content-type": "image/jpeg"}), PICTURE)


async def test_the_picture_comes_as_the_nas_made_it() -> None:
    nas = ScriptedNas(picture)
    caller, _, _ = caller_for(nas.transport)
    assert await thumbnail(caller, "/photo/Größe 1.jpg", "medium") == PICTURE
    asked = nas.transport.sent[-1].parameters
    assert (json.loads(asked["path"]), json.loads(asked["size"])) == ("/photo/Größe 1.jpg", "medium")


async def test_a_session_that_ended_meanwhile_is_renewed() -> None:
    nas = ScriptedNas(picture)
    caller, _, _ = caller_for(nas.transport)
    await thumbnail(caller, "/photo/1.jpg", "medium")
    nas.live.clear()
    assert await thumbnail(caller, "/photo/1.jpg", "medium") == PICTURE
    assert nas.logins == 2


async def test_no_thumbnail_is_told_from_a_failure() -> None:
    page = answer(b"<html>not found</html>", 404, content_type="text/html")
    for reply, error in [
        (page, NotFound),
        (failure(407), PermissionDenied),
        (success(), BadAnswer),
        (answer(b"<html>busy</html>", 503, content_type="text/html"), Overloaded),
    ]:
        nas = ScriptedNas(lambda sent, reply=reply: reply)
        caller, _, _ = caller_for(nas.transport, deadline_seconds=0.1)
        with pytest.raises(error):
            await thumbnail(caller, "/photo/1.jpg", "medium")
