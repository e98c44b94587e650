"""One contestant, its server and a faulty line between them; and what each scenario did to it."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.mounts import CONTESTANTS, Mount
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.servers import SERVERS, Server
from tests.bounded.scenarios import SCENARIOS, FaultyLine, Findings, make_tree, observe

TTL = ("--dir-ttl", "1", "--attr-ttl", "1")
RECOVERY_SECONDS = 30.0
LIST = "import os, sys\nassert os.listdir(sys.argv[1])"


class Measured:
    """Each run has a mount of its own: what one kind of trouble leaves must not count for the next."""

    def __init__(self, name: str, work: Path, options: tuple[str, ...]) -> None:
        self.contestant = CONTESTANTS[name]
        self.served = work / "served" / "data"
        self._work = work
        self._options = options
        make_tree(self.served)
        self._server: Server = SERVERS[self.contestant.server_kind](work / "served", work / "server")
        self._runs = 0

    def start(self) -> None:
        self._server.start(FaultyLine)

    def stop(self) -> None:
        self._server.stop()

    def run(self, scenario: str, seconds: float, patience_seconds: float) -> Findings:
        self._runs += 1
        self._renew_tree()
        line, process = self._server.line, self._server.process
        assert isinstance(line, FaultyLine)
        assert process is not None
        mount = Mount(
            self.contestant, self._server, "data", self._work / f"{scenario} {self._runs}", options=self._options
        )
        with mount:
            trouble = SCENARIOS[scenario](line, process.pid)
            findings = observe(mount.path, trouble, seconds, patience_seconds, mount.kill)
            findings.recovered_after = self._recovery(mount)
        return findings

    def _renew_tree(self) -> None:
        shutil.rmtree(self.served)
        make_tree(self.served)
        self._server.refresh(self._runs)

    def _recovery(self, mount: Mount) -> float | None:
        """How long after the end of the trouble a folder can be listed that was never looked at; None: it cannot."""
        began = time.monotonic()
        for number in range(3299, 3200, -1):
            with contextlib.suppress(subprocess.TimeoutExpired):
                command = [sys.executable, "-I", "-S", "-c", LIST, str(mount.path / "new" / f"{number:04}")]
                if subprocess.run(command, capture_output=True, timeout=RECOVERY_SECONDS).returncode == 0:
                    return time.monotonic() - began
            if time.monotonic() > began + RECOVERY_SECONDS:
                break
            time.sleep(0.2)
        return None


@contextlib.contextmanager
def measured(name: str, work: Path, *options: str) -> Iterator[Measured]:
    bench = Measured(name, work, (*TTL, *options) if name.startswith("synofs") else options)
    try:
        bench.start()
        yield bench
    finally:
        bench.stop()


__all__ = ["BenchmarkFailed", "Measured", "measured"]
