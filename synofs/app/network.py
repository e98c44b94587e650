"""Another network: the address from which the NAS is reached has changed, or there is none any more.

The kernel tells of every change of addresses and routes (rtnetlink(7)), as containers and VPNs make them all day. What
counts is the one question whose answer concerns us, and it is asked without sending anything.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import trio

log = logging.getLogger(__name__)

# rtnetlink(7): changes of IPv4 addresses and routes, and of IPv6 ones
GROUPS = 0x10 | 0x40 | 0x100 | 0x400
SETTLE_SECONDS = 0.5  # a change of networks is many messages


async def watch(local_address: Callable[[], str | None], changed: Callable[[], None]) -> None:
    """Call `changed` whenever `local_address` gives another answer after the kernel told of a change. Until cancelled;
    where there is no such socket, do nothing."""
    try:
        sock = trio.socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        await sock.bind((0, GROUPS))
    except OSError as exc:
        log.info("changes of the network are not watched for: %s", exc)
        return
    with sock:
        known = local_address()
        while True:
            await _message(sock)
            with trio.move_on_after(SETTLE_SECONDS):
                while True:
                    await _message(sock)
            present = local_address()
            if known is not None and present != known:
                log.info("the NAS is reached from %s now, not from %s: connections are made anew", present, known)
                changed()
            elif known is None and present is not None:
                changed()
            known = present


async def _message(sock: trio.socket.SocketType) -> None:
    try:
        await sock.recv(65536)
    except OSError as exc:  # ENOBUFS: more came than there was room for, which is also a change
        log.debug("rtnetlink: %s", exc)
