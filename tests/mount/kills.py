"""`python -m tests.mount.kills NUMBER`: SIGKILL at random moments while names change on both sides of a mount.

Programs make, rename and remove files in folders in which somebody else changes names all the time. The moment that is
looked for: a thread of the mount waits in the kernel for a folder whose holder waits for the mount.
"""

from __future__ import annotations

import errno
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.mount.harness import Mount, Nas, end_connection, mounted, simulated_nas

FOLDERS = 3
PROGRAMS = 4
PAUSE_SECONDS = 0.01  # between two changes of somebody else's
SECONDS = 5.0  # for everybody to get an error, and for the process to end
ABORTED = (errno.ECONNABORTED, errno.ENOTCONN, errno.EIO)
OPTIONS = ("--dir-ttl", "0.2", "--attr-ttl", "0.2")  # so that what somebody else does is told to the kernel at once
WORK = """
import os, random, sys
folders, me, aborted, count = sys.argv[1:-2], sys.argv[-2], eval(sys.argv[-1]), 0
while True:
    count += 1
    at, to = (f"{random.choice(folders)}/{me} {count}{end}" for end in ("", " renamed"))
    try:
        os.close(os.open(at, os.O_CREAT | os.O_WRONLY))
        os.rename(at, to)
        os.unlink(to)
    except OSError as error:
        if error.errno in aborted:
            sys.exit(0)
"""


@contextmanager
def somebody_else(folders: list[Path]) -> Iterator[None]:
    """Changes names on the NAS."""
    stopped = threading.Event()

    def work() -> None:
        count = 0
        while not stopped.wait(PAUSE_SECONDS):
            count += 1
            folder = folders[count % len(folders)]
            (folder / f"theirs {count % 50}").touch()
            (folder / f"theirs {(count - 25) % 50}").unlink(missing_ok=True)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@contextmanager
def changes(mount: Mount, served: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """On both sides, for a random time; yields the programs at the moment for the kill, and cleans up after it."""
    folders = [served / f"folder {number}" for number in range(FOLDERS)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    seen = [mount / folder.name for folder in folders]
    programs = [
        subprocess.Popen([sys.executable, "-I", "-S", "-c", WORK, *seen, f"mine {number}", repr(ABORTED)])
        for number in range(PROGRAMS)
    ]
    try:
        with somebody_else(folders):
            time.sleep(random.uniform(0.5, 2.0))
            yield programs
    finally:
        end_connection(mount.mountpoint)
        for program in programs:
            program.kill()
            program.wait()
        mount.process.wait()
        mount.process.returncode = 0  # on purpose


def all_end(mount: Mount, programs: list[subprocess.Popen[bytes]]) -> bool:
    """Whether they do in time, each program because of the right error."""
    deadline = time.monotonic() + SECONDS
    try:
        for process in (*programs, mount.process):
            process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        return False
    return all(program.returncode == 0 for program in programs)


def kill_often(nas: Nas, served: Path, number: int, inside: str = ".") -> int:
    """`inside`: where the share has the served folder. Returns how many kills did not let everybody go in time."""
    hung = 0
    for count in range(1, number + 1):
        with mounted(nas, *OPTIONS, writable=True) as mount:
            mount.path /= inside
            with changes(mount, served) as programs:
                mount.process.kill()
                hung += not all_end(mount, programs)
        print(f"{count} kills, {hung} hung", flush=True)
    return hung


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory, simulated_nas({"data": Path(directory)}) as nas:
        sys.exit(kill_often(nas, Path(directory), int(sys.argv[1])) != 0)
