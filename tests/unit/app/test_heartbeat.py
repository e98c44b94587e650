"""The NAS is called offline when it is not heard, and online again with its first answer."""

from __future__ import annotations

import pytest

from synofs.app.heartbeat import Heartbeat
from synofs.filestation.transport import (
    BodySink,
    ConnectFailed,
    Head,
    NotHttp,
    ReceiveFailed,
    ReceiveTimeout,
    Request,
    Response,
    TransportError,
)

pytestmark = pytest.mark.trio

REQUEST = Request("GET", "/webapi/entry.cgi")


class Scripted:
    """Answers, or fails with what it is given."""

    def __init__(self) -> None:
        self.failure: TransportError | None = None
        self.closed = False

    async def send(self, request: Request, sink: BodySink | None = None) -> Response:
        if self.failure is not None:
            raise self.failure
        return Response(Head(200, {}), b"")

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("failure", [ConnectFailed("refused"), ReceiveTimeout("no answer"), ReceiveFailed("reset")])
async def test_silence_is_offline_and_an_answer_is_online(failure: TransportError) -> None:
    transport = Scripted()
    heartbeat = Heartbeat(transport)
    await heartbeat.send(REQUEST)
    assert heartbeat.state == "online"
    transport.failure = failure
    with pytest.raises(type(failure)):
        await heartbeat.send(REQUEST)
    since = heartbeat.silent_since
    with pytest.raises(type(failure)):
        await heartbeat.send(REQUEST)
    assert (heartbeat.state, heartbeat.silent_since) == ("offline", since)
    assert heartbeat.last_trouble == str(failure)
    transport.failure = None
    await heartbeat.send(REQUEST)
    assert (heartbeat.state, heartbeat.silent_since) == ("online", None)


@pytest.mark.parametrize("failure", [ReceiveFailed("reset", reused=True), NotHttp("what is this")])
async def test_an_idle_connection_that_was_closed_and_a_strange_answer_are_no_silence(failure: TransportError) -> None:
    transport = Scripted()
    heartbeat = Heartbeat(transport)
    transport.failure = failure
    with pytest.raises(type(failure)):
        await heartbeat.send(REQUEST)
    assert heartbeat.state == "online"


async def test_closing_reaches_the_transport() -> None:
    transport = Scripted()
    await Heartbeat(transport).aclose()
    assert transport.closed
