"""Another user of the same machine: nothing of a mount can be entered, read, replaced or told what to do."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from synofs.app.errors import Problem
from synofs.app.identity import mount_id, runtime_dirs
from synofs.content.cachedir import open_cache_dir
from synofs.content.errors import CacheDirUnsafe
from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, daemon_pid, running_nas

pytestmark = [
    pytest.mark.mount,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users"),
]

OTHER = 54321  # a user that nobody is
AS_THE_OTHER = ("setpriv", "--reuid", str(OTHER), "--regid", str(OTHER), "--clear-groups", "--inh-caps=-all")

# Tries to open, list, link, replace and remove whatever it is given; prints what it got away with.
TRY = """
import os, sys
for path in sys.argv[1:]:
    for name, attempt in {
        "list": lambda: os.listdir(path),
        "read": lambda: open(path, "rb").read(1),
        "write": lambda: open(path, "ab").close(),
        "make": lambda: os.mkdir(os.path.join(path, "planted")),
        "remove": lambda: os.unlink(path),
        "replace": lambda: os.rename(path, path + ".gone"),
        "look": lambda: os.readlink(path),
        "chmod": lambda: os.chmod(path, 0o777),
    }.items():
        try:
            attempt()
        except OSError:
            continue
        print(name, path)
"""


def as_the_other(*command: object) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    words = [*AS_THE_OTHER, *map(str, command)]
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, cwd="/")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that everybody can enter, as pytest's own are not: what lies in it has to protect itself."""
    with tempfile.TemporaryDirectory(prefix="synofs-two-users-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def life(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Synofs, Nas]]:
    """A NAS and a mount, made by somebody whose umask is 000."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(open_folder / name))
    runtime = open_folder / "XDG_RUNTIME_DIR"
    runtime.mkdir()
    runtime.chmod(0o755)
    disk = open_folder / "disk"
    disk.mkdir()
    (disk / "letter.txt").write_text("Dear NAS,\n")
    password = open_folder / "password"
    password.write_text(PASSWORD)
    password.chmod(0o600)
    mountpoint = open_folder / "nas"
    mountpoint.mkdir()
    synofs = Synofs(open_folder, mountpoint, password)
    umask = os.umask(0)
    with ExitStack() as stack:
        stack.callback(os.umask, umask)
        nas = stack.enter_context(running_nas(disk, "--account", f"anna:{PASSWORD}"))
        stack.callback(lambda: subprocess.run(["fusermount3", "-uzq", "--", str(mountpoint)], check=False))
        yield synofs, nas


def everything_in(folder: Path) -> list[Path]:
    return [folder, *sorted(folder.rglob("*"))]


def test_another_user_gets_at_nothing_of_a_mount(life: tuple[Synofs, Nas]) -> None:
    synofs, nas = life
    synofs.mount(nas, "--write-mode", "writeback", "--log-level", "debug", "--access-log")
    docs = synofs.mountpoint / "docs"
    with (docs / "unsent.txt").open("w") as file:  # open, so that its staged data is there
        file.write("not sent yet")
        file.flush()
        os.listdir(docs)
        (docs / "letter.txt").read_bytes()
        mine = [
            path
            for name in (
                "XDG_CONFIG_HOME",
                "XDG_STATE_HOME",
                "XDG_CACHE_HOME",
                "XDG_DATA_HOME",
                "XDG_RUNTIME_DIR/synofs",
            )
            if (synofs.directory / name).exists()
            for path in everything_in(synofs.directory / name)
        ]
        kinds = {path.name.rpartition(".")[2] for path in mine}
        assert {"sock", "log", "db"} <= kinds, mine
        assert any("staging" in path.parts for path in mine if path.is_file()), "there is a staged file"
        for path in mine:
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert mode == (0o700 if path.is_dir() else 0o600), f"{path}: {mode:o}"
        targets = [*mine, synofs.mountpoint, docs, docs / "letter.txt", docs / "unsent.txt"]
        done = as_the_other(sys.executable, "-I", "-S", "-c", TRY, *targets)
        assert (done.stdout, done.returncode) == ("", 0), done
    synofs("umount", synofs.mountpoint)


def test_another_user_is_not_let_in_by_the_control_socket(life: tuple[Synofs, Nas]) -> None:
    """Neither by its place nor, were that open, by who is asked."""
    synofs, nas = life
    synofs.mount(nas)
    path = runtime_dirs(os.getuid())[0] / f"{mount_id(str(synofs.mountpoint))}.sock"
    assert stat.S_ISSOCK(path.lstat().st_mode)
    ask = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(10)
    sock.connect(sys.argv[1])
    sock.sendall(b'{"command": "status"}\\n{"command": "umount"}\\n')
    print(sock.recv(65536).decode())
"""
    done = as_the_other(sys.executable, "-I", "-S", "-c", ask, path)
    assert "PermissionError" in done.stderr
    synofs.expected_in_the_log.append("tried to control this mount")
    path.parent.chmod(0o755)
    path.chmod(0o666)
    done = as_the_other(sys.executable, "-I", "-S", "-c", ask, path)
    assert json.loads(done.stdout.splitlines()[0])["problem"] == Problem.NOT_YOURS.name
    assert "letter" not in done.stdout
    assert synofs.is_mounted()
    path.parent.chmod(0o700)
    assert f"user {OTHER} tried to control this mount" in synofs.logs()
    synofs("umount", synofs.mountpoint)


def test_a_control_socket_of_another_user_is_not_asked(life: tuple[Synofs, Nas], open_folder: Path) -> None:
    """In /tmp anybody can make a folder of the right name, and would be told what commands have to say."""
    synofs, nas = life
    runtime = open_folder / "XDG_RUNTIME_DIR" / "synofs"
    runtime.mkdir(mode=0o700)
    os.chown(runtime, OTHER, OTHER)
    synofs.mount(nas)
    assert daemon_pid(synofs) is not None
    assert list(runtime.iterdir()) == [], "the mount's own lies elsewhere"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(runtime / f"{mount_id(str(synofs.mountpoint))}.sock"))
        sock.listen()
        sock.settimeout(0.5)
        assert synofs.status()["mountpoint"] == str(synofs.mountpoint)
        with pytest.raises(TimeoutError):
            sock.accept()
    synofs("umount", synofs.mountpoint)


@pytest.mark.parametrize("part", ["cache/synofs-v1", "cache"])
def test_a_link_that_somebody_has_put_in_the_way_is_not_followed(
    part: str, life: tuple[Synofs, Nas], open_folder: Path
) -> None:
    synofs, nas = life
    victim = open_folder / "victim"
    victim.mkdir(0o755)
    os.chown(victim, OTHER, OTHER)
    link = open_folder / part
    link.parent.mkdir(mode=0o700, exist_ok=True)
    link.symlink_to(victim)
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), "--cache-dir", open_folder / "cache")
    assert done.code == Problem.CACHE_REFUSED.exit_code
    assert "link" in done.err or "another user" in done.err
    assert list(victim.iterdir()) == []
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755


# Makes a name in a folder mean something else as often as it can: a folder of somebody's (as long as there is one),
# a link to the folder that is to be broken into, nothing.
EXCHANGE = """
import os, sys
name, victim = sys.argv[1:]
print("begun", flush=True)
while True:
    for attempt in (
        lambda: os.rename(name, name + ".aside"),
        lambda: os.symlink(victim, name),
        lambda: os.unlink(name),
        lambda: os.rename(name + ".aside", name),
    ):
        try:
            attempt()
        except OSError:
            pass
"""
OPENED = 400  # times, while names are exchanged some ten thousand times a second


@pytest.mark.parametrize("owner", ["the other user", "root, as /tmp is"])
def test_whoever_exchanges_folders_for_links_while_a_cache_is_opened_leads_it_nowhere(
    open_folder: Path, owner: str
) -> None:
    place = open_folder / "place"
    place.mkdir()
    if owner == "the other user":
        os.chown(place, OTHER, OTHER)
    else:
        place.chmod(0o1777)
    victim = open_folder / "victim"  # ours, and so no less trusted than any folder of ours
    victim.mkdir(mode=0o700)
    name = place / "cache"
    ends: Counter[str] = Counter()
    with subprocess.Popen(
        [*AS_THE_OTHER, sys.executable, "-I", "-S", "-c", EXCHANGE, name, victim], stdout=subprocess.PIPE, text=True
    ) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline() == "begun\n"
            for _ in range(OPENED):
                try:
                    with open_cache_dir(name, "nas") as cache:
                        assert cache.root == name / "synofs-v1" / "nas"
                        assert cache.root.stat().st_uid == os.geteuid()
                        ends["opened"] += 1
                    shutil.rmtree(name)
                except CacheDirUnsafe:
                    ends["refused"] += 1
                except OSError:  # it came to be nothing in between, or the kernel has refused to follow the link
                    ends["gone"] += 1
                assert list(victim.iterdir()) == [], ends
        finally:
            other.kill()
    assert ends["refused"] + ends["gone"] > 0, ends
    if owner == "the other user":
        assert ends["opened"] == 0, ends
