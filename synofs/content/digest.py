"""MD5 of bytes on the local disk, to compare with what the NAS computes. Blocking."""

from __future__ import annotations

import hashlib
import os

_PIECE_BYTES = 1024 * 1024


def md5_of(fd: int, length: int) -> str:
    """MD5 in hex of the first `length` bytes (or of what there is). Leaves the file's position alone."""
    digest = hashlib.md5(usedforsecurity=False)
    position = 0
    while position < length:
        data = os.pread(fd, min(_PIECE_BYTES, length - position), position)
        if not data:
            break
        digest.update(data)
        position += len(data)
    return digest.hexdigest()
