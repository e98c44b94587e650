"""Where the NAS is: what its name resolves to, asked again once a minute, and when nobody was met there.

A resolver that fails, or takes its time, does not take the NAS away: the addresses that it gave last go on being used
(RFC 8767 does so for caches, and asks a client to wait 1.8 s at most; a probe here has less). Only over TLS, where
whoever lives at an old address by now cannot pass for the NAS. On plain HTTP he would be given the session.
"""

from __future__ import annotations

import math
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import trio

from synofs.filestation.transport import HostUnknown, TransportOptions

Address = tuple[int, int, int, Any]  # family, kind, protocol, what connect() takes

LIFETIME_SECONDS = 60.0
PATIENCE_SECONDS = 0.8  # with a resolver, where there is an old answer
PAUSE_SECONDS = 10.0  # until it is asked again


class Addresses:
    def __init__(self, options: TransportOptions) -> None:
        self._host, self._port = options.host, options.port
        self._outlive_their_time = options.scheme == "https"
        self._found: list[Address] = []
        self._ask_at = -math.inf
        self._took_us: Address | None = None
        self._threads = trio.CapacityLimiter(2)

    @property
    def known(self) -> Sequence[Address]:
        return tuple(self._found)

    async def current(self) -> Sequence[Address]:
        """To be tried in this order. Raises `HostUnknown`."""
        if trio.current_time() >= self._ask_at:
            if self._found and self._outlive_their_time:
                await self._renew()
            else:
                await self._ask()
        self._found.sort(key=lambda address: address != self._took_us)
        return tuple(self._found)

    def took_us(self, address: Address) -> None:
        """A connection was made: the next one is tried there first."""
        self._took_us = address

    def doubt(self) -> None:
        """The NAS may have moved, or we have."""
        self._ask_at = -math.inf

    async def _renew(self) -> None:
        with trio.move_on_after(PATIENCE_SECONDS), suppress(HostUnknown):
            await self._ask()
            return
        self._ask_at = trio.current_time() + PAUSE_SECONDS

    async def _ask(self) -> None:
        """In a thread that may be abandoned: nothing can hurry a resolver up."""
        lookup = partial(socket.getaddrinfo, self._host, self._port, type=socket.SOCK_STREAM)
        try:
            found = await trio.to_thread.run_sync(lookup, abandon_on_cancel=True, limiter=self._threads)
        except (OSError, UnicodeError) as exc:
            raise HostUnknown(f"the name {self._host} has no address") from exc
        self._found = [(family, kind, protocol, where) for family, kind, protocol, _, where in found]
        self._ask_at = trio.current_time() + LIFETIME_SECONDS
