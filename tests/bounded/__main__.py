"""`python -m tests.bounded [CONTESTANT ...]`: the long form, with the deadlines that people have, and peers."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.bounded.measure import BenchmarkFailed, measured
from tests.bounded.promises import broken
from tests.bounded.scenarios import SCENARIOS, Findings

DEADLINE = 20.0  # synofs's default
CONTESTANTS = ("synofs", "synofs-wb", "rclone", "sshfs")
SLACK_SECONDS = 2.0


def table(name: str, found: dict[str, Findings]) -> str:
    """Markdown: the longest of each call in seconds."""
    calls = list(dict.fromkeys(call for findings in found.values() for call in findings.longest))
    lines = [f"| {name} | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    for call in calls:
        cells = [
            f"{'over ' if call in findings.hung else ''}{findings.longest.get(call, 0):.1f}"
            for findings in found.values()
        ]
        lines.append(f"| {call.replace('_', ' ')} | {' | '.join(cells)} |")
    lines.append("| longest in D state | " + " | ".join(f"{f.longest_d_state:.1f}" for f in found.values()) + " |")
    recovered = ["never" if f.recovered_after is None else f"{f.recovered_after:.1f}" for f in found.values()]
    lines.append("| works again after | " + " | ".join(recovered) + " |")
    lines.append("| calls | " + " | ".join(str(sum(f.counts.values())) for f in found.values()) + " |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bounded", description=__doc__)
    parser.add_argument("contestants", nargs="*", default=list(CONTESTANTS), metavar="CONTESTANT")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each kind of trouble lasts")
    parser.add_argument("--patience", type=float, default=120.0, help="how much longer calls are waited for")
    parser.add_argument("--scenario", action="append", choices=SCENARIOS, help="only this one")
    given = parser.parse_args()
    complaints: list[str] = []
    for name in given.contestants:
        mode = "writeback" if name.startswith("synofs-wb") else "durable"
        found: dict[str, Findings] = {}
        with tempfile.TemporaryDirectory(prefix="synofs-bounded-") as work:
            try:
                with measured(name, Path(work)) as bench:
                    for scenario in given.scenario or SCENARIOS:
                        found[scenario] = bench.run(scenario, given.seconds, given.patience)
            except BenchmarkFailed as failed:
                print(f"{name}: {failed}", file=sys.stderr)
                continue
        print(table(name, found), end="\n\n", flush=True)
        if name.startswith("synofs"):
            for scenario, findings in found.items():
                complaints += broken(findings, scenario, DEADLINE, mode, SLACK_SECONDS)
                if findings.recovered_after is None:
                    complaints.append(f"{scenario}: it did not work again")
    if any(name.startswith("synofs") for name in given.contestants):
        print("\n".join(complaints) if complaints else "every promise of synofs was kept")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
