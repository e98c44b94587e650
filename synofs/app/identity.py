"""What belongs to a mountpoint: a short name for it, and the directory of its control socket."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

MAX_RUNTIME_DIR_BYTES = 107 - len("/123456789012345678901234.sock")  # a socket's path is no longer than that


def mount_id(mountpoint: str) -> str:
    """A file name for a mountpoint (its resolved path)."""
    return hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]


def runtime_dirs(uid: int) -> list[Path]:
    """Where the sockets of a user's daemons may be, the preferred place first.

    More than one, because a daemon and its caller may see different environments: a login session has
    XDG_RUNTIME_DIR, while cron, sudo and systemd's system units have not.
    """
    own = os.environ.get("XDG_RUNTIME_DIR") if uid == os.getuid() else None
    places = [Path(own, "synofs")] if own and os.path.isabs(own) else []
    places.append(Path("/run/synofs") if uid == 0 else Path(f"/run/user/{uid}/synofs"))
    places.append(Path(f"/tmp/synofs-{uid}"))
    return list(dict.fromkeys(places))


def make_runtime_dir() -> Path:
    """The first of the places that can be used, made private. Raises `OSError` when none can."""
    refused: OSError | None = None
    for place in runtime_dirs(os.getuid()):
        if len(os.fsencode(place)) > MAX_RUNTIME_DIR_BYTES:
            continue
        try:
            place.mkdir(mode=0o700, exist_ok=True)
            require_private(place, os.getuid())
        except OSError as exc:
            refused = exc
            continue
        return place
    raise refused or OSError("no place for the control socket")


def require_private(directory: Path, uid: int) -> None:
    """Raise unless `directory` is a real directory that only `uid` can use: in /tmp anyone can make any name."""
    status = directory.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != uid or status.st_mode & 0o077:
        raise PermissionError(f"{directory} is not private to user {uid}")
