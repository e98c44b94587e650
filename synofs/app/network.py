"""Another network: the address from which the NAS was reached is not this machine's any more.

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
    """Call `changed` when `local_address` gives another answer and the earlier one is gone. Until cancelled; where
    there is no such socket, do nothing."""
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
            if known is None and present is not None:
                changed()
            elif known is not None and present != known and not _is_ours(known):
                log.info("the NAS is reached from %s now, not from %s: connections are made anew", present, known)
                changed()
            known = present


def _is_ours(address: str) -> bool:
    """Connections from an address that this machine still has go on working, whatever a new one would use."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind((address, 0))
        except OSError:
            return False
    return True


async def _message(sock: trio.socket.SocketType) -> None:
    try:
        await sock.recv(65536)
    except OSError as exc:  # ENOBUFS: more came than there was room for, which is also a change
        log.debug("rtnetlink: %s", exc)
