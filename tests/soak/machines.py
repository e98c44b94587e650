"""Client machines: network namespaces, each with its own cable to this one and a host name of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

CAN_MAKE_MACHINES = os.geteuid() == 0
_NETWORK = "10.213"  # private, and hardly anybody's


@dataclass(frozen=True)
class Machine:
    name: str
    cable: str  # this end of it

    @property
    def command(self) -> tuple[str, ...]:
        """Runs another command there. Mounts that it makes are seen here: only network and host name are its own."""
        start = f'hostname {self.name} && exec "$@"'
        return ("nsenter", f"--net=/run/netns/{self.name}", "unshare", "--uts", "sh", "-c", start, "sh")

    def plug(self, *, in_: bool) -> None:
        _ip("link", "set", self.cable, "up" if in_ else "down")


@contextlib.contextmanager
def machines(count: int) -> Iterator[tuple[str, list[Machine]]]:
    """The address at which they all reach this machine, and the machines."""
    made: list[Machine] = []
    mark = f"{os.getpid() % 0xFFFF:04x}"
    try:
        for number in range(1, count + 1):
            machine = Machine(f"synofs-{mark}-{number}", f"syn{mark}{number}")
            far = f"{machine.cable}f"
            _ip("netns", "add", machine.name)
            made.append(machine)
            _ip("link", "add", machine.cable, "type", "veth", "peer", "name", far)
            _ip("link", "set", far, "netns", machine.name)
            _ip("addr", "add", f"{_NETWORK}.{number}.1/30", "dev", machine.cable)
            machine.plug(in_=True)
            inside = ("-n", machine.name)
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "addr", "add", f"{_NETWORK}.{number}.2/30", "dev", far)
            _ip(*inside, "link", "set", far, "up")
            _ip(*inside, "route", "add", "default", "via", f"{_NETWORK}.{number}.1")
        yield f"{_NETWORK}.1.1", made
    finally:
        for machine in made:
            with contextlib.suppress(subprocess.CalledProcessError):
                _ip("link", "del", machine.cable)
            _ip("netns", "del", machine.name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
