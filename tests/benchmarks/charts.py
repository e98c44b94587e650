"""Charts of one run: bars for the times of all contestants, one picture for each workload worth a look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = {
    "synofs": "#1769aa",
    "synofs-16": "#5b9bd5",
    "synofs-wb": "#5b9bd5",
    "synofs-wb-16": "#9dc3e6",
    "rclone": "#c55a11",
    "rclone-tuned": "#f0a878",
    "sshfs": "#548235",
    "sshfs-cached": "#a9d18e",
}
LIMIT_COLOUR = "#888888"
LIMITS = ("curl", "one request", "one page")

PICTURES = {
    "walk": ("Walking a tree", r"cold"),
    "folder": ("One big folder", r""),
    "copy-out": ("Copying small files out", r""),
    "copy-in": ("Copying small files in", r""),
    "read": ("Reading a big file", r"^\d+ MiB"),
    "write": ("Writing a big file", r"on the server"),
    "random": ("One random read", r""),
    "source": ("A source tree", r""),
}


def draw(report: dict[str, Any], folder: Path, kind: str = "svg") -> list[Path]:
    """One file for each workload of the report that has a picture; `report` is what the JSON file holds."""
    import re

    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams |= {"svg.hashsalt": "synofs", "font.size": 9, "svg.fonttype": "none", "font.family": "sans-serif"}
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for workload, (title, pattern) in PICTURES.items():
        series = [
            one
            for one in report["results"]
            if one["workload"] == workload and one.get("seconds") and not one.get("smaller")
            if re.search(pattern, one["step"])
        ]
        if not series:
            continue
        latencies = sorted({one["latency_ms"] for one in series})
        steps = list(dict.fromkeys(one["step"] for one in series))
        names = list(dict.fromkeys(one["contestant"] for one in series))
        figure, axes = pyplot.subplots(
            len(steps),
            len(latencies),
            figsize=(1.2 + 3.1 * len(latencies), 0.9 + len(steps) * (0.45 + 0.22 * len(names))),
            squeeze=False,
            layout="constrained",
        )
        for row, step in enumerate(steps):
            for column, latency in enumerate(latencies):
                _bars(axes[row][column], [o for o in series if o["step"] == step and o["latency_ms"] == latency], names)
                axes[row][column].set_title(f"{step}, {_line(series, latency)}", fontsize=8.5, loc="left")
        figure.suptitle(f"{title}: seconds, shorter is better", x=0.01, ha="left", fontsize=11, fontweight="bold")
        path = folder / f"{workload}.{kind}"
        figure.savefig(path, metadata={"Date": None} if kind == "svg" else None, dpi=110)
        pyplot.close(figure)
        written.append(path)
    return written


def _line(series: list[dict[str, Any]], latency: float) -> str:
    width = next(one["bandwidth_mbit"] for one in series if one["latency_ms"] == latency)
    return f"{latency:g} ms" + (f", {width / 1000:g} Gbit/s" if width else "")


def _bars(axis: Any, series: list[dict[str, Any]], names: list[str]) -> None:
    taken = {one["contestant"]: one["seconds"] for one in series}
    shown = [name for name in names if name in taken]
    values = [taken[name] for name in shown]
    colours = [LIMIT_COLOUR if name in LIMITS else COLOURS.get(name, "#444444") for name in shown]
    bars = axis.barh(shown, values, color=colours, height=0.7)
    axis.bar_label(bars, [f"{value:.3g}" for value in values], padding=3, fontsize=8)
    axis.invert_yaxis()
    axis.set_xlim(0, max(values, default=1) * 1.18)
    axis.xaxis.set_visible(False)
    axis.tick_params(axis="y", length=0)
    for side in ("top", "right", "bottom"):
        axis.spines[side].set_visible(False)
