"""Settings of one mount, and how they are read from words: command line options and mount(8)'s `-o` list.

All words go through one table, `OPTIONS`, so `--dir-ttl 60`, `-o dir-ttl=60` and `dir-ttl = 60` in a profile
(`synofs.app.profiles`) cannot come to mean different things.
"""

from __future__ import annotations

import grp
import os
import pwd
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any
from urllib.parse import urlsplit

from synofs.app.errors import Failure, Problem

HTTPS_PORT = 5001  # where DSM listens unless somebody changed it
LOG_LEVELS = ("debug", "info", "warning", "error")
WRITE_MODES = ("durable", "writeback")


@dataclass(frozen=True, slots=True)
class NasAddress:
    """Where a NAS is, and who signs in if the address says so."""

    url: str
    user: str | None = None

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or ""

    @property
    def is_encrypted(self) -> bool:
        return self.url.startswith("https:")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything about a mount but its secrets. Travels to the daemon as JSON."""

    url: str
    mountpoint: str = ""  # empty where the NAS alone is spoken to
    user: str | None = None
    ca_file: str | None = None
    fingerprint: str | None = None
    insecure_http: bool = False
    share: str | None = None
    read_only: bool = False
    noexec: bool = False
    netdev: bool = False  # tell libmount that this is a network filesystem (root only)
    write_mode: str = "durable"
    deadline_seconds: float = 20.0  # for a look at the NAS; a change gets three times as much
    offline: str = "serve"  # while the NAS is away: "serve" what is known of it, or "fail"
    max_stale_seconds: float = 3600.0  # while the NAS is slow, show what is not older than that
    thumbnails: str = "nas"  # "nas" makes them, "original": from the files as on a local disk, or "off"
    verify: bool = False  # compare with the NAS's own MD5 after each upload
    dir_ttl_seconds: float = 30.0
    attr_ttl_seconds: float = 30.0
    cache_dir: str | None = None
    cache_bytes: int | None = None
    uid: int = field(default_factory=os.getuid)
    gid: int = field(default_factory=os.getgid)
    umask: int = 0o022
    allow_other: bool = False
    max_requests: int = 6
    drain_seconds: float = 60.0  # the end waits so long for uploads
    log_level: str = "info"
    access_log: bool = False  # each call of the kernel in a file, of bounded size

    @property
    def address(self) -> NasAddress:
        return NasAddress(self.url, self.user)

    def to_json(self) -> dict[str, object]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        known = {f.name for f in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


@dataclass(frozen=True, slots=True)
class SignInWords:
    """Where the secrets of a sign-in come from; not part of `Settings`, which may be shown."""

    password_file: str | None = None
    otp: str | None = None


# ----- words -> values ------------------------------------------------------------------------------------------


def parse_size(text: str) -> int:
    """Bytes: `1048576`, `512M`, `10G`, `1.5TiB`. Powers of 1024, as ls and du have it."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is not a size like 512M or 10G")
    return int(float(match[1]) * 1024 ** "_KMGT".index(match[2].upper() or "_"))


def parse_seconds(text: str) -> float:
    """A time: `30`, `0.5`, `10s`, `5m`, `1h`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip(), re.IGNORECASE)
    if match is None:
        raise ValueError(f"{text!r} is not a time like 30, 90s or 5m")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2].lower()]


def parse_ttl(text: str) -> float:
    """How long the kernel may believe something. Never 0: that costs a question per name and call."""
    seconds = parse_seconds(text)
    if seconds < 0.1:
        raise ValueError("must be at least 0.1 seconds")
    return seconds


def parse_deadline(text: str) -> float:
    seconds = parse_seconds(text)
    if seconds < 1:
        raise ValueError("must be at least 1 second")
    return seconds


def parse_umask(text: str) -> int:
    if not re.fullmatch(r"0?[0-7]{1,3}", text):
        raise ValueError(f"{text!r} is not an octal umask like 022")
    return int(text, 8)


def parse_fingerprint(text: str) -> str:
    """SHA-256 of a certificate in hex, with or without colons, any case; `sha256:` may stand before it."""
    plain = text.lower().removeprefix("sha256:").replace(":", "").replace(" ", "")
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise ValueError("is not a SHA-256 fingerprint (64 hex digits)")
    return plain


def parse_share(text: str) -> str:
    name = text.strip("/")
    if not name or "/" in name:
        raise ValueError(f"{text!r} is not the name of a share")
    return name


def parse_otp(text: str) -> str:
    code = text.replace(" ", "")
    if not re.fullmatch(r"\d{6,8}", code):
        raise ValueError("is not a one-time code (6 digits)")
    return code


def _number(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or not low <= int(text) <= high:
            raise ValueError(f"{text!r} is not a whole number from {low} to {high}")
        return int(text)

    return parse


def _uid(text: str) -> int:
    return _id_of(text, "user", lambda name: pwd.getpwnam(name).pw_uid)


def _gid(text: str) -> int:
    return _id_of(text, "group", lambda name: grp.getgrnam(name).gr_gid)


def _id_of(text: str, kind: str, look_up: Callable[[str], int]) -> int:
    if text.isdigit():
        return _number(0, 2**32 - 2)(text)
    try:
        return look_up(text)
    except KeyError:
        raise ValueError(f"there is no {kind} {text!r} on this machine") from None


def _one_of(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in allowed:
            raise ValueError(f"{text!r} is not one of {', '.join(allowed)}")
        return text.lower()

    return parse


def _path(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _existing_file(text: str) -> str:
    path = _path(text)
    if not os.path.exists(path):
        raise ValueError(f"there is no file {text}")
    return path


def _text(text: str) -> str:
    if not text:
        raise ValueError("needs a value")
    return text


# Option -> (field of Settings or SignInWords, how its text is read; None: a switch without a value)
OPTIONS: dict[str, tuple[str, Callable[[str], object] | None]] = {
    "user": ("user", _text),
    "password-file": ("password_file", _existing_file),
    "otp": ("otp", parse_otp),
    "ca-file": ("ca_file", _existing_file),
    "fingerprint": ("fingerprint", parse_fingerprint),
    "insecure-http": ("insecure_http", None),
    "share": ("share", parse_share),
    "read-only": ("read_only", None),
    "noexec": ("noexec", None),
    "netdev": ("netdev", None),
    "write-mode": ("write_mode", _one_of(*WRITE_MODES)),
    "verify": ("verify", None),
    "max-stale": ("max_stale_seconds", parse_seconds),
    "thumbnails": ("thumbnails", _one_of("nas", "off", "original")),
    "deadline": ("deadline_seconds", parse_deadline),
    "offline": ("offline", _one_of("serve", "fail")),
    "dir-ttl": ("dir_ttl_seconds", parse_ttl),
    "attr-ttl": ("attr_ttl_seconds", parse_ttl),
    "cache-dir": ("cache_dir", _path),
    "cache-size": ("cache_bytes", parse_size),
    "uid": ("uid", _uid),
    "gid": ("gid", _gid),
    "umask": ("umask", parse_umask),
    "allow-other": ("allow_other", None),
    "max-requests": ("max_requests", _number(1, 64)),
    "drain-timeout": ("drain_seconds", parse_seconds),
    "access-log": ("access_log", None),
    "log-level": ("log_level", _one_of(*LOG_LEVELS)),
}

PATH_OPTIONS = frozenset({"password-file", "ca-file", "cache-dir"})

# Words of mount(8) and fstab that are meant for others (mount itself, systemd, desktops), or that change nothing here:
# nosuid and nodev always hold, access times are the NAS's, and mount(8) adds rw by itself where ro is not said.
GENERIC_WORDS = frozenset({
    "auto", "defaults", "group", "noauto", "nofail", "nouser", "owner", "rw", "user", "users",
    "async", "atime", "dev", "diratime", "dirsync", "iversion", "lazytime", "loud", "noatime", "nodev", "nodiratime",
    "noiversion", "nolazytime", "norelatime", "nostrictatime", "nosuid", "relatime", "silent", "strictatime", "suid",
    "sync",
})  # fmt: skip
# Words that mount(8) has for options of ours.
_MOUNT_WORDS: dict[str, tuple[str, bool]] = {
    "ro": ("read-only", True),
    "exec": ("noexec", False),
    "noexec": ("noexec", True),
    "_netdev": ("netdev", True),
}

Words = dict[str, str | bool]


def read_mount_options(lists: Iterable[str], *, sloppy: bool = False) -> Words:
    """The words in mount(8)'s `-o a,b=c` lists. Generic ones are dropped, unknown ones refused unless `sloppy`."""
    words: Words = {}
    for item in (item for text in lists for item in text.split(",") if item):
        name, equals, value = item.partition("=")
        if (name in GENERIC_WORDS and not equals) or name == "comment" or name.lower().startswith("x-"):
            continue
        if name in _MOUNT_WORDS and not equals:
            option, is_on = _MOUNT_WORDS[name]
            words[option] = is_on
            continue
        # In fstab, "user=" is mount(8)'s own as well; "username=" is what mount.cifs has instead.
        name = "user" if name == "username" else name.replace("_", "-")
        if name in OPTIONS:
            words[name] = value if equals else True
        elif not sloppy:
            raise wrong_option(f"-o {item}: there is no such option")
    return words


def wrong_option(detail: str, command: str = "mount") -> Failure:
    return Failure(Problem.WRONG_OPTION, detail=detail, command=command)


def read_words(words: Mapping[str, str | bool]) -> dict[str, Any]:
    """Fields and values of words; a failure names the word that is wrong."""
    values: dict[str, Any] = {}
    for name, word in words.items():
        target, parse = OPTIONS[name]
        if parse is None:
            if isinstance(word, str) and word.lower() not in ("true", "false", "yes", "no"):
                raise wrong_option(f"--{name} is a switch and takes no value")
            values[target] = word if isinstance(word, bool) else word.lower() in ("true", "yes")
        elif isinstance(word, bool):
            raise wrong_option(f"--{name} needs a value")
        else:
            try:
                values[target] = parse(word)
            except ValueError as exc:
                raise wrong_option(f"--{name}: {exc}") from exc
    return values


def read_settings(nas: str, words: Mapping[str, str | bool], mountpoint: str = "") -> tuple[Settings, SignInWords]:
    """Settings from a NAS, option words and, for a mount, its folder."""
    address = parse_nas(nas)
    values = read_words(words)
    sign_in_names = {f.name for f in fields(SignInWords)}
    sign_in = {name: values.pop(name) for name in list(values) if name in sign_in_names}
    values.setdefault("user", address.user)
    settings = Settings(url=address.url, mountpoint=_path(mountpoint) if mountpoint else "", **values)
    if not address.is_encrypted and not settings.insecure_http:
        raise Failure(Problem.INSECURE_HTTP, host=address.host)
    return settings, SignInWords(**sign_in)


def parse_nas(text: str) -> NasAddress:
    """`https://host:5001`, `http://host:5000`, `user@host[:port]` or `host[:port]`.

    A URL without a port means the port of its scheme (443, 80), as everywhere; without a scheme, DSM's 5001.
    A path in a URL is kept: some NAS boxes stand behind a proxy that gives them one.
    """
    has_scheme = "://" in text
    try:
        parts = urlsplit(text if has_scheme else f"https://{text}")
        host, port = parts.hostname, parts.port
    except ValueError as exc:
        raise wrong_option(f"{text!r} is not an address: {exc}") from exc
    if parts.password is not None:
        raise wrong_option("an address must not contain a password; others can see it")
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise wrong_option(f"{text!r} is not an address like https://nas:5001 or anna@nas")
    if parts.query or parts.fragment:
        raise wrong_option(f"{text!r}: name the NAS only, without a question")
    if port is None:
        port = {"http": 80, "https": 443}[parts.scheme] if has_scheme else HTTPS_PORT
    if ":" in host:
        host = f"[{host}]"
    return NasAddress(f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}", parts.username)
