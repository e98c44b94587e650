"""Real programs write through the mount, in both write modes; what they wrote is on the NAS and verifies there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.live import LiveMount, live_mount, tree_of

pytestmark = [pytest.mark.mount, pytest.mark.timeout(300)]


DIR_TTL_SECONDS = 30  # the default


class Desk:
    """A mount, what its NAS serves, and a shell in the mount."""

    def __init__(self, mount: LiveMount, served: Path, local: Path) -> None:
        self.mount = mount
        self.root = mount.root
        self.served = served
        self.local = local

    def run(self, *words: str, cwd: Path | None = None, expect: int = 0) -> str:
        environment = {**os.environ, "HOME": str(self.local), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C.UTF-8"}
        done = subprocess.run(
            words, cwd=cwd or self.root, capture_output=True, text=True, timeout=120, env=environment, check=False
        )
        assert done.returncode == expect, f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def calls(self) -> dict[str, int]:
        return self.mount.nas.calls


@pytest.fixture(scope="module", params=["durable", "writeback"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    folder = tmp_path_factory.mktemp("programs")
    local = folder / "local"
    local.mkdir()
    with live_mount(folder, "--write-mode", request.param) as (mount, served):
        yield Desk(mount, served, local)
        loud = [line for line in mount.log.splitlines() if "Traceback" in line or " ERROR " in line]
        assert not loud, mount.log[-3000:]


@pytest.fixture
def tree(desk: Desk) -> Path:
    """A source tree of a few hundred files."""
    source = desk.local / "tree"
    if not source.exists():
        library = Path(os.__file__).parent
        for name in ("json", "email", "asyncio", "unittest"):
            shutil.copytree(library / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        (source / "empty").mkdir()
        (source / "nothing").touch()
    return source


def needs(program: str) -> None:
    assert shutil.which(program), f"scripts/lib.sh should have installed {program}"


def test_cp_and_mv(desk: Desk, tree: Path) -> None:
    desk.run("cp", "-r", str(tree), "copied")
    desk.run("mv", "copied", "moved")
    desk.mount.flush()
    assert tree_of(desk.served / "moved") == tree_of(tree)
    desk.run("rm", "-r", "moved")
    assert not (desk.served / "moved").exists()


def test_times_survive_cp_p_and_a_remount(desk: Desk, tree: Path) -> None:
    file = tree / "json" / "decoder.py"
    os.utime(file, (1_500_000_000, 1_500_000_000))
    desk.run("cp", "-p", str(file), "with-time.py")
    desk.mount.flush()
    assert (desk.root / "with-time.py").stat().st_mtime == 1_500_000_000
    desk.mount.stop()
    desk.mount.start()
    assert (desk.root / "with-time.py").stat().st_mtime == 1_500_000_000


def test_rsync_copies_finds_nothing_to_do_and_deletes(desk: Desk, tree: Path) -> None:
    needs("rsync")
    desk.run("rsync", "-a", "--delete", f"{tree}/", "synced/")
    desk.mount.flush()
    assert tree_of(desk.served / "synced") == tree_of(tree)
    again = desk.run("rsync", "-rtn", "--itemize-changes", "--delete", f"{tree}/", "synced/")
    assert [line for line in again.splitlines() if not line.startswith(".d")] == []
    (desk.root / "synced" / "to be deleted").write_text("x")
    desk.run("rsync", "-a", "--delete", f"{tree}/", "synced/")
    desk.mount.flush()
    assert tree_of(desk.served / "synced") == tree_of(tree)


def test_tar_and_unzip(desk: Desk, tree: Path) -> None:
    needs("unzip")
    archive = desk.local / "tree.tar"
    desk.run("tar", "-cf", str(archive), "-C", str(tree), ".")
    (desk.root / "untarred").mkdir()
    desk.run("tar", "-xpf", str(archive), cwd=desk.root / "untarred")
    shutil.make_archive(str(desk.local / "tree"), "zip", tree)
    (desk.root / "unzipped").mkdir()
    desk.run("unzip", "-q", str(desk.local / "tree.zip"), cwd=desk.root / "unzipped")
    desk.mount.flush()
    assert tree_of(desk.served / "untarred") == tree_of(tree)
    assert tree_of(desk.served / "unzipped") == tree_of(tree)


def test_git_init_add_commit_gc_and_fsck(desk: Desk, tree: Path) -> None:
    needs("git")
    repository = desk.root / "repository"
    repository.mkdir()
    git = ("git", "-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "init.defaultBranch=main")
    desk.run(*git, "init", "-q", cwd=repository)
    shutil.copytree(tree / "json", repository / "json")
    desk.run(*git, "add", ".", cwd=repository)
    desk.run(*git, "commit", "-qm", "one", cwd=repository)
    (repository / "json" / "more.py").write_text("more")
    desk.run(*git, "add", ".", cwd=repository)
    desk.run(*git, "commit", "-qm", "two", cwd=repository)
    assert desk.run(*git, "status", "--short", cwd=repository) == ""
    desk.run(*git, "gc", "-q", cwd=repository)
    desk.run(*git, "fsck", "--strict", cwd=repository)
    desk.mount.flush()
    desk.run(*git, "-c", "safe.directory=*", "fsck", "--strict", cwd=desk.served / "repository")
    assert (
        desk.run(*git, "-c", "safe.directory=*", "log", "--format=%s", cwd=desk.served / "repository") == "two\none\n"
    )


@pytest.mark.parametrize("journal", ["delete", "wal"])
def test_sqlite(desk: Desk, journal: str) -> None:
    needs("sqlite3")
    file = f"{journal}.db"
    desk.run("sqlite3", file, f"PRAGMA journal_mode={journal}; CREATE TABLE t (n);")
    for start in range(0, 300, 100):
        values = ",".join(f"({number})" for number in range(start, start + 100))
        desk.run("sqlite3", file, f"BEGIN; INSERT INTO t VALUES {values}; COMMIT;")
    desk.mount.flush()
    copy = desk.local / file
    shutil.copy(desk.served / file, copy)
    for extra in ("-wal", "-shm"):
        if (desk.served / (file + extra)).exists():
            shutil.copy(desk.served / (file + extra), f"{copy}{extra}")
    assert (
        desk.run("sqlite3", str(copy), "PRAGMA integrity_check; SELECT count(*), sum(n) FROM t;") == "ok\n300|44850\n"
    )


def test_dd_with_fsync_means_that_the_nas_has_it(desk: Desk) -> None:
    desk.run("dd", "if=/dev/urandom", "of=synced.bin", "bs=64K", "count=20", "conv=fsync")
    assert (desk.served / "synced.bin").read_bytes() == (desk.root / "synced.bin").read_bytes()


VIM_SAVE = """
import os
os.rename('letter', 'letter~')
with open('letter', 'w') as f:
    f.write('second'); f.flush(); os.fsync(f.fileno())
os.unlink('letter~')
"""
GNOME_SAVE = """
import os
with open('.goutputstream-X1', 'x') as f:
    f.write('second'); f.flush(); os.fsync(f.fileno())
os.rename('.goutputstream-X1', 'letter')
"""
LIBREOFFICE_SAVE = """
import os
with open('.~lock.letter#', 'w') as f: f.write('lock')
with open('lu1.tmp', 'w') as f: f.write('second')
os.rename('letter', 'letter.bak')
os.rename('lu1.tmp', 'letter')
os.unlink('letter.bak')
os.unlink('.~lock.letter#')
"""


@pytest.mark.parametrize("save", [VIM_SAVE, GNOME_SAVE, LIBREOFFICE_SAVE], ids=["vim", "gnome", "libreoffice"])
def test_the_save_of_an_editor_ends_with_one_correct_file_that_was_uploaded_once(
    desk: Desk, save: str, request: pytest.FixtureRequest
) -> None:
    folder = desk.root / request.node.callspec.id
    folder.mkdir()
    (folder / "letter").write_text("first")
    desk.mount.flush()
    desk.mount.nas.reset()
    desk.run(sys.executable, "-I", "-c", save, cwd=folder)
    desk.mount.flush()
    served = desk.served / folder.name
    assert {name: data for name, data in tree_of(served).items()} == {"letter": b"second"}
    uploads = desk.calls().get("upload", 0)
    assert uploads <= (2 if "lock" in save else 1)  # LibreOffice's lock file is a file, too


def test_500_small_files_cost_one_upload_each_and_next_to_nothing_else(desk: Desk) -> None:
    source = desk.local / "small"
    source.mkdir(exist_ok=True)
    for number in range(500):
        (source / f"{number:03}").write_bytes(b"%d" % number * 5000)
    desk.mount.nas.reset()
    begun = time.monotonic()
    desk.run("cp", "-r", str(source), "small")
    desk.mount.flush()
    calls = desk.calls()
    # On a busy machine it takes minutes: each time to live the folders in use (8 at most) are asked for anew.
    renewed = 10 * int((time.monotonic() - begun) / DIR_TTL_SECONDS)
    assert tree_of(desk.served / "small") == tree_of(source)
    assert calls["upload"] == 500
    others = sum(calls.values()) - 500
    assert others <= (30 if "writeback" in desk.mount.options else 520) + renewed, calls


def test_changing_a_few_bytes_of_a_big_file_fetches_nothing_before_the_upload(desk: Desk) -> None:
    big = desk.served / "big.bin"
    big.write_bytes(os.urandom(8 << 20))
    os.utime(big, (1_600_000_000, 1_600_000_000))
    before = big.read_bytes()
    desk.mount.refresh()
    with open(desk.root / "big.bin", "r+b", buffering=0) as file:
        desk.mount.nas.reset()
        file.seek(5 << 20)
        file.write(b"changed")
        file.seek(5 << 20)
        assert file.read(7) == b"changed"
        assert desk.mount.nas.stats["bytes_sent"] < 300_000
    desk.mount.flush()
    assert big.read_bytes() == before[: 5 << 20] + b"changed" + before[(5 << 20) + 7 :]


def test_opening_with_truncation_downloads_nothing(desk: Desk) -> None:
    big = desk.served / "cut.bin"
    big.write_bytes(os.urandom(4 << 20))
    desk.mount.refresh()
    desk.mount.nas.reset()
    (desk.root / "cut.bin").write_bytes(b"short")
    desk.mount.flush()
    assert big.read_bytes() == b"short"
    assert "download" not in desk.calls()


def test_fio_verifies_sequential_and_random_writes(desk: Desk) -> None:
    needs("fio")
    for pattern in ("write", "randwrite"):
        desk.run(
            "fio", "--name", pattern, "--rw", pattern, "--bs", "16k", "--size", "8m", "--verify", "crc32c",
            "--do_verify", "1", "--ioengine", "psync", "--fallocate", "none", "--directory", ".",
        )  # fmt: skip
    desk.mount.flush()
    for pattern in ("write", "randwrite"):
        assert (desk.served / f"{pattern}.0.0").stat().st_size == 8 << 20
