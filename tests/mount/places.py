"""Rows of a POSIX table for a writable mount: where they work, and what they use."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.model.live import LiveMount, live_mount, tree_of


class Place:
    """A folder of the mount, and the same folder on the NAS's disk."""

    def __init__(self, mount: LiveMount, served: Path, name: str) -> None:
        self.mount = mount
        self.root = mount.root / name
        self.served = served / name
        self.root.mkdir()

    def there(self, name: str, content: bytes = b"", *, mtime: int = 1_500_000_000) -> Path:
        """A file that is on the NAS already. Returns its path in the mount."""
        path = self.served / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))
        self.mount.refresh(self.root)
        return self.root / name

    def flushed(self) -> dict[str, bytes | None]:
        """What the NAS has when everything was sent."""
        self.mount.flush()
        return tree_of(self.served)


Row = Callable[[Place], None]


class Table(dict[str, Row]):
    """The rows of a test module by name; a decorator that adds one."""

    def __call__(self, function: Row) -> Row:
        self[function.__name__] = function
        return function


def fails(number: int, call: Callable[..., object], *arguments: object) -> None:
    try:
        result = call(*arguments)
    except OSError as error:
        assert error.errno == number, f"{error}, expected {errno.errorcode[number]}"  # noqa: PT017 - not only raises
        return
    raise AssertionError(f"{call.__name__}{arguments} gave {result!r}, expected {errno.errorcode[number]}")


def write(path: Path, content: bytes, flags: int = os.O_WRONLY | os.O_CREAT | os.O_TRUNC) -> None:
    fd = os.open(path, flags, 0o644)
    try:
        assert os.write(fd, content) == len(content)
    finally:
        os.close(fd)


@contextlib.contextmanager
def live_places(folder: Path, mode: str) -> Iterator[Callable[[str], Place]]:
    """`place(name)`: a new folder in a mount of that write mode."""
    with live_mount(folder, "--write-mode", mode) as (mount, served):
        yield lambda name: Place(mount, served, name)
        loud = [line for line in mount.log.splitlines() if "Traceback" in line or line.startswith("ERROR")]
        assert not loud, mount.log[-3000:]
