"""A server on a real socket that says what `raw_answers` makes of the number in the request's path."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from tests.hostile import raw_answers
from tests.integration.filestation.raw_server import Connection, RawServer, serving

_NUMBER = re.compile(rb"/(\d+)")


def _behaviour(connection: Connection) -> None:
    while request := connection.request():
        found = _NUMBER.search(request)
        assert found is not None
        for piece in raw_answers.stream(int(found[1])):
            if piece:
                connection.send(piece)
            elif connection.stopping.wait(0.02):
                return
        if b"keep-alive" not in request:
            return


@contextmanager
def raw_nas() -> Iterator[RawServer]:
    with serving(_behaviour) as server:
        yield server
