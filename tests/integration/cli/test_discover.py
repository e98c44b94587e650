"""`synofs discover`, over real multicast on the loopback interface."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import PASSWORD, Nas, Synofs, running_nas

LOOPBACK = ("--interface", "127.0.0.1")


@pytest.fixture
def tls(certificate: Callable[[], tuple[Path, Path, str]]) -> tuple[str, ...]:
    cert, key, _ = certificate()
    return ("--account", f"anna:{PASSWORD}", "--tls", str(cert), str(key))


def test_a_nas_that_announces_itself_is_found_with_the_address_to_sign_in_to(
    content: Path, synofs: Synofs, tls: tuple[str, ...]
) -> None:
    with running_nas(content, *tls, "--announce", "diskstation") as nas:
        done = synofs("discover", *LOOPBACK)
        assert done.code == 0, done.err
        assert done.out == f"{nas.url}\tdiskstation\tsimnas\tDSM 7.2-69057\n"
        assert done.err == ""
        (found,) = synofs("discover", *LOOPBACK, "--json").json
        assert found["url"] == nas.url
        assert found["addresses"] == ["127.0.0.1"]
        assert found["mac_addresses"] == ["00:11:32:00:00:01", "00:11:32:00:00:02"]


def test_several_are_told_apart(content: Path, synofs: Synofs, tls: tuple[str, ...]) -> None:
    with (
        running_nas(content, *tls, "--announce", "attic") as attic,
        running_nas(content, *tls, "--announce", "cellar", "--dsm", "6") as cellar,
    ):
        found = synofs("discover", *LOOPBACK, "--json").json
        assert [(nas["name"], nas["url"], nas["dsm"]) for nas in found] == [
            ("attic", attic.url, "7.2-69057"),
            ("cellar", cellar.url, "6.2-25556"),
        ]


def test_who_does_not_announce_itself_is_not_found_and_that_is_no_failure(nas: Nas, synofs: Synofs) -> None:
    done = synofs("discover", *LOOPBACK, "--timeout", "1")
    assert (done.code, done.out) == (0, "")
    assert "no Synology NAS has answered" in done.err
    assert synofs("discover", *LOOPBACK, "--timeout", "1", "--json").json == []
