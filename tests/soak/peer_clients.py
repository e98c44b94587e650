"""What two clients of one server see of each other's work, and what they leave of it, of synofs and of its peers."""

from __future__ import annotations

import contextlib
import http.client
import os
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.benchmarks.servers import WebDav
from tests.soak.contest import Contest, Outcome, settled

FILES = 40
ENTRIES = 10_000
READS = 10
PASSING = 50  # names of the other client that are there at any time
PAUSE_SECONDS = 0.002
# So that each read is a new one: by default a listing is believed for 30 s, five minutes, and 20 s.
EACH_READ_IS_NEW = {
    "nas": ("--dir-ttl", "0.5"),
    "webdav": ("--dir-cache-time", "0.5s"),
    "ssh": ("-o", "dcache_timeout=1"),
}
OLD_SECONDS = 1.5


def colleague(contest: Contest) -> Outcome:
    """An editor reads through the mount, a colleague changes the file on the server, the editor saves."""
    folder = contest.folder
    _as_it_was(folder)
    with contest.mount() as mount:
        texts = [(mount.path / f"{number}.txt").read_text() for number in range(FILES)]
        time.sleep(1.1)  # a version has another second
        for number in range(FILES):
            (folder / f"{number}.txt").write_text(f"{number}: by a colleague, longer than it was\n")
        saved = set()
        for number in range(FILES):
            with contextlib.suppress(OSError):  # told to the user, who can save under another name
                (mount.path / f"{number}.txt").write_text(texts[number] + "by the editor\n")
                saved.add(texts[number] + "by the editor\n")
        settled(lambda: saved <= contest.texts())
    found = contest.texts()
    lost = sum(not any(f"{number}: by a colleague" in text for text in found) for number in range(FILES))
    return Outcome(lost, FILES, "texts of a colleague that are nowhere any more")


def two_mounts(contest: Contest) -> Outcome:
    """Two mounts have read the same files, and both save them: one after the other, or both open at once."""
    _as_it_was(contest.folder)
    saved: set[str] = set()
    with contest.mount("one") as one, contest.mount("other") as other:
        for mount in (one, other):
            for number in range(FILES):
                (mount.path / f"{number}.txt").read_text()
        time.sleep(1.1)
        for number in range(FILES):
            save = _save_both_at_once if number % 2 else _save_one_after_the_other
            saved |= save(one.path / f"{number}.txt", other.path / f"{number}.txt", number)
        settled(lambda: saved <= contest.texts())
    about = f"versions that are nowhere, of those that were saved without an error in {FILES} collisions"
    return Outcome(len(saved - contest.texts()), len(saved), about)


def _as_it_was(folder: Path) -> None:
    for number in range(FILES):
        (folder / f"{number}.txt").write_text(f"{number}: as it was\n")
    time.sleep(2)


def _save_one_after_the_other(one: Path, other: Path, number: int) -> set[str]:
    saved = set()
    for path, who in ((one, "one"), (other, "the other")):
        text = f"{number}: by {who}\n"
        with contextlib.suppress(OSError):
            path.write_text(text)
            saved.add(text)
    return saved


def _save_both_at_once(one: Path, other: Path, number: int) -> set[str]:
    saved = set()
    opened = []
    for path, who in ((one, "one"), (other, "the other")):
        with contextlib.suppress(OSError):
            opened.append((os.open(path, os.O_WRONLY | os.O_TRUNC), f"{number}: by {who}\n"))
    for file, text in opened:
        os.write(file, text.encode())
    for file, text in opened:
        with contextlib.suppress(OSError):
            os.close(file)
            saved.add(text)
    return saved


def changing_folder(contest: Contest) -> Outcome:
    """A big folder is read while another client adds and removes. The names that are there throughout count."""
    for number in range(ENTRIES):
        os.close(os.open(contest.folder / f"name {number}", os.O_CREAT))
    expected = {f"name {number}" for number in range(ENTRIES)}
    options = EACH_READ_IS_NEW[contest.contestant.server_kind]
    wrong = 0
    with contest.mount("mount", *options) as mount, _another_client(contest) as changes:
        for _ in range(READS):
            seen = Counter(entry.name for entry in os.scandir(mount.path))
            wrong += sum(seen[name] != 1 for name in expected)
            time.sleep(OLD_SECONDS)
        count = changes()
    about = f"names, in {READS} reads during {count} changes ({' '.join(options)})"
    return Outcome(wrong, READS * ENTRIES, about)


@contextlib.contextmanager
def _another_client(contest: Contest) -> Iterator[Callable[[], int]]:
    """Adds and removes names until the end of the block; the value tells how often it did."""
    end = threading.Event()
    changes = 0

    def change() -> None:
        nonlocal changes
        number = 0
        with _making_and_removing(contest) as (make, remove):
            while not end.wait(PAUSE_SECONDS):
                make(f"passing{number}")
                if number >= PASSING:
                    remove(f"passing{number - PASSING}")
                number += 1
                changes += 2

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield lambda: changes
    finally:
        end.set()
        thread.join()


@contextlib.contextmanager
def _making_and_removing(contest: Contest) -> Iterator[tuple[Callable[[str], None], Callable[[str], None]]]:
    """On the server's disk; but rclone's WebDAV server believes what it has seen there, so by its own protocol."""
    folder = contest.folder
    if not isinstance(contest.server, WebDav):
        yield lambda name: (folder / name).touch(), lambda name: (folder / name).unlink()
        return
    connection = http.client.HTTPConnection("127.0.0.1", contest.server.port, timeout=30)

    def ask(method: str, name: str) -> None:
        connection.request(method, urllib.parse.quote(f"/{folder.name}/{name}"))
        answer = connection.getresponse()
        answer.read()
        assert answer.status < 300, answer.status

    try:
        yield lambda name: ask("PUT", name), lambda name: ask("DELETE", name)
    finally:
        connection.close()
