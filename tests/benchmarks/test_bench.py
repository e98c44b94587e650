"""The benchmark suite works: one workload from end to end, and what its reports say of known figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.benchmarks import report
from tests.benchmarks.goals import judge
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


def test_an_unknown_name_is_refused_with_the_names_there_are() -> None:
    command = [sys.executable, "-m", "tests.benchmarks", "wlak"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "'wlak'" in done.stderr
    assert "walk" in done.stderr


def put(results: Results, step: str, contestant: str, *seconds: float, calls: int = 0, folders: int = 0) -> Series:
    series = results.of("walk", step, FAR, contestant)
    series.folders = folders
    for taken in seconds:
        series.measurements.append(Measurement(taken, Counter({"List.list": calls} if calls else {}), listings=calls))
    return series


def test_the_time_of_a_series_is_its_median() -> None:
    assert put(Results(), "find, cold", "synofs", 3.0, 1.0, 2.0).seconds == 2.0
    assert put(Results(), "find, cold", "synofs", 3.0, 1.0).typical.seconds == 1.0


def test_goals_tell_what_is_met_and_what_is_missed() -> None:
    results = Results()
    put(results, "find, cold", "synofs", 0.5, calls=112, folders=111)
    put(results, "find, cold", "rclone", 3.0)
    put(results, "find, cold", "sshfs", 1.0)
    put(results, "find, again", "synofs", 0.01, calls=1)
    told = {verdict.goal: verdict.is_met for verdict in judge(results)}
    assert told["find, cold, 20 ms: list calls <= folders + 2"]
    assert told["find, cold, 20 ms: >= 4 x as fast as rclone's defaults"]
    assert not told["find, cold, 20 ms: >= 4 x as fast as sshfs's defaults"]
    assert told["find, cold, 20 ms: within 2 x of calls x latency / 6"]
    assert not told["find, again, 20 ms: no requests"]


def test_a_goal_without_its_figures_is_left_out() -> None:
    results = Results()
    put(results, "find, cold", "synofs", 0.5)
    assert not any("rclone" in verdict.goal for verdict in judge(results))


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


def test_a_workload_is_measured_where_it_tells_something_or_where_it_was_asked_for() -> None:
    assert [line.latency_ms for line in WORKLOADS["walk"].lines(None)] == [0, 20, 50]
    assert [line.latency_ms for line in WORKLOADS["ready"].lines(None)] == [0]
    assert [line.latency_ms for line in WORKLOADS["ready"].lines([20, 50])] == [20, 50]
    assert [line.bandwidth_mbit for line in WORKLOADS["read"].lines([0, 20])] == [0, 1000]
