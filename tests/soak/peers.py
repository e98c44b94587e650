"""`python -m tests.soak.peers [CONTESTANT ...]`: what becomes of a colleague's work, and of work before a crash.

The same for synofs and its peers, each with its own server of the same folder:

- *overwrites*: an editor reads a file through the mount, a colleague changes it on the server, the editor saves. Is the
  colleague's text anywhere afterwards?
- *crash*: files are written and closed through the mount, which is killed at once (SIGKILL) and mounted anew. Are the
  files on the server afterwards?

Prints the counts; the exit code is 1 if synofs lost something.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.mounts import CONTESTANTS, Mount
from tests.benchmarks.servers import SERVERS, Server

FILES = 40
SETTLE_SECONDS = 30.0
DEFAULT = ("synofs", "synofs-wb", "rclone", "rclone-tuned", "sshfs")


def overwrites(name: str, server: Server, folder: Path, work: Path) -> tuple[int, int]:
    """Colleagues' texts that are nowhere any more, and those that were written."""
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(f"{number}: as it was\n")
    time.sleep(2)
    with Mount(CONTESTANTS[name], server, folder.name, work) as mount:
        texts = [(mount.path / f"{number}.txt").read_text() for number in range(FILES)]
        time.sleep(1.1)  # a version has another second
        for number in range(FILES):
            (folder / f"{number}.txt").write_text(f"{number}: by a colleague, longer than it was\n")
        saved = []
        for number in range(FILES):
            try:
                (mount.path / f"{number}.txt").write_text(texts[number] + "by the editor\n")
            except OSError:
                continue  # told to the user, who can save under another name
            saved.append(f"{number}: as it was\nby the editor\n")
        settled(folder, saved)
    found = contents(folder)
    lost = sum(not any(f"{number}: by a colleague" in text for text in found) for number in range(FILES))
    return lost, FILES


def crash(name: str, server: Server, folder: Path, work: Path) -> tuple[int, int]:
    """Acknowledged files that are not on the server, and those that were acknowledged."""
    acknowledged = []
    mount = Mount(CONTESTANTS[name], server, folder.name, work)
    with mount:
        for number in range(FILES):
            text = f"{number} " * 1000
            (mount.path / f"{number}.txt").write_text(text)
            acknowledged.append(text)
        mount.kill()
    with Mount(CONTESTANTS[name], server, folder.name, work):
        settled(folder, acknowledged)
    found = contents(folder)
    return sum(text not in found for text in acknowledged), len(acknowledged)


def contents(folder: Path) -> set[str]:
    return {path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()}


def settled(folder: Path, expected: list[str]) -> None:
    """Wait until everything is there, or nothing more comes."""
    give_up_at = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < give_up_at and not set(expected) <= contents(folder):
        time.sleep(0.5)


def main(names: list[str]) -> int:
    failed = False
    for name in names or DEFAULT:
        for harness in (overwrites, crash):
            root, work = Path(tempfile.mkdtemp(prefix="synofs-peers-")), Path(tempfile.mkdtemp(prefix="synofs-peers-"))
            server = SERVERS[CONTESTANTS[name].server_kind](root, work / "server")
            folder = root / "share"
            folder.mkdir()
            try:
                server.start()
                lost, of = harness(name, server, folder, work / "mount")
            finally:
                server.stop()
                shutil.rmtree(root)
                shutil.rmtree(work)
            print(f"{harness.__name__:12} {name:14} {lost} of {of} lost", flush=True)
            failed |= bool(lost) and name.startswith("synofs")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
