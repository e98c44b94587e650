from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from synofs.content.errors import JournalFailed, JournalTooNew, LocalDiskFull
from synofs.content.journal import SCHEMA_VERSION, Changes, Journal, Move, new_row
from synofs.remote import Fingerprint

ODD = "/s/n\udce9e/\N{SNOWMAN}"  # not UTF-8 on the NAS's disk, and not ASCII


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    journal = Journal(path)
    journal.open()
    yield journal
    journal.close()


def reopened(journal: Journal, path: Path) -> Journal:
    journal.close()
    journal.open()
    return journal


ROW = replace(
    new_row("a1", ODD, "a1.0", size=5, created=1.5).with_base(Fingerprint(3, 7_000_000_000), "ab"),
    mtime_ns=9,
    complete=False,
    log_bytes=20,
    attempted=ODD + "2",
    attempted_sent="4:cd",
)


def test_a_row_is_there_after_reopening_value_for_value(journal: Journal, path: Path) -> None:
    journal.insert(ROW)
    assert reopened(journal, path).rows() == [ROW]
    assert ROW.base == Fingerprint(3, 7_000_000_000)


def test_rows_come_in_the_order_of_their_creation(journal: Journal) -> None:
    for number, created in enumerate((3.0, 1.0, 2.0)):
        journal.insert(new_row(f"f{number}", "/s/f", "d", size=0, created=created))
    assert [row.id for row in journal.rows()] == ["f1", "f2", "f0"]


# ----- rows that may come later -------------------------------------------------------------------------------------


def test_a_promised_row_is_written_before_anything_else_of_its_file(journal: Journal) -> None:
    journal.promise(ROW)
    assert journal.rows() == []
    with journal.together():
        journal.update("a1", size=8)
        journal.update("a1", log_bytes=30)
        journal.keep_promises()
    assert journal.rows() == [replace(ROW, size=8, log_bytes=30)]
    assert not journal.owes


def test_a_promised_row_is_amended_until_it_is_written(journal: Journal) -> None:
    journal.promise(ROW)
    assert journal.amend("a1", size=6)
    with journal.together():
        journal.keep_promises()
    assert journal.rows() == [replace(ROW, size=6)]
    assert not journal.amend("a1", size=7)


def fail_having_kept_promises(journal: Journal) -> None:
    journal.keep_promises()
    raise ValueError("afterwards")


def test_a_promised_row_that_was_taken_back_is_still_promised(journal: Journal) -> None:
    journal.promise(ROW)
    with pytest.raises(ValueError, match="afterwards"), journal.together():
        fail_having_kept_promises(journal)
    with journal.together():
        with pytest.raises(ValueError, match="afterwards"), journal.all_or_nothing():
            fail_having_kept_promises(journal)
        journal.add_leftover("/s/other")
    assert journal.rows() == []
    with journal.together():
        journal.update("a1", size=8)
    assert journal.rows() == [replace(ROW, size=8)]


def test_a_promised_row_of_a_file_that_is_forgotten_does_not_come(journal: Journal) -> None:
    journal.promise(ROW)
    with journal.together():
        journal.keep_promises()
        journal.delete("a1")
    with journal.together():
        journal.keep_promises()
    assert journal.rows() == []


def test_an_update_changes_the_named_columns_only(journal: Journal) -> None:
    journal.insert(ROW)
    journal.update("a1", size=8, path="/s/\udcff")
    assert journal.rows() == [replace(ROW, size=8, path="/s/\udcff")]


def test_a_deleted_row_stays_away(journal: Journal, path: Path) -> None:
    journal.insert(ROW)
    journal.delete("a1")
    assert reopened(journal, path).rows() == []


def test_every_commit_is_on_the_disk_when_the_method_returns(journal: Journal) -> None:
    assert journal.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert journal.db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL


def test_the_database_is_private(journal: Journal, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


def test_given_times_are_remembered_by_path_and_version(journal: Journal, path: Path) -> None:
    journal.set_mtime(ODD, Fingerprint(1, 2), 3)
    journal.set_mtime("/s/b", Fingerprint(4, 5), 6)
    journal.set_mtime("/s/b", Fingerprint(4, 5), 7)
    journal.drop_mtime("/s/unknown")
    assert reopened(journal, path).mtimes() == {ODD: (Fingerprint(1, 2), 3), "/s/b": (Fingerprint(4, 5), 7)}
    journal.drop_mtime(ODD)
    assert list(journal.mtimes()) == ["/s/b"]


def test_hidden_names_are_remembered_once(journal: Journal, path: Path) -> None:
    for name in (ODD, "/s/x", ODD):
        journal.add_leftover(name)
    journal.drop_leftover("/s/x")
    assert reopened(journal, path).leftovers() == [ODD]


def test_begun_renames_are_remembered_in_order(journal: Journal, path: Path) -> None:
    first = journal.begin_move(ODD, "/s/b", None, Fingerprint(1, 2))
    second = journal.begin_move("/s/c", ODD, "/s/.synofs-x", None)
    assert first == Move(first.id, ODD, "/s/b", None, Fingerprint(1, 2))
    assert reopened(journal, path).moves() == [first, second]
    journal.drop_move(first.id)
    assert journal.moves() == [second]


def test_all_that_follows_from_a_rename_is_one_transaction(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    move = journal.begin_move("/s/d", "/s/e", None, None)
    journal.insert(new_row("in", "/s/d/f", "in.0", size=0, created=1.0))
    journal.insert(new_row("old", "/s/e", "old.0", size=0, created=2.0))
    journal.set_mtime("/s/d/g", Fingerprint(1, 2), 3)
    journal.set_mtime("/s/e/gone", Fingerprint(1, 2), 3)
    journal.set_mtime("/s/dd", Fingerprint(1, 2), 3)
    journal.add_leftover("/s/d/.synofs-x")
    changes = Changes({"in": {"path": "/s/e/f", "attempted": "/s/e/f"}}, gone=["old"], renamed=("/s/d", "/s/e"))

    def fail(*_: object) -> None:
        raise sqlite3.OperationalError("in the middle")

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_rename_below", staticmethod(fail))
        with pytest.raises(JournalFailed):
            journal.moved(move.id, changes)
    assert {row.path for row in journal.rows()} == {"/s/d/f", "/s/e"}
    assert journal.moves() == [move]

    journal.moved(move.id, changes)
    assert [(row.path, row.attempted) for row in journal.rows()] == [("/s/e/f", "/s/e/f")]
    assert set(journal.mtimes()) == {"/s/e/g", "/s/dd"}
    assert journal.leftovers() == ["/s/e/.synofs-x"]
    assert journal.moves() == []


def test_a_rename_into_a_name_that_begins_alike_takes_everything_along(journal: Journal) -> None:
    journal.set_mtime("/s/a/f", Fingerprint(1, 2), 3)
    journal.moved(None, Changes({}, renamed=("/s/a", "/s/a/b")))  # nobody does this; nothing may be lost by it
    assert len(journal.mtimes()) == 1


@pytest.mark.parametrize("damage", [b"", b"\0" * 4096, b"garbage " * 1000], ids=["empty", "zeros", "garbage"])
def test_a_damaged_database_is_set_aside_and_a_new_one_begun(
    journal: Journal, path: Path, damage: bytes, expect_logs: Callable[..., None]
) -> None:
    journal.insert(ROW)
    journal.close()
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    path.write_bytes(damage)
    if damage:
        expect_logs("the journal is damaged")
    journal.open()
    assert journal.rows() == []
    aside = list(path.parent.glob("journal.db.damaged-*"))
    assert [file.read_bytes() for file in aside] == ([damage] if damage else [])
    journal.insert(ROW)
    assert reopened(journal, path).rows() == [ROW]


def test_every_torn_page_is_noticed_or_harmless(journal: Journal, path: Path, expect_logs: Callable[..., None]) -> None:
    """Whatever page of the file is lost: the journal opens, and tells no row that was never written."""
    rows = [new_row(f"f{n}", f"/s/{n}" * 50, f"f{n}.0", size=n, created=float(n)) for n in range(60)]
    for row in rows:
        journal.insert(row)
    journal.close()
    whole = path.read_bytes()
    assert len(whole) > 5 * 4096
    damaged = 0
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + b"\xa5" * 4096 + whole[start + 4096 :])
        journal.open()
        assert set(journal.rows()) <= set(rows)
        journal.close()
        for other in path.parent.iterdir():
            damaged += "damaged" in other.name
            other.unlink()
    assert damaged > 3
    expect_logs("the journal is damaged")


def test_a_foreign_database_is_set_aside(path: Path, expect_logs: Callable[..., None]) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE files (something TEXT)")
    db.close()
    expect_logs("the journal is damaged")
    journal = Journal(path)
    journal.open()
    assert journal.rows() == []
    journal.close()


def test_a_newer_schema_is_left_alone(journal: Journal, path: Path) -> None:
    journal.insert(ROW)
    journal.db.execute(f"PRAGMA user_version={SCHEMA_VERSION + 1}")
    journal.close()
    with pytest.raises(JournalTooNew, match="newer"):
        journal.open()
    assert sqlite3.connect(path).execute("SELECT count(*) FROM files").fetchone() == (1,)


def test_what_an_older_synofs_has_not_sent_yet_is_taken_over(journal: Journal, path: Path) -> None:
    journal.insert(ROW)
    journal.db.executescript("""
        ALTER TABLE files DROP COLUMN attempted_sent;
        ALTER TABLE files ADD COLUMN attempted_size INTEGER;
        ALTER TABLE files ADD COLUMN attempted_md5 TEXT;
        UPDATE files SET attempted_size = 3, attempted_md5 = 'abc';
        PRAGMA user_version=1;
    """)
    assert reopened(journal, path).rows() == [replace(ROW, attempted_sent="3:abc")]
    assert list(path.parent.glob("*.damaged-*")) == []


def test_a_folder_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    missing = Journal(tmp_path / "nowhere" / "journal.db")
    with pytest.raises(JournalFailed):
        missing.open()


def test_a_full_disk_is_told_as_such_and_damages_nothing(journal: Journal, path: Path) -> None:
    journal.insert(ROW)
    pages = journal.db.execute("PRAGMA page_count").fetchone()[0]
    journal.db.execute(f"PRAGMA max_page_count={pages}")
    with pytest.raises(LocalDiskFull):
        journal.insert(replace(ROW, id="b2", path="/s/" + "x" * 100_000))
    assert reopened(journal, path).rows() == [ROW]
    assert list(path.parent.glob("*.damaged-*")) == []
