"""The journal of unsent files: a SQLite database beside the staged bytes.

WAL with `synchronous=FULL`, so what a method wrote is on the disk when it returns (SQLite: "WAL mode is safe from
corruption, FULL adds durability"). Every method blocks for a few fsyncs at most; `content.staging` calls them in one
thread of their own, in order.

A row exists from before the first write is acknowledged until the NAS has the file. The order of steps and what a
crash between them leaves is in docs/CONCURRENCY.md.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from dataclasses import dataclass, fields
from pathlib import Path

from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,         -- names the staged file and everything that belongs to it
    path TEXT NOT NULL,          -- where it shall be on the NAS
    data TEXT NOT NULL,          -- file name in staging/
    size INTEGER NOT NULL,       -- at the last close or fsync: a shorter staged file has lost bytes
    mtime_ns INTEGER,            -- set by utimens, else null: the time of the last write
    base_size INTEGER,           -- the version on the NAS that the edit started from; null for a new file
    base_mtime_ns INTEGER,
    complete INTEGER NOT NULL,   -- 0: parts are still only on the NAS, see the range log
    attempted TEXT,              -- an upload to this path was started and its end is not known
    refused TEXT,                -- why the NAS refused it for good; the bytes are in recovery/
    created REAL NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS mtimes (
    path TEXT PRIMARY KEY,       -- times given to files that were already on the NAS (utimens without a write)
    size INTEGER NOT NULL,
    remote_mtime_ns INTEGER NOT NULL,
    wanted_mtime_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS moves (
    temp_dir TEXT PRIMARY KEY,   -- a file on its way through this hidden folder ...
    source_name TEXT NOT NULL,   -- ... enters under this name,
    dest_dir TEXT NOT NULL,      -- and shall end here,
    dest_name TEXT NOT NULL      -- under this name
) STRICT;
CREATE TABLE IF NOT EXISTS leftovers (
    path TEXT PRIMARY KEY        -- hidden names on the NAS to be removed
) STRICT;
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One unsent file, as the journal knows it."""

    id: str
    path: str
    data: str
    size: int
    mtime_ns: int | None
    base_size: int | None
    base_mtime_ns: int | None
    complete: bool
    attempted: str | None
    refused: str | None
    created: float

    @property
    def base(self) -> Fingerprint | None:
        if self.base_size is None or self.base_mtime_ns is None:
            return None
        return Fingerprint(self.base_size, self.base_mtime_ns)


_COLUMNS = [column.name for column in fields(Row)]


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None

    def open(self) -> None:
        """Open or create. A damaged database is set aside (`journal.db.damaged-N`) and a new one begun: the staged
        files themselves are then adopted one by one."""
        try:
            self._db = self._connect()
        except sqlite3.DatabaseError as error:
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            log.warning(
                "the journal is damaged (%s); it is set aside as %s and the staged files are adopted", error, aside
            )
            for suffix in ("", "-wal", "-shm"):
                part = self._path.with_name(self._path.name + suffix)
                if part.exists():
                    part.rename(aside.with_name(aside.name + suffix))
            self._db = self._connect()

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("quick_check found damage")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise sqlite3.DatabaseError(f"made by a newer synofs (schema {version})")
            db.executescript(_SCHEMA)
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            self._path.chmod(0o600)
        except BaseException:
            db.close()
            raise
        return db

    @property
    def db(self) -> sqlite3.Connection:
        assert self._db is not None, "the journal is not open"
        return self._db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # ----- files ------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        found = self.db.execute(f"SELECT {', '.join(_COLUMNS)} FROM files ORDER BY created")
        return [Row(**{**dict(zip(_COLUMNS, values, strict=True)), "complete": bool(values[7])}) for values in found]

    def insert(self, row: Row) -> None:
        values = [getattr(row, column) for column in _COLUMNS]
        marks = ", ".join("?" * len(_COLUMNS))
        self.db.execute(f"INSERT OR REPLACE INTO files ({', '.join(_COLUMNS)}) VALUES ({marks})", values)

    def update(self, file_id: str, **columns: object) -> None:
        sets = ", ".join(f"{column} = ?" for column in columns)
        self.db.execute(f"UPDATE files SET {sets} WHERE id = ?", [*columns.values(), file_id])

    def move_paths(self, paths: list[tuple[str, str]]) -> None:
        """(id, new path) of several files, at once."""
        with self.db:
            self.db.execute("BEGIN")
            self.db.executemany("UPDATE files SET path = ?2 WHERE id = ?1", paths)

    def delete(self, file_id: str) -> None:
        self.db.execute("DELETE FROM files WHERE id = ?", [file_id])

    # ----- times given to files on the NAS ------------------------------------------------------------------------

    def mtimes(self) -> dict[str, tuple[Fingerprint, int]]:
        found = self.db.execute("SELECT path, size, remote_mtime_ns, wanted_mtime_ns FROM mtimes").fetchall()
        return {path: (Fingerprint(size, remote), wanted) for path, size, remote, wanted in found}

    def set_mtime(self, path: str, remote: Fingerprint, wanted_ns: int) -> None:
        self.db.execute("INSERT OR REPLACE INTO mtimes VALUES (?, ?, ?, ?)", [path, *remote, wanted_ns])

    def drop_mtime(self, path: str) -> None:
        self.db.execute("DELETE FROM mtimes WHERE path = ?", [path])

    # ----- hidden names on the NAS ----------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        return [path for (path,) in self.db.execute("SELECT path FROM leftovers ORDER BY path")]

    def add_leftover(self, path: str) -> None:
        self.db.execute("INSERT OR IGNORE INTO leftovers VALUES (?)", [path])

    def drop_leftover(self, path: str) -> None:
        self.db.execute("DELETE FROM leftovers WHERE path = ?", [path])

    # ----- renames in several steps ---------------------------------------------------------------------------------

    def moves(self) -> list[tuple[str, str, str, str]]:
        """(hidden folder, name it enters under, folder and name where it shall end)."""
        return self.db.execute("SELECT temp_dir, source_name, dest_dir, dest_name FROM moves").fetchall()

    def add_move(self, temp_dir: str, source_name: str, dest_dir: str, dest_name: str) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO moves VALUES (?, ?, ?, ?)", [temp_dir, source_name, dest_dir, dest_name]
        )

    def drop_move(self, temp_dir: str) -> None:
        self.db.execute("DELETE FROM moves WHERE temp_dir = ?", [temp_dir])
