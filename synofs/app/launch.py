"""The caller's side of a new mount: look before asking, start the daemon, wait until the mount answers.

The daemon is a fresh process rather than a fork of this one, so no thread, lock or file of the caller's comes along.
It gets its order through a pipe, so that no secret is in its arguments or environment, where every user of the
machine could read it.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from synofs.app.config import Settings
from synofs.app.errors import Failure, Problem
from synofs.app.logs import log_path
from synofs.app.mounts import find_mount, require_fuse, require_mountpoint, unmount
from synofs.app.order import Order
from synofs.content.private import make_dirs

START_SECONDS = 30.0  # the daemon gives up by itself well before
END_SECONDS = 5.0


def prepare(settings: Settings) -> Settings:
    """Raise what this machine has against the mount, before anybody is asked for a password."""
    require_fuse(allow_other=settings.allow_other)
    require_mountpoint(settings.mountpoint)
    return replace(settings, mountpoint=os.path.realpath(settings.mountpoint))


def start_daemon(order: Order) -> subprocess.Popen[bytes]:
    """Start a daemon for prepared settings; returns once the mount answers. Raises `Failure`."""
    mountpoint = order.settings.mountpoint
    log = log_path(mountpoint)
    make_dirs(log.parent)
    report_reader, report_writer = os.pipe()
    try:
        # What Python itself may have to say at its end (a crash in a C library) goes where the log is.
        with open(log, "ab", opener=_private) as stray:
            daemon = subprocess.Popen(
                [sys.executable, "-P", "-m", "synofs.app.daemon", str(report_writer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stray,
                cwd="/",
                pass_fds=[report_writer],
            )
        os.close(report_writer)
        report_writer = -1
        try:
            _hand_over(daemon, order)
            _await_report(daemon, report_reader, log)
            _await_answer(mountpoint)
        except BaseException:
            _end(daemon, mountpoint)
            raise
        return daemon
    finally:
        os.close(report_reader)
        if report_writer >= 0:
            os.close(report_writer)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, mode=0o600)


def _hand_over(daemon: subprocess.Popen[bytes], order: Order) -> None:
    assert daemon.stdin is not None
    # A daemon that ended already cannot be told anything; its report, or the lack of one, tells why.
    with contextlib.suppress(BrokenPipeError), daemon.stdin as pipe:
        pipe.write(json.dumps(order.to_json()).encode())


def _await_report(daemon: subprocess.Popen[bytes], reader: int, log: Path) -> None:
    """Return when the daemon reports ready; raise the failure that it reports."""
    deadline = time.monotonic() + START_SECONDS
    received = b""
    while not received.endswith(b"\n"):
        if not select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise Failure(Problem.INTERNAL, detail="the daemon neither mounted nor gave up", log=log)
        piece = os.read(reader, 65536)
        if not piece:
            code = daemon.wait()
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            raise Failure(Problem.INTERNAL, detail=f"the daemon ended with {how}", log=log)
        received += piece
    report = json.loads(received)
    if "problem" in report:
        daemon.wait()
        raise Failure.from_json(report)


def _await_answer(mountpoint: str) -> None:
    """See the mount with this process's own eyes: listed by the kernel, and answering."""
    if find_mount(mountpoint) is None:
        raise Failure(Problem.MOUNT_REFUSED, detail="it is not in the kernel's list", log=log_path(mountpoint))
    try:
        os.stat(mountpoint)
    except OSError as exc:
        raise Failure(Problem.MOUNT_REFUSED, detail=exc.strerror, log=log_path(mountpoint)) from exc


def _end(daemon: subprocess.Popen[bytes], mountpoint: str) -> None:
    """Leave nothing behind: neither a process nor a mount."""
    if daemon.poll() is None:
        daemon.terminate()
        try:
            daemon.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()
    if find_mount(mountpoint) is not None:
        unmount(mountpoint, lazy=True)
