"""One program of the soak: it makes, changes, cuts, reads, maps, renames and removes files of its own, and knows what
they must contain. `python -I -S worker.py FOLDER SEED EPOCH_FILE` works until its standard input ends, then prints a
report as JSON.

Content is a list of segments, each a tag that is repeated up to a length, so that nothing large has to be remembered.
A call that fails leaves its file in one of a few states; such a file is "doubtful", and is from then on only read.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import random
import select
import sys
import time
from collections import deque

Segments = list[tuple[str, int]]  # (tag, bytes)
ZEROS = "\0" * 32

PAUSE_SECONDS = 0.03
AFTER_ERROR_SECONDS = 0.5
MOST_FILES = 40
KEPT_STEPS = 20_000


def content(segments: Segments) -> bytes:
    made = []
    for tag, length in segments:
        unit = tag.encode().ljust(32, b".")
        made.append((unit * (length // 32 + 1))[:length])
    return b"".join(made)


def told(data: bytes | None) -> str:
    """The beginning of what was found, for a person to read."""
    if data is None:
        return "absent"
    tags = dict.fromkeys(data[at : at + 32].rstrip(b".").decode(errors="replace") for at in range(0, len(data), 4096))
    return f"{len(data)} bytes of {list(tags)[:5]}"


def fits(found: bytes | None, doubt: dict) -> bool:
    """Whether a doubtful file is in one of its possible states: `between` (all of the first, and a beginning of the
    second), `mixed` (each byte from one or the other)."""
    if found is None:
        return doubt["may_be_absent"]
    for least, most in doubt["between"]:
        if found.startswith(content(least)) and content(most).startswith(found):
            return True
    for one, other in doubt["mixed"]:
        pair = zip(found, content(one), content(other), strict=False)
        if len(found) == len(content(one)) and all(byte in (a, b) for byte, a, b in pair):
            return True
    return False


class Worker:
    def __init__(self, folder: str, seed: str, epoch_file: str) -> None:
        self.folder = folder
        self.rng = random.Random(seed)
        self.epoch_file = epoch_file
        self.files: dict[str, Segments] = {}
        self.folders: list[str] = [""]
        self.doubtful: dict[str, dict] = {}
        self.moved: list[tuple[str, str]] = []  # renames that failed: one of the two names has the content
        self.wrong: list[tuple[str, list[str]]] = []  # what, and the names concerned
        self.names: list[str] = []  # of the step under way
        self.errors: dict[str, int] = {}
        self.done: dict[str, int] = {}
        self.bytes_acknowledged = 0
        self.read_after_a_remount = 0  # doubtful files, whose call had failed before it
        self.longest_seconds = 0.0
        self.longest_step = ""
        self.number = 0
        self.history: deque[tuple[float, str, list[str]]] = deque(maxlen=KEPT_STEPS)

    # ----- the loop ---------------------------------------------------------------------------------------------

    def run(self) -> None:
        steps = {
            self.create: 5, self.overwrite: 2, self.append: 4, self.read: 6, self.rename: 3, self.rename_over: 1,
            self.unlink: 3, self.mkdir: 1, self.list: 3, self.map_and_read: 1, self.map_and_write: 1,
            self.truncate: 2, self.read_doubtful: 3,
        }  # fmt: skip
        while not select.select([0], [], [], self.rng.random() * PAUSE_SECONDS)[0]:
            (step,) = self.rng.choices(list(steps), list(steps.values()))
            if len(self.files) >= MOST_FILES and step in (self.create, self.mkdir):
                step = self.unlink
            epoch, started, end = self.epoch(), time.monotonic(), "ok"
            began_at, self.names = time.time(), []
            try:
                step()
                self.done[step.__name__] = self.done.get(step.__name__, 0) + 1
            except OSError as error:
                end = str(error)
                name = errno.errorcode.get(error.errno or 0, "?")
                self.errors[name] = self.errors.get(name, 0) + 1
                if error.errno == errno.ENOENT and self.steady(epoch):
                    self.wrong.append((f"{step.__name__}: {error}, and it is there", self.names))
            seconds = time.monotonic() - started
            self.history.append((began_at, f"{step.__name__} {self.names}: {end}, {seconds * 1000:.0f} ms", self.names))
            if end != "ok":
                self.wait_for_the_mount()
            if seconds > self.longest_seconds:
                self.longest_seconds, self.longest_step = seconds, step.__name__
        told = {name: value for name, value in vars(self).items() if name not in ("rng", "epoch_file", "names")}
        print(json.dumps(told | {"history": list(self.history)}))

    def epoch(self) -> int:
        with open(self.epoch_file) as file:
            return int(file.read() or -1)

    def steady(self, since: int) -> bool:
        """Even: mounted, and it has been so all the time."""
        return since % 2 == 0 and self.epoch() == since

    def wait_for_the_mount(self) -> None:
        while not select.select([0], [], [], AFTER_ERROR_SECONDS)[0]:
            try:
                os.stat(self.folder)
                return
            except OSError:
                continue

    # ----- steps ------------------------------------------------------------------------------------------------

    def path(self, name: str) -> str:
        return os.path.join(self.folder, name)

    def new_name(self) -> str:
        self.number += 1
        self.names.append(os.path.join(self.rng.choice(self.folders), f"f{self.number}"))
        return self.names[-1]

    def new_content(self, longest: int) -> Segments:
        self.number += 1
        return [(f"{os.path.basename(self.folder)} {self.number}", self.rng.choice((0, 1, 4096, longest)))]

    def some(self) -> str | None:
        if not self.files:
            return None
        self.names.append(self.rng.choice(list(self.files)))
        return self.names[-1]

    def change(self, doubts: dict[str, dict], action, *arguments) -> None:
        """`doubts`: the states in which a failure may leave the files."""
        kept = {name: self.files.pop(name) for name in doubts if name in self.files}
        try:
            action(*arguments)
        except OSError as error:
            for name, states in doubts.items():
                self.doubtful[name] = states | {"why": f"{action.__name__}: {error}", "epoch": self.epoch()}
            raise
        self.files.update(kept)

    def write(self, name: str, flags: int, data: bytes) -> None:
        fd = os.open(self.path(name), os.O_WRONLY | flags, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view[: 128 * 1024]) :]
            if self.rng.random() < 0.05:
                os.fsync(fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)
        self.bytes_acknowledged += len(data)

    def create(self) -> None:
        name, new = self.new_name(), self.new_content(self.rng.choice((60_000, 400_000, 3_000_000)))
        self.change({name: doubt([[], new])}, self.write, name, os.O_CREAT | os.O_EXCL, content(new))
        self.files[name] = new

    def overwrite(self) -> None:
        if (name := self.some()) is None:
            return
        old, new = self.files[name], self.new_content(200_000)
        states = doubt([old, old], [[], new], absent=False)
        self.change({name: states}, self.write, name, os.O_TRUNC, content(new))
        self.files[name] = new

    def append(self) -> None:
        if (name := self.some()) is None:
            return
        old = self.files[name]
        new = old + self.new_content(30_000)
        states = doubt([old, new], absent=False)
        self.change({name: states}, self.write, name, os.O_APPEND, content(new[len(old) :]))
        self.files[name] = new

    def truncate(self) -> None:
        """By its path: nothing has it open, so no close follows."""
        if (name := self.some()) is None:
            return
        old = self.files[name]
        length = sum(length for _, length in old)
        new = cut(old, self.rng.choice((0, length // 2, length + 5000)))
        states = doubt([old, old], [new, new], absent=False)
        self.change({name: states}, os.truncate, self.path(name), sum(length for _, length in new))
        self.files[name] = new

    def read(self) -> None:
        if (name := self.some()) is None:
            return
        with open(self.path(name), "rb") as file:
            found = file.read()
        self.compare(name, found)

    def read_doubtful(self) -> None:
        """Whatever the mount has kept of the call that failed, or forgotten."""
        if not self.doubtful:
            return
        name = self.rng.choice(list(self.doubtful))
        self.names.append(name)
        doubt, epoch = self.doubtful[name], self.epoch()
        try:
            with open(self.path(name), "rb") as file:
                found: bytes | None = file.read()
        except FileNotFoundError:
            found = None
            if not self.steady(epoch):
                return
        self.read_after_a_remount += epoch % 2 == 0 and epoch > doubt["epoch"]
        if not fits(found, doubt):
            self.wrong.append((f"{name}: {doubt['why']}; read later: {told(found)}", [name]))

    def compare(self, name: str, found: bytes) -> None:
        if found != content(self.files[name]):
            expected = content(self.files[name])
            at = next((i for i, (a, b) in enumerate(zip(found, expected, strict=False)) if a != b), -1)
            text = f"{name}: {len(found)} bytes read, {len(expected)} expected, first difference at {at}"
            self.wrong.append((text, [name]))

    def rename(self) -> None:
        if (old := self.some()) is None:
            return
        new, what = self.new_name(), self.files[old]
        try:
            both = {old: doubt([what, what]), new: doubt([what, what])}
            self.change(both, os.rename, self.path(old), self.path(new))
        except OSError:
            self.moved.append((old, new))
            raise
        self.files[new] = self.files.pop(old)

    def rename_over(self) -> None:
        old, new = self.some(), self.some()
        if old is None or new is None or old == new:
            return
        what, replaced = self.files[old], self.files[new]
        try:
            both = {old: doubt([what, what]), new: doubt([what, what], [replaced, replaced], absent=False)}
            self.change(both, os.rename, self.path(old), self.path(new))
        except OSError:
            self.moved.append((old, new))
            raise
        self.files[new] = self.files.pop(old)

    def unlink(self) -> None:
        if (name := self.some()) is None:
            return
        self.change({name: doubt([self.files[name], self.files[name]])}, os.unlink, self.path(name))
        del self.files[name]

    def mkdir(self) -> None:
        if len(self.folders) < 5:
            self.number += 1
            name = os.path.join(self.rng.choice(self.folders), f"d{self.number}")
            self.names.append(name)
            os.mkdir(self.path(name))
            self.folders.append(name)

    def list(self) -> None:
        folder = self.rng.choice(self.folders)
        self.names.append(folder)
        found = {os.path.join(folder, name) for name in os.listdir(self.path(folder))}
        here = {name for name in (*self.files, *self.folders) if name and os.path.dirname(name) == folder}
        if missing := here - found:
            self.wrong.append((f"listing of {folder!r}: {sorted(missing)} missing", sorted(missing)))
        strange = {name for name in found - here - set(self.doubtful) if not os.path.basename(name).startswith("d")}
        if strange:
            text = f"listing of {folder!r}: {sorted(strange)} were never made, or are back"
            self.wrong.append((text, sorted(strange)))

    def map_and_read(self) -> None:
        if (name := self.some()) is None or not content(self.files[name]):
            return

        def compare() -> None:
            with open(self.path(name), "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
                if bytes(mapped) != content(self.files[name]):
                    os._exit(255)

        if in_a_child(compare) == 255:
            self.wrong.append((f"{name}: mapped, other bytes than expected", [name]))

    def map_and_write(self) -> None:
        if (name := self.some()) is None or not content(self.files[name]):
            return
        old = self.files[name]
        self.number += 1
        new = [(f"mapped {self.number}", sum(length for _, length in old))]

        def write() -> None:
            with open(self.path(name), "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
                mapped[:] = content(new)
                mapped.flush()

        states = doubt(absent=False) | {"mixed": [(old, new)]}
        self.change({name: states}, in_a_child, write)
        self.files[name] = new


def cut(segments: Segments, size: int) -> Segments:
    """As truncate(2) does: what is missing is zeros."""
    kept = []
    for tag, length in (*segments, (ZEROS, size)):
        kept.append((tag, min(length, size)))
        size -= kept[-1][1]
    return [(tag, length) for tag, length in kept if length]


def doubt(*between: list[Segments], absent: bool = True) -> dict:
    return {"may_be_absent": absent, "between": between, "mixed": []}


def in_a_child(action) -> int:
    """A mapping that loses its mount kills with SIGBUS; so does somebody else the work. Raises EIO for that."""
    pid = os.fork()
    if pid == 0:
        try:
            action()
        except OSError as error:
            os._exit(error.errno if error.errno and error.errno < 250 else 5)
        except BaseException:
            os._exit(254)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code in (0, 255):
        return code
    raise OSError(code if code > 0 else errno.EIO, os.strerror(code) if code > 0 else "killed by a signal")


if __name__ == "__main__":
    Worker(*sys.argv[1:]).run()
