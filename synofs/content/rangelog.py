"""The range log of an edit: which bytes of a staged file were written here, and how far the version on the NAS
reaches below it. Records are appended after the bytes they tell of; a torn or foreign record ends the log. Appending
raises `OSError` and leaves the log as it was.
"""

from __future__ import annotations

import errno
import os
import struct
from typing import NamedTuple
from zlib import crc32

from synofs.content.ranges import RangeSet

_RECORD = struct.Struct("<QQL")  # offset, length (or _TRUNCATE), checksum
_TRUNCATE = 2**64 - 1
RECORD_BYTES = _RECORD.size


class Replayed(NamedTuple):
    present: RangeSet
    base_limit: int  # beyond this nothing of the version on the NAS is kept
    valid_bytes: int  # the log is good up to here


def append_written(fd: int, start: int, end: int) -> None:
    _append(fd, start, end - start)


def append_truncated(fd: int, size: int) -> None:
    """The file was cut to `size`: what the NAS has beyond it is not ours to keep, even if the file grows again."""
    _append(fd, size, _TRUNCATE)


def replay(fd: int, base_size: int) -> Replayed:
    """What a log tells. Stops at the first record that is not whole."""
    present = RangeSet()
    base_limit = base_size
    records = os.pread(fd, os.fstat(fd).st_size, 0)
    valid = 0
    while valid + RECORD_BYTES <= len(records):
        offset, length, checksum = _RECORD.unpack_from(records, valid)
        if checksum != _checksum(offset, length):
            break
        valid += RECORD_BYTES
        if length == _TRUNCATE:
            present.clip(offset)
            base_limit = min(base_limit, offset)
        else:
            present.add(offset, offset + length)
    return Replayed(present, base_limit, valid)


def _append(fd: int, offset: int, length: int) -> None:
    """All of it or nothing: whatever came after half a record would never be read. A full disk takes a part and says
    nothing."""
    before = os.fstat(fd).st_size
    try:
        if os.write(fd, _RECORD.pack(offset, length, _checksum(offset, length))) != RECORD_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(fd, before)
        raise


def _checksum(offset: int, length: int) -> int:
    return crc32(struct.pack("<QQ", offset, length))
