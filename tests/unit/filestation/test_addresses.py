"""The addresses of a NAS, while its resolver is well, silent, or wrong. The resolver is asked in real threads."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from trio.testing import MockClock

from synofs.filestation import addresses
from synofs.filestation.addresses import Addresses
from synofs.filestation.transport import HostUnknown, TransportOptions

pytestmark = pytest.mark.trio


@dataclass
class Resolver:
    at: list[str] = field(default_factory=lambda: ["192.0.2.1"])
    asked: int = 0
    trouble: Callable[[], None] = lambda: None

    def answer(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        self.trouble()
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port)) for where in self.at]


@pytest.fixture
def resolver(monkeypatch: pytest.MonkeyPatch) -> Resolver:
    resolver = Resolver()
    monkeypatch.setattr(socket, "getaddrinfo", resolver.answer)
    return resolver


@pytest.fixture
def silence(resolver: Resolver, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    monkeypatch.setattr(addresses, "PATIENCE_SECONDS", 0.05)
    over = threading.Event()
    yield lambda: over.wait(60) and None
    over.set()


@pytest.fixture
def mock_clock() -> MockClock:
    return MockClock(rate=1.0)


def refuse() -> None:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def hosts(book: Addresses) -> list[str]:
    return [where[0] for _, _, _, where in await book.current()]


TLS, PLAIN = TransportOptions("https", "nas.example", 5001), TransportOptions("http", "nas.example", 5000)


@pytest.mark.parametrize("options", [TLS, PLAIN], ids=["TLS", "plain"])
async def test_a_name_is_asked_for_once_a_minute_and_when_there_is_doubt(
    options: TransportOptions, resolver: Resolver, mock_clock: MockClock
) -> None:
    book = Addresses(options)
    for _ in range(3):
        assert await hosts(book) == ["192.0.2.1"]
    assert resolver.asked == 1
    resolver.at = ["192.0.2.2"]
    book.doubt()
    assert await hosts(book) == ["192.0.2.2"]
    mock_clock.jump(61)
    resolver.at = ["192.0.2.3"]
    assert await hosts(book) == ["192.0.2.3"]
    assert resolver.asked == 3


async def test_where_the_last_connection_was_made_is_tried_first(resolver: Resolver) -> None:
    resolver.at = ["192.0.2.1", "192.0.2.2"]
    book = Addresses(TLS)
    book.took_us((await book.current())[1])
    assert await hosts(book) == ["192.0.2.2", "192.0.2.1"]


async def test_a_resolver_that_fails_does_not_take_the_nas_away(resolver: Resolver, mock_clock: MockClock) -> None:
    book = Addresses(TLS)
    await hosts(book)
    resolver.trouble = refuse
    for _ in range(3):
        mock_clock.jump(3600)
        assert await hosts(book) == ["192.0.2.1"]
    book.doubt()
    assert await hosts(book) == ["192.0.2.1"]
    resolver.trouble, resolver.at = lambda: None, ["192.0.2.2"]
    mock_clock.jump(11)
    assert await hosts(book) == ["192.0.2.2"], "it is asked again"


async def test_a_silent_resolver_is_waited_for_once_in_ten_seconds(
    resolver: Resolver, silence: Callable[[], None], mock_clock: MockClock
) -> None:
    book = Addresses(TLS)
    await hosts(book)
    mock_clock.jump(61)
    resolver.trouble = silence
    for _ in range(5):
        assert await hosts(book) == ["192.0.2.1"]
    assert resolver.asked == 2
    mock_clock.jump(11)
    assert await hosts(book) == ["192.0.2.1"]
    assert resolver.asked == 3


async def test_on_plain_http_an_old_address_is_not_believed(resolver: Resolver, mock_clock: MockClock) -> None:
    """Whoever has it by now would be given the session."""
    book = Addresses(PLAIN)
    await hosts(book)
    mock_clock.jump(61)
    resolver.trouble = refuse
    with pytest.raises(HostUnknown, match=r"nas\.example"):
        await book.current()


@pytest.mark.parametrize("options", [TLS, PLAIN], ids=["TLS", "plain"])
async def test_a_name_that_never_had_an_address_is_unknown(options: TransportOptions, resolver: Resolver) -> None:
    resolver.trouble = refuse
    with pytest.raises(HostUnknown, match=r"nas\.example"):
        await Addresses(options).current()
