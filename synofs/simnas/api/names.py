"""Which names File Station lets a client create. What exists on disk already is listed whatever it is called."""

from __future__ import annotations

from ..quirks import Quirks
from ..shares import SPOOL_PREFIX, Share, check_length
from ..wire import ApiError

_FORBIDDEN = frozenset('/\\:*?"<>|')


def check_new_name(share: Share, name: str, quirks: Quirks, *, uploaded: bool = False) -> None:
    """Refuses a name for a new entry: 418 (or as the quirk says), 420 on FAT, 412 or 413 if it is too long.

    The guide shows CreateFolder refusing a colon; of Upload it is on record that it takes a question mark.
    """
    illegal = ApiError(int(quirks.illegal_name))
    if name in ("", ".", "..") or "/" in name or "\0" in name or name.startswith(SPOOL_PREFIX):
        raise illegal
    if _FORBIDDEN & set(name):
        if share.fat:
            raise ApiError(420)
        tolerant = ("allowed", "not-uploaded") if uploaded else ("allowed",)
        if quirks.forbidden_characters not in tolerant:
            raise illegal
    check_length(share, name)
