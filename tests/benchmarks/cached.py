"""A cache directory with a great many files in it, made from one with a single cached file.

Reading half a million files would take hours, so the one entry is repeated the way the program itself stores it.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from pathlib import Path

from tests.benchmarks.processes import BenchmarkFailed


def fill_cache(work: Path, files: int) -> None:
    """`work` is that of a mount that has ended."""
    cache = work / "cache"
    if found := list(cache.rglob("blocks/index.db")):
        _fill_blocks(found[0], files)
    elif found := list(cache.glob("vfsMeta/*/**/*.bin")):
        _fill_rclone(cache, found[0], files)
    else:
        raise BenchmarkFailed("nothing was cached that could be repeated")


def _fill_blocks(index: Path, files: int) -> None:
    db = sqlite3.connect(index)
    db.row_factory = sqlite3.Row
    file = dict(db.execute("SELECT * FROM files LIMIT 1").fetchone())
    stretches = [dict(row) for row in db.execute("SELECT * FROM stretches WHERE file = ?", (file["id"],))]
    content = next(index.parent.rglob(f"{file['id']}*"))
    with db:
        for number in range(files):
            name = uuid.uuid4().hex
            path = file["path"]
            other = path + b" %d" % number if isinstance(path, bytes) else f"{path} {number}"
            _insert(db, "files", {**file, "id": name, "path": other})
            for stretch in stretches:
                _insert(db, "stretches", {**stretch, "file": name})
            folder = index.parent / "data" / name[:2]
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / name).open("wb") as sparse:
                sparse.truncate(content.stat().st_size)
    db.close()


def _insert(db: sqlite3.Connection, table: str, row: dict[str, object]) -> None:
    places = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", tuple(row.values()))


def _fill_rclone(cache: Path, meta: Path, files: int) -> None:
    below = meta.relative_to(cache / "vfsMeta")
    content = cache / "vfs" / below
    told = json.loads(meta.read_text())
    for number in range(files):
        name = f"many {number // 1000}/{number}.bin"
        for where in (meta.parent / name, content.parent / name):
            where.parent.mkdir(parents=True, exist_ok=True)
        (meta.parent / name).write_text(json.dumps(told))
        with (content.parent / name).open("wb") as sparse:
            sparse.truncate(content.stat().st_size)
