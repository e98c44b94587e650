"""Demo content: a small tree that shows what a mount is good for. The same bytes every time."""

from __future__ import annotations

import math
import os
import struct
import wave
import zlib
from pathlib import Path

_README = """\
This tree was made by the simulated NAS. Everything here is listed, read and written through the File Station
API, as on a real one.

documents/   texts in several scripts, a table, names that are hard to quote
photos/      pictures (PNG)
music/       a sound (WAV)
many/        2,000 small files in one folder
large/       a file of 256 MiB that takes no space on the disk
"""

_TEXTS = {
    "letter.txt": "Dear NAS,\n\nplease keep this for me.\n",
    "Größe & Gewicht.txt": "Umlaute im Namen, und im Text: äöüß.\n",
    "日本語のメモ.txt": "これはテストです。\n",
    "русский текст.txt": "Привет!\n",
    'it\'s [50%] "done", really.txt': "A name with every kind of quote.\n",
    "table.csv": "year,films,songs\n2022,11,205\n2023,17,318\n2024,9,150\n",
}


def fill(folder: Path) -> None:
    """Writes the demo tree into an empty folder."""
    (folder / "README.txt").write_text(_README, encoding="utf-8")
    documents = folder / "documents"
    documents.mkdir()
    for name, text in _TEXTS.items():
        (documents / name).write_text(text, encoding="utf-8")
    (documents / "empty folder").mkdir()
    photos = folder / "photos" / "2024"
    photos.mkdir(parents=True)
    for number in range(1, 7):
        (photos / f"IMG_{number:04}.png").write_bytes(_png(480, 320, number))
    music = folder / "music"
    music.mkdir()
    _write_wav(music / "tone.wav", seconds=3)
    many = folder / "many"
    many.mkdir()
    for number in range(2000):
        (many / f"note-{number:04}.txt").write_text(f"note number {number}\n")
    large = folder / "large"
    large.mkdir()
    with (large / "disk.img").open("wb") as file:
        file.write(b"the first bytes of a large file\n")
        file.truncate(256 * 2**20)


def is_empty(folder: str) -> bool:
    with os.scandir(folder) as entries:
        return next(entries, None) is None


def _png(width: int, height: int, number: int) -> bytes:
    """A picture: two gradients in a colour of its own."""
    rows = []
    for y in range(height):
        row = bytearray(b"\0")
        for x in range(width):
            shade = 255 * x // width
            row += bytes((shade * number // 6, 255 * y // height, 255 - shade))
        rows.append(bytes(row))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(b"".join(rows), 6)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", pixels) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _write_wav(path: Path, seconds: int, rate: int = 22050) -> None:
    samples = (int(12000 * math.sin(2 * math.pi * 440 * n / rate)) for n in range(seconds * rate))
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
