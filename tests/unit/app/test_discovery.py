"""What is read out of an announcement, which anybody on the network could have made."""

from __future__ import annotations

import json
import random
import socket

import pytest
from zeroconf import ServiceInfo

from synofs.app import discovery
from synofs.app.config import parse_nas
from synofs.app.discovery import FoundNas, described
from tests.hostile.answers import NAMES, NUMERALS

# As published captures of real boxes have it.
TEXT = {
    "vendor": "Synology",
    "model": "DS218+",
    "serial": "17A0PCN000000",
    "version_major": "6",
    "version_minor": "2",
    "version_build": "25556",
    "admin_port": "5000",
    "secure_admin_port": "5001",
    "mac_address": "00:11:32:80:00:01|00:11:32:80:00:02",
}


def announced(text: dict[str, str | None], kind: str = "_http._tcp.local.", port: int = 5000) -> FoundNas | None:
    addresses = [socket.inet_pton(socket.AF_INET6, "fd00::3"), socket.inet_aton("192.168.0.3")]
    return described(
        ServiceInfo(kind, f"attic.{kind}", port=port, properties=text, addresses=addresses, server="attic.local.")
    )


@pytest.fixture(autouse=True)
def _no_resolver_for_local_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_resolves", lambda host: False)


def test_the_record_of_a_real_box() -> None:
    assert announced(dict(TEXT)) == FoundNas(
        name="attic",
        host="192.168.0.3",
        addresses=("192.168.0.3", "fd00::3"),
        url="https://192.168.0.3:5001",
        model="DS218+",
        dsm="6.2-25556",
        mac_addresses=("00:11:32:80:00:01", "00:11:32:80:00:02"),
    )


def test_a_name_that_this_machine_resolves_is_better_than_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_resolves", lambda host: host == "attic.local")
    found = announced(dict(TEXT))
    assert found is not None
    assert found.url == "https://attic.local:5001"


def test_another_port_of_the_web_desktop_is_taken_from_the_record() -> None:
    found = announced({**TEXT, "secure_admin_port": "8443"})
    assert found is not None
    assert found.url.endswith(":8443")


def test_who_is_no_synology_is_left_out() -> None:
    assert announced({"vendor": "QNAP"}) is None
    assert announced({}) is None
    assert announced({"vendor": None}) is None


@pytest.mark.parametrize("port", ["", "0", "65536", "5001x", "-1"])
def test_a_port_that_is_none_is_dsms_own(port: str) -> None:
    found = announced({**TEXT, "secure_admin_port": port})
    assert found is not None
    assert found.url.endswith(":5001")


def test_nothing_in_a_record_can_steer_the_terminal() -> None:
    found = announced({**TEXT, "model": "DS\x1b[2J\n218"})
    assert found is not None
    assert found.model == "DS[2J218"


def test_a_record_without_version_or_ports_is_enough() -> None:
    found = announced({"vendor": "Synology Inc."}, kind="_https._tcp.local.", port=5005)
    assert found is not None
    assert (found.url, found.dsm, found.model) == ("https://192.168.0.3:5005", None, None)


@pytest.mark.parametrize(
    "server",
    ["a..local.", "x" * 300 + ".local.", "ü" * 70 + ".local.", "nas;reboot.local.", "a b.local.", "user@nas.local.",
     "nas/x?y.local.", "\x1b[2J.local.", "a\0b.local.", "-." * 200, ".", ""],
)  # fmt: skip
def test_what_is_no_host_name_gets_into_no_address(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_resolves", lambda host: True)  # whoever announces it can answer for it, too
    info = ServiceInfo(
        "_http._tcp.local.", "attic._http._tcp.local.", 5000,
        properties={"vendor": "Synology"}, addresses=[socket.inet_aton("192.168.0.3")], server=server,
    )  # fmt: skip
    found = described(info)
    assert found is not None
    assert found.url == "https://192.168.0.3:5001"


def test_odd_announcements_are_described_or_left_out() -> None:
    rng = random.Random(6)
    odd = [*NAMES, *NUMERALS, *(rng.randbytes(20).decode("latin-1") for _ in range(30))]
    for _ in range(3000):
        text = {key: rng.choice(odd) if rng.random() < 0.6 else value for key, value in TEXT.items()}
        text["vendor"] = "Synology"
        properties = {
            key.encode(): value.encode("utf-8", "surrogatepass")[:200]
            for key, value in text.items()
            if rng.random() < 0.9
        }
        addresses = rng.sample(
            [socket.inet_aton("192.168.0.3"), socket.inet_aton("0.0.0.0"), bytes(16)], rng.randrange(4)
        )
        server = rng.choice(odd).encode("utf-8", "replace").decode()
        info = ServiceInfo(
            "_http._tcp.local.", "attic._http._tcp.local.", rng.randrange(65536),
            properties=properties, addresses=addresses, server=server,
        )  # fmt: skip
        found = described(info)
        if found is not None:
            assert json.dumps(found.to_json()).isprintable()
            assert parse_nas(found.url).host
