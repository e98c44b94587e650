"""`guard.py PID NUMBER FOLDER`: waits for the end of a mount's process, and ends the kernel's connection to it.

The kernel does that by itself when nobody has its device open any more. But a thread that is killed while it waits in
the kernel for a folder (fuse/invalidation.py) has it open until it gets the folder, and whoever holds the folder waits
for an answer of the very process that has ended. Writing to the connection's `abort` is the way out.

Such a process has not ended for those who watch it: its pidfd says nothing, its pipes stay open. But its main thread
has, and for that thread's children the kernel has a signal, PR_SET_PDEATHSIG of prctl(2).

Runs as a script, with the standard library alone, and inherits nothing: it stays as long as the mount does, and is to
cost next to nothing. Its parent dismisses it with SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
PF_EXITING = 0x4  # include/linux/sched.h: set before the signal is sent, while the state still says "running"

# All that can be waited for: none of them ends it before its parent has ended.
SIGNALS = signal.valid_signals()


def is_ending(parent: int) -> bool:
    """Whether the main thread of our parent has ended. Another thread that began us would signal its own end, too."""
    if os.getppid() != parent:
        return True
    with contextlib.suppress(OSError), open(f"/proc/{parent}/stat", errors="replace") as stat:
        return bool(int(stat.read().rpartition(") ")[2].split()[6]) & PF_EXITING)
    return False


def open_abort(number: int) -> int | None:
    """Opened early: the kernel gives the number away again, but what is open belongs to this connection for ever."""
    with contextlib.suppress(OSError):
        return os.open(f"/sys/fs/fuse/connections/{number}/abort", os.O_WRONLY)
    return None


def force(number: int, folder: str) -> None:
    """Without fusectl, for root: umount(2) with MNT_FORCE ends the connection before it looks whether anybody uses the
    mount. We do, so it stays: an empty folder in its place would look as if all files had been deleted."""
    if not any(line[2] == f"0:{number}" for line in mounts()):
        return  # somebody has unmounted it; on an automount, a look at the folder would mount it again
    held = os.open(folder, os.O_PATH)
    with open(f"/proc/self/fdinfo/{held}") as about:
        mount_id = next(line.split()[1] for line in about if line.startswith("mnt_id:"))
    if any(line[:3:2] == [mount_id, f"0:{number}"] for line in mounts()):
        os.set_inheritable(held, True)
        os.execvp("umount", ["umount", "-i", "-c", "-f", "--", folder])


def mounts() -> list[list[str]]:
    with open("/proc/self/mountinfo", errors="surrogateescape") as lines:
        return [line.split(" ") for line in lines]


def main(parent: int, number: int, folder: str) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_NAME, b"synofs-guard", 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    abort = open_abort(number)
    while not is_ending(parent):
        signal.sigwait(SIGNALS)
    if abort is not None:
        os.write(abort, b"1")
    elif os.geteuid() == 0:
        force(number, folder)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
