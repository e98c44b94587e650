"""Numbers as people read them."""

from __future__ import annotations

import pytest

from synofs.cli.terminal import format_bytes, format_seconds


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (300_000, "293 KiB"),
        (5 << 30, "5.0 GiB"),
        (1 << 50, "1024 TiB"),
    ],
)
def test_bytes(count: int, text: str) -> None:
    assert format_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (600, "10 min"), (9000, "2 h 30 min"), (864000, "10 days")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
