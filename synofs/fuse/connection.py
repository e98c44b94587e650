"""The kernel's end of a mount: its number, how to end it, and a process that ends it should this one be killed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import trio

from synofs.fuse import guard

log = logging.getLogger(__name__)

CONNECTIONS = Path("/sys/fs/fuse/connections")
ABORT_SECONDS = 5.0
NOBODY = 0  # as the process that is waited for: it has ended
PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0


def device_number(mountpoint: str) -> tuple[int, int] | None:
    """From mountinfo rather than stat(2), which would ask ourselves."""
    wanted = os.path.realpath(os.path.dirname(os.path.abspath(mountpoint)))
    wanted = os.path.join(wanted, os.path.basename(os.path.abspath(mountpoint)))
    found = None
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        # The kernel writes blanks, tabs, newlines and backslashes as octal numbers.
        path = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
        if path == wanted:
            major, _, minor = fields[2].partition(":")
            found = int(major), int(minor)
    return found


def abort(mountpoint: str) -> None:
    """Have the kernel end all calls of this mount with an error. A thread of ours waits in the kernel for one of them,
    and would keep the device open, and so the calls waiting, after the end of this process."""
    device = device_number(mountpoint)
    if device is not None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            _start_guard(NOBODY, device[1], mountpoint).wait(ABORT_SECONDS)


async def keep_guard(mountpoint: str) -> None:
    """Have a process that does the same when this one is killed (fuse/guard.py), until cancelled.

    Not through trio, which would start it from a thread: it is told of the end of the thread that started it.
    """
    pause = PAUSE_SECONDS
    while (device := device_number(mountpoint)) is not None:
        try:
            process = _start_guard(os.getpid(), device[1], mountpoint)
        except OSError as exc:
            log.warning("no process watches over this one (%s): should it be killed, programs may wait for ever", exc)
            return
        try:
            await _ended(process)
        finally:
            process.kill()
            process.wait()
        log.warning("the process that watches over this one ended (%d); the next one follows", process.returncode)
        await trio.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)


def _start_guard(parent: int, number: int, mountpoint: str) -> subprocess.Popen[bytes]:
    """Raises `OSError`."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", guard.__file__, str(parent), str(number), mountpoint],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,  # what a terminal sends to our group is not for it
    )


async def _ended(process: subprocess.Popen[bytes]) -> None:
    descriptor = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)
