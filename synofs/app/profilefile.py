"""What a file of profiles may say, and what is said about one that is wrong."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any

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

from synofs.app.config import OPTIONS, PATH_OPTIONS, parse_nas
from synofs.app.errors import Failure
from synofs.app.profiles import NAME


class BadFile(Exception):
    """Says everything that is wrong."""


def check(data: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The keys of each profile. Raises `BadFile`."""
    try:
        profiles = _File.model_validate(data).profiles
    except ValidationError as exc:
        raise BadFile("; ".join(_complaints(exc))) from exc
    return {name: dict(model) for name, model in profiles.items()}


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
