"""The wire format of DSM's web API: parameters in, JSON envelopes out.

Version 2 and later of the File Station APIs take JSON values in their parameters and tolerate some raw ones;
version 1 takes raw values and comma lists. What a raw value does where JSON is expected is one of the traps of
this API, so each accessor of `Params` says what it accepts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote_to_bytes

import msgspec

from .quirks import Quirks

Item = TypeVar("Item")

_JSON_BEGINS = frozenset('"[{-0123456789tfnNI \t\r\n')


class ApiError(Exception):
    """A call refused with a code: `{"success": false, "error": {"code": ..., "errors": ...}}`."""

    def __init__(self, code: int, errors: list[dict[str, Any]] | dict[str, Any] | None = None) -> None:
        super().__init__(code, errors)
        self.code = code
        self.errors = errors


def decode_query(query: bytes, *, plus_is_space: bool) -> dict[str, str]:
    """Fields of a query string or of a urlencoded form.

    Bytes that are not UTF-8 become lone surrogates. A `+` in a query stays a `+` on DSM (sign-ins of accounts
    with a space in the name failed until clients sent %20); in a form body it is a space as everywhere.
    """
    result: dict[str, str] = {}
    for pair in query.split(b"&"):
        if not pair:
            continue
        if plus_is_space:
            pair = pair.replace(b"+", b" ")
        key, _, value = pair.partition(b"=")
        result.setdefault(_text(unquote_to_bytes(key)), _text(unquote_to_bytes(value)))
    return result


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _json_value(raw: str) -> Any:
    """The JSON value of a parameter, or None if it is no JSON."""
    if not raw or raw[0] not in _JSON_BEGINS:
        return None  # most raw values: json.loads would work out where in the text the mistake is
    try:
        return json.loads(raw)
    except ValueError:
        return None


class Params:
    """The parameters of one call, query and form merged."""

    def __init__(self, fields: Mapping[str, str], version: int, quirks: Quirks) -> None:
        self._fields = fields
        self._json = version >= 2
        self._quirks = quirks

    def __contains__(self, name: str) -> bool:
        return name in self._fields

    def all_texts(self) -> Iterable[str]:
        """Every string of the call, decoded: what the `path` of a fault is looked for in."""
        for name in self._fields:
            yield from self.texts(name)

    def raw(self, name: str) -> str | None:
        """The value as it came."""
        return self._fields.get(name)

    def text(self, name: str, default: str = "") -> str:
        """A string: JSON (`"x"`, or the first of `["x"]`) or raw."""
        raw = self._fields.get(name)
        if raw is None:
            return default
        if self._json and raw[:1] in ('"', "["):
            value = _json_value(raw)
            if isinstance(value, list) and value:
                value = value[0]
            if isinstance(value, str):
                return value
        return raw

    def texts(self, name: str) -> list[str]:
        """Several strings: a JSON array, one JSON string, or one raw literal (a comma does not separate).

        Version 1 has comma lists with `\\,` and `\\\\` as escapes instead.
        """
        raw = self._fields.get(name)
        if raw is None or raw == "":
            return []
        if not self._json:
            return _split_commas(raw)
        value = _json_value(raw)
        if isinstance(value, list):
            return [item if isinstance(item, str) else json.dumps(item) for item in value]
        return [value] if isinstance(value, str) else [raw]

    def path(self, name: str) -> str:
        """One path; code 400 if there is none."""
        paths = self.paths(name)
        if not paths:
            raise ApiError(400)
        return paths[0]

    def paths(self, name: str) -> list[str]:
        """Paths, as `texts`. Raw ones with brackets or quotes are ambiguous with JSON and refused by default."""
        raw = self._fields.get(name, "")
        if (
            self._json
            and self._quirks.raw_brackets == "broken"
            and any(character in raw for character in '[]"')
            and not isinstance(_json_value(raw), (str, list))
        ):
            raise ApiError(400)
        return self.texts(name)

    def is_quoted(self, name: str) -> bool:
        """Whether the value is a JSON string or array, as version 2 wants it."""
        return not self._json or isinstance(_json_value(self._fields.get(name, "")), (str, list))

    def quoted(self, name: str, default: str = "") -> str:
        """A string that counts only if it is quoted; raw text is silently ignored."""
        return self.text(name, default) if self.is_quoted(name) else default

    def choice(self, name: str, allowed: tuple[str, ...], default: str) -> str:
        """One of the known words, quoted or raw, in any case; the default for anything else."""
        value = self.text(name, default).lower()
        return value if value in allowed else default

    def integer(self, name: str, default: int = 0) -> int:
        """A number; the default if it does not parse."""
        try:
            return int(self.text(name))
        except ValueError:
            return default

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean in any case (clients send Python's `False`); the default if it does not parse."""
        return {"true": True, "false": False}.get(self.text(name).strip().lower(), default)

    @property
    def descending(self) -> bool:
        return self.choice("sort_direction", ("asc", "desc"), "asc") == "desc"

    def page(self, items: list[Item], cap: int = 0) -> tuple[int, list[Item]]:
        """The items from `offset` on, at most `limit` of them (0 or less: all) and at most `cap` (0: no cap)."""
        offset, limit = max(0, self.integer("offset")), self.integer("limit")
        if cap and (limit <= 0 or limit > cap):
            limit = cap
        return offset, items[offset : offset + limit] if limit > 0 else items[offset:]

    def additional(self) -> frozenset[str]:
        """The extra fields asked for. From version 2 on only a JSON array counts, a comma list is ignored."""
        raw = self._fields.get("additional", "")
        if not self._json:
            return frozenset(_split_commas(raw))
        value = _json_value(raw)
        return frozenset(v for v in value if isinstance(v, str)) if isinstance(value, list) else frozenset()


def _split_commas(raw: str) -> list[str]:
    """A version 1 list: items between commas, `\\,` is a comma and `\\\\` a backslash."""
    items = [""]
    characters = iter(raw)
    for character in characters:
        if character == "\\":
            items[-1] += next(characters, "")
        elif character == ",":
            items.append("")
        else:
            items[-1] += character
    return [item for item in items if item]


def success(data: Any, quirks: Quirks) -> bytes:
    """The body of an answer; `None` is an answer without data."""
    if data is None:
        return b'{"success":true}'
    if quirks.numbers == "string":
        data = _numbers_as_text(data)
    return encode_json({"data": data, "success": True}, quirks)


def failure(error: ApiError, quirks: Quirks) -> bytes:
    """The body of a refusal. The HTTP status of it is 200."""
    return encode_json(refusal(error), quirks)


def refusal(error: ApiError) -> dict[str, Any]:
    body: dict[str, Any] = {"code": error.code}
    if error.errors is not None:
        body["errors"] = error.errors
    return {"error": body, "success": False}


def encode_json(value: Any, quirks: Quirks) -> bytes:
    """JSON text. Names that are not UTF-8 (lone surrogates here) come out as the quirk says."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        pass
    if quirks.names_not_utf8 == "escape":
        return json.dumps(value).encode("ascii")
    text = json.dumps(value, ensure_ascii=False)
    if quirks.names_not_utf8 == "replace":
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").encode()
    return text.encode("utf-8", "surrogateescape")


def _numbers_as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers_as_text(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers_as_text(item) for item in value]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value
