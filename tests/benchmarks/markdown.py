"""The tables of docs/BENCHMARKS.md, from the JSON of one or several sittings: nothing is copied by hand."""

from __future__ import annotations

from typing import Any

from tests.benchmarks.goals import Verdict, judge
from tests.benchmarks.report import megabytes, seconds
from tests.benchmarks.workloads import WORKLOADS


def document(report: dict[str, Any]) -> str:
    """How it was measured, all tables, and what they say of the goals."""
    measured = {one["workload"] for one in report["results"]}
    workloads = [name for name in WORKLOADS if name in measured]
    parts = [_sittings(report["parts"])]
    parts += [_workload(name, [one for one in report["results"] if one["workload"] == name]) for name in workloads]
    parts.append(_goals(judge(report["results"])))
    return "\n\n".join(parts) + "\n"


def _sittings(parts: list[dict[str, Any]]) -> str:
    told = []
    for part in parts:
        pairs = [(name, f"{latency:g}") for name, latency in part["measured"]]
        names = {ms: ", ".join(name for name, other in pairs if other == ms) for _, ms in pairs}
        what = "; ".join(f"at {ms} ms {which}" for ms, which in names.items())
        told.append(f"- `{part['command']}`: {what}. {part['machine']}; {part['date']}, {part['minutes']:.0f} min.")
    return "\n".join(told)


def _workload(name: str, series: list[dict[str, Any]]) -> str:
    measured = [one for one in series if "seconds" in one]
    contestants = list(dict.fromkeys(one["contestant"] for one in measured))
    lines = [f"### {name}: {WORKLOADS[name].about}", ""]
    lines += [f"| | {' | '.join(contestants)} |", f"|---|{'---:|' * len(contestants)}"]
    steps = dict.fromkeys(
        (one["step"], one["latency_ms"]) for one in sorted(measured, key=lambda one: one["latency_ms"])
    )
    for step, latency in steps:
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
    if one.get("smaller"):
        return f"{shown} for {one['smaller']}"
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


def _goals(verdicts: list[Verdict]) -> str:
    lines = ["### Goals", "", "| goal | measured | |", "|---|---|---|"]
    for one in verdicts:
        word = "**missed**" if one.word == "missed" else one.word
        lines.append(f"| {one.goal} | {one.text(missed='**{}**')} | {word} |")
    return "\n".join(lines)
