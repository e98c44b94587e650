"""What a NAS tells its local network about itself, by multicast DNS.

DSM's own start script for avahi writes one service `_http._tcp` whose TXT record holds vendor, model, serial number,
version, the two ports of its web desktop and all MAC addresses, separated by `|`. Published captures of DSM 6 boxes
show the same record, and `_smb._tcp` and `_device-info._tcp` beside it.
"""

from __future__ import annotations

import socket

from zeroconf import IPVersion
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from .options import Options

CLOSED_PORT = 9  # "discard": a port that nobody answers on, for the web desktop's other scheme


class Announcement:
    """The services of one NAS, from `start` to `end`."""

    def __init__(self, options: Options, port: int) -> None:
        self._options = options
        self._port = port
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self) -> None:
        options = self._options
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        address = socket.getaddrinfo(options.host, None, family)[0][4][0]
        ip_version = IPVersion.V6Only if family == socket.AF_INET6 else IPVersion.V4Only
        zeroconf = AsyncZeroconf(interfaces=[str(address)], ip_version=ip_version)
        self._zeroconf = zeroconf
        packed = socket.inet_pton(family, str(address))
        for kind, port, text in self._services():
            service = AsyncServiceInfo(
                f"{kind}.local.",
                f"{options.announce}.{kind}.local.",
                addresses=[packed],
                port=port,
                properties=text,
                server=f"{options.announce}.local.",
            )
            await zeroconf.async_register_service(service, allow_name_change=True)

    async def end(self) -> None:
        if self._zeroconf is not None:
            await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()

    def _services(self) -> list[tuple[str, int, dict[str, str]]]:
        """Type, port and TXT record of each service."""
        is_https = self._options.tls is not None
        version = ("7", "2", "69057") if self._options.dsm >= 7 else ("6", "2", "25556")
        about = {
            "vendor": "Synology",
            "model": "simnas",
            "serial": "0000SIMNAS000",
            "version_major": version[0],
            "version_minor": version[1],
            "version_build": version[2],
            "admin_port": str(CLOSED_PORT if is_https else self._port),
            "secure_admin_port": str(self._port if is_https else CLOSED_PORT),
            "mac_address": "00:11:32:00:00:01|00:11:32:00:00:02",
        }
        port = int(about["admin_port"])
        return [("_http._tcp", port, about), ("_smb._tcp", 445, {}), ("_device-info._tcp", 0, {"model": "Xserve"})]
