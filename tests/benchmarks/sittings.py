"""Figures of one or several sittings in one JSON file.

    {"parts": [{"command", "machine", "date", "minutes", "measured": [[workload, latency in ms], ...]}, ...],
     "results": [one for each workload, step, line and contestant], "goals": [{"goal", "verdict", "found"}, ...]}

What is compared comes from one sitting: a workload on a line is taken from another sitting as a whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.goals import judge

Report = dict[str, Any]
Pair = tuple[str, float]  # workload, latency in ms


def report(part: dict[str, Any], measured: Iterable[Pair], results: Sequence[dict[str, Any]]) -> Report:
    """One sitting; `part` says how, where and when. Of the results only those of `measured` are taken."""
    pairs = list(dict.fromkeys(measured))
    taken = [one for one in results if _pair(one) in pairs]
    return _judged([part | {"measured": [list(pair) for pair in pairs]}], taken)


def merged(before: Report, now: Report) -> Report:
    """Both; what was measured in both is as it is in `now`."""
    again = {_pair(one) for one in now["results"]} | {tuple(pair) for part in now["parts"] for pair in part["measured"]}
    parts = []
    for part in before["parts"]:
        left = [pair for pair in part["measured"] if tuple(pair) not in again]
        if left:
            parts.append(part | {"measured": left})
    results = [one for one in before["results"] if _pair(one) not in again]
    return _judged([*parts, *now["parts"]], [*results, *now["results"]])


def load(path: Path) -> Report:
    """ValueError if that is no file of this suite's."""
    told = json.loads(path.read_text())
    if not (isinstance(told, dict) and isinstance(told.get("parts"), list) and isinstance(told.get("results"), list)):
        raise ValueError(f"{path} holds no figures of scripts/bench")
    return told


def store(path: Path, told: Report) -> None:
    """All or nothing: a run that is ended in the middle leaves what it had before."""
    new = path.with_name(path.name + ".new")
    new.write_text(json.dumps(told, indent=1) + "\n")
    os.replace(new, path)


def _judged(parts: list[dict[str, Any]], results: list[dict[str, Any]]) -> Report:
    goals = [{"goal": one.goal, "verdict": one.word, "found": one.text()} for one in judge(results)]
    return {"parts": parts, "results": results, "goals": goals}


def _pair(one: dict[str, Any]) -> Pair:
    return one["workload"], one["latency_ms"]
