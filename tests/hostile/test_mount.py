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
DEADLINE = 10.0
CALL_SECONDS = 40.0  # the longest that a call may take, and as much again and more for a busy machine
MAX_RESIDENT_BYTES = 400 * 1024 * 1024


def resident_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def walked(mountpoint: Path, seconds: float) -> dict[str, object]:
    walker = Path(__file__).with_name("walker.py")
    done = subprocess.run(
        [sys.executable, "-I", "-S", walker, mountpoint, str(seconds)],
        capture_output=True,
        timeout=seconds + 3 * CALL_SECONDS,
        check=True,
    )
    found: dict[str, object] = json.loads(done.stdout)
    return found


def test_a_mount_of_a_hostile_nas_gives_results_or_errors_and_lives_on(inputs: Counter[str]) -> None:
    with http_nas(seed=2) as nas:
        at = type("At", (), {"url": f"http://127.0.0.1:{nas.port}"})()
        with harness.mounted(at, "--dir-ttl", "1", "--attr-ttl", "1", "--deadline", str(DEADLINE), share=None) as mount:
            mount.expect_logs(".")
            nas.evil = 0.2
            found = walked(mount.mountpoint, SECONDS)
            inputs["through a mount"] += len(nas.received)
            assert found["outside"] == []
            assert found["longest"] < CALL_SECONDS, found
            met = Counter(found["met"])  # type: ignore[arg-type]
            assert met["listdir ok"], met
            assert sum(count for end, count in met.items() if not end.endswith(" ok")), "it was hostile"
            assert mount.process.poll() is None
            assert resident_bytes(mount.process.pid) < MAX_RESIDENT_BYTES
            assert "Traceback" not in mount.log
            assert "nobody foresaw" not in mount.log

            nas.evil = 0.0
            harness.wait_until(lambda: Counter(walked(mount.mountpoint, 1)["met"])["read ok"], 120)  # type: ignore[arg-type]
