"""The short form of `peers`, for the one contestant that promises something; and that a loss would be counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import peer_crashes, peers
from tests.soak.contest import Outcome

pytestmark = [pytest.mark.mount, pytest.mark.timeout(180)]


@pytest.mark.parametrize("harness", ["colleague", "two-mounts"])
def test_of_what_two_clients_save_nothing_vanishes(harness: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers.peer_clients, "FILES", 6)
    outcome = peers.held("synofs", harness)
    assert outcome.of in (6, 12)
    assert outcome.bad == 0, outcome


def test_a_crash_in_the_middle_of_writes_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_crashes, "KILLS", 2)
    outcome = peers.held("synofs-wb", "while-away")
    assert outcome.of > 0
    assert outcome.bad == 0, outcome


def test_what_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill, and the server's disk empty afterwards."""
    monkeypatch.setattr(peer_crashes, "KILLS", 1)
    monkeypatch.setattr("tests.soak.contest.SETTLE_SECONDS", 1.0)
    real = peer_crashes._lost

    def without_the_files(served: Path, told: dict[str, peer_crashes.Writers]) -> list[str]:
        for path in served.rglob("*"):
            if path.is_file():
                path.unlink()
        return real(served, told)

    monkeypatch.setattr(peer_crashes, "_lost", without_the_files)
    outcome = peers.held("synofs", "while-writing")
    assert outcome.bad > 0


def test_the_table_has_a_column_for_each_and_a_row_for_what_was_run() -> None:
    found = {("synofs", "colleague"): Outcome(0, 40, ""), ("sshfs", "colleague"): Outcome(40, 40, "", "2 hung")}
    assert peers.table(found, ["synofs", "sshfs"]).splitlines() == [
        "| harness | synofs | sshfs |",
        "|---|---|---|",
        "| `colleague` | 0 of 40 | 40 of 40; 2 hung |",
    ]


def test_a_peer_that_is_not_there_is_left_out_and_synofs_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(name: str, harness: str) -> Outcome:
        raise FileNotFoundError("sshfs")

    monkeypatch.setattr(peers, "held", missing)
    assert peers.main(["sshfs", "--only", "colleague"]) == 0
    assert "not tried: sshfs" in capsys.readouterr().out
    assert peers.main(["synofs", "--only", "colleague"]) == 1
