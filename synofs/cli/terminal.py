"""What a person sees: colours on a terminal, plain text in a pipe, and questions only where somebody can answer."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from synofs.app.config import NasAddress
from synofs.app.credentials import Asker
from synofs.fs.names import printable

if TYPE_CHECKING:
    from rich.console import Console


def say(text: str) -> None:
    """A remark beside the result; goes to stderr, so that a pipe holds the result alone."""
    print(f"synofs: {printable(text)}", file=sys.stderr)


PIPE_WIDTH = 1000  # a line of text stays one where no terminal has an edge


def console(*, stderr: bool = False) -> Console:
    """Colours and line ends that suit the terminal; in a pipe neither."""
    from rich.console import Console  # it would slow down each command that draws nothing

    out = Console(stderr=stderr, highlight=False)
    return out if out.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


class TerminalAsker:
    """Asks at the terminal. `getpass` talks to /dev/tty, so redirected output does not matter."""

    def user(self, address: NasAddress) -> str:
        return str(typer.prompt(f"User on {address.host}", err=True)).strip()

    def password(self, address: NasAddress, user: str) -> str:
        return getpass.getpass(f"Password of {user} on {address.host}: ")

    def otp(self, address: NasAddress, user: str) -> str:
        return getpass.getpass(f"One-time code of {user} on {address.host}: ")

    def trust(self, address: NasAddress, fingerprint: str) -> bool:
        pairs = [fingerprint[at : at + 2].upper() for at in range(0, len(fingerprint), 2)]
        say(f"nobody vouches for the certificate of {address.url}.")
        say("Its SHA-256 fingerprint:")
        for at in range(0, len(pairs), 16):
            say("  " + ":".join(pairs[at : at + 16]))
        say("Compare it with the one that DSM shows under Control Panel > Security > Certificate.")
        return typer.confirm("Trust it from now on?", err=True)

    def note(self, text: str) -> None:
        say(text)


def asker() -> Asker | None:
    """None when nobody is there to answer."""
    return TerminalAsker() if sys.stdin is not None and sys.stdin.isatty() else None


def format_bytes(count: float) -> str:
    unit = "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            break
        count /= 1024
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def format_time(seconds: float) -> str:
    """A moment, by this machine's clock."""
    try:
        return datetime.fromtimestamp(seconds, UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError, OSError):  # a NAS may say anything
        return "?"


def format_seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = int(seconds // 60)
    if minutes < 120:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} days"
