"""A NAS that goes away: what is known of it goes on being served, and its return is noticed."""

from __future__ import annotations

import errno
import os
import re
import signal
import socket
import sqlite3
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from synofs.app.errors import Problem

from .conftest import PASSWORD, Nas, Synofs, is_running, on_a_terminal, running_nas, until

pytestmark = pytest.mark.mount

AWAY = [
    "the NAS is away",
    "the NAS is back",
    "mounted without the NAS",
    "lookup",
    "getattr",
    "readdir",
    "read:",
    "open",
]


def port_of(nas: Nas) -> int:
    port = urlsplit(nas.url).port
    assert port is not None
    return port


def test_known_folders_and_files_are_served_while_the_nas_is_away_and_after_a_remount(
    content: Path, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += AWAY
    docs = synofs.mountpoint / "docs"
    options = ("--dir-ttl", "0.2", "--attr-ttl", "0.2", "--cache-dir", synofs.directory / "cache")
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, *options)
        names = sorted(os.listdir(docs))
        letter = (docs / "letter.txt").read_bytes()
    until(lambda: sorted(os.listdir(docs)) == names and synofs.status()["state"] == "offline")

    started = time.monotonic()
    assert sorted(os.listdir(docs)) == names
    assert (docs / "letter.txt").stat().st_size == len(letter)
    assert (docs / "letter.txt").read_bytes() == letter
    with pytest.raises(OSError, match="No route to host"):
        (docs / "big.bin").read_bytes()
    assert time.monotonic() - started < 5
    assert synofs("umount", synofs.mountpoint).code == 0

    synofs.mount(nas, *options)
    assert os.statvfs(synofs.mountpoint).f_blocks > 0
    assert sorted(os.listdir(docs)) == names
    assert (docs / "letter.txt").read_bytes() == letter
    assert synofs.status()["state"] == "offline"

    with running_nas(content, "--account", f"anna:{PASSWORD}", "--listen", f"127.0.0.1:{port_of(nas)}"):
        until(lambda: synofs.status()["state"] == "online")
        (content / "new.txt").write_text("new")
        until(lambda: "new.txt" in os.listdir(docs))
        assert (docs / "big.bin").read_bytes() == (content / "big.bin").read_bytes()
        assert synofs("umount", synofs.mountpoint).code == 0


@pytest.mark.parametrize("mode", ["durable", "writeback"])
def test_what_was_written_here_and_sent_is_readable_without_the_nas(mode: str, tmp_path: Path, synofs: Synofs) -> None:
    synofs.expected_in_the_log += AWAY
    volume = tmp_path / "volume"
    volume.mkdir()
    docs = synofs.mountpoint / "docs"
    options = ("--write-mode", mode, "--cache-dir", synofs.directory / "cache")
    written = {"small": b"a few words", "big": os.urandom(5 << 20), "empty": b"", "edited": b"one, two, three"}
    with running_nas(volume, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, *options)
        (docs / "edited").write_bytes(b"one, ten, three")
        for name in ("small", "big", "empty"):
            (docs / name).write_bytes(written[name])
        with open(docs / "edited", "r+b") as file:
            file.seek(5)
            file.write(b"two")
        assert synofs("flush", synofs.mountpoint).code == 0
        assert {name: (volume / name).read_bytes() for name in written} == written
        assert sorted(os.listdir(docs)) == sorted(written)
    until(lambda: synofs.status()["state"] == "offline")

    for name, content in written.items():
        with open(docs / name, "rb", buffering=0) as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert file.readall() == content
    assert synofs("umount", synofs.mountpoint).code == 0

    synofs.mount(nas, *options)
    assert synofs.status()["state"] == "offline"
    assert {name: (docs / name).read_bytes() for name in written} == written
    assert synofs("umount", synofs.mountpoint).code == 0


def test_who_waits_for_uploads_is_told_that_the_nas_is_away_and_who_ends_the_mount_where_they_are(
    tmp_path: Path, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += AWAY
    (tmp_path / "volume").mkdir()
    with running_nas(tmp_path / "volume", "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, "--write-mode", "writeback")
        assert os.listdir(synofs.mountpoint / "docs") == []
    (synofs.mountpoint / "docs" / "unsent").write_text("text")
    pid = synofs.status()["pid"]
    until(lambda: synofs.status()["state"] == "offline")
    waiting = ("flush", synofs.mountpoint, "--timeout", "5")
    shown = on_a_terminal(*waiting, code=Problem.UPLOADS_PENDING.exit_code)
    assert "1 left, 0 B of 4 B, the NAS is away" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert "1 file is not sent yet (/docs/unsent)" in synofs("umount", synofs.mountpoint, "--force").err
    until(lambda: not is_running(pid))
    assert "(1 to go): the next mount sends them" in synofs.logs()


def test_that_the_nas_is_away_is_said_once_however_much_is_asked_for_meanwhile(content: Path, synofs: Synofs) -> None:
    synofs.expected_in_the_log += AWAY
    docs = synofs.mountpoint / "docs"
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, "--write-mode", "writeback")
        assert os.listdir(docs)
        assert synofs.status()["state"] == "online"
    until(lambda: synofs.status()["state"] == "offline")  # although nobody has used the mount meanwhile
    for number in range(20):
        with pytest.raises(OSError, match="No route to host"):
            os.mkdir(docs / str(number))
        (docs / f"unsent {number}").write_text("text")
    assert synofs.status()["pending_uploads"] == 20
    lines = [line for line in synofs.logs().splitlines() if " INFO " not in line]
    assert len(lines) == 1, lines
    assert "the NAS is away" in lines[0]
    assert "not sent yet" not in synofs.logs()
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--listen", f"127.0.0.1:{port_of(nas)}"):
        until(lambda: synofs.status()["pending_uploads"] == 0)
        assert synofs("umount", synofs.mountpoint).code == 0


def test_a_mount_that_begins_while_the_nas_is_silent_says_so(content: Path, synofs: Synofs) -> None:
    synofs.expected_in_the_log += AWAY
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas)
        assert os.listdir(synofs.mountpoint / "docs")
        assert synofs("umount", synofs.mountpoint).code == 0
    with socket.create_server(("127.0.0.1", port_of(nas))):  # takes connections, and never answers
        synofs.mount(nas)
        assert synofs.status()["last_trouble"].startswith("the NAS: no answer within")
        assert "which does not answer (the NAS: no answer within 7.5 s)" in synofs.logs()
        assert synofs("umount", synofs.mountpoint).code == 0


def test_with_offline_fail_nothing_old_is_shown(content: Path, synofs: Synofs) -> None:
    synofs.expected_in_the_log += AWAY
    docs = synofs.mountpoint / "docs"
    with running_nas(content, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, "--dir-ttl", "0.2", "--attr-ttl", "0.2", "--offline", "fail")
        assert os.listdir(docs)

    def refused() -> bool:
        try:
            os.listdir(docs)
        except OSError as error:
            return error.errno == errno.EHOSTUNREACH
        return False

    until(refused)
    assert synofs("umount", synofs.mountpoint).code == 0
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), "--offline", "fail")
    assert done.code == Problem.UNREACHABLE.exit_code


def test_in_writeback_mode_work_goes_on_without_the_nas_even_after_a_remount_and_is_sent_when_it_is_back(
    tmp_path: Path, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += [*AWAY, "not sent yet"]
    volume = tmp_path / "volume"
    (volume / "folder").mkdir(parents=True)
    (volume / "folder" / "old").write_text("old")
    docs = synofs.mountpoint / "docs"
    options = ("--write-mode", "writeback", "--dir-ttl", "0.2", "--cache-dir", synofs.directory / "cache")
    with running_nas(volume, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, *options)
        assert os.listdir(docs / "folder") == ["old"]
    (docs / "folder" / "first").write_text("written before the remount")
    refused = synofs("umount", synofs.mountpoint, "--timeout", "6")
    assert refused.code == Problem.UPLOADS_PENDING.exit_code
    assert "(1 to go): the NAS does not answer" in refused.err
    os.kill(synofs.status()["pid"], signal.SIGKILL)
    assert synofs("umount", synofs.mountpoint).code == 0

    synofs.mount(nas, *options)
    assert synofs.status()["state"] == "offline"
    (docs / "folder" / "second").write_text("written after it")
    assert sorted(os.listdir(docs / "folder")) == ["first", "old", "second"]
    assert synofs.status()["pending_uploads"] == 2

    with running_nas(volume, "--account", f"anna:{PASSWORD}", "--listen", f"127.0.0.1:{port_of(nas)}"):
        until(lambda: synofs.status()["pending_uploads"] == 0)
        assert (volume / "folder" / "first").read_text() == "written before the remount"
        assert (volume / "folder" / "second").read_text() == "written after it"
        assert synofs("umount", synofs.mountpoint).code == 0


def test_what_was_made_renamed_or_removed_just_before_a_sigkill_is_not_denied_without_the_nas(
    tmp_path: Path, synofs: Synofs
) -> None:
    synofs.expected_in_the_log += AWAY
    volume = tmp_path / "volume"
    for folder in ("made", "removed", "renamed", "other/of other", "one/of one"):
        (volume / folder).mkdir(parents=True)
    for name in ("removed/name", "removed/other", "renamed/old", "renamed/over"):
        (volume / name).write_text(name)
    docs, cache = synofs.mountpoint / "docs", synofs.directory / "cache"
    options = ("--write-mode", "durable", "--cache-dir", cache)
    with running_nas(volume, "--account", f"anna:{PASSWORD}") as nas:
        synofs.mount(nas, *options)
        assert len(list(os.walk(docs))) == 8
        (docs / "one" / "late").mkdir()
        assert synofs("umount", synofs.mountpoint).code == 0

        synofs.mount(nas, *options)
        (database,) = cache.rglob("listings.db")
        with sqlite3.connect(database, isolation_level=None) as busy:
            assert len(list(os.walk(docs))) == 9
            busy.execute("BEGIN IMMEDIATE")  # the thread that writes listings has to wait
            (docs / "made" / "new").mkdir()
            (docs / "removed" / "name").unlink()
            os.replace(docs / "renamed" / "old", docs / "renamed" / "over")
            (docs / "one" / "late").rmdir()
            (docs / "one").rename(docs / "away")
            (docs / "other").rename(docs / "one")
            os.kill(synofs.status()["pid"], signal.SIGKILL)
            busy.execute("ROLLBACK")
        assert synofs("umount", synofs.mountpoint).code == 0

    synofs.mount(nas, *options)

    def listed(folder: str) -> list[str] | int | None:
        try:
            return sorted(os.listdir(docs / folder))
        except OSError as error:
            return error.errno

    now = {
        "made": ["new"],
        "removed": ["other"],
        "renamed": ["over"],
        "one": ["of other"],
        "away": ["late", "of one"],
    }
    found = {folder: listed(folder) for folder in now}
    assert {folder for folder in now if found[folder] not in (now[folder], errno.EHOSTUNREACH)} == set(), found
    assert synofs("umount", synofs.mountpoint).code == 0
