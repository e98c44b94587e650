"""The benchmark suite works: one workload from end to end, and what its reports say of known figures."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.stage import Line, Measurement, Results, Series
from tests.benchmarks.workloads import WORKLOADS

ROOT = Path(__file__).resolve().parents[2]
FAR = Line(20)


@pytest.mark.mount
def test_a_workload_runs_and_its_figures_are_written(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "ls", "--latency", "2", "--json", str(written)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    (series,) = json.loads(written.read_text())["results"]
    assert series["contestant"] == "synofs"
    assert series["requests"]["List.list"] >= 1
    assert series["seconds"] > 0.002
    assert "one ls in that tree" in done.stdout
    added = subprocess.run(
        [*command[:4], "--latency", "5", "--json", str(written), "--add"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert added.returncode == 0, added.stdout + added.stderr
    assert [one["latency_ms"] for one in json.loads(written.read_text())["results"]] == [2, 5]


@pytest.mark.mount
def test_what_was_measured_before_an_interruption_is_kept(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "ls", "walk", "--latency", "2", "--json", str(written)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as run:
        assert run.stderr is not None
        for line in run.stderr:
            if line.startswith("walk"):
                break
        run.send_signal(signal.SIGINT)
        run.stderr.read()
        assert run.wait(100) == 130
    told = json.loads(written.read_text())
    assert [one["workload"] for one in told["results"]] == ["ls"]
    assert [part["measured"] for part in told["parts"]] == [[["ls", 2]]]


@pytest.mark.parametrize(
    ("arguments", "unknown", "known"),
    [(["wlak"], "'wlak'", "walk"), (["ls", "--only", "synofs,rclnoe"], "'rclnoe'", "rclone-tuned")],
)
def test_an_unknown_name_is_refused_with_the_names_there_are(arguments: list[str], unknown: str, known: str) -> None:
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert unknown in done.stderr
    assert known in done.stderr


def put(results: Results, step: str, contestant: str, *seconds: float, calls: int = 0) -> Series:
    series = results.of("walk", step, FAR, contestant)
    for taken in seconds:
        series.measurements.append(Measurement(taken, Counter({"List.list": calls} if calls else {}), listings=calls))
    return series


def test_the_time_of_a_series_is_its_median() -> None:
    assert put(Results(), "find, cold", "synofs", 3.0, 1.0, 2.0).seconds == 2.0
    assert put(Results(), "find, cold", "synofs", 3.0, 1.0).typical.seconds == 1.0


def test_the_table_has_ratios_to_synofs_and_names_who_failed() -> None:
    results = Results()
    put(results, "find, cold", "synofs", 0.5, 0.4, 0.6, calls=112)
    put(results, "find, cold", "rclone", 3.0)
    results.failed("walk", FAR, "sshfs", "many words\nsshfs is missing")
    shown = report.table(results, "walk").splitlines()
    own = next(line.split() for line in shown if line.strip().startswith("synofs "))
    peer = next(line.split() for line in shown if line.strip().startswith("rclone "))
    assert own[1:5] == ["0.500", "0.400-0.600", "1.00", "112"]
    assert peer[1:3] == ["3.00", "6.00"]
    assert list(report.failures(results)) == ["walk (20 ms), sshfs: sshfs is missing"]


def test_who_was_given_less_to_do_is_not_compared() -> None:
    results = Results()
    put(results, "find, cold", "synofs", 0.5)
    put(results, "find, cold", "sshfs", 1.0).smaller = "111 folders"
    peer = next(line for line in report.table(results, "walk").splitlines() if line.strip().startswith("sshfs "))
    assert "111 folders" in peer
    assert "2.00" not in peer


def test_a_workload_is_measured_where_it_tells_something_or_where_it_was_asked_for() -> None:
    assert [line.latency_ms for line in WORKLOADS["walk"].lines(None)] == [0, 20, 50]
    assert [line.latency_ms for line in WORKLOADS["ready"].lines(None)] == [0]
    assert [line.latency_ms for line in WORKLOADS["ready"].lines([20, 50])] == [20, 50]
    assert [line.bandwidth_mbit for line in WORKLOADS["read"].lines([0, 20])] == [0, 1000]
