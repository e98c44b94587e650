"""Answers of the NAS as typed values. Pure.

Lenient where builds differ (numbers as strings, members that are missing or unknown), strict where guessing would
hide a loss: what does not fit is a `BadAnswer`, never a crash and never an entry left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from synofs.filestation import api_errors
from synofs.remote import BadAnswer, RemoteEntry, Rights, Space

T = TypeVar("T")
Number = int | float

MAX_SIZE = 2**63 - 1
MAX_PATH_LENGTH = 16_384  # of a walk from folder to folder; Linux itself takes 4096 bytes at a time
_MAX_SECONDS = 2**63 // 10**9  # the last second whose nanoseconds fit into what the kernel takes


class Empty(msgspec.Struct, frozen=True):
    """`data` that nobody reads."""


class Acl(msgspec.Struct, frozen=True, gc=False):
    append: bool = True
    delete: bool = msgspec.field(name="del", default=True)
    execute: bool = msgspec.field(name="exec", default=True)
    read: bool = True
    write: bool = True


class AdvancedRight(msgspec.Struct, frozen=True, gc=False):
    disable_list: bool = False
    disable_modify: bool = False


class Perm(msgspec.Struct, frozen=True, gc=False):
    acl: Acl | None = None
    adv_right: AdvancedRight | None = None
    is_share_readonly: bool | None = None
    share_right: str | None = None


class Times(msgspec.Struct, frozen=True, gc=False):
    mtime: Number | None = None
    atime: Number | None = None
    ctime: Number | None = None


class VolumeStatus(msgspec.Struct, frozen=True, gc=False):
    freespace: Number | None = None
    totalspace: Number | None = None


class Additional(msgspec.Struct, frozen=True, gc=False):
    size: Number | None = None
    time: Times | None = None
    perm: Perm | None = None
    volume_status: VolumeStatus | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """A file, a folder, a share, or in getinfo something that is not there."""

    name: str | None = None
    path: str | None = None
    isdir: bool | None = None
    additional: Additional | None = None
    code: int | None = None


class Listing(msgspec.Struct, frozen=True):
    """One page of `list` or `list_share`, or the answer of getinfo, Rename and CreateFolder."""

    files: list[Record] | None = None
    shares: list[Record] | None = None
    folders: list[Record] | None = None
    total: int | None = None

    @property
    def has_records(self) -> bool:
        """False also of an answer that is none at all, such as `{}`."""
        return not (self.files is None and self.shares is None and self.folders is None)

    @property
    def records(self) -> Sequence[Record]:
        for records in (self.files, self.shares, self.folders):
            if records is not None:
                return records
        return ()


class PartError(msgspec.Struct, frozen=True):
    """Less than other errors have: of any shape, a page of texts would fill twelve times its size."""

    code: int | None = None


class Part(msgspec.Struct, frozen=True):
    """The answer to one of several calls in one request."""

    success: bool = False
    data: Listing | None = None
    error: PartError | None = None


class Compound(msgspec.Struct, frozen=True):
    """The answer to several calls in one request, in their order."""

    result: list[Part] = msgspec.field(default_factory=list)


class Envelope(msgspec.Struct, Generic[T], frozen=True):
    success: bool
    data: T | None = None
    error: msgspec.Raw = msgspec.Raw(b"null")


class _LooseEnvelope(msgspec.Struct, Generic[T], frozen=True):
    """Of what Python's decoder has made of an answer."""

    success: bool
    data: T | None = None
    error: Any = None


# ----- JSON -----------------------------------------------------------------------------------------------------

# A page of "{},{},{}..." would fill twenty times its size with objects that say nothing. In answers of this size, the
# NAS's own have 40 bytes and more for each bracket.
_LARGE_BYTES = 1024 * 1024
_BYTES_PER_BRACKET = 24
_MAX_ODD_BYTES = 16 * 1024 * 1024  # what Python's decoder makes of it takes up to ten times as much
_MAX_ERROR_BYTES = 64 * 1024


def decode(body: bytes, kind: type[T]) -> T:
    """An answer that is JSON and nothing else."""
    _check_density(body)
    try:
        return msgspec.json.decode(body, type=kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _misshapen(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _decode_odd(body, kind)


def _check_density(body: bytes) -> None:
    if len(body) > _LARGE_BYTES and body.count(b"{") + body.count(b"[") > len(body) // _BYTES_PER_BRACKET:
        raise BadAnswer("no answer of a NAS, but an endless number of empty records")


def _misshapen(exc: msgspec.ValidationError) -> BadAnswer:
    return BadAnswer(f"the NAS's answer has another shape than expected ({exc})")


def _decode_odd(body: bytes, kind: type[T]) -> T:
    """Names that are no UTF-8, raw or as lone surrogates: Python's own decoder keeps them as PEP 383 has it."""
    if len(body) > _MAX_ODD_BYTES:
        raise BadAnswer(f"no answer of a NAS, but {len(body)} bytes that are no JSON")
    try:
        loose = json.loads(body.decode("utf-8-sig", "surrogateescape"), parse_constant=_refuse)
        return msgspec.convert(loose, type=kind, strict=False)
    except msgspec.ValidationError as exc:
        raise _misshapen(exc) from exc
    except (ValueError, RecursionError) as exc:
        raise BadAnswer(f"no answer of a NAS, but {_glimpse(body)}") from exc


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def data_of(api: str, body: bytes, kind: type[T], *, path: str | None = None) -> T:
    """The `data` of an answer, or the `RemoteError` that it reports."""
    success, data, error = _opened(body, kind)
    if not success:
        raise api_errors.error_for(api, error, path=path)
    if data is None:
        return decode(b"{}", kind)  # "success" alone is an answer too
    return data


def _opened(body: bytes, kind: type[T]) -> tuple[bool, T | None, Any]:
    """`success`, `data` and `error` of an answer."""
    _check_density(body)
    try:
        envelope = msgspec.json.decode(body, type=Envelope[kind], strict=False)  # type: ignore[valid-type]
    except msgspec.ValidationError as exc:
        raise _misshapen(exc) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        loose = _decode_odd(body, _LooseEnvelope[kind])  # type: ignore[valid-type]
        return loose.success, loose.data, loose.error
    if envelope.success:
        return True, envelope.data, None
    # Its shape differs so much that it is taken as it comes; but not in any size.
    error = bytes(envelope.error)
    if len(error) > _MAX_ERROR_BYTES:
        raise BadAnswer("the NAS refuses, in more words than can be an answer")
    return False, None, decode(error, object)


def _glimpse(body: bytes) -> str:
    start = body.lstrip()[:1]
    if not start:
        return "nothing"
    if start == b"<":
        return "a web page"
    return "broken JSON" if start in b"{[" else "something that is no JSON"


# ----- entries --------------------------------------------------------------------------------------------------

# Arithmetic on flags is slow, and every entry of every listing has some.
_RIGHTS = [Rights(bits) for bits in range(Rights.ALL + 1)]
_ALL = int(Rights.ALL)
_CHANGING = int(Rights.WRITE | Rights.APPEND | Rights.DELETE)
_NO_TIMES = Times()
_NOTHING_MORE = Additional()


def entry_of(record: Record) -> RemoteEntry:
    """`record` has to be one of something that is there."""
    name, is_dir = record.name, record.isdir
    if not name or is_dir is None:
        raise BadAnswer("the NAS lists something without a name or a kind", path=record.path)
    more = record.additional or _NOTHING_MORE
    times = more.time or _NO_TIMES
    return RemoteEntry(
        name,
        is_dir,
        whole(more.size, MAX_SIZE),
        _moment(times.mtime) * 1_000_000_000,
        _moment(times.atime) * 1_000_000_000,
        _moment(times.ctime) * 1_000_000_000,
        rights_of(more.perm),
    )


def is_name(name: str) -> bool:
    """Can this be one part of a path, and of no other path than it looks like?"""
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def rights_of(perm: Perm | None) -> Rights:
    """What the session may do: the effective `acl`, less what the share withholds.

    The NAS checks every call itself, so what is not said is taken as allowed.
    """
    if perm is None:
        return Rights.ALL
    bits = _ALL
    if (acl := perm.acl) is not None:
        bits = acl.read | acl.write << 1 | acl.execute << 2 | acl.append << 3 | acl.delete << 4
    if perm.is_share_readonly or perm.share_right == "RO":
        bits &= ~_CHANGING
    elif perm.share_right == "NA":
        bits = 0
    if (withheld := perm.adv_right) is not None:
        if withheld.disable_list:
            bits &= ~int(Rights.READ)
        if withheld.disable_modify:
            bits &= ~int(Rights.WRITE | Rights.DELETE)
    return _RIGHTS[bits]


def space_of(record: Record) -> Space | None:
    status = record.additional.volume_status if record.additional else None
    if status is None or status.totalspace is None or status.freespace is None:
        return None
    total = whole(status.totalspace, MAX_SIZE)
    return Space(total_bytes=total, free_bytes=whole(status.freespace, total))


def is_missing(record: Record) -> bool:
    """getinfo's way to say that nothing is there: a code, or (7.3) a record without a name."""
    return record.code not in (None, 0) or not record.name


def matched(paths: Sequence[str], records: Sequence[Record]) -> list[Record]:
    """getinfo's records in the order of the paths that were asked for."""
    if len(records) == len(paths) and all(
        record.path in (None, "", path) for record, path in zip(records, paths, strict=True)
    ):
        return list(records)
    by_path: Mapping[str | None, Record] = {record.path: record for record in records}
    if missing := [path for path in paths if path not in by_path]:
        raise BadAnswer("the NAS does not answer for every path that it was asked for", path=missing[0])
    return [by_path[path] for path in paths]


def _moment(value: Number | None) -> int:
    """Seconds since 1970, or before it; 0 for what is no number."""
    return -whole(-value, _MAX_SECONDS) if value is not None and value < 0 else whole(value, _MAX_SECONDS)


def whole(value: Number | None, maximum: int) -> int:
    """Between 0 and the maximum, whatever it is."""
    if value is None or not value > 0:  # not a number, too
        return 0
    return int(value) if value < maximum else maximum
