"""`synofs doctor`: what synofs takes for granted, checked one by one on this machine and on a NAS.

A check is a small function. Its docstring is the assumption that it checks; for a NAS, its name is the one that
docs/FILESTATION.md gives. It returns what it found, or raises: `Failed` with the fix, `Skipped` with the reason.
Results hold no names of files, accounts or hosts and no secrets, so that they can be pasted into a bug report.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import StrEnum


class Verdict(StrEnum):
    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


class Failed(Exception):
    """The assumption does not hold. `fix`: what to do, or what synofs does instead."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(found)
        self.fix = fix


class Skipped(Exception):
    """It could not be checked."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found."""

    group: str
    check: str
    assumption: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def passed(group: str, check: Callable[..., object], found: str) -> Result:
    return Result(group, name_of(check), _assumption(check), Verdict.PASS, found)


def not_passed(group: str, check: Callable[..., object], reason: Exception) -> Result:
    about = (group, name_of(check), _assumption(check))
    if isinstance(reason, Skipped):
        return Result(*about, Verdict.SKIP, str(reason))
    fix = reason.fix if isinstance(reason, Failed) else "please report this, with the whole output"
    return Result(*about, Verdict.FAIL, str(reason), fix)


def name_of(check: Callable[..., object]) -> str:
    return check.__name__.replace("_", "-")


def _assumption(check: Callable[..., object]) -> str:
    return (check.__doc__ or "").strip().rstrip(".")
