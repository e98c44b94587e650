"""stress-ng's filesystem stressors: what a network filesystem can honour passes, the rest is refused as listed."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.live import LiveMount, live_mount

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]

HONOURED = [
    "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "dup", "fallocate", "fcntl",
    "fiemap", "file-ioctl", "filename", "flock", "fpunch", "fstat", "getdent", "hdd", "io", "iomix", "lease", "locka",
    "lockf", "open", "readahead", "rename", "seek", "sendfile", "splice", "sync-file", "touch",
]  # fmt: skip
REFUSED = {
    "access": "chmod changes nothing, so access(2) goes by the NAS's rights",
    "link": "File Station has no hard links",
    "symlink": "File Station has no symbolic links",
    "xattr": "there are no extended attributes",
    "utime": "the time of the last access is the NAS's",
}


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMount]:
    with live_mount(tmp_path_factory.mktemp("stress"), "--write-mode", "writeback") as (mount, _):
        yield mount
        assert "Traceback" not in mount.log, mount.log[-3000:]


def stress(mount: LiveMount, stressor: str, folder: Path) -> int:
    assert shutil.which("stress-ng"), "scripts/lib.sh should have installed stress-ng"
    return subprocess.run(
        [
            "stress-ng",
            "--temp-path",
            str(folder),
            f"--{stressor}",
            "1",
            f"--{stressor}-ops",
            "10",
            "-t",
            "2",
            "--verify",
        ],
        capture_output=True,
        timeout=60,
    ).returncode


@pytest.mark.parametrize("stressor", HONOURED)
def test_honoured(mount: LiveMount, stressor: str) -> None:
    folder = mount.root / stressor
    folder.mkdir()
    assert stress(mount, stressor, folder) == 0


@pytest.mark.parametrize("stressor", REFUSED)
def test_refused(mount: LiveMount, stressor: str) -> None:
    folder = mount.root / stressor
    folder.mkdir()
    assert stress(mount, stressor, folder) != 0
