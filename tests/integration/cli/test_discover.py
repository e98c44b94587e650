"""`synofs discover`, over real multicast on the loopback interface."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import PASSWORD, Synofs, running_nas

LOOPBACK = ("--interface", "127.0.0.1")


@pytest.fixture
def tls(certificate: Callable[[], tuple[Path, Path, str]]) -> tuple[str, ...]:
    cert, key, _ = certificate()
    return ("--account", f"anna:{PASSWORD}", "--tls", str(cert), str(key))


def name() -> str:
    """One that nobody else on this machine has: the network is for all."""
    return f"nas-{secrets.token_hex(4)}"


def found(synofs: Synofs, *names: str) -> list[dict[str, Any]]:
    """Those of these names."""
    done = synofs("discover", *LOOPBACK, "--json")
    assert done.code == 0, done.err
    return [nas for nas in done.json if nas["name"] in names]


def test_a_nas_that_announces_itself_is_found_with_the_address_to_sign_in_to(
    content: Path, synofs: Synofs, tls: tuple[str, ...]
) -> None:
    attic = name()
    with running_nas(content, *tls, "--announce", attic) as nas:
        done = synofs("discover", *LOOPBACK)
        assert f"{nas.url}\t{attic}\tsimnas\tDSM 7.2-69057" in done.out.splitlines()
        assert (done.code, done.err) == (0, "")
        (one,) = found(synofs, attic)
        assert one["url"] == nas.url
        assert one["addresses"] == ["127.0.0.1"]
        assert one["mac_addresses"] == ["00:11:32:00:00:01", "00:11:32:00:00:02"]
    assert found(synofs, attic) == [], "it has said good-bye"


def test_several_are_told_apart(content: Path, synofs: Synofs, tls: tuple[str, ...]) -> None:
    names = sorted((name(), name()))
    with (
        running_nas(content, *tls, "--announce", names[0]) as attic,
        running_nas(content, *tls, "--announce", names[1], "--dsm", "6") as cellar,
    ):
        assert [(nas["name"], nas["url"], nas["dsm"]) for nas in found(synofs, *names)] == [
            (names[0], attic.url, "7.2-69057"),
            (names[1], cellar.url, "6.2-25556"),
        ]


def test_to_find_none_is_no_failure(synofs: Synofs) -> None:
    """Nobody answers in no time."""
    done = synofs("discover", *LOOPBACK, "--timeout", "0")
    assert (done.code, done.out) == (0, "")
    assert "no Synology NAS has answered" in done.err
    assert synofs("discover", *LOOPBACK, "--timeout", "0", "--json").json == []
