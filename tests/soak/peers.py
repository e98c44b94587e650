"""`python -m tests.soak.peers [CONTESTANT ...] [--only HARNESS]`: synofs and its peers, on the same harnesses.

Each has a server of its own of the same folder, and caches of its own:

- *colleague*: an editor reads a file through the mount, a colleague changes it on the server, the editor saves. Is the
  colleague's text anywhere afterwards?
- *two-mounts*: two mounts have read a file, and both save it by open, write and close. Are both versions anywhere?
- *changing-folder*: 10,000 names are read while another client adds and removes. Is each there exactly once?
- *after-close*: files are written and closed, the mount is killed at once (SIGKILL) and mounted anew. Are they on the
  server afterwards?
- *while-writing*, *while-away*: it is killed in the middle of writes, and in the middle of writes while the server has
  been silent for a moment. Is everything on the server that close, fsync, rename or unlink had acknowledged?

Prints a table; the exit code is 1 if synofs lost something.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.mounts import CONTESTANTS
from tests.benchmarks.processes import BenchmarkFailed
from tests.soak import peer_clients, peer_crashes
from tests.soak.contest import Contest, Outcome

DEFAULT = ("synofs", "synofs-wb", "rclone", "rclone-tuned", "sshfs")
HARNESSES: dict[str, Callable[[Contest], Outcome]] = {
    "colleague": peer_clients.colleague,
    "two-mounts": peer_clients.two_mounts,
    "changing-folder": peer_clients.changing_folder,
    "after-close": peer_crashes.after_close,
    "while-writing": peer_crashes.while_writing,
    "while-away": peer_crashes.while_the_server_is_away,
}


def held(name: str, harness: str) -> Outcome:
    root, work = Path(tempfile.mkdtemp(prefix="synofs-peers-")), Path(tempfile.mkdtemp(prefix="synofs-peers-"))
    try:
        with Contest(name, root, work).served() as contest:
            return HARNESSES[harness](contest)
    finally:
        shutil.rmtree(root)
        shutil.rmtree(work)


def table(found: dict[tuple[str, str], Outcome], names: list[str]) -> str:
    """Markdown."""
    lines = [f"| harness | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for harness in HARNESSES:
        cells = [found.get((name, harness)) for name in names]
        if any(cells):
            lines.append(f"| `{harness}` | {' | '.join(str(cell or '') for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak.peers", description=__doc__)
    parser.add_argument("contestants", nargs="*", default=list(DEFAULT), metavar="CONTESTANT", choices=CONTESTANTS)
    parser.add_argument("--only", action="append", choices=HARNESSES, help="this harness; may be given again")
    given = parser.parse_args(arguments)
    found: dict[tuple[str, str], Outcome] = {}
    failed = False
    for name in given.contestants:
        print(f"{name}: {CONTESTANTS[name].about}", flush=True)
        for harness in given.only or HARNESSES:
            try:
                outcome = found[name, harness] = held(name, harness)
            except (BenchmarkFailed, FileNotFoundError) as trouble:  # a program that is not there
                print(f"  {harness:16} not tried: {trouble}", flush=True)
                failed |= name.startswith("synofs")
                continue
            print(f"  {harness:16} {outcome} ({outcome.about})", flush=True)
            failed |= bool(outcome.bad) and name.startswith("synofs")
    print("\n" + table(found, given.contestants))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
