"""`mount_guard.py PID FOLDER`: waits for the end of a daemon, then takes away the mount it left, were it dead.

For mounts on an automount, which mounts anew at the next access. Elsewhere an empty folder would come to light, and
that would look as if all files had been deleted. Runs as a script, with the standard library alone: it stays as long
as the mount does, and is to cost next to nothing.
"""

import errno
import os
import select
import sys


def main(pid: int, folder: str) -> None:
    try:
        daemon = os.pidfd_open(pid)
    except ProcessLookupError:
        pass  # it has ended already
    else:
        poll = select.poll()
        poll.register(daemon, select.POLLIN)
        poll.poll()
    try:
        os.statvfs(folder)
    except OSError as exc:
        if exc.errno in (errno.ENOTCONN, errno.ECONNABORTED):
            os.execvp("umount", ["umount", "-i", "-c", "-l", "--", folder])


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
