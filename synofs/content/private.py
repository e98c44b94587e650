"""Folders and files that nobody else can read, replace or have planted, whatever the umask.

What lies in a folder that only we can write to is ours, so the folder is what is looked at, by a descriptor and not by
its name: between a look and a use, a name may come to mean something else.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from synofs.content.errors import CacheDirUnsafe

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def make_dirs(path: Path) -> None:
    """Make a folder and those above it that are missing, each for us alone (as the XDG specification has it)."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)


def claim_dir(path: Path) -> None:
    """Make a folder, or take one that is certainly ours, and close it to all others.

    Raises `CacheDirUnsafe` for a link, another user's folder, and one that others were able to put something into.
    """
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o700)
    try:
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as exc:
        if exc.errno not in (errno.ENOTDIR, errno.ELOOP, errno.EACCES):
            raise
        raise CacheDirUnsafe(f"{path} is a link or belongs to another user; remove it") from exc
    try:
        found = os.fstat(folder)
        if found.st_uid != os.geteuid():
            raise CacheDirUnsafe(f"{path} is a link or belongs to another user; remove it")
        if found.st_mode & _OTHERS_WRITE:
            raise CacheDirUnsafe(f"others can write to {path}; if all in it is yours: chmod 700 {path}")
        os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def safe_place(path: Path) -> Path:
    """Where a folder really is. Raises `CacheDirUnsafe` where somebody else could put another one in its place.

    Whoever may rename something on the way to it can do that, and so can the owner of a link. What is above the home
    folder is believed: who owns that, owns all of ours. So is a group that a folder was opened to.
    """
    home = Path(os.path.expanduser("~"))
    believed = {*home.parents, *Path(os.path.realpath(home)).parents}
    real = Path(os.path.realpath(path))
    for way in (path.absolute(), real):
        for place in reversed((way, *way.parents)):  # once what is above it is safe, a name stays what it is
            if place not in believed:
                _check_place(place)
    return real


def _check_place(path: Path) -> None:
    found = os.stat(path)
    if not {os.lstat(path).st_uid, found.st_uid} <= {0, os.geteuid()}:
        raise CacheDirUnsafe(f"{path} belongs to another user")
    if found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX:
        raise CacheDirUnsafe(f"everybody can write to {path}; chmod o-w {path}, or use another folder")


def claim_file(path: Path) -> None:
    """Make a file for a library that opens it by its name, or take ours. Raises `OSError` (ELOOP) for a link."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(file, 0o600)
    finally:
        os.close(file)
