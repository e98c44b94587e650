"""systemd units for a profile: filled in from the templates, checked by systemd, written, enabled.

Two ways to have a mount looked after. A *service*, `synofs@PROFILE.service`, keeps it there: started at boot (or at
log-in), started anew when it fails. An *automount* has it there when somebody looks: mounted at the first access,
unmounted when idle. The templates lie in `systemd/`, which is installed as `share/synofs/systemd`.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType

import synofs
from synofs.app import profiles
from synofs.app.errors import Failure, Problem
from synofs.app.mounts import find_mount
from synofs.app.profiles import Profile

TOOL_SECONDS = 120.0
SERVICE = "synofs@.service"
HELPERS = ("mount.synofs", "umount.synofs")
SBIN = Path("/sbin")
CREDSTORES = (Path("/etc/credstore"), Path("/run/credstore"))
NOTE = "# Written by synofs units, and written again by it: changes of yours belong into 'systemctl edit'.\n\n"


class Scope(Enum):
    """Whose systemd: the machine's or the user's."""

    SYSTEM = "system"
    USER = "user"

    @property
    def folder(self) -> Path:
        if self is Scope.SYSTEM:
            return Path("/etc/systemd/system")
        config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
        return Path(config) / "systemd" / "user"

    @property
    def switch(self) -> str:
        return f"--{self.value}"


@dataclass(frozen=True, slots=True)
class Units:
    """Files to write, and the unit among them (or instance of one) that is to be enabled."""

    scope: Scope
    files: dict[str, str]  # name -> text
    to_enable: str


# ----- filling in -----------------------------------------------------------------------------------------------


def service_units(profile: Profile, scope: Scope) -> Units:
    """Raises `NO_MOUNTPOINT`."""
    _mountpoint(profile)
    text = template(f"synofs-{scope.value}@.service")
    program = str(installed_program("synofs")).replace("%", "%%")
    if re.search(r"\s", program):
        program = f'"{program}"'
    text = re.sub(r"(?m)^(Exec\w+=-?)synofs ", lambda match: f"{match[1]}{program} ", text)
    return Units(scope, {SERVICE: text}, f"synofs@{profile.name}.service")


def automount_units(profile: Profile, idle_seconds: float) -> Units:
    """The machine's only: a user's systemd cannot unmount FUSE, and has no automounts. Raises `NO_MOUNTPOINT`."""
    where = os.path.normpath(_mountpoint(profile))
    values = {"PROFILE": profile.name, "WHERE": where.replace("%", "%%"), "IDLE": f"{idle_seconds:g}"}
    name = escape_path(where)
    files = {}
    for kind in ("mount", "automount"):
        text = template(f"synofs.{kind}")
        files[f"{name}.{kind}"] = re.sub(r"@([A-Z]+)@", lambda match: values[match[1]], text)
    return Units(Scope.SYSTEM, files, f"{name}.automount")


def _mountpoint(profile: Profile) -> str:
    if profile.mountpoint is None:
        raise Failure(Problem.NO_MOUNTPOINT, name=profile.name)
    return os.path.expanduser(profile.mountpoint)


def escape_path(path: str) -> str:
    """The name of a mount unit for a folder, as `systemd-escape --path` has it."""
    plain = "/".join(part for part in path.split("/") if part)
    if not plain:
        return "-"
    escaped = ["-" if char == "/" else char if re.fullmatch(r"[A-Za-z0-9:_.]", char) else _hex(char) for char in plain]
    if escaped[0] == ".":
        escaped[0] = _hex(".")
    return "".join(escaped)


def _hex(char: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in os.fsencode(char))


def template(name: str) -> str:
    """A template's text, without the comment at its top: that is about the template."""
    text = _template_file(name).read_text(encoding="utf-8")
    return re.sub(r"\A(#[^\n]*\n|\n)*", NOTE, text)


def _template_file(name: str) -> Path:
    """Where pip has put the file, whatever the scheme of the installation; else in a checkout."""
    for file in importlib.metadata.files("synofs") or ():
        if file.name == name and file.parent.name == "systemd":
            return Path(str(file.locate()))
    return Path(synofs.__file__).parents[1] / "systemd" / name


def installed_program(name: str) -> Path:
    """The program beside this Python, so that a unit calls this installation and no other."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise Failure(Problem.NO_PROGRAM, name=name)
    return Path(found)


# ----- checking, writing, enabling ------------------------------------------------------------------------------


def check(units: Units) -> None:
    """Have systemd read the units, before they are where they count. Raises `UNITS_REFUSED`, `NO_SYSTEMD`."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in units.files.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        # A user's units need a runtime directory to be looked at, be nobody logged in.
        environment = {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR") or folder}
        names = [str(Path(folder, name)) for name in units.files]
        done = _run("systemd-analyze", "verify", "--man=no", units.scope.switch, *names, environment=environment)
    # It speaks of other units of the machine, too, and calls a template by the name of some instance.
    marks = [folder, *(re.split(r"(?<=@)|\.", name)[0] for name in units.files)]
    complaints = [line for line in done.stderr.splitlines() if any(mark in line for mark in marks)]
    if complaints or done.returncode:
        raise Failure(Problem.UNITS_REFUSED, detail="; ".join(complaints or done.stderr.splitlines()[-1:]))


def write(units: Units) -> list[Path]:
    """Write what is not there yet as it should be; returns the paths of all. Raises `UNITS_NOT_WRITTEN`."""
    paths = []
    try:
        units.scope.folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.files.items():
            path = units.scope.folder / name
            if not path.exists() or path.read_text(encoding="utf-8") != text:
                path.write_text(text, encoding="utf-8")
            paths.append(path)
    except OSError as exc:
        raise Failure(Problem.UNITS_NOT_WRITTEN, folder=units.scope.folder, detail=exc.strerror) from exc
    return paths


def make_mountpoint(profile: Profile) -> bool:
    """Make the folder to mount on, were it not there. Raises `NO_MOUNTPOINT`, `UNITS_NOT_WRITTEN`."""
    folder = Path(_mountpoint(profile))
    if find_mount(str(folder), fstype=None) is not None or os.path.lexists(folder):
        return False
    try:
        folder.mkdir(parents=True)
    except OSError as exc:
        raise Failure(Problem.UNITS_NOT_WRITTEN, folder=folder, detail=exc.strerror) from exc
    return True


def link_helpers() -> list[Path]:
    """Put mount.synofs and umount.synofs where mount(8) looks for them; returns those that were not there."""
    made = []
    for name in HELPERS:
        link = SBIN / name
        if link.exists():
            continue
        try:
            link.unlink(missing_ok=True)  # it led to an installation that is gone
            link.symlink_to(installed_program(name))
        except OSError as exc:
            raise Failure(Problem.UNITS_NOT_WRITTEN, folder=SBIN, detail=exc.strerror) from exc
        made.append(link)
    return made


def enable(units: Units) -> None:
    """Enable and start. Raises `UNITS_REFUSED` with what systemd says, `NO_SYSTEMD`."""
    for command in (["daemon-reload"], ["enable", "--now", units.to_enable]):
        done = _run("systemctl", units.scope.switch, *command)
        if done.returncode:
            raise Failure(Problem.UNITS_REFUSED, detail=" ".join(done.stderr.split()))


def has_password(profile: Profile) -> bool:
    """Whether a system service finds a password without root's saved sign-in."""
    stored = (place / f"synofs-{profile.name}" for place in CREDSTORES)
    return "password-file" in profile.words or any(file.exists() for file in stored)


def need_profile(name: str) -> Profile:
    """Raises `NO_PROFILE`."""
    profile = profiles.find(name)
    if profile is None:
        raise Failure(Problem.NO_PROFILE, name=name, file=profiles.user_file())
    return profile


def _run(*command: str, environment: Mapping[str, str] = MappingProxyType({})) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TOOL_SECONDS,
            env={**os.environ, **environment, "LC_ALL": "C", "SYSTEMD_COLORS": "0"},
            check=False,
        )
    except FileNotFoundError as exc:
        raise Failure(Problem.NO_SYSTEMD, program=command[0]) from exc
    except subprocess.TimeoutExpired as exc:
        raise Failure(Problem.UNITS_REFUSED, detail=f"{command[0]} did not answer") from exc
