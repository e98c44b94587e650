"""What libmount cannot learn from the kernel: that a mount is a network filesystem, and who helps to unmount it.

The kernel's list of mounts has no place for `_netdev`. libmount keeps such words in /run/mount/utab, and shows them
to mount(8), umount(8), systemd and desktops as if the kernel had them. The file is root's, and so is its lock; it is
written through `mount --fake` and `umount --fake`, which do everything but mount and unmount.

An ordinary user's mount cannot be recorded: fusermount3 has no way to ask for it.
"""

from __future__ import annotations

import logging
import os
import subprocess

from synofs.app.mounts import FSTYPE

log = logging.getLogger(__name__)

WORDS = "_netdev,helper=synofs"  # the second: umount(8) calls umount.synofs, which waits for uploads
TOOL_SECONDS = 10.0


def record(mountpoint: str, source: str) -> None:
    """Tell libmount about a mount that is there. Root only; a failure is logged, the mount is as good without."""
    if os.geteuid() != 0:
        log.info("_netdev can be recorded by root only")
        return
    forget(mountpoint)  # what an earlier mount left here; libmount would keep both lines
    # -i: not by way of mount.synofs, which calls us; -c: without a look at the mountpoint, which is served by us.
    _run("mount", "--fake", "-i", "-c", "-t", FSTYPE, "-o", WORDS, "--", source, mountpoint)


def forget(mountpoint: str) -> None:
    """Have libmount forget its words about a mount, whether it is still there or not."""
    if os.geteuid() == 0:
        _run("umount", "--fake", "-i", "-c", "--", mountpoint)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=TOOL_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        log.info("libmount cannot be told about the mount: %s", exc)
        return
    if done.returncode:
        log.info("libmount cannot be told about the mount: %s", " ".join(done.stderr.split()))
