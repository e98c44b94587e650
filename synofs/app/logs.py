"""Where the daemon's log goes, and the last net against a secret in it."""

from __future__ import annotations

import logging
import os
import re
import sys
import traceback
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import platformdirs

from synofs.app.identity import mount_id
from synofs.content.private import make_dirs

FILE_BYTES = 2 * 1024 * 1024
KEPT_FILES = 3

# What signs in or stands for a session, in the forms in which libraries show URLs, bodies and headers.
_SECRETS = re.compile(
    r"""(\b(?:_sid|sid|SynoToken|synotoken|X-SYNO-TOKEN|passwd|password|otp_code|device_id|did|id)["']?\s*[=:]\s*["']?)"""
    r"""[^&\s"',;}]+""",
    re.IGNORECASE,
)

_STEERING = re.compile(r"[^\S\n\t ]|[\x00-\x08\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class RedactingFormatter(logging.Formatter):
    """Writes `***` for anything that looks like a secret, in the message and in tracebacks, and spells out what
    would forge a line or steer the terminal of who reads it: names on a NAS are other people's texts.

    Our own log lines hold no secrets; this is for those of libraries and for exception texts.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        return super().formatMessage(record).replace("\n", "\n    ")

    def format(self, record: logging.LogRecord) -> str:
        return _STEERING.sub(lambda found: ascii(found[0])[1:-1], redact(super().format(record)))


class JournalFormatter(RedactingFormatter):
    """Each line with its priority before it, as systemd's journal takes it from stderr (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = next(number for level, number in _PRIORITIES if record.levelno >= level)
        return "\n".join(f"<{priority}>{line}" for line in super().format(record).splitlines())


_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (0, 7))


def _stderr_is_the_journal() -> bool:
    stream = os.environ.get("JOURNAL_STREAM")
    if stream is None:
        return False
    status = os.fstat(sys.stderr.fileno())
    return stream == f"{status.st_dev}:{status.st_ino}"


def redact(text: str) -> str:
    return _SECRETS.sub(r"\1***", text)


def log_path(mountpoint: str) -> Path:
    """The daemon's log file for a mountpoint."""
    name = os.path.basename(mountpoint) or "root"
    return platformdirs.user_state_path("synofs") / f"{name}-{mount_id(mountpoint)[:8]}.log"


def access_log_path(mountpoint: str) -> Path:
    """Where the calls of the kernel are written down, if somebody wants that."""
    return log_path(mountpoint).with_suffix(".access.log")


def log_calls_to_file(path: Path) -> None:
    """Bounded, like the log: the newest 2 MiB and as much before them."""
    make_dirs(path.parent)
    handler = _PrivateFiles(path, maxBytes=FILE_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace")
    os.chmod(path, 0o600)
    handler.setFormatter(RedactingFormatter("%(asctime)s %(message)s"))
    calls = logging.getLogger("synofs.access")
    calls.addHandler(handler)
    calls.propagate = False
    calls.setLevel(logging.INFO)


def keep_traceback(error: BaseException) -> Path:
    """Write down what a command that ended in an unforeseen way has to say; returns where."""
    path = platformdirs.user_state_path("synofs") / "crash.log"
    make_dirs(path.parent)
    with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_private) as file:
        file.write(redact("".join(traceback.format_exception(error))) + "\n")
    return path


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def log_to_stderr(level: str) -> None:
    if _stderr_is_the_journal():
        _configure(logging.StreamHandler(), JournalFormatter("%(name)s: %(message)s"), level)
    else:
        _configure(logging.StreamHandler(), RedactingFormatter("%(levelname)s %(name)s: %(message)s"), level)


def log_to_file(path: Path, level: str) -> None:
    make_dirs(path.parent)
    handler = _PrivateFiles(
        path, maxBytes=FILE_BYTES, backupCount=KEPT_FILES, encoding="utf-8", errors="backslashreplace"
    )
    os.chmod(path, 0o600)
    _configure(handler, RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"), level)


class _PrivateFiles(RotatingFileHandler):
    """Each file that is begun is private from its first moment on."""

    def _open(self) -> Any:
        return open(self.baseFilename, self.mode, encoding=self.encoding, errors=self.errors, opener=_private)


def _configure(handler: logging.Handler, formatter: RedactingFormatter, level: str) -> None:
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)  # of other people's libraries
    logging.getLogger("synofs").setLevel(level.upper())
    logging.captureWarnings(True)
