"""What synofs takes for granted about the machine it runs on."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from synofs.app import mounts
from synofs.app.doctor import Failed, Result, Skipped, not_passed, passed
from synofs.app.identity import make_runtime_dir
from synofs.app.units import HELPERS, SBIN

GROUP = "this machine"
OLDEST_KERNEL = (5, 4)
NEWEST_PYTHON = (3, 14)


def python() -> str:
    """This Python is one that synofs is tested with."""
    if sys.version_info[:2] > NEWEST_PYTHON:
        raise Failed(f"Python {platform.python_version()}", "it may work; tested are 3.11 to 3.14")
    return f"Python {platform.python_version()}"


def kernel() -> str:
    """The kernel is new enough."""
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    if numbers < OLDEST_KERNEL:
        raise Failed(f"Linux {release}", "synofs is tested with Linux 5.4 and newer")
    return f"Linux {release}"


def pyfuse3() -> str:
    """pyfuse3 can be loaded."""
    try:
        version = importlib.metadata.version("pyfuse3")
        importlib.import_module("synofs.fuse.mountpoint")
    except (ImportError, importlib.metadata.PackageNotFoundError) as exc:
        raise Failed(f"pyfuse3 cannot be loaded ({exc})", "sudo apt install libfuse3-3; pip install pyfuse3") from exc
    return f"pyfuse3 {version}"


def fuse_device() -> str:
    """The FUSE device is there and can be opened."""
    if not os.path.exists(mounts.FUSE_DEVICE):
        raise Failed(f"{mounts.FUSE_DEVICE} is missing", "modprobe fuse; in a container, --device /dev/fuse")
    if not os.access(mounts.FUSE_DEVICE, os.R_OK | os.W_OK):
        raise Failed(f"{mounts.FUSE_DEVICE} may not be opened by this user", "as root: chmod 666 /dev/fuse")
    return mounts.FUSE_DEVICE


def fusermount() -> str:
    """fusermount3 can mount for ordinary users."""
    path = shutil.which("fusermount3")
    if path is None:
        if os.geteuid() == 0:
            raise Skipped("root does not need it")
        raise Failed("fusermount3 is missing", "sudo apt install fuse3")
    if os.geteuid() != 0 and not os.stat(path).st_mode & 0o4000:
        raise Failed(f"{path} is not setuid root, so it cannot mount", f"as root: chmod u+s {path}")
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=10)
    return done.stdout.strip() or path


def allow_other() -> str:
    """Other users can be let in with --allow-other."""
    if mounts.allows_other():
        return "--allow-other is permitted to everyone (user_allow_other)"
    if os.geteuid() == 0:
        return "root may use --allow-other"
    raise Skipped("--allow-other is not permitted; it needs the line user_allow_other in /etc/fuse.conf")


def control_socket() -> str:
    """Running mounts have a private place for their sockets."""
    try:
        make_runtime_dir()
    except OSError as exc:
        raise Failed(f"no private directory for it ({exc})", "set XDG_RUNTIME_DIR to a folder of yours") from exc
    return "a private directory"


def dead_mounts() -> str:
    """No mount is left whose process is gone."""
    dead = [mount for mount in mounts.list_mounts() if mounts.is_dead(mount.mountpoint)]
    if dead:
        fix = "synofs status lists them, synofs umount clears them"
        raise Failed(f"{len(dead)} mounts whose process is gone", fix)
    return "none"


def mount_helpers() -> str:
    """mount(8) and fstab find mount.synofs and umount.synofs."""
    missing = [name for name in HELPERS if not (SBIN / name).exists()]
    if missing:
        programs = " ".join(f'"$(command -v {name})"' for name in missing)
        raise Skipped(f"not in {SBIN}, which fstab needs: sudo ln -s {programs} {SBIN}/")
    return f"in {SBIN}"


def updatedb() -> str:
    """locate does not crawl the NAS."""
    conf = Path("/etc/updatedb.conf")
    if not conf.exists():
        raise Skipped("there is no updatedb here")
    words = next((line for line in conf.read_text().splitlines() if line.startswith("PRUNEFS")), "")
    if mounts.FSTYPE not in words.replace('"', " ").split():
        raise Failed("locate would crawl the NAS", f"add {mounts.FSTYPE} to PRUNEFS in /etc/updatedb.conf")
    return "pruned"


CHECKS: tuple[Callable[[], str], ...] = (
    python,
    kernel,
    pyfuse3,
    fuse_device,
    fusermount,
    allow_other,
    control_socket,
    dead_mounts,
    mount_helpers,
    updatedb,
)


def examine_machine() -> Iterator[Result]:
    for check in CHECKS:
        try:
            yield passed(GROUP, check, check())
        except Exception as exc:  # a check that breaks is a finding, not the end of the examination
            yield not_passed(GROUP, check, exc)
