"""Strings that must not be seen."""

from __future__ import annotations


class Secret(str):
    """Shows itself only when asked to, by `reveal()`. Safe to log, to format and to have in a repr."""

    __slots__ = ()

    def reveal(self) -> str:
        return self[:]

    def __repr__(self) -> str:
        return "Secret(***)"

    def __str__(self) -> str:
        return "***"

    def __format__(self, spec: str) -> str:
        return format("***", spec)
