"""A zip archive made while it is sent: nothing of it is ever held whole."""

from __future__ import annotations

import io
import os
import stat
import time
import zipfile
from collections.abc import Iterator

_CHUNK = 2**20


class _Sink(io.RawIOBase):
    """Collects what ZipFile writes, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: object) -> int:
        piece = bytes(memoryview(data))  # type: ignore[arg-type]
        self._pieces.append(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        return taken


def zip_tree(roots: list[str]) -> Iterator[bytes]:
    """The bytes of a zip with the given files and folders, uncompressed, links left out."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for root in roots:
            for real, name in _members(root):
                try:
                    info = zipfile.ZipInfo.from_file(real, name, strict_timestamps=False)
                    if info.is_dir():
                        archive.writestr(info, b"")
                        continue
                    with open(real, "rb") as source, archive.open(info, "w", force_zip64=True) as member:
                        while chunk := source.read(_CHUNK):
                            member.write(chunk)
                            yield sink.take()
                except FileNotFoundError:
                    continue
    yield sink.take()


def _members(root: str) -> Iterator[tuple[str, str]]:
    top = os.path.basename(root)
    if not os.path.isdir(root):
        yield root, top
        return
    for folder, folders, files in os.walk(root):
        folders.sort()
        inside = os.path.relpath(folder, root)
        here = top if inside == "." else f"{top}/{inside}"
        yield folder, here + "/"
        for name in sorted(files):
            if stat.S_ISREG(os.lstat(f"{folder}/{name}").st_mode):
                yield f"{folder}/{name}", f"{here}/{name}"


def archive_name(names: list[str]) -> str:
    """What the browser would call the archive."""
    return f"{names[0]}.zip" if len(names) == 1 else time.strftime("download-%Y%m%d-%H%M%S.zip")
