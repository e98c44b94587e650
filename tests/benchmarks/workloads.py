"""The work that is measured. Each workload is a function that one contestant goes through once, on a fresh stage."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import probe
from tests.benchmarks.cached import fill_cache
from tests.benchmarks.datasets import write_small_files
from tests.benchmarks.mounts import Mount
from tests.benchmarks.processes import BenchmarkFailed, drop_page_cache
from tests.benchmarks.servers import SimulatedNas
from tests.benchmarks.stage import Line, Stage

MIB = 1 << 20
LATENCIES_MS = (0, 20, 50)
GIGABIT = 1000
DURABLE_SECONDS = 180.0
TTL_SECONDS = 3
PAGE = 5000

READERS = ("synofs", "rclone", "rclone-tuned", "sshfs", "sshfs-cached")
WALKERS = ("synofs", "synofs-16", "rclone", "rclone-tuned", "sshfs", "sshfs-cached")
STREAMERS = ("synofs", "rclone", "rclone-tuned", "sshfs")
WRITERS = ("synofs", "synofs-wb", "rclone", "rclone-tuned", "sshfs")


@dataclass(frozen=True)
class Limit:
    """The physical limit, measured like a contestant."""

    name: str
    run: Callable[[Stage], None]


@dataclass(frozen=True)
class Workload:
    name: str
    about: str
    run: Callable[[Stage], None]
    contestants: tuple[str, ...]
    limit: Limit | None = None
    has_bandwidth: bool = False  # with a latency, the line is a gigabit wide; without, as fast as it goes
    latencies_ms: tuple[float, ...] | None = None  # if not all tell something
    laps: int = 3

    def lines(self, latencies_ms: Sequence[float] | None) -> list[Line]:
        """Those that were asked for, or those that tell something."""
        chosen = latencies_ms if latencies_ms is not None else self.latencies_ms or LATENCIES_MS
        return [Line(ms, GIGABIT if self.has_bandwidth and ms > 0 else 0) for ms in chosen]


# ----- metadata ---------------------------------------------------------------------------------------------------


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
        found = _probe(stage, "scan", mount.path)
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


def _one_page(stage: Stage) -> None:
    """5,000 entries from the middle of the folder, asked for by hand, and as new to the NAS; the median of three."""
    entries = stage.size(quick=10_000, full=100_000)
    name = stage.data.flat(entries)
    nas = _nas(stage)
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
            _rsync(stage, mount, changes)
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
            _rsync(stage, mount, stage.work / "changes")
            watch.record(step)


def _tree_for_all(stage: Stage) -> str:
    if stage.is_slow():
        stage.smaller = "111 folders"
        return stage.data.tree(100)
    return stage.data.tree(stage.size(quick=100, full=1000))


def _rsync(stage: Stage, mount: Mount, changes: Path) -> None:
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


# ----- reading ----------------------------------------------------------------------------------------------------


def read(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    with stage.mount(stage.data.big(size)) as mount:
        watch = stage.watch(mount)
        _read_all(stage, mount.path, size)
        watch.record(f"{size // MIB} MiB", payload_bytes=size)
    first, second = stage.data.big(size // 2, 1), stage.data.big(size // 2, 2)
    with stage.mount(first) as mount:
        watch = stage.watch(mount)
        _at_once(
            lambda: _read_all(stage, mount.path, size // 2),
            lambda: _read_all(stage, mount.mountpoint / second.partition("/")[2], size // 2),
        )
        watch.record(f"2 x {size // 2 // MIB} MiB at once", payload_bytes=size)


def _curl_read(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    whole, first, second = stage.data.big(size), stage.data.big(size // 2, 1), stage.data.big(size // 2, 2)
    sid = _sign_in(stage)
    watch = stage.watch()
    _curl(stage, sid, whole)
    watch.record(f"{size // MIB} MiB", payload_bytes=size)
    watch = stage.watch()
    _at_once(lambda: _curl(stage, sid, first), lambda: _curl(stage, sid, second))
    watch.record(f"2 x {size // 2 // MIB} MiB at once", payload_bytes=size)


def random_reads(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    name = stage.data.big(size)
    for kib in (4, 64):
        with stage.mount(name) as mount:
            report = stage.work / "fio.json"
            watch = stage.watch(mount)
            stage.run(
                *("fio", "--name=random", f"--filename={mount.path}", "--rw=randread", f"--bs={kib}k", "--direct=0"),
                *(f"--number_ios={_random_reads(stage)}", f"--size={size}", "--ioengine=psync", "--randseed=7"),
                *("--readonly", "--thread", "--output-format=json"),
                output=report,
            )
            text = report.read_text()
            job = json.loads(text[text.index("{") :])["jobs"][0]["read"]
            stage.expect("reads", job["total_ios"], _random_reads(stage))
            seconds = job["clat_ns"]["percentile"]["50.000000"] / 1e9
            watch.record(f"{kib} KiB, one of {_random_reads(stage)}", seconds=seconds)


def _random_reads(stage: Stage) -> int:
    return stage.size(quick=100, full=200)


def _ranged_requests(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    nas = _nas(stage)
    target = nas.download_target(nas.sign_in(), f"/{stage.data.big(size)}")
    count = _random_reads(stage)
    generator = random.Random(7)
    for kib in (4, 64):
        offsets = ",".join(str(generator.randrange(size // 65536) * 65536) for _ in range(count))
        watch = stage.watch()
        found = _probe(stage, "ranges", "127.0.0.1", str(nas.line.port), target, str(kib * 1024), offsets)
        watch.record(f"{kib} KiB, one of {count}", seconds=statistics.median(found["seconds"]))


def first_byte(stage: Stage) -> None:
    name = stage.data.small(stage.size(quick=200, full=500))
    with stage.mount(name) as mount:
        stage.run("ls", "-l", mount.path)
        watch = stage.watch(mount)
        found = _probe(stage, "first-bytes", mount.path, "20")
        watch.record("first byte, one of 20 files", seconds=statistics.median(found["seconds"]))


def _one_download(stage: Stage) -> None:
    name = stage.data.small(stage.size(quick=200, full=500))
    nas = _nas(stage)
    target = nas.download_target(nas.sign_in(), f"/{name}/00000.bin")
    watch = stage.watch()
    found = _probe(stage, "ranges", "127.0.0.1", str(nas.line.port), target, "32768", ",".join(["0"] * 20))
    watch.record("first byte, one of 20 files", seconds=statistics.median(found["seconds"]))


def copy_out(stage: Stage) -> None:
    files = stage.size(quick=100, full=500)
    name = stage.data.small(files)
    target = stage.work / "copied"
    with stage.mount(name) as mount:
        watch = stage.watch(mount)
        stage.run("cp", "-r", mount.path, target)
        watch.record(f"cp -r of {files} files out", payload_bytes=files * 32 * 1024)
        stage.run("diff", "-rq", mount.served, target)


def disk_cache(stage: Stage) -> None:
    """The same bytes again after a remount: from the local disk."""
    size = stage.size(quick=128 * MIB, full=512 * MIB)
    name = stage.data.big(size, 3)
    with stage.mount(name) as mount:
        _read_all(stage, mount.path, size)
        # A player that closes a film leaves the cache the time to write; a mount that is told to end may take it, too.
        time.sleep(2)
    with stage.mount(name, remount=True) as mount:
        watch = stage.watch(mount)
        _read_all(stage, mount.path, size)
        watch.record(f"{size // MIB} MiB, cached, after a remount", payload_bytes=size)


# ----- writing ----------------------------------------------------------------------------------------------------


def write(stage: Stage) -> None:
    size = stage.size(quick=128 * MIB, full=512 * MIB)
    source = stage.data.root / stage.data.big(size, 4)
    inbox = stage.data.fresh_inbox(stage.name)
    with stage.mount(inbox) as mount:
        watch = stage.watch(mount)
        stage.run("dd", f"if={source}", f"of={mount.path / 'written'}", "bs=1M", "status=none")
        closed = watch.seconds()
        if stage.name == "synofs":  # durable: on the server when close returns
            stage.expect("size on the server", (mount.served / "written").stat().st_size, size)
        _await_server(mount, {"written": size})
        watch.record(f"{size // MIB} MiB, on the server", payload_bytes=size)
        watch.record(f"{size // MIB} MiB, close returns", seconds=closed, payload_bytes=size, settle=False)
        stage.run("cmp", source, mount.served / "written")
        watch = stage.watch(mount)
        half = size // 2
        _at_once(*(lambda name=name: _dd_half(stage, source, mount.path / name, half) for name in ("first", "second")))
        _await_server(mount, {"first": half, "second": half})
        watch.record(f"2 x {half // MIB} MiB at once, on the server", payload_bytes=size)
    stage.data.remove(inbox)


def _dd_half(stage: Stage, source: Path, target: Path, size: int) -> None:
    count = f"count={size // MIB}"
    output = stage.work / f"dd {target.name}"
    stage.run("dd", f"if={source}", f"of={target}", "bs=1M", count, "status=none", output=output)


def _curl_write(stage: Stage) -> None:
    size = stage.size(quick=128 * MIB, full=512 * MIB)
    source = stage.data.root / stage.data.big(size, 4)
    inbox = stage.data.fresh_inbox(stage.name)
    nas = _nas(stage)
    sid = nas.sign_in()
    watch = stage.watch()
    stage.run(
        *("curl", "-sS", "--fail", "-H", "Expect:"),
        *("-F", f"path=/{inbox}", "-F", "create_parents=false", "-F", "overwrite=true", "-F", f"file=@{source}"),
        f"http://127.0.0.1:{nas.line.port}/webapi/entry.cgi?api=SYNO.FileStation.Upload&version=2&method=upload&_sid={sid}",
    )
    watch.record(f"{size // MIB} MiB, on the server", payload_bytes=size)
    stage.expect("size", (stage.data.root / inbox / source.name).stat().st_size, size)
    stage.data.remove(inbox)


def copy_in(stage: Stage) -> None:
    files = stage.size(quick=100, full=500)
    source = stage.work / "source"
    write_small_files(source, files, 32 << 10)
    inbox = stage.data.fresh_inbox(stage.name)
    with stage.mount(inbox) as mount:
        watch = stage.watch(mount)
        stage.run("cp", "-r", source, mount.path / "copied")
        closed = watch.seconds()
        _await_server(mount, {f"copied/{path.name}": 32 << 10 for path in source.iterdir()})
        watch.record(f"cp -r of {files} files in, on the server", payload_bytes=files * 32 * 1024)
        watch.record(f"cp -r of {files} files in, cp returns", seconds=closed, settle=False)
        stage.run("diff", "-rq", source, mount.served / "copied")
    stage.data.remove(inbox)


def _await_server(mount: Mount, files: dict[str, int]) -> None:
    """Until the server has these files in these sizes, seen past the mount."""
    missing = dict(files)
    deadline = time.monotonic() + DURABLE_SECONDS
    while missing:
        for name, size in list(missing.items()):
            try:
                if os.stat(mount.served / name).st_size != size:
                    break
            except FileNotFoundError:
                break
            del missing[name]
        else:
            continue
        if time.monotonic() > deadline:
            raise BenchmarkFailed(f"{len(missing)} files are not on the server after {DURABLE_SECONDS:.0f} s")
        time.sleep(0.002)


# ----- memory and start -------------------------------------------------------------------------------------------


def forget(stage: Stage) -> None:
    """Memory once many entries were seen, and once the kernel has forgotten them."""
    folders = stage.size(quick=10, full=100)
    name = stage.data.many(folders)
    listed = stage.work / "listed"
    with stage.mount(name) as mount:
        watch = stage.watch(mount)
        stage.run("find", mount.path, "-ls", output=listed)
        entries = folders * 10_000
        watch.record(f"{entries:,} entries seen")
        stage.expect("entries", listed.read_bytes().count(b"\n"), entries + folders + 1)
        listed.unlink()
        watch = stage.watch(mount)
        if not drop_page_cache():
            raise BenchmarkFailed("only root can make the kernel forget")
        time.sleep(3)
        watch.record(f"{entries:,} entries forgotten")


def ready(stage: Stage) -> None:
    """Until a mount answers, with much in its cache."""
    files = stage.size(quick=20_000, full=500_000 if stage.name.startswith("synofs") else 50_000)
    name = stage.data.small(10)
    with stage.mount(name) as mount:
        _read_all(stage, mount.path / "00000.bin", 32 << 10)
        time.sleep(2)
    fill_cache(mount.work, files)
    mount = stage.mount(name, remount=True)
    started = time.perf_counter()
    with mount:
        os.listdir(mount.path)
        taken = time.perf_counter() - started
        stage.watch(mount).record(f"mounted with {files:,} cached files", seconds=taken, settle=False)


# ----- tools ------------------------------------------------------------------------------------------------------


def _probe(stage: Stage, *arguments: str | Path) -> dict[str, float]:
    answer = stage.work / "probe.json"
    stage.run(sys.executable, "-S", probe.__file__, *arguments, output=answer)
    found: dict[str, float] = json.loads(answer.read_text())
    return found


def _read_all(stage: Stage, path: Path, size: int) -> None:
    """Like a copy, with nowhere to put it."""
    said = subprocess.run(["stat", "-c", "%s", str(path)], capture_output=True, timeout=stage.timeout).stdout
    stage.expect("size", said.strip(), b"%d" % size)
    stage.run("dd", f"if={path}", "of=/dev/null", "bs=1M", "status=none", output=stage.work / f"dd {path.name}")


def _nas(stage: Stage) -> SimulatedNas:
    assert isinstance(stage.server, SimulatedNas)
    return stage.server


def _sign_in(stage: Stage) -> str:
    return _nas(stage).sign_in()


def _curl(stage: Stage, sid: str, name: str) -> None:
    nas = _nas(stage)
    url = f"http://127.0.0.1:{nas.line.port}{nas.download_target(sid, f'/{name}')}"
    output = stage.work / f"curl {Path(name).name}"
    stage.run("curl", "-sS", "--fail", "-o", "/dev/null", url, output=output)


def _at_once(*actions: Callable[[], None]) -> None:
    failures: list[BaseException] = []

    def act(action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=act, args=(action,)) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("walk", "find and ls -lR of a tree, 10 files in each folder", walk, WALKERS),
        Workload("ls", "one ls in that tree", one_listing, ("synofs", "rclone", "sshfs"), latencies_ms=(20,), laps=1),
        Workload("folder", "a big folder", big_folder, READERS, limit=Limit("one page", _one_page)),
        Workload("folder-half", "a folder half as big", medium_folder, READERS, latencies_ms=(20,)),
        Workload("folder-tenth", "a folder a tenth as big", small_folder, READERS, latencies_ms=(20,)),
        Workload(
            "revalidate",
            f"a tree again after the TTL ({TTL_SECONDS} s here)",
            revalidate,
            ("synofs", "rclone", "sshfs"),
            latencies_ms=(20,),
            laps=1,
        ),
        Workload("rsync", "rsync -an of a tree that is the same already", rsync, READERS),
        Workload("source", "a source tree: git status, grep -r", source_tree, READERS, laps=1),
        Workload("read", "sequential read", read, STREAMERS, limit=Limit("curl", _curl_read), has_bandwidth=True),
        Workload(
            "random",
            "random reads of a big file; seconds are the median of one read",
            random_reads,
            STREAMERS,
            limit=Limit("one request", _ranged_requests),
            has_bandwidth=True,
            laps=1,
        ),
        Workload(
            "first-byte",
            "open a small file and read its first byte; the median of one",
            first_byte,
            STREAMERS,
            limit=Limit("one request", _one_download),
        ),
        Workload("copy-out", "cp -r of small files (32 KiB) from the mount", copy_out, STREAMERS),
        Workload(
            "copy-in",
            "cp -r of small files (32 KiB) to the mount",
            copy_in,
            ("synofs", "synofs-wb", "synofs-wb-16", "rclone", "rclone-tuned", "sshfs"),
        ),
        Workload("write", "sequential write", write, WRITERS, limit=Limit("curl", _curl_write), has_bandwidth=True),
        Workload(
            "disk-cache",
            "the same file again after a remount, page cache dropped",
            disk_cache,
            ("synofs", "rclone", "rclone-tuned"),
            latencies_ms=(20,),
        ),
        Workload(
            "ready", "until a mount with a full cache answers", ready, ("synofs", "rclone"), latencies_ms=(0,), laps=1
        ),
        Workload("forget", "memory for entries", forget, ("synofs", "rclone", "sshfs"), latencies_ms=(0,), laps=1),
    )
}
