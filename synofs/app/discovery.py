"""Finding NAS boxes on the local network, by multicast DNS.

A Synology NAS announces `_http._tcp` with `vendor=Synology` in its TXT record, and beside it model, version, and the
ports of its web desktop, which are those of File Station. Boxes whose announcement was turned down to SMB alone
cannot be told from any other file server, and are not listed. (docs/FILESTATION.md has the evidence.)
"""

from __future__ import annotations

import ipaddress
import logging
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import trio
from zeroconf import ServiceBrowser, ServiceInfo, ServiceStateChange, Zeroconf

from synofs.app.errors import Failure, Problem

log = logging.getLogger(__name__)

SERVICES = ("_http._tcp.local.", "_https._tcp.local.")
RESOLVE_SECONDS = 2.0
DEFAULT_PORT, DEFAULT_SECURE_PORT = 5000, 5001
# Part of the address that people are told to use: no user, no path, nothing that a shell would understand.
_HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")


@dataclass(frozen=True, slots=True)
class FoundNas:
    """What a NAS says of itself; nothing of it is verified before somebody signs in."""

    name: str
    host: str  # what to connect to: NAME.local where this machine finds it, else an address
    addresses: tuple[str, ...]
    url: str  # of File Station, over https
    model: str | None
    dsm: str | None
    mac_addresses: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        return asdict(self)


def discover(seconds: float, *, interfaces: Sequence[str] = ()) -> list[FoundNas]:
    """Listen for so long. Raises `NO_MULTICAST`.

    `interfaces`: the addresses of those to listen on; none: all.
    """
    return trio.run(_discover, seconds, interfaces)


async def _discover(seconds: float, interfaces: Sequence[str]) -> list[FoundNas]:
    found: dict[str, FoundNas] = {}
    send, receive = trio.open_memory_channel[tuple[str, str]](1000)
    token = trio.lowlevel.current_trio_token()
    try:
        zeroconf = await trio.to_thread.run_sync(lambda: Zeroconf(list(interfaces)) if interfaces else Zeroconf())
    except OSError as exc:
        raise Failure(Problem.NO_MULTICAST, detail=exc.strerror or exc) from exc

    def on_change(zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        """Called in a thread of the library's."""
        if state_change is not ServiceStateChange.Removed:
            token.run_sync_soon(_offer, send, (service_type, name))

    def ask(service_type: str, name: str) -> FoundNas | None:
        try:
            info = zeroconf.get_service_info(service_type, name, int(RESOLVE_SECONDS * 1000))
            return described(info) if info is not None else None
        except Exception as exc:  # one odd device on the network hides no other
            log.debug("an announcement of no use (%r): %s", exc, ascii(name))
            return None

    async def resolve(service_type: str, name: str) -> None:
        nas = await trio.to_thread.run_sync(ask, service_type, name)
        if nas is not None and nas.name not in found:
            found[nas.name] = nas

    try:
        browser = await trio.to_thread.run_sync(lambda: ServiceBrowser(zeroconf, list(SERVICES), handlers=[on_change]))
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(seconds):
                async for service_type, name in receive:
                    nursery.start_soon(resolve, service_type, name)
        await trio.to_thread.run_sync(browser.cancel)
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(zeroconf.close)
    return sorted(found.values(), key=lambda nas: nas.name)


def _offer(channel: trio.MemorySendChannel[tuple[str, str]], service: tuple[str, str]) -> None:
    try:
        channel.send_nowait(service)
    except (trio.WouldBlock, trio.BrokenResourceError):
        return  # a network that shouts louder than that is not one to wait for


def described(info: ServiceInfo) -> FoundNas | None:
    """None for what is no Synology NAS. What comes from the network is text of strangers."""
    text = _text(info.properties)
    if not (text.get("vendor") or "").lower().startswith("synology"):
        return None
    name = _printable(info.name.removesuffix(f".{info.type}"))
    addresses = tuple(info.parsed_scoped_addresses())
    server = (info.server or "").rstrip(".")
    host = server if _HOST_NAME.fullmatch(server) and _resolves(server) else _best(addresses)
    if not name or not host:
        return None
    port = _port(text.get("secure_admin_port")) or (info.port if info.type.startswith("_https") else None)
    version = ".".join(part for part in (text.get("version_major"), text.get("version_minor")) if part)
    build = text.get("version_build")
    return FoundNas(
        name=name,
        host=host,
        addresses=addresses,
        url=f"https://{f'[{host}]' if ':' in host else host}:{port or DEFAULT_SECURE_PORT}",
        model=text.get("model"),
        dsm=(f"{version}-{build}" if build else version) or None,
        mac_addresses=tuple(mac for mac in (text.get("mac_address") or "").split("|") if mac),
    )


def _text(properties: Mapping[bytes, bytes | None]) -> dict[str, str | None]:
    return {
        key.decode("utf-8", "replace").lower(): None if value is None else _printable(value.decode("utf-8", "replace"))
        for key, value in properties.items()
    }


def _printable(text: str) -> str:
    return "".join(char for char in text if char.isprintable())


def _port(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and 0 < int(text) < 65536 else None


def _resolves(host: str) -> bool:
    """Whether this machine has a resolver for names that end in .local (nss-mdns, systemd-resolved)."""
    try:
        socket.getaddrinfo(host, None)
    except (OSError, UnicodeError):
        return False
    return True


def _best(addresses: Sequence[str]) -> str | None:
    """IPv4 first: an IPv6 address of the local link works on one interface only."""
    usable = [address for address in addresses if "%" not in address]
    return min(usable, key=lambda address: ipaddress.ip_address(address).version, default=None)
