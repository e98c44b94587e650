"""`mount_guard.py PID FOLDER`: waits for the end of a daemon, then takes away the mount that it left, if it left one.

For mounts on an automount, which mounts anew at the next access. Elsewhere an empty folder would come to light, and
that would look as if all files had been deleted. Runs as a script, with the standard library alone: it stays as long
as the mount does, and is to cost next to nothing.
"""

import os
import re
import select
import sys


def topmost(folder: str) -> str | None:
    """The device number of what is mounted there. Read, not asked for: a look at the folder would mount it again."""
    device = None
    with open("/proc/self/mountinfo", errors="surrogateescape") as mounts:
        for line in mounts:
            fields = line.split(" ")
            if re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]) == folder:
                device = fields[2]
    return device


def await_end(pid: int) -> None:
    try:
        daemon = os.pidfd_open(pid)
    except ProcessLookupError:
        return  # it has ended already
    poll = select.poll()
    poll.register(daemon, select.POLLIN)
    poll.poll()


def main(pid: int, folder: str) -> None:
    mounted = topmost(folder)
    await_end(pid)
    if mounted is not None and topmost(folder) == mounted:
        os.execvp("umount", ["umount", "-i", "-c", "-l", "--", folder])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
