"""Which names may reach the kernel, and how bytes become text. Pure.

The NAS's names are hostile input: a name with a slash or a `..` from a broken or malicious server must never become
a path on this machine (compare CVE-2026-47187 in sshfs). Everything else is passed on byte for byte: no Unicode
normalisation, no replacement of control characters, because a name that was changed cannot be opened.
"""

from __future__ import annotations

HIDDEN_PREFIX = b".synofs-"  # our own temporary names on the NAS; never shown, and refused as names for others
NAME_MAX_BYTES = 255  # Linux's NAME_MAX; the kernel asks us about longer ones, too


def kernel_name(name: str) -> bytes | None:
    """The name as the kernel gets it, or None when it must never get there.

    Refused: empty, `.`, `..`, a slash, a NUL, over 255 bytes, text that is no encoding of bytes.
    """
    try:
        raw = name.encode()
    except UnicodeEncodeError:
        try:
            raw = name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            return None
    if not raw or len(raw) > NAME_MAX_BYTES or b"/" in raw or b"\0" in raw or raw in (b".", b".."):
        return None
    return raw


def remote_name(name: bytes) -> str:
    """The kernel's bytes as the text that the store speaks (PEP 383 for bytes that are not UTF-8)."""
    return name.decode("utf-8", "surrogateescape")


def printable(path: str) -> str:
    """A path for log lines: what cannot be printed is escaped, so that no name can forge a line."""
    return path if path.isprintable() else ascii(path)[1:-1]
