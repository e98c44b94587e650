"""The options that more than one command takes, with their help texts.

They arrive as words and are read by `synofs.app.config`, the same way as mount(8)'s `-o` list; so a wrong value is
refused in the same words wherever it was written.
"""

from __future__ import annotations

from typing import Annotated

import typer

from synofs.app import profiles
from synofs.app.errors import Failure

_MACHINE = "This machine"
_NAS = "Signing in"
_VIEW = "What the mount shows"
_SPEED = "Caches and load"


def _option(name: str, metavar: str, help_: str, panel: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(
        f"--{name}", metavar=metavar, help=help_, rich_help_panel=panel, show_default=False
    )
    return option


def _switch(name: str, help_: str, panel: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(f"--{name}", help=help_, rich_help_panel=panel, show_default=False)
    return option


NAS_HELP = "https://HOST:5001, USER@HOST, HOST, or the name of a profile"


def profile_names(incomplete: str) -> list[str]:
    """For the shell's completion. A configuration that cannot be read has no names to offer."""
    try:
        return [name for name in profiles.load() if name.startswith(incomplete)]
    except Failure:
        return []


Nas = Annotated[str, typer.Argument(metavar="NAS", help=NAS_HELP, show_default=False, autocompletion=profile_names)]
Mountpoint = Annotated[str, typer.Argument(metavar="MOUNTPOINT", help="The mounted folder.", show_default=False)]

User = Annotated[str | None, _option("user", "NAME", "The account on the NAS.", _NAS)]
PasswordFile = Annotated[str | None, _option("password-file", "FILE", "Its first line is the password.", _NAS)]
Otp = Annotated[str | None, _option("otp", "CODE", "One-time code, for two-factor sign-in.", _NAS)]
CaFile = Annotated[str | None, _option("ca-file", "FILE", "Trust certificates signed by this authority (PEM).", _NAS)]
Fingerprint = Annotated[
    str | None, _option("fingerprint", "SHA256", "Trust exactly the certificate with this fingerprint.", _NAS)
]
InsecureHttp = Annotated[bool, _switch("insecure-http", "Allow http: password and files travel unencrypted.", _NAS)]

Share = Annotated[str | None, _option("share", "NAME", "Show this share alone, as the root.", _VIEW)]
ReadOnly = Annotated[bool, _switch("read-only", "Refuse every change.", _VIEW)]
Uid = Annotated[str | None, _option("uid", "N", "Owner shown for all files, by number or name (default: you).", _VIEW)]
Gid = Annotated[
    str | None, _option("gid", "N", "Group shown for all files, by number or name (default: yours).", _VIEW)
]
Umask = Annotated[str | None, _option("umask", "OCTAL", "Permissions to hide (default: 022).", _VIEW)]
AllowOther = Annotated[bool, _switch("allow-other", "Let other users of this machine in.", _VIEW)]

WriteMode = Annotated[
    str | None, _option("write-mode", "durable|writeback", "When a written file counts as saved.", _SPEED)
]
Verify = Annotated[bool, _switch("verify", "Compare each upload with the NAS's own MD5 of it.", _SPEED)]
Deadline = Annotated[
    str | None,
    _option("deadline", "SECONDS", "How long a program waits for the NAS (default: 20; thrice for changes).", _SPEED),
]
Offline = Annotated[
    str | None, _option("offline", "serve|fail", "While the NAS is away: show what is known, or fail.", _SPEED)
]
MaxStale = Annotated[
    str | None,
    _option("max-stale", "SECONDS", "While the NAS is slow, show what is no older (default: 1h; 0: wait).", _SPEED),
]
Thumbnails = Annotated[
    str | None,
    _option("thumbnails", "nas|off|original", "Who makes thumbnails: the NAS (default), nobody, this machine.", _SPEED),
]
DirTtl = Annotated[str | None, _option("dir-ttl", "SECONDS", "How long a listing is believed (default: 30).", _SPEED)]
AttrTtl = Annotated[
    str | None, _option("attr-ttl", "SECONDS", "How long sizes and times are believed (default: 30).", _SPEED)
]
CacheDir = Annotated[str | None, _option("cache-dir", "DIR", "Where file content is cached.", _SPEED)]
CacheSize = Annotated[
    str | None, _option("cache-size", "SIZE", "How much content is cached, such as 512M or 10G.", _SPEED)
]
MaxRequests = Annotated[
    str | None, _option("max-requests", "N", "Requests to the NAS at once, at most (default: 6).", _SPEED)
]
DrainTimeout = Annotated[
    str | None,
    _option("drain-timeout", "SECONDS", "How long an end waits for uploads (default: 60). The rest is kept.", _SPEED),
]

LogLevel = Annotated[str | None, _option("log-level", "LEVEL", "debug, info (default), warning or error.", _MACHINE)]
AccessLog = Annotated[bool, _switch("access-log", "Write down each call of a program, beside the log.", _MACHINE)]
MountOptions = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        metavar="OPT[,OPT=VALUE...]",
        help="The options above by name, as mount(8) passes them.",
        rich_help_panel=_MACHINE,
        show_default=False,
    ),
]
Foreground = Annotated[bool, _switch("foreground", "Stay, and log to stderr, until Ctrl-C or an unmount.", _MACHINE)]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.", show_default=False)]
SomePath = Annotated[
    str | None,
    typer.Argument(metavar="[PATH]", help="A path in a mount (default: here, or your only mount).", show_default=False),
]
