"""The kernel's list of mounts, whether a folder can be mounted on, and unmounting.

Nothing here touches a mounted filesystem unless it has to: a stat of a mount whose daemon hangs would hang as well.
So paths are resolved up to the mountpoint and compared with the kernel's list as text.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from synofs.app.errors import Failure, Problem

FSTYPE = "fuse.synofs"
MOUNTINFO = Path("/proc/self/mountinfo")
FUSE_CONF = Path("/etc/fuse.conf")
FUSE_DEVICE = "/dev/fuse"
UNMOUNT_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of the kernel's list."""

    mountpoint: str
    source: str
    fstype: str
    owner_uid: int  # of FUSE mounts: who runs the daemon
    device_minor: int = 0  # of FUSE mounts: the name of its connection in the kernel


def list_mounts(fstype: str | None = FSTYPE) -> list[MountEntry]:
    """Mounts of one type (None: all) that can be seen from here, the topmost of each mountpoint last."""
    mounts = []
    for line in MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        kind, source, options = right.split(" ")[:3]
        if fstype is None or kind == fstype:
            owner = re.search(r"\buser_id=(\d+)", options)
            uid = int(owner[1]) if owner else 0
            _, _, device, _, mountpoint, *_ = left.split(" ")
            minor = int(device.partition(":")[2])
            mounts.append(MountEntry(_plain(mountpoint), _plain(source), kind, uid, minor))
    return mounts


def _plain(field: str) -> str:
    """A field with the kernel's octal escapes (blank, tab, newline, backslash) undone."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)


def resolve(path: str) -> str:
    """The real path of a possible mountpoint, without touching what is mounted there."""
    parent, name = os.path.split(os.path.abspath(path))
    candidate = os.path.join(os.path.realpath(parent), name) if name else parent
    if any(mount.mountpoint == candidate for mount in list_mounts()):
        return candidate
    return os.path.realpath(candidate)


def find_mount(path: str, fstype: str | None = FSTYPE) -> MountEntry | None:
    """The mount whose mountpoint is `path`."""
    wanted = resolve(path)
    return next((m for m in reversed(list_mounts(fstype)) if m.mountpoint == wanted), None)


def find_mount_above(path: str) -> tuple[MountEntry, str] | None:
    """The synofs mount that holds `path`, and the path inside it, beginning with a slash."""
    absolute = os.path.abspath(path)
    mounts = {mount.mountpoint: mount for mount in list_mounts()}
    for candidate in (absolute, os.path.realpath(absolute)):
        head, inside = candidate, ""
        while True:
            if head in mounts:
                return mounts[head], inside or "/"
            parent, name = os.path.split(head)
            if parent == head:
                break
            head, inside = parent, f"/{name}{inside}"
    return None


LOOK_SECONDS = 3.0
# statfs is answered from the daemon's memory, but never from the kernel's, so it proves that it serves and asks
# nothing of the NAS. The exit code is the errno.
PROBE = """
import os, sys
try:
    os.statvfs(sys.argv[1])
except OSError as exc:
    sys.exit(exc.errno)
"""
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def is_dead(mountpoint: str) -> bool:
    """Whether the daemon of a mount has ended without unmounting (every access says ENOTCONN).

    The look is taken by a process that need not come back: one that is there and answers nothing is not dead, and
    whoever asks it waits for as long as it likes, with no way out.
    """
    command = [sys.executable, "-I", "-S", "-c", PROBE, mountpoint]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        return process.wait(LOOK_SECONDS) in DEAD
    except subprocess.TimeoutExpired:
        process.kill()
        return False


# ----- before mounting ------------------------------------------------------------------------------------------


def require_fuse(*, allow_other: bool) -> None:
    """Raise the failure that a mount would meet on this machine, whatever the mountpoint."""
    if not os.path.exists(FUSE_DEVICE):
        raise Failure(Problem.NO_FUSE)
    if not os.access(FUSE_DEVICE, os.R_OK | os.W_OK):
        raise Failure(Problem.FUSE_FORBIDDEN)  # fusermount3 opens it as the user who calls it
    if os.geteuid() == 0:
        return
    if shutil.which("fusermount3") is None:
        raise Failure(Problem.NO_FUSERMOUNT)
    if allow_other and not allows_other():
        raise Failure(Problem.ALLOW_OTHER_FORBIDDEN)


def allows_other() -> bool:
    """Whether root lets ordinary users show their FUSE mounts to others."""
    try:
        lines = FUSE_CONF.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() == "user_allow_other" for line in lines)


def require_mountpoint(mountpoint: str) -> None:
    """Raise the failure that mounting on this folder would meet; clear what a dead daemon has left there."""
    mount = find_mount(mountpoint)
    if mount is not None:
        if not is_dead(mount.mountpoint):
            raise Failure(Problem.ALREADY_MOUNTED, mountpoint=mountpoint)
        unmount(mount.mountpoint, lazy=True)
    if find_mount(mountpoint, "autofs") is not None:
        return  # a look inside would wait for the very mount that we are about to make
    try:
        with os.scandir(mountpoint) as entries:
            is_empty = next(entries, None) is None
    except FileNotFoundError as exc:
        raise Failure(Problem.MOUNTPOINT_MISSING, mountpoint=mountpoint) from exc
    except NotADirectoryError as exc:
        raise Failure(Problem.MOUNTPOINT_NO_FOLDER, mountpoint=mountpoint) from exc
    except OSError as exc:
        raise Failure(Problem.MOUNTPOINT_FORBIDDEN, mountpoint=mountpoint, detail=exc.strerror) from exc
    if not is_empty:
        raise Failure(Problem.MOUNTPOINT_NOT_EMPTY, mountpoint=mountpoint)
    if os.geteuid() != 0 and not os.access(mountpoint, os.W_OK):
        raise Failure(Problem.MOUNTPOINT_FORBIDDEN, mountpoint=mountpoint, detail="you may not write to it")


# ----- unmounting -----------------------------------------------------------------------------------------------


def unmount(mountpoint: str, *, lazy: bool = False, force: bool = False) -> None:
    """Unmount; `lazy` takes it out of sight even while it is in use, and `force`, where we are root, ends all calls
    that wait for its daemon. Raises `MOUNT_BUSY` or `UNMOUNT_REFUSED`."""
    if os.geteuid() == 0:
        # -i: not by way of a helper, -c: without a look at the mountpoint, which may hang.
        command = ["umount", "-i", "-c", *(["-l"] if lazy else []), *(["-f"] if force else []), "--", mountpoint]
    else:
        command = ["fusermount3", "-u", *(["-z"] if lazy else []), "--", mountpoint]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=UNMOUNT_SECONDS,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as exc:
        raise Failure(Problem.NO_FUSERMOUNT) from exc
    except subprocess.TimeoutExpired as exc:
        raise Failure(Problem.UNMOUNT_REFUSED, mountpoint=mountpoint, detail="it does not answer") from exc
    if done.returncode == 0:
        return
    said = done.stderr.strip().splitlines()
    detail = said[-1] if said else f"exit code {done.returncode}"
    busy = "busy" in detail.lower()
    raise Failure(Problem.MOUNT_BUSY if busy else Problem.UNMOUNT_REFUSED, mountpoint=mountpoint, detail=detail)
