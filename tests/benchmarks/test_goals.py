"""Goals are judged by the figures alone: each can be met, be missed, or lack its figures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.benchmarks.goals import GOALS, Verdict, judge


def figure(workload: str, step: str, contestant: str = "synofs", seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "workload": workload,
        "step": step,
        "contestant": contestant,
        "seconds": seconds,
        "latency_ms": 20,
        "bandwidth_mbit": 0,
        "payload_bytes": 1 << 30,
        "folders": 0,
        "smaller": "",
        "requests": {},
        "bytes_down": 0,
        "bytes_up": 0,
        "cpu_seconds": 0.0,
        "memory_bytes": None,
        "peak_requests": 0,
        "listings": 0,
        **more,
    }


def verdict(part_of_goal: str, *figures: dict[str, Any]) -> Verdict:
    (found,) = [one for one in judge(figures) if part_of_goal in one.goal]
    return found


def test_without_figures_no_goal_is_met_or_missed() -> None:
    verdicts = judge([])
    assert len(verdicts) == len(GOALS)
    assert {one.word for one in verdicts} == {"not measured"}


COMPARED = [
    ("defaults of rclone and of sshfs", "walk", "find, cold", "synofs", "sshfs", 4.0),
    ("pre-crawl", "walk", "ls -lR, cold", "synofs-16", "rclone-tuned", 1.0),
    ("99 % of curl", "read", "1024 MiB", "synofs", "curl", 0.99),
    ("95 % of curl", "write", "512 MiB, on the server", "synofs", "curl", 0.95),
    ("faster than sshfs", "write", "512 MiB, on the server", "synofs", "sshfs", 1.0),
    ("one ranged request", "random", "4 KiB, one of 200", "synofs", "one request", 1 / 1.2),
    ("small files out", "copy-out", "cp -r of 500 files out", "synofs", "rclone-tuned", 4.0),
    ("`cp` returns", "copy-in", "cp -r of 500 files in, cp returns", "synofs-wb", "rclone", 1.0),
    ("the same, durable", "copy-in", "cp -r of 500 files in, on the server", "synofs-wb", "rclone", 4.0),
    ("rclone, tuned", "copy-in", "cp -r of 500 files in, on the server", "synofs-wb-16", "rclone-tuned", 1.0),
    ("best peer", "walk", "find, again", "synofs", "sshfs-cached", 1.0),
    ("as fast as rclone's", "disk-cache", "512 MiB, cached, after a remount", "synofs", "rclone", 1.0),
    ("time of 2 pages", "folder", "first of 100,000 entries, cold", "synofs", "one page", 0.5),
]


@pytest.mark.parametrize(("goal", "workload", "step", "who", "peer", "times"), COMPARED)
def test_a_comparison_is_met_or_missed_by_its_ratio(
    goal: str, workload: str, step: str, who: str, peer: str, times: float
) -> None:
    own = figure(workload, step, who)
    found = [one for one in judge([own]) if goal in one.goal and one.word != "not measured"]
    assert not found, "nobody to compare with"
    others = [figure(workload, step, peer, seconds) for seconds in (times * 1.01, times * 0.98)]
    words = [[one.word for one in judge([own, other]) if goal in one.goal and one.found] for other in others]
    assert words == [["met"], ["missed"]]


def test_uncapped_reading_is_compared_where_there_is_no_latency() -> None:
    own, peer = figure("read", "1024 MiB", latency_ms=0), figure("read", "1024 MiB", "rclone", 1.3, latency_ms=0)
    assert verdict("1.2 x rclone", own, peer).word == "met"
    assert verdict("99 % of curl", own, peer | {"contestant": "curl", "seconds": 0.5}).word == "not measured"


@pytest.mark.parametrize(
    ("goal", "met", "missed"),
    [
        ("folders x latency", {"folders": 1111, "seconds": 7.4}, {"folders": 1111, "seconds": 7.5}),
        ("folders + 2", {"folders": 10, "listings": 12}, {"folders": 10, "listings": 13}),
        ("--max-requests", {"peak_requests": 6}, {"peak_requests": 7}),
    ],
)
def test_a_walk_keeps_its_limits(goal: str, met: dict[str, Any], missed: dict[str, Any]) -> None:
    assert verdict(goal, figure("walk", "find, cold", **met)).word == "met"
    assert verdict(goal, figure("walk", "find, cold", **missed)).word == "missed"


def test_a_tree_that_is_smaller_than_the_goals_says_nothing_of_the_limit_of_a_walk() -> None:
    assert verdict("folders x latency", figure("walk", "find, cold", folders=111, seconds=9.0)).word == "not measured"


@pytest.mark.parametrize(
    ("goal", "workload", "step", "met", "missed"),
    [
        ("no crawl", "ls", "ls -l of a folder", {"listings": 2}, {"listings": 3}),
        ("`ls -f`, warm", "folder", "ls -f of 100,000, again", {"seconds": 0.25}, {"seconds": 0.26}),
        ("100 MB", "folder", "all 100,000 entries, cold", {"memory_bytes": 100e6}, {"memory_bytes": 101e6}),
        ("`ls -l`, warm", "folder-half", "ls -l of 50,000, again", {"seconds": 0.6}, {"seconds": 0.61}),
        ("at most 10 MB", "random", "4 KiB, one of 200", {"bytes_down": 10e6}, {"bytes_down": 11e6}),
        ("0 requests", "source", "git status, again", {}, {"requests": {"List.list": 1}}),
        ("over the line", "disk-cache", "512 MiB, cached", {"bytes_down": 1000}, {"bytes_down": 2e6}),
        ("ready", "ready", "mounted with 500,000 cached files", {"seconds": 0.9}, {"seconds": 1.1}),
    ],
)
def test_a_figure_is_met_or_missed_by_itself(
    goal: str, workload: str, step: str, met: dict[str, Any], missed: dict[str, Any]
) -> None:
    assert [one.word for one in judge([figure(workload, step, **met)]) if goal in one.goal] == ["met"]
    assert [one.word for one in judge([figure(workload, step, **missed)]) if goal in one.goal] == ["missed"]


def test_each_small_file_costs_one_request() -> None:
    step = "cp -r of 500 files in, on the server"
    assert verdict("1 request", figure("copy-in", step, "synofs-wb", requests={"Upload.upload": 505})).word == "met"
    assert verdict("1 request", figure("copy-in", step, "synofs-wb", requests={"Upload.upload": 1005})).word == "missed"


def test_a_look_again_is_cheaper_than_a_new_walk() -> None:
    cold = figure("revalidate", "rsync -an, cold", requests={"List.list": 100})
    again = figure("revalidate", "rsync -an, after the TTL", requests={"List.list": 99})
    assert verdict("after the TTL", cold, again).word == "met"
    assert verdict("after the TTL", cold, again | {"requests": {"List.list": 100}}).word == "missed"
    assert verdict("after the TTL", again).word == "not measured"


def test_a_folder_twice_as_big_can_prove_a_goal_but_not_a_miss() -> None:
    step = "ls -l of 100,000, again"
    assert verdict("50,000", figure("folder", step, seconds=0.59)).word == "met"
    assert verdict("50,000", figure("folder", step, seconds=0.61)).word == "not measured"


def test_one_latency_that_misses_makes_a_goal_missed_and_is_marked() -> None:
    near, far = figure("walk", "find, again"), figure("walk", "find, again", latency_ms=50, requests={"List.list": 1})
    told = verdict("0 requests", near, far)
    assert told.word == "missed"
    assert told.text("**{}**") == "find, again (20 ms): 0; **find, again (50 ms): 1**"


def test_the_goals_of_what_moves_bytes_are_for_a_typical_network() -> None:
    for workload, step, peer in (("read", "1024 MiB", "curl"), ("copy-out", "cp -r of 500 files out", "rclone")):
        slow = figure(workload, step, seconds=9.0, latency_ms=50), figure(workload, step, peer, 1.0, latency_ms=50)
        assert not [one for one in judge(slow) if "20 ms" in one.goal and one.found]
        fast = figure(workload, step), figure(workload, step, peer, 5.0)
        assert [one.word for one in judge([*slow, *fast]) if "20 ms" in one.goal and one.found] == ["met"]


def test_who_was_given_less_to_do_is_compared_with_nobody() -> None:
    own, peer = figure("walk", "find, cold"), figure("walk", "find, cold", "sshfs", 9.0, smaller="111 folders")
    assert verdict("defaults of rclone and of sshfs", own, peer).word == "not measured"


def test_processor_time_is_told_per_gib_and_per_10_000_entries() -> None:
    read = figure("read", "512 MiB", cpu_seconds=1.0, payload_bytes=512 << 20)
    listed = figure("folder", "all 100,000 entries, cold", cpu_seconds=1.2)
    told = verdict("processor time", read, listed).text()
    assert "2.00 s per GiB" in told
    assert "0.120 s per 10,000" in told
