"""stress-ng's filesystem stressors, with --verify: those that a network filesystem can honour, and the refusals."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.live import LiveMount, live_mount

pytestmark = [
    pytest.mark.mount,
    pytest.mark.timeout(300),
    pytest.mark.skipif(shutil.which("stress-ng") is None, reason="needs stress-ng"),
]

HONOURED = (
    "chdir", "chmod", "chown", "copy-file", "dentry", "dir", "dirdeep", "dirmany", "fcntl", "filename", "flock",
    "fsize", "fstat", "getdent", "hdd", "inotify", "iomix", "locka", "lockf", "lockofd", "mmapmany", "open",
    "readahead", "rename", "revio", "seek", "sendfile", "sync-file", "touch",
)  # fmt: skip

# What stress-ng says of what File Station does not have. It ends with 3 (not supported) or 2 (a failed check).
REFUSED = {
    "link": (3, "link calls not allowed on the filesystem"),
    "symlink": (3, "link calls not allowed on the filesystem"),
    "xattr": (3, "filesystem does not support xattr"),
    "fiemap": (0, "FS_IOC_FIEMAP not supported"),
    "access": (2, "chmod mode"),  # modes are the NAS's
    "utime": (2, "access time"),  # so is the time of the last access
}

LIMITS = ("hdd-bytes 2m", "iomix-bytes 2m", "seek-size 2m", "readahead-bytes 2m", "dirdeep-inodes 30",
          "sync-file-bytes 2m", "revio-bytes 2m")  # fmt: skip


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveMount]:
    with live_mount(tmp_path_factory.mktemp("stress"), "--write-mode", "writeback") as (mount, _):
        yield mount
        mount.flush()
        assert "Traceback" not in mount.log
        assert mount.status()["failed_uploads"] == 0


def stress(root: Path, name: str) -> subprocess.CompletedProcess[str]:
    folder = root / name
    folder.mkdir()
    words = ["stress-ng", "--temp-path", str(folder), f"--{name}", "1", "--timeout", "1", "--verify"]
    for limit in LIMITS:
        option, value = limit.split()
        words += [f"--{option}", value]
    return subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize("name", HONOURED)
def test_what_a_network_filesystem_can_honour_is_honoured(mount: LiveMount, name: str) -> None:
    done = stress(mount.root, name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_is_refused_in_so_many_words(mount: LiveMount, name: str) -> None:
    code, words = REFUSED[name]
    done = stress(mount.root, name)
    assert (done.returncode, words in done.stdout + done.stderr) == (code, True), done.stdout + done.stderr
