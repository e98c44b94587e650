"""The tables of docs/BENCHMARKS.md, from the JSON of a run: nothing is copied by hand."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.report import megabytes, seconds
from tests.benchmarks.workloads import WORKLOADS


def document(report: dict[str, Any]) -> str:
    """All tables of one run, and what it says of the goals."""
    workloads = list(dict.fromkeys(one["workload"] for one in report["results"] if one["workload"] in WORKLOADS))
    parts = [f"`{report['command']}`: {report['machine']}; {report['minutes']:.0f} minutes."]
    parts += [_workload(name, [one for one in report["results"] if one["workload"] == name]) for name in workloads]
    parts.append(_goals(report["goals"]))
    return "\n\n".join(parts) + "\n"


def _workload(name: str, series: list[dict[str, Any]]) -> str:
    measured = [one for one in series if "seconds" in one]
    contestants = list(dict.fromkeys(one["contestant"] for one in measured))
    lines = [f"### {name}: {WORKLOADS[name].about}", ""]
    lines += [f"| | {' | '.join(contestants)} |", f"|---|{'---:|' * len(contestants)}"]
    for step, latency in dict.fromkeys((one["step"], one["latency_ms"]) for one in measured):
        found = {one["contestant"]: one for one in measured if (one["step"], one["latency_ms"]) == (step, latency)}
        own = found.get("synofs", {}).get("seconds")
        times = [_time(found.get(who), own) for who in contestants]
        lines.append(f"| **{step}** ({_line(next(iter(found.values())))}) | {' | '.join(times)} |")
        for label, text in (("requests", _requests), ("MB moved", _moved), ("memory, MB", _memory), ("CPU, s", _cpu)):
            cells = [text(found[who]) if who in found else "" for who in contestants]
            if any(cells):
                lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _line(one: dict[str, Any]) -> str:
    width = f", {one['bandwidth_mbit'] / 1000:g} Gbit/s" if one["bandwidth_mbit"] else ""
    return f"{one['latency_ms']:g} ms{width}"


def _time(one: dict[str, Any] | None, own: float | None) -> str:
    if one is None:
        return "–"
    shown = f"{seconds(one['seconds'])} s"
    if one["contestant"] == "synofs":
        return f"**{shown}**"
    return f"{shown} ({one['seconds'] / own:.2g} x)" if own else shown


def _requests(one: dict[str, Any]) -> str:
    """sshfs's are encrypted: what is counted is round trips."""
    mark = "~" if "round trips" in one["requests"] else ""
    return mark + str(sum(one["requests"].values()))


def _moved(one: dict[str, Any]) -> str:
    moved = one["bytes_down"] + one["bytes_up"]
    return megabytes(moved) if moved > 1e6 else ""


def _memory(one: dict[str, Any]) -> str:
    added = one["memory_bytes"]
    return f"{added / 1e6:+.0f}" if added is not None and abs(added) > 10e6 else ""


def _cpu(one: dict[str, Any]) -> str:
    return f"{one['cpu_seconds']:.2f}" if one["cpu_seconds"] >= 0.3 else ""


def _goals(goals: list[dict[str, Any]]) -> str:
    lines = ["### Goals", "", "| goal | measured | |", "|---|---|---|"]
    lines += [f"| {one['goal']} | {one['found']} | {'met' if one['met'] else '**missed**'} |" for one in goals]
    return "\n".join(lines)
