"""`synofs umount --force` and `umount -f`: an end to a mount, whatever its process does, and what is left of its work.

A process that hangs or is stopped does not answer the programs that wait for it, and they cannot be killed. Only the
kernel can let them go, by ending the connection: through fusectl (the mounting user may), or for root by umount(2)
with MNT_FORCE. Where neither is to be had, the folder is free all the same, and they wait until the process has ended.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from synofs.app.control import ControlClient
from synofs.app.errors import Failure, Problem
from synofs.app.mounts import MountEntry, is_dead, unmount
from synofs.content.cachedir import LAYOUT
from synofs.content.errors import ContentError
from synofs.content.stagingrecovery import unsent_paths

CONNECTIONS = Path("/sys/fs/fuse/connections")
END_SECONDS = 3.0  # of a process whose connection has ended
SHOWN = 3


def end(entry: MountEntry) -> list[str]:
    """Unmount without waiting for anything. Returns what was done and what is left, line by line.

    Raises `NOT_YOURS`, `UNMOUNT_REFUSED`.
    """
    try:
        with ControlClient.connect(entry) as daemon:
            left = list(_unsent(daemon.daemon_pid))  # while it lives, its files tell where its cache is
            try:
                daemon.ask("status")
            except Failure as failure:
                if failure.problem is not Problem.NO_ANSWER:
                    raise
                return [*_end_hanging(entry, daemon), *left]
            unmount(entry.mountpoint, lazy=True)
            return left
    except Failure as failure:
        if failure.problem is Problem.DAEMON_GONE and is_dead(entry.mountpoint):
            return [clear(entry)]
        if failure.problem not in (Problem.NO_ANSWER, Problem.DAEMON_GONE):
            raise
        return _end_hanging(entry, None)  # the connection was not taken, or somebody has removed the socket


def has_ended(entry: MountEntry) -> bool:
    """Whether the process behind a mount has ended, were a thread of it still in the kernel (fuse/guard.py was killed
    with it): whoever looks at the folder waits then, as if it hung."""
    if is_dead(entry.mountpoint):
        return True
    with contextlib.suppress(Failure), ControlClient.connect(entry) as daemon:
        return _state(daemon.daemon_pid) == "Z"
    return False


def clear(entry: MountEntry) -> str:
    """A thread that was killed while it waited in the kernel for a folder holds the connection all the same, and with
    it whoever waits for an answer. Raises `UNMOUNT_REFUSED`."""
    unmount(entry.mountpoint, lazy=True, force=not abort(entry))
    return f"cleared {entry.mountpoint}, whose synofs process had ended"


def _end_hanging(entry: MountEntry, daemon: ControlClient | None) -> list[str]:
    woken = abort(entry)
    unmount(entry.mountpoint, lazy=True, force=not woken)
    woken = woken or os.geteuid() == 0
    freed = f"freed {entry.mountpoint}, whose process does not answer"
    done = [freed + ("; programs that waited for it got an error" if woken else "")]
    if daemon is not None and not daemon.wait_for_end(END_SECONDS):
        pid = daemon.daemon_pid
        waits = "" if woken else ", and programs that wait for it are let go when it ends"
        done.append(f"process {pid} {_doing(pid)} and holds the cache{waits}; before the next mount: kill -9 {pid}")
    return done


def abort(entry: MountEntry) -> bool:
    """End the kernel's connection to the process; False where that is not allowed or fusectl is not mounted."""
    with contextlib.suppress(OSError):
        (CONNECTIONS / str(entry.device_minor) / "abort").write_text("1")
        return True
    return False


def _doing(pid: int) -> str:
    return "is stopped" if _state(pid) in ("T", "t") else "hangs"


def _state(pid: int) -> str:
    """As the kernel calls it (proc_pid_stat(5)); empty if there is no such process."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(") ")[2][0]
    return ""


def _unsent(pid: int) -> Iterator[str]:
    folder = _cache_folder(pid)
    if folder is None:
        return
    try:
        paths = unsent_paths(folder)
    except (ContentError, OSError) as error:
        yield f"what is not sent yet lies in {folder} ({error})"
        return
    if paths:
        named = ", ".join(paths[:SHOWN]) + (", ..." if len(paths) > SHOWN else "")
        if len(paths) == 1:
            yield f"1 file is not sent yet ({named}); it lies in {folder} and is sent by the next mount"
        else:
            yield f"{len(paths)} files are not sent yet ({named}); they lie in {folder} and are sent by the next mount"


def _cache_folder(pid: int) -> Path | None:
    """The folder that the process has locked (content/cachedir.py); None if it has none."""
    with contextlib.suppress(OSError):
        for file in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                target = Path(os.readlink(file))
                if target.name == "lock" and target.parent.parent.name == LAYOUT:
                    return target.parent
    return None
