"""Profiles: mounts that have a name, in `~/.config/synofs/config.toml` and `/etc/synofs/config.toml`.

    [profiles.home]
    nas = "anna@nas.example.org"
    mountpoint = "~/nas"
    dir-ttl = "2m"

The keys beside `nas` and `mountpoint` are the long options of `synofs mount`, read by the same table. Of two profiles
with the same name, the user's counts and the machine's is not looked at.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from synofs.app.config import (
    Settings,
    SignInWords,
    Words,
    read_settings,
    wrong_option,
)
from synofs.app.errors import Failure, Problem
from synofs.app.mounts import MountEntry, find_mount

FILE_NAME = "config.toml"
SYSTEM_FOLDER = Path("/etc/synofs")  # not platformdirs' /etc/xdg, where nobody would look
# Part of unit names and of fstab lines, and never to be taken for an address or a path.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Profile:
    """A NAS, its options as words and, unless each mount is to name it, the folder to mount on."""

    name: str
    file: Path
    nas: str
    mountpoint: str | None
    words: Words


@dataclass(frozen=True, slots=True)
class Target:
    """What a command was asked to work on: an address, or a profile with what it says."""

    nas: str
    mountpoint: str | None
    words: Words
    profile: str | None = None


def resolve(text: str, given: Mapping[str, str | bool], mountpoint: str | None = None) -> Target:
    """The NAS, folder and options that are meant by NAS, options and folder of a command line.

    A name that is a profile's is a profile; what the command line says itself counts more than the profile.
    Raises `BAD_PROFILE` for a configuration file that cannot be used.
    """
    profile = find(text)
    if profile is None:
        return Target(text, mountpoint, dict(given))
    return Target(profile.nas, mountpoint or profile.mountpoint, {**profile.words, **given}, profile.name)


def read_mount(
    text: str, given: Mapping[str, str | bool], mountpoint: str | None = None
) -> tuple[Settings, SignInWords]:
    """The settings of a mount of NAS or profile `text`. Raises `NO_PROFILE` or `NO_MOUNTPOINT` for want of a folder."""
    target = resolve(text, given, mountpoint)
    if target.mountpoint is None:
        if not NAME.fullmatch(text):  # an address
            raise wrong_option("the folder to mount on is missing")
        problem = Problem.NO_PROFILE if target.profile is None else Problem.NO_MOUNTPOINT
        raise Failure(problem, name=text, file=user_file())
    return read_settings(target.nas, target.words, target.mountpoint)


def read_sign_in(text: str, given: Mapping[str, str | bool]) -> tuple[Settings, SignInWords]:
    """The settings with which NAS or profile `text` is spoken to, without a folder."""
    target = resolve(text, given)
    return read_settings(target.nas, target.words)


def find_mounted(text: str) -> MountEntry | None:
    """The mount on the folder `text`, or else on that of the profile `text`."""
    entry = find_mount(text)
    if entry is None:
        profile = find(text)
        if profile is not None and profile.mountpoint is not None:
            entry = find_mount(os.path.expanduser(profile.mountpoint))
    return entry


def not_mounted(text: str) -> Failure:
    """That nothing is mounted on the folder, or the profile's folder, `text`."""
    profile = None if os.path.isdir(text) else find(text)
    if profile is None:
        return Failure(Problem.NOT_MOUNTED, mountpoint=text)
    folder = profile.mountpoint
    what = f"the folder of profile {text}, {folder}," if folder is not None else f"the profile {text} has no folder and"
    return Failure(Problem.NOT_MOUNTED, mountpoint=what)


def find(name: str) -> Profile | None:
    """The profile with this name; None where there is none, or where `name` could not be one's."""
    return load().get(name) if NAME.fullmatch(name) else None


def user_file() -> Path:
    return platformdirs.user_config_path("synofs") / FILE_NAME


def load() -> dict[str, Profile]:
    """All profiles. Raises `BAD_PROFILE`, which names the file and everything in it that is wrong."""
    profiles: dict[str, Profile] = {}
    for file in (SYSTEM_FOLDER / FILE_NAME, user_file()):
        profiles |= read(file)
    return profiles


def read(file: Path) -> dict[str, Profile]:
    """The profiles of one file; none where there is no file. Raises `BAD_PROFILE`."""
    try:
        with open(file, "rb") as stream:
            data = tomllib.load(stream)
    except FileNotFoundError:
        return {}
    except OSError as exc:
        raise _bad(file, f"it cannot be read ({exc.strerror})") from exc
    except (ValueError, RecursionError) as exc:  # not TOML, or not UTF-8
        raise _bad(file, f"it is not TOML ({exc})") from exc
    from synofs.app.profilefile import BadFile, check  # its library would slow down each mount that has no profile

    try:
        return {name: _profile(name, file, values) for name, values in check(data).items()}
    except BadFile as exc:
        raise _bad(file, str(exc)) from exc


def _profile(name: str, file: Path, values: dict[str, Any]) -> Profile:
    nas, mountpoint = values.pop("nas"), values.pop("mountpoint")
    words = {option: word for option, word in values.items() if word is not None}
    return Profile(name, file, nas, mountpoint, words)


def _bad(file: Path, detail: str) -> Failure:
    return Failure(Problem.BAD_PROFILE, file=file, detail=detail)
