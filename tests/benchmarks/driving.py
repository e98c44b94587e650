"""What workloads have in common: programs that read, requests past every mount, and several things at once."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import probe as reader_probe
from tests.benchmarks.servers import SimulatedNas
from tests.benchmarks.stage import Stage


def ask_probe(stage: Stage, *arguments: str | Path) -> dict[str, float]:
    answer = stage.work / "probe.json"
    stage.run(sys.executable, "-S", reader_probe.__file__, *arguments, output=answer)
    found: dict[str, float] = json.loads(answer.read_text())
    return found


def read_all(stage: Stage, path: Path, size: int) -> None:
    """Like a copy, with nowhere to put it."""
    said = subprocess.run(["stat", "-c", "%s", str(path)], capture_output=True, timeout=stage.timeout).stdout
    stage.expect("size", said.strip(), b"%d" % size)
    stage.run("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none", output=stage.work / f"dd {path.name}")


def simulated(stage: Stage) -> SimulatedNas:
    assert isinstance(stage.server, SimulatedNas)
    return stage.server


def sign_in(stage: Stage) -> str:
    return simulated(stage).sign_in()


def curl(stage: Stage, sid: str, name: str) -> None:
    nas = simulated(stage)
    url = f"http://127.0.0.1:{nas.line.port}{nas.download_target(sid, f'/{name}')}"
    output = stage.work / f"curl {Path(name).name}"
    stage.run("curl", "-sS", "--fail", "-o", "/dev/null", url, output=output)


def at_once(*actions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def act(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=act, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
