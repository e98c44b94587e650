"""What lies in the cache folder is ours alone, and nobody could have planted it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from synofs.content.cachedir import open_cache_dir
from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.errors import CacheDirUnsafe, JournalFailed
from synofs.content.journal import Journal

IS_ROOT = os.geteuid() == 0
NOBODY = 65534


@pytest.fixture(autouse=True)
def _careless_umask() -> Iterator[None]:
    umask = os.umask(0)
    yield
    os.umask(umask)


def modes_below(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}


def test_the_cache_folder_and_all_in_it_are_private_whatever_the_umask(tmp_path: Path) -> None:
    with open_cache_dir(tmp_path / "a" / "base", "nas") as cache:
        journal = Journal(cache.journal)
        journal.open()
        journal.close()
    modes = modes_below(tmp_path)
    assert {mode for path, mode in modes.items() if (tmp_path / path).is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if (tmp_path / path).is_file()} == {0o600}
    assert "a/base/synofs-v1/nas/journal.db" in modes


@pytest.mark.parametrize("part", ["synofs-v1", "synofs-v1/nas", "synofs-v1/nas/staging", "synofs-v1/nas/recovery"])
def test_a_planted_link_is_refused_and_what_it_leads_to_stays_as_it_was(tmp_path: Path, part: str) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(0o755)
    link = tmp_path / "base" / part
    link.parent.mkdir(mode=0o700, parents=True)
    for parent in link.parents:
        if parent.is_relative_to(tmp_path / "base"):
            parent.chmod(0o700)
    link.symlink_to(victim)
    with pytest.raises(CacheDirUnsafe, match="link"):
        open_cache_dir(tmp_path / "base", "nas")
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755
    assert list(victim.iterdir()) == []


def test_a_folder_that_others_could_write_to_is_refused(tmp_path: Path) -> None:
    """They may have put a database or a link into it, and may still have it open."""
    (tmp_path / "synofs-v1").mkdir(0o777)
    with pytest.raises(CacheDirUnsafe, match="chmod 700"):
        open_cache_dir(tmp_path, "nas")


def test_a_place_where_everybody_can_exchange_our_folder_is_refused(tmp_path: Path) -> None:
    base = tmp_path / "base"
    base.mkdir(0o777)
    with pytest.raises(CacheDirUnsafe, match="everybody can write"):
        open_cache_dir(base, "nas")
    base.chmod(0o1777)  # as /tmp is: others cannot rename what is ours
    open_cache_dir(base, "nas").close()


@pytest.mark.skipif(not IS_ROOT, reason="only root can give folders away")
@pytest.mark.parametrize("part", ["", "synofs-v1", "synofs-v1/nas"])
def test_another_users_folder_is_refused(tmp_path: Path, part: str) -> None:
    folder = tmp_path / "base" / part
    folder.mkdir(mode=0o700, parents=True)
    os.chown(folder, NOBODY, NOBODY)
    for parent in folder.parents:
        if parent.is_relative_to(tmp_path / "base"):
            parent.chmod(0o700)
    with pytest.raises(CacheDirUnsafe, match="another user"):
        open_cache_dir(tmp_path / "base", "nas")


@pytest.mark.skipif(not IS_ROOT, reason="only root can give folders away")
def test_a_place_below_another_users_folder_or_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner can rename whatever is in it, and put a link there."""
    theirs = tmp_path / "theirs"
    (theirs / "base").mkdir(mode=0o700, parents=True)
    (tmp_path / "ours").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to("ours")
    os.chown(theirs, NOBODY, NOBODY)
    os.chown(tmp_path / "link", NOBODY, NOBODY, follow_symlinks=False)
    (tmp_path / "way").symlink_to("theirs/base")
    for base in (
        theirs / "base",
        theirs / "new" / "base",
        tmp_path / "link",
        tmp_path / "link" / "x",
        tmp_path / "way",
    ):
        with pytest.raises(CacheDirUnsafe, match="another user"):
            open_cache_dir(base, "nas")
    assert not list(tmp_path.rglob("synofs-v1"))
    monkeypatch.setenv("HOME", str(theirs / "base"))  # whose folder is above a home is believed
    open_cache_dir(theirs / "base" / ".cache", "nas").close()


def test_a_link_of_ours_is_followed_once(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "base").symlink_to("disk")
    with open_cache_dir(tmp_path / "base", "nas") as cache:
        assert cache.root == tmp_path / "disk" / "synofs-v1" / "nas"


def test_a_linked_journal_is_refused_and_its_target_stays_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("somebody's")
    target.chmod(0o644)
    (tmp_path / "journal.db").symlink_to(target)
    with pytest.raises(JournalFailed):
        Journal(tmp_path / "journal.db").open()
    assert target.read_text() == "somebody's"
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.trio
async def test_a_linked_disk_cache_is_switched_off(tmp_path: Path, expect_logs: object) -> None:
    expect_logs("is switched off: .* is a link")  # type: ignore[operator]
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "blocks").symlink_to(victim)
    disk = DiskCache(tmp_path / "blocks", DiskCacheOptions())
    await disk.open()
    await disk.close()
    assert list(victim.iterdir()) == []
