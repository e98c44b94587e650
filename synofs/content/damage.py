"""Which of SQLite's errors mean that a database file is damaged, and not that a disk is full, read-only or gone.

What is damaged is begun anew (caches) or set aside (the journal); trouble with the disk passes, and the file is good.
"""

from __future__ import annotations

import sqlite3

# A constraint that fails: an index and its table that disagree.
_DAMAGE = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT}


class Damaged(sqlite3.DatabaseError):
    """Damage that SQLite finds only when it is asked to look, or that only we can find."""


# What `except` has to name. Which of them is damage, `is_damage` tells.
POSSIBLE = (sqlite3.DatabaseError, UnicodeDecodeError)


def is_damage(error: BaseException) -> bool:
    if isinstance(error, Damaged):
        return True
    if isinstance(error, UnicodeDecodeError):  # SQLite's words for a damaged schema quote what is in it
        return True
    if not isinstance(error, sqlite3.DatabaseError):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # Python's own words for a text that is none
        return "decode" in str(error)
    # SQLITE_ERROR: tables that are not ours, as after a foreign file was put in the database's place.
    return code & 0xFF in _DAMAGE or code == sqlite3.SQLITE_ERROR
