"""Random operations through the real mount, against a plain directory: after every flush the NAS equals the model.

`python -m tests.model.machine --minutes 60` runs it alone for a time and prints the numbers; with `--seed` and the same
mode and faults, a round is the same again.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from hypothesis import HealthCheck, note, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.model.live import LiveMount, live_mount, tree_of

NAMES = ["a", "b", "c", "Ä ö", "x.txt", "[b]"]
names = st.sampled_from(NAMES)
folders = st.sampled_from(["", "d", "e", "d/f"])
contents = st.one_of(
    st.binary(max_size=40), st.integers(1, 300_000).map(lambda n: (b"%07d" % n) * (n // 7 + 1)), st.just(b"")
)


FLAGS = [
    os.O_RDONLY,
    os.O_RDWR,
    os.O_RDWR | os.O_CREAT,
    os.O_RDWR | os.O_CREAT | os.O_TRUNC,
    os.O_RDWR | os.O_APPEND,
    os.O_RDWR | os.O_CREAT | os.O_EXCL,
]


@dataclass
class Tally:
    sequences: int = 0
    operations: int = 0
    compared: int = 0  # flushes after which NAS and model were compared
    lost: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        found = f"{len(self.lost)} with differences"
        return f"{self.sequences} sequences, {self.operations} operations, {self.compared} comparisons, {found}"


class MountModel(RuleBasedStateMachine):
    """Each step is done twice: below the mount and in a directory on the local disk. Both must say the same."""

    mount: ClassVar[LiveMount]
    served: ClassVar[Path]
    faults: ClassVar[list[dict]]
    tally: ClassVar[Tally]

    @initialize()
    def begin(self) -> None:
        self.model = Path(tempfile.mkdtemp())
        self.name = self.model.name
        self.tally.sequences += 1
        (self.mount.root / self.name).mkdir()
        self.fresh = True
        self.handles: list[tuple[int, int]] = []  # (in the model, in the mount)

    def teardown(self) -> None:
        if hasattr(self, "model"):
            self.close_all()
            self.compare()
            shutil.rmtree(self.model)

    def both(self, action, *paths: str) -> None:
        """Do it in both places; the outcome is the same, or the same errno."""
        self.tally.operations += 1
        outcomes = []
        for root in (self.model, self.mount.root / self.name):
            try:
                outcomes.append(action(*[root / path for path in paths]))
            except OSError as error:
                outcomes.append(f"errno {error.errno}")
        assert outcomes[0] == outcomes[1], f"{paths}: {outcomes}"

    @rule(folder=folders, name=names, data=contents)
    def write(self, folder: str, name: str, data: bytes) -> None:
        self.both(lambda path: path.write_bytes(data), f"{folder}/{name}".lstrip("/"))

    @rule(folder=folders, name=names, data=contents)
    def append(self, folder: str, name: str, data: bytes) -> None:
        def action(path: Path) -> int:
            with open(path, "ab") as file:
                file.write(data)
                return file.tell()

        self.both(action, f"{folder}/{name}".lstrip("/"))

    @rule(folder=folders, name=names, data=st.binary(min_size=1, max_size=2000), offset=st.integers(0, 400_000))
    def write_at(self, folder: str, name: str, data: bytes, offset: int) -> None:
        def action(path: Path) -> int:
            with open(path, "r+b") as file:
                file.seek(offset)
                file.write(data)
            return path.stat().st_size

        self.both(action, f"{folder}/{name}".lstrip("/"))

    @rule(folder=folders, name=names, size=st.integers(0, 400_000))
    def truncate(self, folder: str, name: str, size: int) -> None:
        self.both(lambda path: os.truncate(path, size), f"{folder}/{name}".lstrip("/"))

    @rule(folder=folders, name=names)
    def read(self, folder: str, name: str) -> None:
        self.both(lambda path: path.read_bytes(), f"{folder}/{name}".lstrip("/"))

    @rule(folder=folders, name=names)
    def unlink(self, folder: str, name: str) -> None:
        self.both(lambda path: path.unlink(), f"{folder}/{name}".lstrip("/"))

    @rule(folder=st.sampled_from(["d", "e", "d/f"]))
    def mkdir(self, folder: str) -> None:
        self.both(lambda path: path.mkdir(), folder)

    @rule(folder=st.sampled_from(["d", "e", "d/f"]))
    def rmdir(self, folder: str) -> None:
        self.both(lambda path: path.rmdir(), folder)

    @rule(folders=st.tuples(folders, folders), names=st.tuples(names, names))
    def rename(self, folders: tuple[str, str], names: tuple[str, str]) -> None:
        old, new = (f"{folder}/{name}".lstrip("/") for folder, name in zip(folders, names, strict=True))
        self.both(lambda source, target: source.rename(target) and None, old, new)

    @rule(names=st.sampled_from([("d", "e"), ("e", "d"), ("d/f", "e"), ("d", "d2"), ("d2", "d")]))
    def rename_folder(self, names: tuple[str, str]) -> None:
        self.both(lambda source, target: source.rename(target) and None, *names)

    @rule(folder=folders, name=names, mtime=st.integers(1_000_000_000, 2_000_000_000))
    def set_mtime(self, folder: str, name: str, mtime: int) -> None:
        def action(path: Path) -> int:
            os.utime(path, (mtime, mtime))
            return int(path.stat().st_mtime) if path.is_file() else 0

        self.both(action, f"{folder}/{name}".lstrip("/"))

    # ----- files that stay open while everything else goes on ---------------------------------------------------

    @precondition(lambda self: len(self.handles) < 4)
    @rule(folder=folders, name=names, flags=st.sampled_from(FLAGS))
    def open(self, folder: str, name: str, flags: int) -> None:
        self.tally.operations += 1
        paths = [root / folder / name for root in (self.model, self.mount.root / self.name)]
        opened: list[int] = []
        errors: list[int | None] = []
        for path in paths:
            try:
                opened.append(os.open(path, flags, 0o644))
                errors.append(None)
            except OSError as error:
                errors.append(error.errno)
        assert errors[0] == errors[1], f"{folder}/{name} {flags:o}: {errors}"
        if opened:
            self.handles.append((opened[0], opened[1]))

    def both_handles(self, number: int, action) -> None:
        self.tally.operations += 1
        outcomes = []
        for fd in self.handles[number % len(self.handles)]:
            try:
                outcomes.append(action(fd))
            except OSError as error:
                outcomes.append(f"errno {error.errno}")
        assert outcomes[0] == outcomes[1], outcomes

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9), data=st.binary(min_size=1, max_size=3000), offset=st.integers(0, 300_000))
    def write_handle(self, number: int, data: bytes, offset: int) -> None:
        self.both_handles(number, lambda fd: os.pwrite(fd, data, offset))

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9), size=st.integers(0, 300_000))
    def truncate_handle(self, number: int, size: int) -> None:
        self.both_handles(number, lambda fd: os.ftruncate(fd, size))

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9))
    def read_handle(self, number: int) -> None:
        self.both_handles(number, lambda fd: (os.fstat(fd).st_size, os.pread(fd, 1_000_000, 0)))

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9))
    def fsync_handle(self, number: int) -> None:
        self.both_handles(number, os.fsync)

    @precondition(lambda self: self.handles)
    @rule(number=st.integers(0, 9))
    def close_handle(self, number: int) -> None:
        pair = self.handles.pop(number % len(self.handles))
        for fd in pair:
            os.close(fd)

    def close_all(self) -> None:
        for pair in self.handles:
            for fd in pair:
                with contextlib.suppress(OSError):  # the mount has crashed
                    os.close(fd)
        self.handles.clear()

    @rule(folder=folders)
    def listing(self, folder: str) -> None:
        self.both(lambda path: sorted(os.listdir(path)), folder or ".")

    @rule()
    def compare(self) -> None:
        for _, fd in self.handles:  # a flush is for what was closed
            os.fsync(fd)
        self.mount.flush()
        self.tally.compared += 1
        assert tree_of(self.served / self.name) == tree_of(self.model)

    @precondition(lambda self: self.faults)
    @rule(data=st.data())
    def trouble(self, data: st.DataObject) -> None:
        fault = data.draw(st.sampled_from(self.faults))
        note(f"fault {fault}")
        self.mount.nas.fault(**fault)

    @rule(crash=st.booleans())
    def remount(self, crash: bool) -> None:
        with contextlib.suppress(Exception):
            self.mount.nas.clear_faults()
        if not crash:
            self.close_all()
        if crash:
            self.mount.kill()
        else:
            self.mount.stop()
        self.close_all()
        self.mount.start()

    @invariant()
    def is_up(self) -> None:
        assert self.mount.is_mounted()


FAULTS = [
    {"kind": "drop", "method": "upload", "when": "request", "after_bytes": 2000, "times": 1},
    {"kind": "drop", "method": "list", "after_bytes": 20, "times": 1},
    {"kind": "error", "method": "upload", "code": 402, "times": 2},
    {"kind": "error", "method": "upload", "code": 402, "when": "after", "times": 1},
    {"kind": "error", "method": "start", "code": 402, "times": 1},
    {"kind": "error", "method": "list", "code": 119, "times": 1},
    {"kind": "error", "method": "upload", "code": 119, "times": 1},
    {"kind": "delay", "seconds": 0.2, "times": 3},
    {"kind": "expire_sids"},
]


def run(folder: Path, sequences: int, number: int, mode: str, faults: list[dict]) -> Tally:
    """`sequences` random sequences of operations, made from the seed `number`, on one mount. A difference ends it, once
    it has been made as short as can be."""

    class Machine(MountModel):
        pass

    tally = Machine.tally = Tally()
    with live_mount(folder, "--write-mode", mode, "--dir-ttl", "1") as (Machine.mount, Machine.served):
        Machine.faults = faults
        wanted = settings(
            max_examples=sequences,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            database=None,
        )
        try:
            run_state_machine_as_test(seed(number)(Machine), settings=wanted)
        except Exception as error:
            notes = "\n".join(getattr(error, "__notes__", []))
            tally.lost.append(f"{error!r}\n{notes}\n{Machine.mount.log[-2000:]}")
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, help="this round alone")
    parser.add_argument("--write-mode", choices=("durable", "writeback"), help="this mode alone (default: in turns)")
    parser.add_argument("--faults", choices=("calm", "faults"), help="(default: in turns)")
    parser.add_argument("--sequences", type=int, default=200, help="in each round, on one mount")
    words = parser.parse_args()
    kinds = {"calm": [], "faults": FAULTS}
    turns = itertools.product(
        [words.write_mode] if words.write_mode else ("durable", "writeback"), [words.faults] if words.faults else kinds
    )
    found = False
    end = time.monotonic() + words.minutes * 60
    for mode, faults in itertools.cycle(list(turns)):
        number = words.seed if words.seed is not None else int.from_bytes(os.urandom(4))
        with tempfile.TemporaryDirectory() as folder:
            tally = run(Path(folder).resolve(), words.sequences, number, mode, kinds[faults])
        print(f"{mode}, {faults}, seed {number}: {tally}", *tally.lost, sep="\n", flush=True)
        found = found or bool(tally.lost)
        if words.seed is not None or time.monotonic() > end:
            return found


if __name__ == "__main__":
    sys.exit(main())
