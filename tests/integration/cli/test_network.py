"""A machine that is carried from one network into another: the real kernel's networks, in a namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, running_nas, until
from tests.integration.cli.test_notices import faults

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.getuid() != 0 or not shutil.which("ip"), reason="needs root and iproute2"),
]

SPACE = f"synofs-test-{os.getpid()}"
NAS_SIDE, OUR_SIDE = f"sn{os.getpid()}", f"sc{os.getpid()}"
NAS_ADDRESS, FIRST, SECOND = "198.18.77.1", "198.18.77.2/24", "198.18.77.3/24"
INSIDE = ("nsenter", f"--net=/run/netns/{SPACE}")
LIST = "import os, sys\nprint(os.listdir(sys.argv[1]))"


def ip(*words: str, inside: bool = False) -> None:
    subprocess.run([*(INSIDE if inside else ()), "ip", *words], check=True, capture_output=True)


@pytest.fixture
def move() -> Iterator[Callable[[str, str], None]]:
    """`move(old, new)`: the client's address becomes another one."""
    ip("netns", "add", SPACE)
    try:
        ip("link", "add", NAS_SIDE, "type", "veth", "peer", "name", OUR_SIDE, "netns", SPACE)
        ip("addr", "add", f"{NAS_ADDRESS}/24", "dev", NAS_SIDE)
        ip("link", "set", NAS_SIDE, "up")
        ip("addr", "add", FIRST, "dev", OUR_SIDE, inside=True)
        ip("link", "set", OUR_SIDE, "up", inside=True)

        def move(old: str, new: str) -> None:
            ip("addr", "del", old, "dev", OUR_SIDE, inside=True)
            ip("addr", "add", new, "dev", OUR_SIDE, inside=True)

        yield move
    finally:
        subprocess.run(["ip", "link", "del", NAS_SIDE], check=False, capture_output=True)
        ip("netns", "del", SPACE)


@pytest.fixture
def far_nas(tmp_path: Path, move: object) -> Iterator[Nas]:
    folder = tmp_path / "volume"
    for name in ("slow", "other"):
        (folder / name).mkdir(parents=True)
        (folder / name / "file").write_text("content")
    with running_nas(
        folder, "--account", f"anna:{PASSWORD}", "--listen-anywhere", "--listen", f"{NAS_ADDRESS}:0"
    ) as nas:
        yield nas


def listings(nas: Nas) -> int:
    return int(nas.stats()["calls"].get("SYNO.FileStation.List.list", 0))


def test_in_another_network_connections_are_made_anew_and_programs_notice_nothing(
    far_nas: Nas, synofs: Synofs, move: Callable[[str, str], None]
) -> None:
    docs = synofs.mountpoint / "docs"
    mount = ("mount", far_nas.url, synofs.mountpoint, *synofs.sign_in(far_nas))
    assert synofs(*mount, before=INSIDE).code == 0
    assert os.listdir(docs)
    faults(far_nas, {"kind": "hang", "path": "slow", "times": 1})
    before = listings(far_nas)
    reader = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LIST, str(docs / "slow")], stdout=subprocess.PIPE, text=True
    )
    until(lambda: listings(far_nas) > before)
    began = time.monotonic()
    move(FIRST, SECOND)
    printed, _ = reader.communicate(timeout=60)
    assert printed.strip() == "['file']", "what was under way is asked for again"
    assert time.monotonic() - began < 15, "and not at its deadline of 20 s"
    assert os.listdir(docs / "other") == ["file"]
    until(lambda: "the NAS is reached from 198.18.77.3 now" in synofs.logs())
    assert synofs.status()["sign_ins"] == 2, "the NAS ties a session to an address"
    assert synofs("umount", synofs.mountpoint).code == 0
