"""`mount.synofs` and `umount.synofs`: how mount(8), fstab and systemd's mount units come to synofs.

mount(8) calls `/sbin/mount.TYPE SOURCE FOLDER [-sfnvrw] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]`; umount(8) calls
`/sbin/umount.TYPE FOLDER [-flnrv] [-N NAMESPACE] [-t TYPE]` for a mount with `helper=TYPE` (`synofs.app.utab`). The
exit codes are those of mount(8), as bits: 1 wrong call, 2 this machine, 8 interrupted, 32 the mount failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from synofs.app import forced, mount_guard, profiles
from synofs.app.assembly import mount_source
from synofs.app.config import Settings, SignInWords, Words, read_mount_options, wrong_option
from synofs.app.control import ControlClient
from synofs.app.credentials import find_credentials, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.launch import prepare, start_daemon
from synofs.app.mounts import find_mount, is_dead, list_mounts, unmount
from synofs.app.order import Order

DONE, WRONG_CALL, MACHINE_FAILED, INTERRUPTED, MOUNT_FAILED = 0, 1, 2, 8, 32
END_SECONDS = 10.0
# umount(8) waits for a helper as long as it takes; systemd for 90 s, and then it kills umount.
UNMOUNT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class MountCall:
    """What mount(8) wants."""

    source: str
    folder: str
    words: Words
    is_fake: bool = False


def exit_code(failure: Failure) -> int:
    """What mount(8) calls a failure of ours."""
    if failure.problem in (Problem.WRONG_OPTION, Problem.BAD_PROFILE, Problem.NO_PROFILE):
        return WRONG_CALL
    if failure.problem in (Problem.NO_FUSE, Problem.NO_FUSERMOUNT):
        return MACHINE_FAILED
    return INTERRUPTED if failure.problem is Problem.INTERRUPTED else MOUNT_FAILED


# ----- mount.synofs ---------------------------------------------------------------------------------------------


def read_mount_call(arguments: Sequence[str]) -> MountCall:
    """Raises `WRONG_OPTION`."""
    parser = _Parser("mount.synofs", add_help=False)
    parser.add_argument("source")
    parser.add_argument("folder")
    parser.add_argument("-o", dest="options", action="append", default=[])
    parser.add_argument("-s", dest="sloppy", action="store_true")
    parser.add_argument("-f", dest="fake", action="store_true")
    parser.add_argument("-r", dest="read_only", action="store_true")
    parser.add_argument("-t", "-N", dest="ignored_value")  # -N: mount(8) has entered the namespace already
    parser.add_argument("-n", "-v", "-w", dest="ignored", action="store_true")
    call = parser.parse_intermixed_args(arguments)
    options = [option for text in call.options for option in text.split(",")]
    if "remount" in options:
        raise wrong_option("a mount cannot be changed; unmount it, then mount it with the other options")
    words = read_mount_options(call.options, sloppy=call.sloppy)
    if call.read_only:
        words["read-only"] = True
    return MountCall(call.source, call.folder, words, call.fake)


def mount(call: MountCall) -> str | None:
    """Mount; returns once the mount answers, with a remark if there is one. Raises `Failure`.

    What is mounted already is no failure, so that `mount -a` can be run again: fstab's name for a NAS and the kernel's
    differ, and mount(8) cannot know.
    """
    settings, sign_in_words = profiles.read_mount(call.source, {"netdev": True, **call.words}, call.folder)
    if call.is_fake:
        return None
    try:
        settings = prepare(settings)
    except Failure as failure:
        if failure.problem is Problem.ALREADY_MOUNTED and _is_the_same(settings):
            return f"{mount_source(settings)} is mounted on {settings.mountpoint} already"
        raise
    _start(settings, sign_in_words)
    return None


def _is_the_same(settings: Settings) -> bool:
    entry = find_mount(settings.mountpoint)
    return entry is not None and entry.source == mount_source(settings)


def _start(settings: Settings, sign_in_words: SignInWords) -> None:
    # Nobody is asked: mount(8) may be called at boot, or by a desktop without a terminal.
    order = Order(*find_credentials(settings, sign_in_words, saved_sign_ins(), None))
    has_automount = any(entry.mountpoint == settings.mountpoint for entry in list_mounts("autofs"))
    daemon = start_daemon(order)
    if has_automount and os.geteuid() == 0:
        _guard(daemon.pid, settings.mountpoint)


def _guard(daemon_pid: int, mountpoint: str) -> None:
    """Clear the mount should its daemon die, so that the automount below it mounts anew at the next access."""
    subprocess.Popen(
        [sys.executable, "-I", "-S", mount_guard.__file__, str(daemon_pid), mountpoint],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )


# ----- umount.synofs --------------------------------------------------------------------------------------------


def unmount_call(arguments: Sequence[str]) -> str | None:
    """Wait for uploads, then unmount. Raises `UPLOADS_PENDING` when they take too long: nothing is unmounted then.

    With -l it is out of sight at once; with -f, those that wait for its process are let go as well, and what is left
    is returned, line by line (app/forced.py).
    """
    parser = _Parser("umount.synofs", add_help=False)
    parser.add_argument("folder")
    parser.add_argument("-f", dest="force", action="store_true")
    parser.add_argument("-l", dest="lazy", action="store_true")
    parser.add_argument("-t", "-N", dest="ignored_value")
    parser.add_argument("-n", "-r", "-v", dest="ignored", action="store_true")
    call = parser.parse_intermixed_args(arguments)
    entry = find_mount(call.folder)
    if entry is None:
        raise Failure(Problem.NOT_MOUNTED, mountpoint=call.folder)
    if call.force:
        return "\n".join(forced.end(entry))
    if call.lazy or is_dead(entry.mountpoint):
        unmount(entry.mountpoint, lazy=True)
        return None
    try:
        with ControlClient.connect(entry) as daemon:
            _flush(daemon)
            # By this process and not by the daemon: while an automount expires, whoever does not belong to systemd's
            # process group has to wait for the end of it.
            unmount(entry.mountpoint)
            daemon.wait_for_end(END_SECONDS)
    except Failure as failure:
        if failure.problem is not Problem.DAEMON_GONE:
            raise
        unmount(entry.mountpoint)  # it cannot be asked, but it waits for uploads by itself before it ends
    return None


def _flush(daemon: ControlClient) -> None:
    try:
        daemon.ask("flush", timeout_seconds=UNMOUNT_SECONDS, within_seconds=UNMOUNT_SECONDS + END_SECONDS)
    except Failure as failure:
        if failure.problem is not Problem.UPLOADS_FAILED:  # those are safe in the recovery folder
            raise


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise wrong_option(message)
