"""Trees and bytes to test with. What is generated is the same in every run.

The bytes of a file tell where they stand and which version of the file they are of (`revealing`), so a test sees
not only that bytes are wrong but where they came from.
"""

from __future__ import annotations

import os
import shutil
import struct
import sys
import sysconfig
import unicodedata
from array import array
from collections.abc import Iterator
from pathlib import Path

WORD_BYTES = 8


def revealing(size: int, version: int = 0, offset: int = 0) -> bytes:
    """`size` bytes of the file of that version from `offset` on: words of (version, number of the word)."""
    first = offset // WORD_BYTES
    last = -(-(offset + size) // WORD_BYTES)
    words = array("Q", range(version << 48 | first, version << 48 | last))
    if sys.byteorder == "big":
        words.byteswap()
    skipped = offset - first * WORD_BYTES
    return words.tobytes()[skipped : skipped + size]


def versions_in(data: bytes, offset: int = 0) -> set[int]:
    """The versions that whole words of `data` (read at `offset`) are of; a misplaced word fails the test."""
    start = -offset % WORD_BYTES
    words = len(data[start:]) // WORD_BYTES
    found = set()
    for index, word in enumerate(struct.unpack(f"<{words}Q", data[start : start + words * WORD_BYTES])):
        expected = (offset + start) // WORD_BYTES + index
        assert word & ((1 << 48) - 1) == expected, f"word {expected} of the file holds {word:#x}"
        found.add(word >> 48)
    return found


LONG_AGO = 1_600_000_000


def write_revealing(path: Path, size: int, version: int = 0, mtime: int | None = LONG_AGO) -> None:
    """Written piece by piece: `size` may be larger than memory would like. Of long ago, unless told otherwise (None:
    now): a NAS shows whole seconds, and what may be written once more within its second is not cached for long."""
    piece = 1 << 20
    with path.open("wb") as file:
        for offset in range(0, size, piece):
            file.write(revealing(min(piece, size - offset), version, offset))
    if mtime is not None:
        os.utime(path, (mtime, mtime))


def write_sparse(path: Path, size: int, islands: tuple[int, ...] = ()) -> None:
    """A file of `size` bytes that takes next to no disk: zeros, with a page of revealing bytes at each island."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset in islands:
            file.seek(offset)
            file.write(revealing(min(4096, size - offset), 0, offset))


NFC = unicodedata.normalize("NFC", "Ångström résumé")
NFD = unicodedata.normalize("NFD", "Ångström résumé")

ODD_NAMES: tuple[bytes, ...] = (
    *(name.encode() for name in (NFC, NFD, "日本語.txt", "🜚 alchemy 🧪", "e\u0301clair", "\u202egnp.exe")),
    b" leading and trailing ",
    b"two  spaces",
    b"line\nbreak",
    b"carriage\rreturn",
    b"tab\there",
    b"bell\x07 and escape \x1b[31m",
    b'quote"double',
    b"quote'single",
    b"back\\slash",
    b"[brackets]",
    b'["json"]',
    b"{curly}",
    b"a,comma,list",
    b"100%",
    b"%2F%00%41",
    b"plus+plus",
    b"amp&equals=question?",
    b"#hash",
    b"semi;colon:colon",
    b"star*",
    b"-rf",
    b"--help",
    b"~",
    b"$HOME",
    b"`id`",
    b"...",
    b"..hidden",
    b".hidden",
    b"UPPER",
    b"upper",
    b"null",
    b"true",
    b"0",
    b"x" * 255,
    "ü".encode() * 127,
)

NOT_UTF8_NAMES: tuple[bytes, ...] = (b"latin1-\xe9t\xe9", b"\xff\xfe", b"half \xc3", b"\xed\xa0\x80 lone surrogate")


def make_odd_tree(root: Path, names: tuple[bytes, ...] = ODD_NAMES) -> None:
    """For each odd name a file and a folder of it that holds another; and the odd sizes."""
    base = os.fsencode(root)
    for number, name in enumerate(names):
        with open(os.path.join(base, name), "wb") as file:
            file.write(revealing(100 + number, number))
        folder = os.path.join(base, b"folders", name)
        os.makedirs(folder)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(revealing(10, number))
    sizes = root / "sizes"
    sizes.mkdir()
    for size in (0, 1, 4095, 4096, 4097, 65536, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3 * (1 << 20) + 5):
        write_revealing(sizes / f"{size} bytes", size)
    (root / "empty folder").mkdir()
    os.utime(sizes / "0 bytes", (0, 0))
    os.utime(sizes / "1 bytes", (4_000_000_000, 4_000_000_000))
    os.utime(sizes / "4096 bytes", ns=(1_700_000_000_987_654_321, 1_700_000_000_987_654_321))


def make_wide_tree(root: Path, folders: int = 1_000, entries: int = 20_000) -> None:
    """`entries` entries below `root`, `folders` of them folders, in three levels; the files are small."""
    made = [root]
    for number in range(folders):
        folder = made[number // 10] / f"folder {number:04}"
        folder.mkdir()
        made.append(folder)
    for number in range(entries - folders):
        (made[1 + number % folders] / f"file {number:05}.txt").write_bytes(b"%d\n" % number)


def make_flat_folder(root: Path, files: int) -> None:
    """Many files in one folder."""
    root.mkdir(exist_ok=True)
    for number in range(files):
        (root / f"{number:06}").write_bytes(b"%d" % number)


def make_library_tree(root: Path) -> None:
    """A copy of this Python's standard library: a real tree of a few thousand real files."""
    skipped = shutil.ignore_patterns("site-packages", "dist-packages", "__pycache__", "test", "tests", "config-*")
    shutil.copytree(sysconfig.get_path("stdlib"), root, symlinks=False, ignore=skipped, dirs_exist_ok=True)


def walk(root: bytes) -> Iterator[tuple[bytes, bool]]:
    """Every path below `root`, relative to it, in order, and whether it is a folder."""
    for folder, folders, files in os.walk(root):
        folders.sort()
        inside = os.path.relpath(folder, root)
        for name in folders:
            yield os.path.normpath(os.path.join(inside, name)), True
        for name in sorted(files):
            yield os.path.normpath(os.path.join(inside, name)), False
