"""A real mount of a NAS that answers anything: programs get results or errors, in time; the mount lives on."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile.http_nas import http_nas
from tests.mount import harness

pytestmark = [pytest.mark.mount, pytest.mark.timeout(290)]

SECONDS = 12.0
WALKERS = 4
DEADLINE = 10.0
CALL_SECONDS = 40.0  # the longest that a call may take, and as much again and more for a busy machine
MAX_RESIDENT_BYTES = 400 * 1024 * 1024


def resident_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def walked(mountpoint: Path, seconds: float, walkers: int = 1) -> tuple[Counter[str], float, list[str]]:
    """How often each call ended in which way, the longest of them in seconds, and paths outside the mount."""
    command = [sys.executable, "-I", "-S", Path(__file__).with_name("walker.py"), mountpoint, str(seconds)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(walkers)]
    met: Counter[str] = Counter()
    longest, outside = 0.0, []
    for walker in running:
        out, _ = walker.communicate(timeout=seconds + 3 * CALL_SECONDS)
        assert walker.returncode == 0
        found = json.loads(out)
        met += Counter(found["met"])
        longest = max(longest, found["longest"])
        outside += found["outside"]
    return met, longest, outside


def test_a_mount_of_a_hostile_nas_gives_results_or_errors_and_lives_on(inputs: Counter[str]) -> None:
    with http_nas(seed=2) as nas:
        at = type("At", (), {"url": f"http://127.0.0.1:{nas.port}"})()
        with harness.mounted(
            at, "--dir-ttl", "0.1", "--attr-ttl", "0.1", "--max-stale", "0", "--deadline", str(DEADLINE), share=None
        ) as mount:
            mount.may_log_anything = True
            nas.evil = 0.2
            met, longest, outside = walked(mount.mountpoint, SECONDS, WALKERS)
            inputs["through a mount"] += len(nas.received)
            assert outside == []
            assert longest < CALL_SECONDS, met
            assert met["listdir ok"], met
            assert sum(count for end, count in met.items() if not end.endswith(" ok")), "it was hostile"
            assert mount.process.poll() is None
            assert resident_bytes(mount.process.pid) < MAX_RESIDENT_BYTES
            assert "Traceback" not in mount.log
            assert "nobody foresaw" not in mount.log

            nas.evil = 0.0
            harness.wait_until(lambda: walked(mount.mountpoint, 1)[0]["read ok"], 120)
