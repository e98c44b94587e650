"""SIGKILL of the process behind a mount: whoever waits for it gets an error within seconds, whatever it waits for."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.harness import Nas, mounted, run

pytestmark = pytest.mark.mount

SECONDS = 5.0
ABORTED = {errno.ECONNABORTED, errno.ENOTCONN, errno.EIO}  # EIO: the kernel's word for a page that did not come
BEGIN = "import mmap, os, sys; path = sys.argv[1]; print('begun', flush=True)\ntry:\n "
END = "\nexcept OSError as error: sys.exit(error.errno)"
WAITS = {
    "listing": ("os.listdir(path + '/folder')", ABORTED),
    "lookup": ("os.stat(path + '/folder/name')", ABORTED),
    "read": ("open(path + '/read', 'rb').read()", ABORTED),
    "page of a mapped file": (
        "mmap.mmap(os.open(path + '/mapped', os.O_RDONLY), 0, prot=mmap.PROT_READ)[70_000]",
        {-signal.SIGBUS},
    ),
    "fsync": ("file = open(path + '/new', 'wb', 0); file.write(b'x'); os.fsync(file.fileno())", ABORTED),
    "close": (
        "file = os.open(path + '/closed', os.O_WRONLY | os.O_CREAT); os.write(file, b'x'); os.close(file)",
        ABORTED,
    ),
    "mkdir": ("os.mkdir(path + '/made')", ABORTED),
    "rename": ("os.rename(path + '/old', path + '/renamed')", ABORTED),
    "second in a folder that the kernel has locked": ("os.mkdir(path + '/made too')", ABORTED),
}


@pytest.mark.parametrize("stopped", [False, True], ids=["at work", "stopped before"])
def test_whoever_waits_for_a_process_that_is_killed_gets_an_error_within_seconds(
    stopped: bool, served: Path, start_nas: Callable[..., Nas]
) -> None:
    (served / "folder").mkdir()
    for name in ("read", "mapped", "old", "open"):
        (served / name).write_bytes(bytes(200_000))
    nas = start_nas(served)
    with mounted(nas, writable=True) as mount:
        mount.path = mount.mountpoint / served.name
        run("ls", str(mount.path))
        idle = os.open(mount / "open", os.O_RDONLY)
        for method in ("list", "download", "upload", "create", "rename"):
            nas.fault("hang", method=method)
        waiting = {
            what: subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", BEGIN + doing + END, mount.path], stdout=subprocess.PIPE
            )
            for what, (doing, _) in WAITS.items()
        }
        try:
            for process in waiting.values():
                assert process.stdout is not None
                assert process.stdout.readline() == b"begun\n"
            time.sleep(1)
            if stopped:
                os.kill(mount.process.pid, signal.SIGSTOP)
            assert [what for what, process in waiting.items() if process.poll() is not None] == []
            mount.process.kill()
            killed_at = time.monotonic()
            ended = {what: process.wait(SECONDS) for what, process in waiting.items()}
            assert time.monotonic() - killed_at < SECONDS
        finally:
            for process in waiting.values():
                process.kill()
                process.wait()
                if process.stdout is not None:
                    process.stdout.close()
        assert {what: code for what, code in ended.items() if code not in WAITS[what][1]} == {}
        mount.process.wait(SECONDS)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.read(idle, 1)
        with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
            os.close(idle)
        mount.process.returncode = 0  # on purpose
