"""Signing in and staying signed in."""

from __future__ import annotations

from dataclasses import dataclass, field


class Secret(str):
    """A string that shows itself only when asked to: `reveal()`. Safe to log, format and put into reprs."""

    __slots__ = ()

    def reveal(self) -> str:
        return self[:]

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)


@dataclass(frozen=True)
class Credentials:
    """Who signs in, and with what."""

    user: str
    password: Secret
    otp: Secret | None = None  # a one-time code: used for one sign-in, then forgotten
    device_id: Secret | None = None  # what an earlier sign-in with a code gave; spares the code
    device_name: str = field(default="synofs")  # the name that the device_id was given for
