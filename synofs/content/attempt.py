"""Uploads of one file whose end is not known, and what they have sent. Pure.

Several may be under way without an end: a program writes, the upload breaks off, the program writes again. Each of
them may have arrived, or may still arrive. So all that was sent is remembered, by size and MD5, until one upload is
known to have arrived.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_SIZE = re.compile(r"[0-9]{1,19}")  # in bytes
_MOST_SENT = 20  # of a file that changes again and again while no upload comes to an end; the oldest go


class Sent(NamedTuple):
    """A content that an upload has sent."""

    size: int
    md5: str


class Attempt(NamedTuple):
    """Uploads to `path` whose end is not known."""

    path: str
    sent: tuple[Sent, ...] = ()  # of before the last change of the content, oldest first
    is_present: bool = True  # the present content may have been sent, too

    def with_sent(self, sent: Sent) -> Attempt:
        """The present content was sent, and is about to be another."""
        others = tuple(other for other in self.sent if other != sent)
        return Attempt(self.path, (*others, sent)[-_MOST_SENT:], is_present=False)

    @property
    def encoded(self) -> str:
        return " ".join(f"{size}:{md5}" for size, md5 in self.sent)


def decoded(text: str | None) -> tuple[Sent, ...]:
    """Of `Attempt.encoded`; what is not understood is left out."""
    words = [word.partition(":") for word in (text or "").split()]
    return tuple(Sent(int(size), md5) for size, _, md5 in words if md5 and _SIZE.fullmatch(size))


def attempt_columns(attempt: Attempt | None) -> dict[str, object]:
    """What the journal says of it."""
    return {"attempted": attempt and attempt.path, "attempted_sent": (attempt and attempt.encoded) or None}
