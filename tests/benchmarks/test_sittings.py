"""A set of figures is measured in several sittings, and nothing of it is lost or mixed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks import markdown, sittings
from tests.benchmarks.test_goals import figure

MONDAY = {"command": "scripts/bench", "machine": "2 cores", "date": "2026-11-23", "minutes": 20.0}
TUESDAY = {"command": "scripts/bench --add", "machine": "4 cores", "date": "2026-11-24", "minutes": 5.0}


def walk(latency_ms: float, contestant: str = "synofs", seconds: float = 1.0) -> dict[str, Any]:
    return figure("walk", "find, cold", contestant, seconds, latency_ms=latency_ms)


def test_what_is_measured_again_replaces_all_of_that_workload_and_latency() -> None:
    before = sittings.report(
        MONDAY, [("walk", 20), ("walk", 50)], [walk(20, seconds=9), walk(20, "rclone"), walk(50, seconds=3)]
    )
    told = sittings.merged(before, sittings.report(TUESDAY, [("walk", 20)], [walk(20, seconds=2)]))
    assert [(one["latency_ms"], one["contestant"], one["seconds"]) for one in told["results"]] == [
        (50, "synofs", 3),
        (20, "synofs", 2),
    ]  # no rclone: it was measured on another day


def test_each_sitting_says_what_it_measured_where_and_when() -> None:
    before = sittings.report(MONDAY, [("walk", 20), ("ls", 20)], [walk(20)])
    told = sittings.merged(before, sittings.report(TUESDAY, [("walk", 20.0)], [walk(20.0)]))
    assert [(part["date"], part["machine"], part["measured"]) for part in told["parts"]] == [
        ("2026-11-23", "2 cores", [["ls", 20]]),
        ("2026-11-24", "4 cores", [["walk", 20]]),
    ]
    assert len(sittings.merged(told, sittings.report(TUESDAY, [("ls", 20)], []))["parts"]) == 2, "Monday's are gone"


def test_only_what_everybody_did_is_written() -> None:
    told = sittings.report(MONDAY, [("walk", 20)], [walk(20), walk(50)])
    assert [one["latency_ms"] for one in told["results"]] == [20]


def test_the_goals_of_a_merged_set_are_judged_anew() -> None:
    before = sittings.report(MONDAY, [("walk", 20)], [walk(20), walk(20, "rclone", 5)])
    now = sittings.report(TUESDAY, [("walk", 50)], [walk(50), walk(50, "rclone", 3)])
    goal = "defaults of rclone"
    assert [one["verdict"] for one in before["goals"] if goal in one["goal"]] == ["met"]
    assert [one["verdict"] for one in sittings.merged(before, now)["goals"] if goal in one["goal"]] == ["missed"]


def test_a_file_is_written_as_a_whole_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    told = sittings.report(MONDAY, [("walk", 20)], [walk(20)])
    sittings.store(path, told)
    assert sittings.load(path) == told
    assert [found.name for found in tmp_path.iterdir()] == ["figures.json"]


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text("[1]")
    with pytest.raises(ValueError, match=r"other\.json holds no figures"):
        sittings.load(path)


def test_the_tables_name_every_sitting_and_judge_every_goal() -> None:
    before = sittings.report(MONDAY, [("walk", 20)], [walk(20), walk(20, "rclone", 5), walk(20, "sshfs", 2)])
    text = markdown.document(sittings.merged(before, sittings.report(TUESDAY, [("walk", 50)], [walk(50)])))
    assert "- `scripts/bench`: at 20 ms walk. 2 cores; 2026-11-23, 20 min." in text
    assert "- `scripts/bench --add`: at 50 ms walk. 4 cores; 2026-11-24, 5 min." in text
    assert "5 x (1 s, rclone 5 s); **find, cold (20 ms): 2 x (1 s, sshfs 2 s)** | **missed** |" in text
    assert "| not measured |" in text


def test_the_tables_say_who_was_given_less_to_do() -> None:
    told = sittings.report(MONDAY, [("walk", 20)], [walk(20), walk(20, "sshfs", 5) | {"smaller": "111 folders"}])
    assert "| **1.00 s** | 5.00 s for 111 folders |" in markdown.document(told)
