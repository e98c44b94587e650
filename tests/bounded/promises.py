"""The table of docs/SEMANTICS.md, "How long a call takes", as numbers."""

from __future__ import annotations

from tests.bounded.scenarios import SLOW_SECONDS, Findings

# Which calls of caller.py try each handler of the mount (the kernel's calls); none: nobody waits for it.
TRIED = {
    "lookup": {"stat_new", "stat_known"},
    "getattr": {"stat_known"},
    "access": {"access_known"},
    "statfs": {"statfs"},
    "opendir": {"readdir_new", "readdir_known"},
    "readdir": {"readdir_new", "readdir_known"},
    "releasedir": set(),
    "fsyncdir": {"fsync_folder"},
    "open": {"read_new", "read_known", "flock"},
    "read": {"read_new", "read_known", "mmap_new"},
    "release": set(),
    "forget": set(),
    "readlink": set(),  # there is nothing to read
    "symlink": {"symlink"},
    "link": {"link"},
    "mknod": {"mknod"},
    "create": {"creat"},
    "write": {"write"},
    "flush": {"close"},
    "fsync": {"fsync"},
    "setattr": {"truncate", "utimens", "chmod", "chown"},
    "mkdir": {"mkdir"},
    "unlink": {"unlink"},
    "rmdir": {"rmdir"},
    "rename": {"rename"},
}

KNOWN_SECONDS = 2.0
AWAY_SECONDS = 5.0  # until it is known
AT_ONCE = 0.0
LOCAL = {"statfs", "write", "listxattr"}
REFUSED_OR_LOCAL = {"chmod", "chown", "symlink", "link", "mknod", "flock", "fsync_folder"}  # of what was seen before
KNOWN = {"stat_known", "access_known", "readdir_known"} | REFUSED_OR_LOCAL
LOOKS = {"stat_new", "readdir_new", "read_new", "mmap_new", "read_known", "creat"}
FILES = {"close", "fsync", "truncate", "utimens"}  # of what was written
KNOWN_AWAY_SECONDS = 1.0
AWAY = {"refused", "black-holed", "stopped"}
MOST_REQUESTS = 12  # of a change, one after the other: replacing a file is look, fetch, upload, look, swap, look


def bound_seconds(call: str, scenario: str, deadline: float, mode: str) -> float:
    if call in LOCAL or (mode == "writeback" and call == "close"):
        return AT_ONCE
    if call in KNOWN or (mode == "writeback" and call in ("truncate", "utimens")):
        return KNOWN_SECONDS
    opens_first = 1.0 if call.startswith(("read_", "mmap_")) else 0.0
    if scenario in AWAY:
        return AWAY_SECONDS + (1.0 if call in FILES else opens_first)
    if call in LOOKS:
        return max(deadline, AWAY_SECONDS) + opens_first
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
