"""Names of conflict copies. Pure."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath

NAME_MAX_BYTES = 143  # what an encrypted share takes; the copy must get in everywhere


def conflict_name(name: str, hostname: str, moment: datetime, number: int = 1) -> str:
    """`report.odt` -> `report (conflict ann-laptop 2026-11-24 0930).odt`; number 2 and up are told apart."""
    suffix = PurePosixPath(name).suffix
    if not suffix.isprintable() or len(suffix) > 20:
        suffix = ""
    stem = name[: len(name) - len(suffix)] if suffix else name
    again = f" {number}" if number > 1 else ""
    mark = f" (conflict {_word(hostname)} {moment:%Y-%m-%d %H%M}{again})"
    room = max(1, NAME_MAX_BYTES - len((mark + suffix).encode()))
    short = stem.encode("utf-8", "surrogateescape")[:room].decode("utf-8", "ignore")
    return f"{short}{mark}{suffix}"


def _word(hostname: str) -> str:
    return "".join(c if c.isalnum() or c in "-." else "-" for c in hostname)[:30] or "host"
