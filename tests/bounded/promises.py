"""The table of docs/SEMANTICS.md, "How long a call takes", as numbers."""

from __future__ import annotations

from tests.bounded.scenarios import SLOW_SECONDS, Findings

KNOWN_SECONDS = 2.0
AWAY_SECONDS = 5.0  # until it is known
AT_ONCE = 0.0
LOCAL = {"statfs", "write"}
KNOWN = {"stat_known", "access_known", "readdir_known"}
LOOKS = {"stat_new", "readdir_new", "read_new", "read_known", "creat"}
KNOWN_AWAY_SECONDS = 1.0
AWAY = {"refused", "swallowed", "stopped"}
MOST_REQUESTS = 12  # of a change, one after the other: replacing a file is look, fetch, upload, look, swap, look


def bound_seconds(call: str, scenario: str, deadline: float, mode: str) -> float:
    if call in LOCAL or (mode == "writeback" and call == "close"):
        return AT_ONCE
    if call in KNOWN or (mode == "writeback" and call in ("truncate", "utimens")):
        return KNOWN_SECONDS
    if call in LOOKS:
        return max(deadline, AWAY_SECONDS) + (1.0 if call.startswith("read_") else 0.0)
    # A change is waited for while the NAS shows signs of life: on a slow line, and between two fits of a flapping one.
    alive = {"slow": MOST_REQUESTS * SLOW_SECONDS, "flapping": 1.5 * deadline}.get(scenario, 0.0)
    return max(3 * deadline, AWAY_SECONDS) + alive


def broken(findings: Findings, scenario: str, deadline: float, mode: str, slack_seconds: float) -> list[str]:
    """Which promises were not kept."""
    said = []
    for call, seconds in findings.longest.items():
        bound = bound_seconds(call, scenario, deadline, mode)
        if seconds > bound + slack_seconds or call in findings.hung:
            said.append(f"{scenario}: {call} took {seconds:.1f} s, promised are {bound:.1f}")
    for call, seconds in findings.late.items() if scenario in AWAY else ():
        if seconds > KNOWN_AWAY_SECONDS + slack_seconds / 2:
            said.append(f"{scenario}: {call} took {seconds:.1f} s although the NAS was known to be away")
    most = max(bound_seconds(call, scenario, deadline, mode) for call in findings.longest)
    if findings.longest_d_state > most + slack_seconds:
        said.append(f"{scenario}: a process was in D state for {findings.longest_d_state:.1f} s")
    return said
