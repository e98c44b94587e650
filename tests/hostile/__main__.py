"""`python -m tests.hostile [--inputs N]`: the long form. New answers to every decoder, every call path and the
filesystem, in all processors, until there were N of them; then some guided by coverage, if atheris can be had."""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.hostile.jobs import jobs, work

INPUTS = 10_000_000
GUIDED_INPUTS = 1_000_000
SECONDS_BETWEEN_REPORTS = 30.0


def run(inputs: int, processes: int) -> bool:
    counts: Counter[str] = Counter()
    failures: list[str] = []
    started = reported = time.monotonic()
    todo = jobs()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        while counts.total() < inputs and len(failures) < 100:
            for kind, count, failed in pool.map(work, itertools.islice(todo, 3 * processes)):
                counts[kind] += count
                failures += failed
            if time.monotonic() - reported > SECONDS_BETWEEN_REPORTS:
                reported = time.monotonic()
                print(f"{counts.total():,} inputs, {len(failures)} failures", flush=True)
    for failure in failures[:20]:
        print(failure)
    parts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
    seconds = time.monotonic() - started
    print(f"hostile inputs tried: {counts.total():,} ({parts}) in {seconds:.0f} s; failures: {len(failures)}")
    return not failures


def run_guided(inputs: int) -> bool:
    """In a process of its own, which atheris ends as it likes."""
    with tempfile.TemporaryDirectory(prefix="atheris-") as folder:
        environment = dict(os.environ)
        probe = [sys.executable, "-c", "import atheris"]
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode != 0:
            install = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:", "--no-deps"]
            done = subprocess.run([*install, "--target", folder, "atheris"], stderr=subprocess.DEVNULL)
            environment["PYTHONPATH"] = os.pathsep.join([folder, environment.get("PYTHONPATH", "")])
            if done.returncode != 0 or subprocess.run(probe, env=environment).returncode != 0:
                print("atheris has nothing for this Python: no inputs were guided by coverage")
                return True
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        command = [sys.executable, "-m", "tests.hostile.guided", f"-runs={inputs}", "-max_len=4096", str(corpus)]
        done = subprocess.run([*command, f"-artifact_prefix={folder}/"], env=environment, stderr=subprocess.PIPE)
        told = done.stderr.decode(errors="replace")
        if done.returncode != 0:
            print(told[-5000:])
        print(f"hostile inputs guided by coverage (atheris): {inputs:,}; failed: {done.returncode != 0}")
        return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--guided-inputs", type=int, default=GUIDED_INPUTS)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    kept = [run(given.inputs, given.processes), run_guided(given.guided_inputs)]
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
