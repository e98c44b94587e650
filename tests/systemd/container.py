"""A Debian of its own, booted with its own systemd, in which the built wheel is installed.

The root is made once, under `.cache/` of the checkout, and stays as it was: each container writes into an overlay above
it. It shares the network with the machine, so a simulated NAS on the loopback interface is in its reach.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

CHECKOUT = Path(__file__).parents[2]
CACHE = CHECKOUT / ".cache" / "systemd"
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}  # the wheels are built here and installed there
PACKAGES = "systemd,systemd-sysv,libpam-systemd,dbus,dbus-user-session,fuse3,python3,python3-venv,udev,kmod,procps"
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
PIP_WHEEL = (sys.executable, "-m", "pip", "wheel", "-q")
BOOT_SECONDS = 60.0
REBOOT_CODE = 133  # with --keep-unit, systemd-nspawn leaves it to its caller to start it again
AUTOFS = Path("/dev/autofs")
# systemd-nspawn leaves files behind, and fails at a reboot, where /run is no tmpfs.
OWN_RUN = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"]
NSPAWN = ["--quiet", "--register=no", "--keep-unit", "--boot", "--capability=all", "--link-journal=no"]
NSPAWN += ["--bind=/dev/fuse", f"--bind={AUTOFS}", "--console=pipe"]


def why_not() -> str | None:
    """The reason for which no container can be had on this machine."""
    if os.geteuid() != 0:
        return "needs root, to boot a systemd in a container"
    absent = [program for program in ("debootstrap", "systemd-nspawn", "nsenter") if shutil.which(program) is None]
    if absent:
        return f"needs {', '.join(absent)}"
    if sys.version_info[:2] not in SUITES:
        return "needs a Python that a Debian release has (3.11 or 3.13)"
    if not os.path.exists("/dev/fuse"):
        return "needs /dev/fuse"
    may_mount = subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode == 0
    return None if may_mount else "needs CAP_SYS_ADMIN, to boot a systemd in a container"


T = TypeVar("T")


def until(what: str, condition: Callable[[], T], seconds: float = 30.0) -> T:
    """Poll until the condition holds; returns what it returned."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.1)
    return found


# ----- the root -------------------------------------------------------------------------------------------------


def _run(*command: object, **more: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"


def build_wheel(folder: Path) -> Path:
    """A wheel of this checkout."""
    _run(*PIP_WHEEL, "--no-deps", "--wheel-dir", folder, sources(folder), env=_pip())
    return next(folder.glob("synofs-*.whl"))


def sources(folder: Path) -> Path:
    """A copy to build from: setuptools leaves its `build/` where the sources are."""
    copied = folder / "sources"
    shutil.copytree(CHECKOUT / "synofs", copied / "synofs", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "man", "systemd"):
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, copied / name)
    return copied


def wheelhouse() -> Path:
    """Wheels of all that synofs depends on."""
    with open(CHECKOUT / "pyproject.toml", "rb") as file:
        wanted = sorted(tomllib.load(file)["project"]["dependencies"])
    key = hashlib.sha256(repr((wanted, sys.version_info[:2])).encode()).hexdigest()[:12]
    house = CACHE / f"wheelhouse-{key}"
    with _lock("wheelhouse"):
        if not house.exists():
            fresh = Path(f"{house}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _run(*PIP_WHEEL, "--wheel-dir", fresh, *wanted, env=_pip())
            fresh.rename(house)
    return house


def _pip() -> dict[str, str]:
    """Tests have a home of their own; what pip has compiled already lies in the real one."""
    real_home = Path("/root") if os.geteuid() == 0 else Path("~").expanduser()
    return {"PIP_CACHE_DIR": str(real_home / ".cache" / "pip"), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **os.environ}


@contextlib.contextmanager
def _lock(name: str) -> Iterator[None]:
    """One process at a time makes what is shared."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f"{name}.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def prepared_root() -> Path:
    """A Debian with systemd and, in /opt/synofs, all that synofs depends on."""
    suite, house = SUITES[sys.version_info[:2]], wheelhouse()
    plain = CACHE / f"{suite}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:4]}"
    root = CACHE / f"{plain.name}-{house.name.partition('-')[2]}"
    with _lock("root"):
        if root.exists():
            return root
        if not plain.exists():
            fresh = Path(f"{plain}.new")
            shutil.rmtree(fresh, ignore_errors=True)
            _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, fresh)
            fresh.rename(plain)
        fresh = Path(f"{root}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        _run("cp", "-a", plain, fresh)
        shutil.copytree(house, fresh / "wheelhouse")
        _in(fresh, "python3", "-m", "venv", "/opt/synofs")
        _in(fresh, *PIP, "--find-links", "/wheelhouse", *(f"/wheelhouse/{wheel.name}" for wheel in house.iterdir()))
        shutil.rmtree(fresh / "wheelhouse")
        fresh.rename(root)
    return root


PIP = ("/opt/synofs/bin/python", "-m", "pip", "install", "-q", "--no-index", "--disable-pip-version-check")


def _in(root: Path, *command: object) -> None:
    _run("chroot", root, *command, env=ENVIRONMENT)


# ----- the container --------------------------------------------------------------------------------------------


class Container:
    """A machine that can be switched on and off. `root` is its file system, to look at and to write into."""

    def __init__(self, base: Path, folder: Path) -> None:
        self._layers = {name: folder / name for name in ("upper", "work", "root")}
        for layer in self._layers.values():
            layer.mkdir()
        self.root = self._layers["root"]
        layers = f"lowerdir={base},upperdir={self._layers['upper']},workdir={self._layers['work']}"
        _run("mount", "-t", "overlay", "overlay", "-o", layers, self.root)
        self._console = folder / "console"
        self._nspawn: subprocess.Popen[bytes] | None = None

    def install(self, wheel: Path) -> None:
        """As `pip install synofs` would, and the programs on the path; before it is switched on."""
        shutil.copy(wheel, self.root / wheel.name)
        _in(self.root, *PIP, "--no-deps", f"/{wheel.name}")
        for name in ("synofs", "mount.synofs", "umount.synofs"):
            (self.root / "usr/local/bin" / name).symlink_to(f"/opt/synofs/bin/{name}")

    def switch_on(self) -> None:
        """Returns once everything has been started that is started at boot."""
        if not AUTOFS.exists():
            os.mknod(AUTOFS, 0o600 | 0o020000, os.makedev(10, 235))
        with open(self._console, "ab") as console:
            self._nspawn = subprocess.Popen(
                [*OWN_RUN, "systemd-nspawn", "-D", str(self.root), f"--machine=synofs-test-{os.getpid()}", *NSPAWN],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
            )
        until("the container's systemd is there", self._answers, BOOT_SECONDS)
        self.run("systemctl", "is-system-running", "--wait", check=False, timeout=BOOT_SECONDS)

    def _answers(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")[-3000:]
        return self._init() is not None and self.state() in ("initializing", "starting", "running", "degraded")

    def state(self) -> str:
        return self.run("systemctl", "is-system-running", check=False).strip()

    def _init(self) -> int | None:
        """Our number of the container's process 1."""
        assert self._nspawn is not None
        children = Path(f"/proc/{self._nspawn.pid}/task/{self._nspawn.pid}/children").read_text().split()
        for child in children:
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return int(child)
        return None

    def run(self, *command: object, check: bool = True, timeout: float = 60.0, user: str | None = None) -> str:
        """What a command in the container prints; with `check`, it has to succeed."""
        init = self._init()
        assert init is not None, "the container is not running"
        enter = ["nsenter", "-t", str(init), "-m", "-u", "-i", "-n", "-p", "-C", "--"]
        home = f"/home/{user}" if user else "/root"
        become = ["runuser", "-u", user, "--"] if user else []
        words = ["env", "-i", *(f"{name}={value}" for name, value in {**ENVIRONMENT, "HOME": home}.items())]
        done = subprocess.run(
            [*enter, *become, *words, *(str(word) for word in command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
        )
        assert not check or done.returncode == 0, f"{command}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the container's own; not of what is mounted in it."""
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def reboot(self) -> None:
        assert self._nspawn is not None
        self.run("systemctl", "reboot", check=False)
        assert self._nspawn.wait(BOOT_SECONDS) == REBOOT_CODE
        self.switch_on()

    def switch_off(self) -> None:
        """In order, within a while; else with force. Nothing of it stays."""
        if self._nspawn is not None and self._nspawn.poll() is None:
            self._nspawn.send_signal(signal.SIGTERM)
            try:
                self._nspawn.wait(60)
            except subprocess.TimeoutExpired:
                self._nspawn.kill()
                self._nspawn.wait()
        subprocess.run(["umount", "-i", "-l", str(self.root)], check=True)
