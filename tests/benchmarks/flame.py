"""A flame graph of folded stacks: `python -m tests.benchmarks.flame STACKS SVG TITLE`.

STACKS has a line for each stack, outermost frame first: `frame;frame;frame COUNT` (`py-spy record --gil --format raw`).
Frames are functions; how wide one is tells its share of the time.
"""

from __future__ import annotations

import sys
from html import escape
from pathlib import Path
from zlib import crc32

WIDTH = 1200
ROW = 17
LEAST_WIDTH = 1.0  # of what is drawn
LETTER = 6.6


class Frame:
    def __init__(self) -> None:
        self.count = 0
        self.callees: dict[str, Frame] = {}

    def add(self, stack: list[str], count: int) -> None:
        self.count += count
        if stack:
            self.callees.setdefault(stack[0], Frame()).add(stack[1:], count)

    def depth(self, least: float) -> int:
        return 1 + max((frame.depth(least) for frame in self.callees.values() if frame.count >= least), default=0)


def folded(text: str) -> Frame:
    root = Frame()
    for line in text.splitlines():
        stack, _, count = line.rpartition(" ")
        root.add([function(frame) for frame in stack.split(";")], int(count))
    return root


def function(frame: str) -> str:
    """Without its line: `send (synofs/filestation/wire.py:12)` is `send (synofs/filestation/wire.py)`."""
    name, colon, line = frame.rpartition(":")
    return name + ")" if colon and line.rstrip(")").isdigit() else frame


def svg(root: Frame, title: str) -> str:
    least = LEAST_WIDTH * root.count / WIDTH
    height = (root.depth(least) + 2) * ROW
    rows: list[str] = []

    def draw(frame: Frame, name: str, x: float, y: int) -> None:
        width = frame.count * WIDTH / root.count
        hue = 200 if "(synofs/" in name else 30 + crc32(name.encode()) % 20
        share = f"{100 * frame.count / root.count:.1f} %"
        letters = int(width / LETTER)
        text = escape(name if len(name) <= letters else name[: letters - 1] + "…" if letters > 3 else "")
        place = f'x="{x:.1f}" y="{y}" width="{width:.1f}" height="{ROW - 1}"'
        rows.append(
            f"<g><title>{escape(name)}: {share}</title><rect {place} "
            f'fill="hsl({hue},60%,{70 + len(name) % 10}%)"/><text x="{x + 2:.1f}" y="{y + 12}">{text}</text></g>'
        )
        for callee, below in sorted(frame.callees.items()):
            if below.count >= least:
                draw(below, callee, x, y - ROW)
                x += below.count * WIDTH / root.count

    draw(root, f"all: {root.count} samples", 0, height - ROW)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
        'font-family="monospace" font-size="11">'
        f'<rect width="100%" height="100%" fill="white"/><text x="4" y="13">{escape(title)}</text>'
        + "\n".join(rows)
        + "</svg>\n"
    )


def main() -> None:
    stacks, target, title = sys.argv[1:]
    Path(target).write_text(svg(folded(Path(stacks).read_text()), title))


if __name__ == "__main__":
    main()
