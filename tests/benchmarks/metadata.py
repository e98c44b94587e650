"""Workloads of names and attributes: walks, listings, trees that are compared."""

from __future__ import annotations

import contextlib
import http.client
import json
import statistics
import subprocess
import time
from pathlib import Path

from tests.benchmarks.driving import ask_probe, simulated
from tests.benchmarks.mounts import Mount
from tests.benchmarks.stage import Stage

TTL_SECONDS = 3
PAGE = 5000


def walk(stage: Stage) -> None:
    name = stage.data.tree(stage.size(quick=100, full=1000))
    folders, files = stage.data.count(name)
    listed = stage.work / "listed"
    with stage.mount(name) as mount:
        for step in ("find, cold", "find, again"):
            watch = stage.watch(mount)
            stage.run("find", mount.path, output=listed)
            watch.record(step, folders=folders)
            stage.expect("entries found", listed.read_bytes().count(b"\n"), folders + files)
    with stage.mount(name) as mount:
        for step in ("ls -lR, cold", "ls -lR, again"):
            watch = stage.watch(mount)
            stage.run("ls", "-lR", mount.path, output=listed)
            watch.record(step, folders=folders)
            stage.expect("files listed", listed.read_bytes().count(b"\n-"), files)


def one_listing(stage: Stage) -> None:
    """A single `ls` must cost one folder and set nothing else off."""
    name = stage.data.tree(stage.size(quick=100, full=1000))
    with stage.mount(name) as mount:
        watch = stage.watch(mount)
        stage.run("ls", "-l", mount.path)
        watch.record("ls -l of a folder in a tree")


def big_folder(stage: Stage) -> None:
    _list_folder(stage, stage.size(quick=10_000, full=100_000))


def medium_folder(stage: Stage) -> None:
    _list_folder(stage, stage.size(quick=5_000, full=50_000))


def small_folder(stage: Stage) -> None:
    _list_folder(stage, stage.size(quick=1_000, full=10_000))


def _list_folder(stage: Stage, entries: int) -> None:
    name = stage.data.flat(entries)
    stage.data.touch(name)
    listed = stage.work / "listed"
    with stage.mount(name) as mount:
        watch = stage.watch(mount)
        found = ask_probe(stage, "scan", mount.path)
        watch.record(f"first of {entries:,} entries, cold", seconds=found["first"])
        watch.record(f"all {entries:,} entries, cold", seconds=found["all"])
        stage.expect("entries", found["count"], entries)
        watch = stage.watch(mount)
        stage.run("ls", "-f", mount.path, output=listed)
        watch.record(f"ls -f of {entries:,}, again")
        stage.expect("lines of ls -f", listed.read_bytes().count(b"\n"), entries + 2)
        watch = stage.watch(mount)
        stage.run("ls", "-l", mount.path, output=listed)
        watch.record(f"ls -l of {entries:,}, again")
        stage.expect("lines of ls -l", listed.read_bytes().count(b"\n-"), entries)


def one_page(stage: Stage) -> None:
    """5,000 entries from the middle of the folder, asked for by hand, and as new to the NAS; the median of three."""
    entries = stage.size(quick=10_000, full=100_000)
    name = stage.data.flat(entries)
    nas = simulated(stage)
    sid = nas.sign_in()
    taken = []
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", nas.line.port)) as connection:
        watch = stage.watch()
        for _ in range(4):  # the first opens the connection
            stage.data.touch(name)
            started = time.perf_counter()
            connection.request("GET", nas.page_target(sid, f"/{name}", entries // 2, PAGE))
            answer = json.load(connection.getresponse())
            taken.append(time.perf_counter() - started)
            stage.expect("entries", len(answer["data"]["files"]), PAGE)
    watch.record(f"first of {entries:,} entries, cold", seconds=statistics.median(taken[1:]))


def revalidate(stage: Stage) -> None:
    """The same work once what was learned is older than it may be."""
    tree, source = _tree_for_all(stage), stage.data.source(whole=False)
    changes = stage.work / "changes"
    with stage.mount(tree, *_short_ttl(stage)) as mount:
        for step in ("rsync -an, cold", "rsync -an, after the TTL"):
            watch = stage.watch(mount)
            _compare(stage, mount, changes)
            watch.record(step)
            time.sleep(TTL_SECONDS + 1)
    with stage.mount(source, *_short_ttl(stage)) as mount:
        for step in ("git status, cold", "git status, after the TTL"):
            watch = stage.watch(mount)
            _git_status(stage, mount, changes)
            watch.record(step)
            time.sleep(TTL_SECONDS + 1)


def _short_ttl(stage: Stage) -> tuple[str, ...]:
    if stage.name.startswith("synofs"):
        return "--dir-ttl", str(TTL_SECONDS), "--attr-ttl", str(TTL_SECONDS)
    if stage.name.startswith("rclone"):
        return "--dir-cache-time", f"{TTL_SECONDS}s"
    return "-o", f"dcache_timeout={TTL_SECONDS}"


def rsync(stage: Stage) -> None:
    """`rsync -an` of a tree that is already the same."""
    name = _tree_for_all(stage)
    with stage.mount(name) as mount:
        for step in ("rsync -an, cold", "rsync -an, again"):
            watch = stage.watch(mount)
            _compare(stage, mount, stage.work / "changes")
            watch.record(step)


def _tree_for_all(stage: Stage) -> str:
    if stage.is_slow():
        stage.smaller = "111 folders"
        return stage.data.tree(100)
    return stage.data.tree(stage.size(quick=100, full=1000))


def _compare(stage: Stage, mount: Mount, changes: Path) -> None:
    # Modes are the mount's own; a folder's time is as good as the server tells it.
    stage.run(
        *("rsync", "-an", "--omit-dir-times", "--no-perms", "--no-owner", "--no-group", "--out-format=%i %n"),
        *(f"{mount.served}/", f"{mount.path}/"),
        output=changes,
    )
    stage.expect("changes", changes.read_text(), "")


def source_tree(stage: Stage) -> None:
    name = stage.data.source(whole=stage.full and not stage.is_slow())
    files = stage.data.count(name)[1]
    if stage.is_slow():
        stage.smaller = f"{files} files"
    output = stage.work / "found"
    with stage.mount(name) as mount:
        for step in ("git status, cold", "git status, again"):
            watch = stage.watch(mount)
            _git_status(stage, mount, output)
            watch.record(step)
    expected = subprocess.run(
        ["grep", "-rc", "--exclude-dir=.git", "import", "."], cwd=stage.data.root / name, capture_output=True
    ).stdout
    with stage.mount(name) as mount:
        for step in ("grep -r, cold", "grep -r, again"):
            watch = stage.watch(mount)
            stage.run("grep", "-rc", "--exclude-dir=.git", "import", mount.path, output=output)
            watch.record(step)
            stage.expect("files with counts", output.read_bytes().count(b"\n"), expected.count(b"\n"))


def _git_status(stage: Stage, mount: Mount, output: Path) -> None:
    git = ("git", "-c", "safe.directory=*", "--no-optional-locks", "-C")
    stage.run(*git, mount.path, "status", "--porcelain", output=output)
    stage.expect("git status", output.read_text(), "")
