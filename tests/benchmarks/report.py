"""What was measured, as text: tables, and which goals are met."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator

from tests.benchmarks.goals import Verdict
from tests.benchmarks.stage import Results, Series
from tests.benchmarks.workloads import WORKLOADS

COLUMNS = ("", "seconds", "spread", "x synofs", "requests", "MB down", "MB up", "MB/s", "CPU s", "MB memory")


def table(results: Results, workload: str) -> str:
    """All series of one workload, a block for each line and step."""
    blocks: dict[tuple[str, str], list[Series]] = {}
    for series in results.series.values():
        if series.workload == workload:
            blocks.setdefault((str(series.line), series.step), []).append(series)
    rows: list[tuple[str, ...]] = [COLUMNS]
    for (line, step), many in blocks.items():
        rows.append((f"{step} ({line})", *[""] * (len(COLUMNS) - 1)))
        own = next((series.seconds for series in many if series.contestant == "synofs"), math.nan)
        rows += [_row(series, own) for series in many]
    widths = [max(len(row[number]) for row in rows if number or row[1]) for number in range(len(COLUMNS))]
    widths[0] = max(widths[0], 14)
    text = [f"## {workload}: {WORKLOADS[workload].about}"]
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def _row(series: Series, own: float) -> tuple[str, ...]:
    name = f"  {series.contestant}"
    if not series.measurements:
        return (name, "failed", *[""] * (len(COLUMNS) - 2))
    typical = series.typical
    taken = [m.seconds for m in series.measurements]
    return (
        name,
        seconds(series.seconds),
        f"{seconds(min(taken))}-{seconds(max(taken))}" if len(taken) > 1 else "",
        series.smaller or (f"{series.seconds / own:.2f}" if own == own and own > 0 else ""),
        requests(typical.requests),
        megabytes(typical.bytes_down),
        megabytes(typical.bytes_up),
        f"{series.payload_bytes / series.seconds / 1e6:.0f}" if series.payload_bytes else "",
        f"{typical.cpu_seconds:.2f}" if typical.cpu_seconds else "",
        f"{typical.memory_bytes / 1e6:+.0f}" if typical.memory_bytes is not None else "",
    )


def seconds(value: float) -> str:
    """Three digits that mean something."""
    if value != value:
        return "-"
    return (
        f"{value:.4f}"
        if value < 0.1
        else f"{value:.3f}"
        if value < 1
        else f"{value:.2f}"
        if value < 100
        else f"{value:.0f}"
    )


def megabytes(value: int) -> str:
    return f"{value / 1e6:.1f}" if value < 100e6 else f"{value / 1e6:.0f}"


def requests(counted: Counter[str]) -> str:
    """All of them; the kinds are in the JSON. ~: round trips, where requests cannot be counted."""
    return ("~" if "round trips" in counted else "") + str(counted.total())


def failures(results: Results) -> Iterator[str]:
    for series in results.series.values():
        for failure in series.failures:
            last = failure.strip().splitlines()[-1] if failure.strip() else "no reason told"
            yield f"{series.workload} ({series.line}), {series.contestant}: {last[:200]}"


def goals_text(verdicts: list[Verdict]) -> str:
    width = max((len(verdict.goal) for verdict in verdicts), default=0)
    return "\n".join(f"{one.word:12} {one.goal.ljust(width)}  {one.text()}".rstrip() for one in verdicts)
