"""The journal of unsent files: a SQLite database beside the staged bytes.

WAL with `synchronous=FULL`, so what a method wrote is on the disk when it returns (SQLite: "WAL mode is safe from
corruption, FULL adds durability"). Every method blocks for a few fsyncs at most; `content.staging` calls them in one
thread of their own, in order.

A row exists from before the first write is acknowledged until the NAS has the file, or until nobody wants it any
more. The order of steps and what a crash between them leaves is in docs/CONCURRENCY.md.

Paths are kept as bytes: names on the NAS need not be UTF-8, and SQLite's text has to be.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from synofs.content.damage import POSSIBLE, Damaged, is_damage
from synofs.content.errors import JournalFailed, JournalTooNew, LocalDiskFull
from synofs.content.private import claim_file
from synofs.remote import Fingerprint

log = logging.getLogger(__name__)

SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE IF NOT EXISTS files (
    id TEXT PRIMARY KEY,         -- names the staged file and everything that belongs to it
    path BLOB NOT NULL,          -- where it shall be on the NAS
    data BLOB NOT NULL,          -- file name in staging/, or in recovery/ once refused
    size INTEGER NOT NULL,       -- at the last close or fsync: a shorter staged file has lost bytes
    mtime_ns INTEGER,            -- set by utimens, else null: the time of the last write
    base_size INTEGER,           -- the version on the NAS that the edit started from; null for a new file
    base_mtime_ns INTEGER,
    base_md5 TEXT,               -- of that version, where size and time do not tell it from its successor
    complete INTEGER NOT NULL,   -- 0: parts are still only on the NAS, see the range log
    log_bytes INTEGER NOT NULL,  -- length of the range log at the last close or fsync: a shorter one is damaged
    attempted BLOB,              -- an upload to this path was started and its end is not known
    attempted_sent TEXT,         -- contents that were sent before the last change: see content/attempt.py
    refused TEXT,                -- why the NAS refused it for good; the bytes are in recovery/
    created REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS mtimes (
    path BLOB PRIMARY KEY,       -- times given to files that were already on the NAS (utimens without a write)
    size INTEGER NOT NULL,
    remote_mtime_ns INTEGER NOT NULL,
    wanted_mtime_ns INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS moves (
    id INTEGER PRIMARY KEY,      -- a rename that was begun on the NAS
    source BLOB NOT NULL,
    dest BLOB NOT NULL,
    temp_dir BLOB,               -- the hidden folder that it goes through, if any
    replaces_size INTEGER,       -- the version at `dest` that it replaces; null: it replaces nothing
    replaces_mtime_ns INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS leftovers (
    path BLOB PRIMARY KEY        -- hidden names on the NAS to be removed
) STRICT;
"""
_UPGRADES = {
    # 1 knew of one content that was sent before the last change.
    1: """
ALTER TABLE files ADD COLUMN attempted_sent TEXT;
UPDATE files SET attempted_sent = attempted_size || ':' || attempted_md5 WHERE attempted_md5 IS NOT NULL;
ALTER TABLE files DROP COLUMN attempted_size;
ALTER TABLE files DROP COLUMN attempted_md5;
""",
}


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
    base_md5: str | None
    complete: bool
    log_bytes: int
    attempted: str | None
    attempted_sent: str | None
    refused: str | None
    created: float

    @property
    def base(self) -> Fingerprint | None:
        return _fingerprint(self.base_size, self.base_mtime_ns)

    def with_base(self, base: Fingerprint | None, md5: str | None = None) -> Row:
        size, mtime_ns = base or (None, None)
        return replace(self, base_size=size, base_mtime_ns=mtime_ns, base_md5=md5)


def new_row(
    file_id: str,
    path: str,
    data: str,
    *,
    size: int,
    created: float,
    base: Fingerprint | None = None,
    base_md5: str | None = None,
    complete: bool = True,
) -> Row:
    """A row of a file that nobody has closed yet."""
    base_size, base_mtime_ns = base or (None, None)
    return Row(
        id=file_id,
        path=path,
        data=data,
        size=size,
        mtime_ns=None,
        base_size=base_size,
        base_mtime_ns=base_mtime_ns,
        base_md5=base_md5,
        complete=complete,
        log_bytes=0,
        attempted=None,
        attempted_sent=None,
        refused=None,
        created=created,
    )


def base_columns(base: Fingerprint | None, md5: str | None) -> dict[str, object]:
    size, mtime_ns = base if base is not None else (None, None)
    return {"base_size": size, "base_mtime_ns": mtime_ns, "base_md5": md5}


class Move(NamedTuple):
    """A rename on the NAS that was begun. `replaces`: the version at `dest` that it is to replace."""

    id: int
    source: str
    dest: str
    temp_dir: str | None
    replaces: Fingerprint | None


@dataclass(frozen=True, slots=True)
class Changes:
    """What a rename changes in the journal."""

    files: Mapping[str, Mapping[str, object]]  # id -> columns
    gone: Sequence[str] = ()  # ids of files that were replaced
    renamed: tuple[str, str] | None = None  # (old, new): what else is known by a path at or below it goes along


_COLUMNS = [column.name for column in fields(Row)]
_INSERT = f"INSERT OR REPLACE INTO files ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
_CHECKPOINT_PAGES = 1000  # SQLite's default
_PATHS = frozenset({"path", "data", "attempted"})


class Journal:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._waits = True  # commits wait for the disk
        self._promised: dict[str, Row] = {}  # by id: rows that are not written yet
        self._kept: dict[str, Row] = {}  # those of them that the transaction under way has written

    def open(self) -> None:
        """Open or create. A damaged database is set aside (`journal.db.damaged-N`) and a new one begun: the staged
        files themselves are then adopted one by one. Raises `JournalTooNew`, `LocalDiskFull`, `JournalFailed`."""
        with _translated():
            try:
                self._db = self._connect()
            except POSSIBLE as error:
                if not is_damage(error):
                    raise
                self._set_aside(error)
                self._db = self._connect()

    def _set_aside(self, error: Exception) -> None:
        aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
        log.warning("the journal is damaged (%s); it is set aside as %s and the staged files are adopted", error, aside)
        for suffix in ("", "-wal", "-shm"):
            part = self._path.with_name(self._path.name + suffix)
            if part.exists():
                part.rename(aside.with_name(aside.name + suffix))

    def _connect(self) -> sqlite3.Connection:
        try:
            claim_file(self._path)
        except OSError as error:
            raise JournalFailed(f"the journal cannot be used: {error}") from error
        db = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        try:
            db.execute("PRAGMA journal_mode=WAL")
            db.execute("PRAGMA synchronous=FULL")
            db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES}")
            self._waits = True
            if db.execute("PRAGMA quick_check").fetchone()[0] != "ok":
                raise Damaged("quick_check found damage")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version > SCHEMA_VERSION:
                raise JournalTooNew(f"{self._path} was written by a newer synofs (schema {version})")
            if version != SCHEMA_VERSION:
                upgrades = "".join(_UPGRADES.get(old, "") for old in range(version or SCHEMA_VERSION, SCHEMA_VERSION))
                db.executescript(f"BEGIN;{upgrades}{_SCHEMA}PRAGMA user_version={SCHEMA_VERSION};COMMIT;")
            db.execute(f"SELECT {', '.join(_COLUMNS)} FROM files LIMIT 0")
        except BaseException:
            db.close()
            raise
        return db

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    # ----- files ------------------------------------------------------------------------------------------------

    def rows(self) -> list[Row]:
        found = self._all(f"SELECT {', '.join(_COLUMNS)} FROM files ORDER BY created")
        return [_row(values) for values in found]

    def insert(self, row: Row) -> None:
        self._do(_INSERT, [_value(column, getattr(row, column)) for column in _COLUMNS])

    def update(self, file_id: str, **columns: object) -> None:
        self._keep_promise(file_id)
        self._do(*_update(file_id, columns))

    def delete(self, file_id: str) -> None:
        self._promised.pop(file_id, None)
        self._do("DELETE FROM files WHERE id = ?", [file_id])

    # ----- rows that may come later ---------------------------------------------------------------------------------

    @property
    def owes(self) -> bool:
        """Are there rows that were promised and not written?"""
        return bool(self._promised)

    def promise(self, row: Row) -> None:
        """The row is to be written some time soon, before anything else is of this file. Only for a file whose label
        says as much. Not blocking; may be called while a transaction is under way elsewhere."""
        self._promised[row.id] = row

    def amend(self, file_id: str, **columns: Any) -> bool:
        """Change a row that is still to be written; False if there is none. No transaction may be under way."""
        row = self._promised.get(file_id)
        if row is None:
            return False
        self._promised[file_id] = replace(row, **columns)
        return True

    def keep_promises(self) -> None:
        """Write all rows that were promised."""
        for file_id in list(self._promised):
            self._keep_promise(file_id)

    def _keep_promise(self, file_id: str) -> None:
        row = self._promised.get(file_id)
        if row is not None and self._kept.get(file_id) is not row:
            self.insert(row)
            self._kept[file_id] = row

    def _promises_kept(self) -> None:
        """What was written is durable, or as durable as it was to be."""
        for file_id, row in self._kept.items():
            if self._promised.get(file_id) is row:
                del self._promised[file_id]
        self._kept.clear()

    # ----- times given to files on the NAS ------------------------------------------------------------------------

    def mtimes(self) -> dict[str, tuple[Fingerprint, int]]:
        found = self._all("SELECT path, size, remote_mtime_ns, wanted_mtime_ns FROM mtimes")
        return {_text(path): (Fingerprint(size, remote), wanted) for path, size, remote, wanted in found}

    def set_mtime(self, path: str, remote: Fingerprint, wanted_ns: int) -> None:
        self._do("INSERT OR REPLACE INTO mtimes VALUES (?, ?, ?, ?)", [_raw(path), *remote, wanted_ns])

    def drop_mtime(self, path: str) -> None:
        self._do("DELETE FROM mtimes WHERE path = ?", [_raw(path)])

    # ----- hidden names on the NAS ----------------------------------------------------------------------------------

    def leftovers(self) -> list[str]:
        return [_text(path) for (path,) in self._all("SELECT path FROM leftovers ORDER BY path")]

    def add_leftover(self, path: str) -> None:
        self._do("INSERT OR IGNORE INTO leftovers VALUES (?)", [_raw(path)])

    def drop_leftover(self, path: str) -> None:
        self._do("DELETE FROM leftovers WHERE path = ?", [_raw(path)])

    # ----- renames ----------------------------------------------------------------------------------------------------

    def moves(self) -> list[Move]:
        found = self._all("SELECT id, source, dest, temp_dir, replaces_size, replaces_mtime_ns FROM moves ORDER BY id")
        return [
            Move(
                number,
                _text(source),
                _text(dest),
                None if temp_dir is None else _text(temp_dir),
                _fingerprint(size, mtime_ns),
            )
            for number, source, dest, temp_dir, size, mtime_ns in found
        ]

    def begin_move(self, source: str, dest: str, temp_dir: str | None, replaces: Fingerprint | None) -> Move:
        """Note a rename before the NAS is asked for it."""
        size, mtime_ns = replaces or (None, None)
        raw_temp_dir = None if temp_dir is None else _raw(temp_dir)
        with _translated():
            done = self.db.execute(
                "INSERT INTO moves (source, dest, temp_dir, replaces_size, replaces_mtime_ns) VALUES (?, ?, ?, ?, ?)",
                [_raw(source), _raw(dest), raw_temp_dir, size, mtime_ns],
            )
        assert done.lastrowid is not None
        return Move(done.lastrowid, source, dest, temp_dir, replaces)

    def drop_move(self, number: int) -> None:
        """The rename was not done."""
        self._do("DELETE FROM moves WHERE id = ?", [number])

    def moved(self, move: int | None, changes: Changes) -> None:
        """The rename is done, and so is all that follows from it: at once."""
        db = self.db
        with self.all_or_nothing():
            for file_id, columns in changes.files.items():
                self.update(file_id, **columns)
            for file_id in changes.gone:
                self.delete(file_id)
            if changes.renamed is not None:
                self._rename_below(*changes.renamed)
            if move is not None:
                db.execute("DELETE FROM moves WHERE id = ?", [move])

    def _rename_below(self, old: str, new: str) -> None:
        db = self.db
        for table in ("mtimes", "leftovers"):
            known = [_text(path) for (path,) in db.execute(f"SELECT path FROM {table}")]
            for path in known:  # what stood under the new name belonged to what was replaced
                if _is_below(path, new):
                    db.execute(f"DELETE FROM {table} WHERE path = ?", [_raw(path)])
            for path in known:
                if _is_below(path, old) and not _is_below(path, new):
                    moved = new + path.removeprefix(old)
                    db.execute(f"UPDATE {table} SET path = ? WHERE path = ?", [_raw(moved), _raw(path)])

    # ----- SQL --------------------------------------------------------------------------------------------------------

    @property
    def db(self) -> sqlite3.Connection:
        assert self._db is not None, "the journal is not open"
        return self._db

    def _do(self, statement: str, values: Sequence[Any]) -> None:
        with _translated():
            self.db.execute(statement, values)

    def _all(self, query: str) -> list[tuple[Any, ...]]:
        with _translated():
            return self.db.execute(query).fetchall()

    @contextmanager
    def together(self, *, durable: bool = True) -> Iterator[None]:
        """What is written inside the block becomes durable at its end, with one fsync. Without `durable` it survives
        the end of this process only, until the next block that is; no block waits for the disk then."""
        if self._db is None:
            yield
            return
        with _translated():
            self._wait_for_the_disk(durable)
            self.db.execute("BEGIN")
            self._kept.clear()
            try:
                yield
            except BaseException:
                self.db.rollback()
                raise
            self._commit()
            self._promises_kept()

    def _wait_for_the_disk(self, wait: bool) -> None:
        """A commit with `synchronous=FULL` brings all that was committed before it to the disk, too."""
        if wait != self._waits:
            self.db.execute(f"PRAGMA synchronous={'FULL' if wait else 'NORMAL'}")
            self.db.execute(f"PRAGMA wal_autocheckpoint={_CHECKPOINT_PAGES if wait else 0}")
            self._waits = wait

    def _commit(self) -> None:
        self.db.commit()

    def check_together(self) -> None:
        """Inside `together`: SQLite takes everything back by itself when the disk is full. Raises `JournalFailed`."""
        if self._db is not None and not self._db.in_transaction:
            raise JournalFailed("the journal could not be written, and took back what was written with it")

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """What is written inside the block is taken back if the block fails."""
        if self._db is None:
            yield
            return
        with _translated():
            self.db.execute("SAVEPOINT one")
            kept_before = len(self._kept)
            try:
                yield
            except BaseException:
                while len(self._kept) > kept_before:
                    self._kept.popitem()
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK TO one")
                    self.db.execute("RELEASE one")
                raise
            self.db.execute("RELEASE one")


def rows_of_another(path: Path) -> dict[str, str]:
    """Id and path of what is unsent in the journal of another process, which may be using it, oldest first. Refused
    files have no path. Raises `JournalFailed`."""
    with _translated():
        db = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
        try:
            found = db.execute("SELECT id, path, refused FROM files ORDER BY created").fetchall()
        finally:
            db.close()
    return {file_id: "" if refused is not None else _text(raw) for file_id, raw, refused in found}


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL:
            raise LocalDiskFull("the disk that holds the journal is full") from error
        raise JournalFailed(f"the journal cannot be used: {error}") from error


def _update(file_id: str, columns: Mapping[str, object]) -> tuple[str, list[object]]:
    sets = ", ".join(f"{column} = ?" for column in columns)
    values = [_value(column, value) for column, value in columns.items()]
    return f"UPDATE files SET {sets} WHERE id = ?", [*values, file_id]


def _row(values: Sequence[Any]) -> Row:
    known = dict(zip(_COLUMNS, values, strict=True))
    paths = {column: _text(known[column]) for column in _PATHS if known[column] is not None}
    return Row(**{**known, **paths, "complete": bool(known["complete"])})


def _value(column: str, value: object) -> object:
    if isinstance(value, str):
        return _raw(value) if column in _PATHS else value.encode("utf-8", "backslashreplace").decode()
    return value


def _raw(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def _fingerprint(size: int | None, mtime_ns: int | None) -> Fingerprint | None:
    return None if size is None or mtime_ns is None else Fingerprint(size, mtime_ns)
