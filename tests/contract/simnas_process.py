"""The simulated NAS as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import trio

USER = "ann"
PASSWORD = "pass word+&"


class SimnasProcess:
    """Runs until `stop()`. Serves `directory` as the share `media`."""

    def __init__(self, directory: Path, *arguments: str, account_flags: str = "", share_flags: str = "") -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        command = [sys.executable, "-m", "synofs.simnas", "--listen", "127.0.0.1:0"]
        command += ["--share", f"media={directory}{share_flags}", "--account", f"{USER}:{PASSWORD}{account_flags}"]
        self._log = directory.parent / f"{directory.name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, *arguments], stdout=subprocess.PIPE, stderr=log, text=True, encoding="utf-8"
            )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert "listening on" in first, f"{first}\n{self._log.read_text()}"
        self.url = first.split()[-1]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def fault(self, kind: str, **fields: Any) -> None:
        self._control("POST", "faults", {"kind": kind, **fields})

    def clear_faults(self) -> None:
        self._control("DELETE", "faults")

    def calls(self) -> dict[str, int]:
        counts: dict[str, int] = self._control("GET", "stats")["calls"]
        return counts

    async def have_counted(self, call: str, count: int) -> None:
        """Wait until the NAS has seen so many of these calls."""
        with trio.fail_after(20):
            while self.calls().get(call, 0) < count:  # noqa: ASYNC110 - it happens in another process
                await trio.sleep(0.01)

    def sessions(self) -> int:
        return int(self._control("GET", "stats")["sessions"])

    def reset_calls(self) -> None:
        self._control("POST", "stats/reset")

    def _control(self, method: str, what: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}/_simnas/{what}",
            method=method,
            data=json.dumps(body).encode() if body is not None else (b"" if method == "POST" else None),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=20) as reply:
            text = reply.read()
        return json.loads(text) if text else None
