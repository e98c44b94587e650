"""Photographs as people have them: JPEG of two megabytes each, no two alike.

Those of cameras have EXIF with a thumbnail in it, those that came through a messenger have none.
"""

from __future__ import annotations

import io
import os
import random
import struct
from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

TAKEN = 1_717_236_000  # 2024-06-01


def landscape(seed: int, width: int = 2400, height: int = 1600) -> Image.Image:
    """Sky, sun and hills, with the grain of a sensor (which makes the file as big as a real one)."""
    chance = random.Random(seed)
    sky = tuple(chance.randrange(90, 250) for _ in range(3))
    low = tuple(min(255, value + 60) for value in sky)
    ramp = Image.linear_gradient("L").resize((width, height))
    image = Image.composite(Image.new("RGB", (width, height), low), Image.new("RGB", (width, height), sky), ramp)
    draw = ImageDraw.Draw(image)
    x, y, radius = chance.randrange(width), chance.randrange(height // 2), chance.randrange(80, 220)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(255, 245, 210))
    for layer in range(4):
        base = height * (5 + layer) // 9
        points = [(0, height)]
        points += [(step * width // 12, base + chance.randrange(-140, 140)) for step in range(13)]
        shade = 1 - layer * 0.2
        green = (int(70 * shade), int((110 + chance.randrange(40)) * shade), int(90 * shade))
        draw.polygon([*points, (width, height)], fill=green)
    image = image.filter(ImageFilter.GaussianBlur(2))
    grain = Image.effect_noise((width, height), 60).convert("RGB")
    return Image.blend(image, grain, 0.2)


def camera_exif(image: Image.Image, model: str) -> bytes:
    """Two TIFF directories: of the picture, and of the thumbnail that follows. (Pillow writes the first alone.)"""
    small, encoded = image.copy(), io.BytesIO()
    small.thumbnail((160, 160))
    small.save(encoded, "JPEG", quality=80)
    thumbnail = encoded.getvalue()
    name = model.encode() + b"\0"
    first, text = 8, 8 + 2 + 12 + 4
    second = text + len(name) + len(name) % 2
    content = second + 2 + 3 * 12 + 4
    return b"".join([
        b"Exif\0\0", b"II*\0", struct.pack("<I", first),
        struct.pack("<HHHIII", 1, 0x0110, 2, len(name), text, second), name.ljust(second - text, b"\0"),
        struct.pack("<HHHIHxx", 3, 0x0103, 3, 1, 6), struct.pack("<HHII", 0x0201, 4, 1, content),
        struct.pack("<HHIII", 0x0202, 4, 1, len(thumbnail), 0), thumbnail,
    ])  # fmt: skip


def save_photograph(file: Path, seed: int, *, camera: bool = True) -> None:
    image = landscape(seed)
    image.save(file, "JPEG", quality=94, exif=camera_exif(image, f"Model {seed}") if camera else b"")
    os.utime(file, (TAKEN + seed * 600, TAKEN + seed * 600))


def fill_with_photographs(folder: Path, count: int, different: int = 12) -> None:
    """`count` photographs. Only so many are really drawn; the others are further names of theirs (hard links)."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = folder / f"DSC_{number + 1:04}.jpg"
        if number < different:
            save_photograph(file, number, camera=number % 4 != 3)
        else:
            os.link(folder / f"DSC_{number % different + 1:04}.jpg", file)
