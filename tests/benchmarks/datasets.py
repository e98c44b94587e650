"""What is served: folders below the data's root, made once per run, the same in every run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path

from tests.trees import make_library_tree

FOLDERS = (
    "tree",
    "flat",
    "big",
    "small",
    "source",
    "many",
    "inbox",
)  # each a share of the simulated NAS, so they are there before it starts
SETTLED_SECONDS = 0.2  # the simulated NAS does not keep what has changed a moment ago
OLD_SECONDS = 1_700_000_000  # no file is "just written"
QUICK_PACKAGES = ("asyncio", "concurrent", "email", "html", "http", "importlib", "json", "logging", "urllib", "xml")


class Data:
    """The served folders below `root`, filled when a workload first asks for them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.version = 0  # another one each time something is made or removed here
        self._made: set[str] = set()
        for name in FOLDERS:
            (root / name).mkdir(parents=True, exist_ok=True)

    def _first_time(self, what: str) -> bool:
        is_new = what not in self._made
        self._made.add(what)
        self.version += is_new
        return is_new

    def tree(self, leaves: int, files: int = 10) -> str:
        """A folder with `leaves` folders of `files` small files, ten by ten in a hierarchy; its name below the root.

        1,000 leaves make 10 + 100 + 1,000 folders.
        """
        name = f"tree/{leaves}"
        if self._first_time(name):
            level = [self.root / name]
            level[0].mkdir()
            while len(level) < leaves:
                level = [folder / f"folder {number}" for folder in level for number in range(10)]
                for folder in level:
                    folder.mkdir()
            for folder in level:
                for number in range(files):
                    (folder / f"file {number}.txt").write_bytes(b"%d\n" % number * 50)
            _make_old(self.root / name)
        return name

    def flat(self, files: int) -> str:
        name = f"flat/{files}"
        if self._first_time(name):
            _fill(self.root / name, files, b"flat\n")
            _make_old(self.root / name)
        return name

    def big(self, size: int, number: int = 0) -> str:
        """A file of incompressible bytes."""
        name = f"big/{size >> 20}-{number}"
        if self._first_time(name):
            write_random(self.root / name, size)
            os.utime(self.root / name, (OLD_SECONDS, OLD_SECONDS))
        return name

    def small(self, files: int, size: int = 32 << 10) -> str:
        name = f"small/{files}x{size}"
        if self._first_time(name):
            write_small_files(self.root / name, files, size)
            _make_old(self.root / name)
        return name

    def many(self, folders: int, files: int = 10_000) -> str:
        """A lot of entries."""
        name = f"many/{folders}"
        if self._first_time(name):
            for number in range(folders):
                _fill(self.root / name / f"{number:04}", files, b"")
            _make_old(self.root / name)
        return name

    def source(self, *, whole: bool) -> str:
        """A git repository with (a part of) the Python standard library, all committed."""
        name = f"source/{'whole' if whole else 'part'}"
        if self._first_time(name):
            root = self.root / name
            root.mkdir()
            if whole:
                make_library_tree(root)
            else:
                stdlib = Path(sysconfig.get_path("stdlib"))
                for package in QUICK_PACKAGES:
                    shutil.copytree(stdlib / package, root / package, ignore=shutil.ignore_patterns("__pycache__"))
            _make_old(root)
            # minimal: size and whole seconds of mtime. Inode numbers and ctimes mean nothing over a network, and with
            # them git would read every file again.
            git(root, "init", "-q")
            git(root, "config", "core.checkStat", "minimal")
            git(root, "config", "core.trustctime", "false")
            git(root, "config", "core.fileMode", "false")
            git(root, "config", "gc.auto", "0")
            git(root, "add", ".")
            git(root, "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-q", "-m", "all")
            git(root, "update-index", "-q", "--refresh")
            # Old, too, or a mount may not believe for long what it has read. Not as old as the files: git reads again
            # each file that is not older than its index.
            _make_old(root / ".git", OLD_SECONDS + 60)
            os.utime(root, (OLD_SECONDS, OLD_SECONDS))
        return name

    def fresh_inbox(self, label: str) -> str:
        """A new empty folder that a contestant may write to."""
        number = 0
        while (self.root / "inbox" / f"{label} {number}").exists():
            number += 1
        name = f"inbox/{label} {number}"
        (self.root / name).mkdir()
        self.version += 1
        return name

    def touch(self, name: str) -> None:
        """The folder is not as any server remembers it, and will be remembered once it was read."""
        at = self.root / name
        os.utime(at, (OLD_SECONDS, at.stat().st_mtime + 1))
        time.sleep(SETTLED_SECONDS)

    def count(self, name: str) -> tuple[int, int]:
        """Folders (with the top one) and files below it."""
        folders = files = 0
        for _, _, names in os.walk(self.root / name):
            folders += 1
            files += len(names)
        return folders, files

    def remove(self, name: str) -> None:
        target = self.root / name
        assert target.is_relative_to(self.root)
        assert target != self.root
        shutil.rmtree(target)
        self.version += 1


def git(folder: Path, *arguments: str) -> None:
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(["git", "-C", str(folder), *arguments], check=True, env=env, stdout=subprocess.DEVNULL)


def write_random(path: Path, size: int) -> None:
    piece = 8 << 20
    with path.open("wb") as file:
        for offset in range(0, size, piece):
            file.write(os.urandom(min(piece, size - offset)))


def write_small_files(folder: Path, files: int, size: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(files):
        (folder / f"{number:05}.bin").write_bytes(os.urandom(size))


def _fill(folder: Path, files: int, content: bytes) -> None:
    folder.mkdir(parents=True)
    at = os.open(folder, os.O_RDONLY)
    try:
        for number in range(files):
            fd = os.open(f"file {number:07}.txt", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=at)
            if content:
                os.write(fd, content)
            os.close(fd)
            os.utime(f"file {number:07}.txt", (OLD_SECONDS, OLD_SECONDS), dir_fd=at)
    finally:
        os.close(at)


def _make_old(root: Path, seconds: int = OLD_SECONDS) -> None:
    for folder, _, names in os.walk(root, topdown=False):
        for name in names:
            os.utime(os.path.join(folder, name), (seconds, seconds))
        os.utime(folder, (seconds, seconds))
