"""A real mount that may be killed: the real command, the real kernel, a simulated NAS, all processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from synofs.app.control import ControlClient
from synofs.app.errors import Failure
from synofs.app.mounts import find_mount
from tests.mount.harness import PASSWORD, USER, Nas, simulated_nas, wait_until


class LiveMount:
    """One share mounted in the foreground, with a cache folder of its own that outlives the process."""

    def __init__(
        self, nas: Nas, folder: Path, *options: str, share: str | None = "data", machine: tuple[str, ...] = ()
    ) -> None:
        """`machine`: a command that runs another one somewhere else, such as in a network namespace."""
        self.nas = nas
        self.share = share
        self.folder = folder
        self.root = folder / "mnt"
        self.cache = folder / "cache"
        self.log_file = folder / "log"
        self.options = options
        self.pid: int | None = None
        self._zygote = subprocess.Popen(
            [*machine, sys.executable, "-m", "tests.model.zygote"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for made in (self.root, self.cache):
            made.mkdir(parents=True, exist_ok=True)
        self.password = folder / "password"
        self.password.write_text(PASSWORD)
        self.password.chmod(0o600)

    def start(self) -> None:
        arguments = [
            "mount", self.nas.url, str(self.root), "--foreground", "--insecure-http", "--user", USER,
            "--password-file", str(self.password), "--cache-dir", str(self.cache), *self.options,
        ]  # fmt: skip
        arguments += ["--share", self.share] if self.share else []
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.write(json.dumps({"arguments": arguments, "log": str(self.log_file)}) + "\n")
        self._zygote.stdin.flush()
        self.pid = int(self._zygote.stdout.readline())
        wait_until(lambda: self.is_mounted() or self._ended(), 30, "the mount")
        wait_until(self._answers, 30, "an answer of the mount")
        wait_until(self._listens, 30, "an answer on its socket")

    def _is_running(self) -> bool:
        try:
            os.kill(self.pid or 0, 0)
        except ProcessLookupError:
            return False
        return True

    def _ended(self) -> bool:
        assert self._is_running(), f"the mount ended:\n{self.log[-4000:]}"
        return False

    def _answers(self) -> bool:
        self._ended()
        return subprocess.run(["stat", "-t", str(self.root)], capture_output=True, timeout=30).returncode == 0

    def _listens(self) -> bool:
        try:
            return bool(self.status())
        except Failure:
            return self._ended()

    def is_mounted(self) -> bool:
        return any(
            line.split(" ")[4] == str(self.root) for line in Path("/proc/self/mountinfo").read_text().splitlines()
        )

    @property
    def log(self) -> str:
        return self.log_file.read_text(errors="replace")

    def kill(self) -> None:
        """SIGKILL, as a crash, and clear the dead mountpoint."""
        self._end(signal.SIGKILL, 30)

    def stop(self) -> None:
        """Unmount in order."""
        self._end(signal.SIGTERM, 90)

    def _end(self, number: signal.Signals, seconds: float) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)
        wait_until(lambda: not self._is_running(), seconds, "the end of the process")
        self._clear()

    def _clear(self) -> None:
        self.pid = None
        if self.is_mounted():
            subprocess.run(["fusermount3", "-u", "-z", str(self.root)], check=True)

    # What commands ask of a running mount; over its socket, because a command takes half a second to start.

    def _ask(self, command: str, seconds: float, **arguments: object) -> dict[str, Any]:
        mount = find_mount(str(self.root))
        assert mount is not None, "not mounted"
        with ControlClient.connect(mount) as client:
            return client.ask(command, within_seconds=seconds, **arguments)

    def status(self) -> dict[str, Any]:
        return self._ask("status", 60)

    def debug(self) -> dict[str, Any]:
        """All that `synofs status --debug` tells."""
        return self._ask("debug", 60)

    def refresh(self, path: Path | None = None) -> None:
        """What somebody did on the NAS is to be seen now."""
        inside = "/" + os.path.relpath(path, self.root) if path and path != self.root else "/"
        self._ask("refresh", 60, path=inside)

    def flush(self, seconds: int = 60) -> None:
        """Everything is on the NAS when this returns."""
        try:
            self._ask("flush", seconds + 30, timeout_seconds=seconds)
        except Failure as failure:
            raise AssertionError(f"{failure}\n{self.log[-4000:]}") from failure

    def clean_up(self) -> None:
        if self.pid is not None and self._is_running():
            self.kill()
        self._clear()
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(30)
        self._zygote.stdout.close()


@contextlib.contextmanager
def live_mount(
    folder: Path, *options: str, nas_options: tuple[str, ...] = (), shares: dict[str, Path] | None = None
) -> Iterator[tuple[LiveMount, Path]]:
    """A started mount of a fresh NAS, and the directory that the NAS serves as `data`; of all its shares, if there are
    more."""
    served = folder / "served"
    served.mkdir()
    with simulated_nas({"data": served, **(shares or {})}, *nas_options) as nas:
        mount = LiveMount(nas, folder / "client", *options, share=None if shares else "data")
        try:
            mount.start()
            yield mount, served
        finally:
            mount.clean_up()


def tree_of(root: Path) -> dict[str, bytes | None]:
    """Every name below a directory: content of files, None for folders. Our own hidden names are left out."""
    found: dict[str, bytes | None] = {}
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith((".synofs-", ".simnas-"))]
        for name in folders:
            found[os.path.relpath(os.path.join(folder, name), root)] = None
        for name in files:
            if not name.startswith((".synofs-", ".simnas-")):
                path = os.path.join(folder, name)
                found[os.path.relpath(path, root)] = Path(path).read_bytes()
    return found


def python(code: str, *arguments: str) -> subprocess.Popen[bytes]:
    """A writer process of its own: a hanging mount must not hang the test."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", code, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    )
