"""Counts the inputs that the tests of this ring have made, and prints how many there were of each kind."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.integration.cli.conftest import content, synofs

__all__ = ["content", "synofs"]  # fixtures of the commands

_COUNTS = pytest.StashKey[Counter[str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_COUNTS] = Counter()


@pytest.fixture
def inputs(request: pytest.FixtureRequest) -> Counter[str]:
    """`inputs["decoders"] += 1` for each input that was tried."""
    return request.config.stash[_COUNTS]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    counts = config.stash.get(_COUNTS, Counter())
    if counts:
        parts = ", ".join(f"{count:,} {kind}" for kind, count in sorted(counts.items()))
        terminalreporter.write_line(f"hostile inputs tried: {counts.total():,} ({parts})")
