"""`synofs doctor`: what synofs takes for granted, checked one by one on this machine and on a NAS.

A check is a small function named after the assumption it checks. It returns what it found, or raises: `Failed` with
the fix, `Skipped` with the reason. Results hold no names of files, accounts or hosts and no secrets, so that they can
be pasted into a bug report.
"""

from __future__ import annotations

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
    name: str
    verdict: Verdict
    found: str
    fix: str = ""

    def to_json(self) -> dict[str, str]:
        return asdict(self)


def title(check: object) -> str:
    """The assumption in words: the function's name."""
    return getattr(check, "__name__", str(check)).replace("_", " ")


def passed(group: str, check: object, found: str) -> Result:
    return Result(group, title(check), Verdict.PASS, found)


def not_passed(group: str, check: object, reason: Exception) -> Result:
    if isinstance(reason, Skipped):
        return Result(group, title(check), Verdict.SKIP, str(reason))
    fix = reason.fix if isinstance(reason, Failed) else "please report this, with the whole output"
    return Result(group, title(check), Verdict.FAIL, str(reason), fix)
