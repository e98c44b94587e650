"""Profiles: mounts that have a name, in `~/.config/synofs/config.toml` and `/etc/synofs/config.toml`.

    [profiles.home]
    nas = "anna@nas.example.org"
    mountpoint = "~/nas"
    dir-ttl = "2m"

The keys beside `nas` and `mountpoint` are the long options of `synofs mount`, read by the same table. Of two profiles
with the same name, the user's counts and the machine's is not looked at.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import platformdirs
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StrictBool,
    StrictStr,
    ValidationError,
    create_model,
)

from synofs.app.config import (
    OPTIONS,
    PATH_OPTIONS,
    Settings,
    SignInWords,
    Words,
    parse_nas,
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
    try:
        profiles = _File.model_validate(data).profiles
    except ValidationError as exc:
        raise _bad(file, "; ".join(_complaints(exc))) from exc
    return {name: _profile(name, file, dict(model)) for name, model in profiles.items()}


def _profile(name: str, file: Path, values: dict[str, Any]) -> Profile:
    nas, mountpoint = values.pop("nas"), values.pop("mountpoint")
    words = {option: word for option, word in values.items() if word is not None}
    return Profile(name, file, nas, mountpoint, words)


# ----- what a file may say --------------------------------------------------------------------------------------


def _text(value: object) -> object:
    """Numbers may stand without quotation marks; `true` is no number."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _checked(parse: Callable[[str], object]) -> AfterValidator:
    """Refuses what the option would refuse, and keeps the word: it is read again with those of the command line."""

    def check(word: str) -> str:
        parse(word)
        return word

    return AfterValidator(check)


def _address(text: str) -> None:
    try:
        parse_nas(text)
    except Failure as failure:
        raise ValueError(failure.facts["detail"]) from failure


def _whole_path(text: str) -> None:
    """Whether a file is there is seen when it is needed: a profile may name files that only root can see."""
    if not text.startswith(("/", "~")):
        raise ValueError(f"{text!r} is not a whole path, which begins with / or ~")


def _name(name: str) -> None:
    if not NAME.fullmatch(name):
        raise ValueError("the name of a profile has letters, digits, '-', '_' and '.' only")


def _kind(name: str, parse: Callable[[str], object] | None) -> Any:
    if parse is None:
        return StrictBool
    return Annotated[StrictStr, BeforeValidator(_text), _checked(_whole_path if name in PATH_OPTIONS else parse)]


# A one-time code is no option for a file: it is wrong half a minute later.
KEYS = {name: parse for name, (_field, parse) in OPTIONS.items() if name != "otp"}
_OPTIONS: dict[str, Any] = {name: (_kind(name, parse) | None, None) for name, parse in KEYS.items()}


class _Place(BaseModel):
    model_config = ConfigDict(extra="forbid")

    nas: Annotated[StrictStr, _checked(_address)]
    mountpoint: Annotated[StrictStr, _checked(_whole_path)] | None = None


_Keys = create_model("_Keys", __base__=_Place, **_OPTIONS)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid")

    profiles: dict[Annotated[str, _checked(_name)], _Keys] = {}  # type: ignore[valid-type]


# ----- what is said about a file that is wrong ------------------------------------------------------------------


def _bad(file: Path, detail: str) -> Failure:
    return Failure(Problem.BAD_PROFILE, file=file, detail=detail)


def _complaints(error: ValidationError) -> Iterator[str]:
    for one in error.errors(include_url=False):
        place = [str(part) for part in one["loc"] if part != "[key]"]
        yield f"{'.'.join(place)}: {_expected(one['type'], one['msg'], place)}"


def _expected(kind: str, message: str, place: list[str]) -> str:
    if kind == "extra_forbidden":
        known = ["profiles"] if len(place) == 1 else ["nas", "mountpoint", *KEYS]
        close = difflib.get_close_matches(place[-1], known, n=1)
        if len(place) == 1:
            return "there is no such key; profiles are written as [profiles.NAME]"
        return "there is no such key" + (
            f"; did you mean {close[0]}?" if close else "; keys are nas, mountpoint and the long options"
        )
    if kind == "missing":
        return "is missing; it says where the NAS is, such as https://nas:5001"
    if kind == "bool_type":
        return "expected true or false"
    if kind == "string_type":
        return "expected a text in quotation marks"
    if kind in ("dict_type", "model_type"):
        return f"expected a table, [profiles.{place[-1] if len(place) > 1 else 'NAME'}]"
    return message.removeprefix("Value error, ")
