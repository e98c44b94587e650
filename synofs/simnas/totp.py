"""Time-based one-time passwords (RFC 6238, SHA-1, 30 s, 6 digits), as authenticator apps make them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

STEP_SECONDS = 30


def totp(secret: str, at: float | None = None) -> str:
    """The code of a base32 secret at a moment (now by default)."""
    return _hotp(secret, time_step(at))


def time_step(at: float | None = None) -> int:
    """The number of the time step of a moment."""
    return int(time.time() if at is None else at) // STEP_SECONDS


def matching_step(secret: str, code: str) -> int | None:
    """The time step that a code belongs to, allowing one step of clock difference; None if it is wrong."""
    now = time_step()
    for step in (now, now - 1, now + 1):
        if hmac.compare_digest(_hotp(secret, step).encode(), code.encode()):
            return step
    return None


def _hotp(secret: str, counter: int) -> str:
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.new(key, counter.to_bytes(8, "big"), hashlib.sha1).digest()
    offset = digest[-1] & 15
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF
    return f"{number % 1_000_000:06d}"
