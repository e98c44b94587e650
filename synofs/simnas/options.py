"""What one simulated NAS is made of: its shares, accounts and limits, as given on the command line."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from .quirks import Quirks
from .totp import totp

SHARE_FLAGS = {
    "ro": "the accounts' right on the share is read-only (writing: 407)",
    "admins": "only admins see it; everyone else gets 407 on direct access",
    "acl-ro": "share_right says RW, yet acl.write is false everywhere (writing: 407)",
    "encrypted": "names are limited to 143 bytes (413)",
    "fat": "a FAT volume: FAT's forbidden characters (420) and no file over 4 GiB (1804, 1007)",
}

ACCOUNT_FLAGS = {
    "admin": "member of administrators",
    "otp=BASE32": "two-factor sign-in with this TOTP secret",
    "refuse=CODE": "the right password is answered with this Auth code (401, 405, 406, 408 ... 411)",
    "noapp": "no File Station privilege (402 at login; see the quirk denied-application)",
    "nosharing": "may not create sharing links (407)",
    "uid=N": "numeric user id (default: 1026 and up)",
    "gid=N": "numeric group id (default: 100, admins 101)",
}


@dataclass(frozen=True)
class ShareOptions:
    """A shared folder and the directory that holds it."""

    name: str
    directory: str
    flags: frozenset[str] = frozenset()


@dataclass(frozen=True)
class AccountOptions:
    """A DSM account."""

    name: str
    password: str
    uid: int = 1026
    gid: int = 100
    admin: bool = False
    otp_secret: str | None = None
    refuse_code: int | None = None
    has_file_station: bool = True
    may_share: bool = True


@dataclass(frozen=True)
class Options:
    """Everything that is fixed when the simulated NAS starts."""

    shares: tuple[ShareOptions, ...]
    accounts: tuple[AccountOptions, ...]
    host: str = "127.0.0.1"
    port: int = 0
    dsm: int = 7
    tls: tuple[str, str] | None = None
    latency_seconds: float = 0.0
    bandwidth_mbit: float = 0.0
    page_cap: int = 0
    session_seconds: float = 7 * 86400.0
    auto_block: int = 10
    auto_block_seconds: float = 300.0
    idle_seconds: float = 7.0
    recycle_bin: bool = False
    quota_bytes: int | None = None
    volume_bytes: int | None = None
    max_body_bytes: int | None = None
    announce: str | None = None
    quirks: Quirks = field(default_factory=Quirks)


def parse_share(text: str) -> ShareOptions:
    """`NAME=DIR[:flag...]`; flags are taken from the right, so DIR may contain colons."""
    name, equals, directory = text.partition("=")
    flags: set[str] = set()
    while True:
        rest, colon, last = directory.rpartition(":")
        if not colon or last not in SHARE_FLAGS:
            break
        flags.add(last)
        directory = rest
    if not equals or not name or not directory or "/" in name:
        raise ValueError(f"a share is NAME=DIR[:flag...], not {text!r}")
    if not os.path.isdir(directory):
        raise ValueError(f"share {name}: {directory} is not a directory")
    return ShareOptions(name, os.path.realpath(directory), frozenset(flags))


def parse_account(text: str, uid: int = 1026) -> AccountOptions:
    """`USER:PASSWORD[:flag...]`; the password may not contain a colon."""
    name, *rest = text.split(":")
    if not name or not rest:
        raise ValueError(f"an account is USER:PASSWORD[:flag...], not {name!r}")
    password, *flags = rest
    admin = "admin" in flags
    otp_secret: str | None = None
    refuse_code: int | None = None
    gid = 101 if admin else 100
    for flag in flags:
        key, _, value = flag.partition("=")
        if key == "otp" and value:
            otp_secret = value
            _check_secret(name, value)
        elif key == "refuse" and value.isdigit():
            refuse_code = int(value)
        elif key == "uid" and value.isdigit():
            uid = int(value)
        elif key == "gid" and value.isdigit():
            gid = int(value)
        elif flag not in ("admin", "noapp", "nosharing"):
            raise ValueError(f"account {name}: no flag is called {key!r}")
    return AccountOptions(
        name,
        password,
        uid=uid,
        gid=gid,
        admin=admin,
        otp_secret=otp_secret,
        refuse_code=refuse_code,
        has_file_station="noapp" not in flags,
        may_share="nosharing" not in flags,
    )


def _check_secret(account: str, secret: str) -> None:
    try:
        totp(secret)
    except ValueError as error:
        raise ValueError(f"account {account}: the otp secret is no base32: {error}") from error
