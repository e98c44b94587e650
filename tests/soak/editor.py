"""Somebody who edits, renames and deletes the same files as somebody else on another machine.

`python -I -S editor.py FOLDER WHO SEED LOCK` works until its standard input ends. An edit reads a document and writes
it anew with one more line of its own, so each version names all that it was made from: what is in no surviving version
was overwritten in silence. With a LOCK file, closes and renames take turns between the editors (their reading and
writing does not): File Station has no call that compares and replaces in one. Reports as JSON at the end.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import random
import select
import sys
import time


class Editor:
    def __init__(self, folder: str, who: str, seed: str, lock: str) -> None:
        self.folder = folder
        self.who = who
        self.rng = random.Random(seed)
        self.lock = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600) if lock else -1
        self.number = 0
        self.edits: list[tuple[str, str, float, float, str, str]] = []  # acknowledged: line, document, close began,
        # ended, how, the last line that was read
        self.deleted: list[tuple[str, float, float]] = []  # document, unlink began, ended
        self.wrong: list[str] = []
        self.renames = 0
        self.errors: dict[str, int] = {}

    def run(self) -> None:
        steps = {self.edit: 6, self.save_by_rename: 3, self.rename: 1, self.edit_passing: 2, self.delete: 1}
        while not select.select([0], [], [], self.rng.random() * 0.05)[0]:
            (step,) = self.rng.choices(list(steps), list(steps.values()))
            try:
                step()
            except OSError as error:
                name = errno.errorcode.get(error.errno or 0, "?")
                self.errors[name] = self.errors.get(name, 0) + 1
        print(json.dumps({k: v for k, v in vars(self).items() if k not in ("rng", "lock", "number", "folder")}))

    @contextlib.contextmanager
    def turn(self):
        if self.lock < 0:
            yield
            return
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def pick(self, beginning: str) -> str:
        names = [n for n in os.listdir(self.folder) if n.startswith(beginning) and "conflict" not in n]
        if not names:
            raise FileNotFoundError(errno.ENOENT, "no document")
        return self.rng.choice(sorted(names))

    def new_line(self) -> str:
        self.number += 1
        return f"{self.who} {self.number:06d} {'.' * self.rng.randrange(40)}\n"

    def check(self, name: str, text: str) -> None:
        if text and not text.endswith("\n"):
            self.wrong.append(f"{name}: a torn version: {text[-40:]!r}")

    def edit(self, beginning: str = "doc") -> None:
        """In place: read it through the descriptor that it is written with."""
        name, line = self.pick(beginning), self.new_line()
        fd = os.open(self.path(name), os.O_RDWR)
        try:
            with os.fdopen(os.dup(fd), "rb") as file:
                text = file.read().decode()
            self.check(name, text)
            os.pwrite(fd, (text + line).encode(), 0)
            time.sleep(self.rng.random() * 0.05)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        with self.turn():
            began = time.time()
            os.close(fd)
            self.edits.append((line.rstrip(), name, began, time.time(), "edit", text.splitlines()[-1] if text else ""))

    def edit_passing(self) -> None:
        """Of the documents that are deleted at times."""
        if self.rng.random() < 0.3:
            self.number += 1
            with contextlib.suppress(FileExistsError):
                os.close(os.open(self.path(f"passing{self.number % 4}"), os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        self.edit("passing")

    def save_by_rename(self) -> None:
        name, line = self.pick("doc"), self.new_line()
        with open(self.path(name)) as file:
            known = version(os.fstat(file.fileno()))
            text = file.read()
            if version(os.fstat(file.fileno())) != known:
                raise OSError(errno.ESTALE, "changed meanwhile")
        self.check(name, text)
        if len(text) != known[0]:
            self.wrong.append(f"{name}: {len(text)} bytes read, {known[0]} in its attributes before and after")
        temporary = self.path(f"tmp-{self.who}-{self.number}")
        with open(temporary, "w") as file:
            file.write(text + line)
        try:
            with self.turn():
                began = time.time()
                if version(os.stat(self.path(name))) != known:  # as editors do: "the file has changed on disk"
                    raise OSError(errno.ESTALE, "changed meanwhile")
                os.rename(temporary, self.path(name))
                self.edits.append(
                    (line.rstrip(), name, began, time.time(), "save", text.splitlines()[-1] if text else "")
                )
        except OSError:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def rename(self) -> None:
        name = self.pick("doc")
        new = f"doc{self.rng.randrange(100)}"
        if new not in os.listdir(self.folder):
            with self.turn():
                os.rename(self.path(name), self.path(new))
            self.renames += 1

    def delete(self) -> None:
        name = self.pick("passing")
        with self.turn():
            began = time.time()
            os.unlink(self.path(name))
            self.deleted.append((name, began, time.time()))


def version(found: os.stat_result) -> tuple[int, int]:
    return found.st_size, found.st_mtime_ns


if __name__ == "__main__":
    Editor(*sys.argv[1:]).run()
