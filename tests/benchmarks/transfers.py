"""Workloads of content: files that are read and written."""

from __future__ import annotations

import json
import os
import random
import statistics
import time
from pathlib import Path

from tests.benchmarks.datasets import write_small_files
from tests.benchmarks.driving import ask_probe, at_once, curl, read_all, sign_in, simulated
from tests.benchmarks.mounts import Mount
from tests.benchmarks.processes import BenchmarkFailed
from tests.benchmarks.stage import Stage

MIB = 1 << 20
DURABLE_SECONDS = 180.0


# ----- reading ----------------------------------------------------------------------------------------------------


def read(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    with stage.mount(stage.data.big(size)) as mount:
        watch = stage.watch(mount)
        read_all(stage, mount.path, size)
        watch.record(f"{size // MIB} MiB", payload_bytes=size)
    first, second = stage.data.big(size // 2, 1), stage.data.big(size // 2, 2)
    with stage.mount(first) as mount:
        watch = stage.watch(mount)
        at_once(
            lambda: read_all(stage, mount.path, size // 2),
            lambda: read_all(stage, mount.mountpoint / second.partition("/")[2], size // 2),
        )
        watch.record(f"2 x {size // 2 // MIB} MiB at once", payload_bytes=size)


def curl_read(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    whole, first, second = stage.data.big(size), stage.data.big(size // 2, 1), stage.data.big(size // 2, 2)
    sid = sign_in(stage)
    watch = stage.watch()
    curl(stage, sid, whole)
    watch.record(f"{size // MIB} MiB", payload_bytes=size)
    watch = stage.watch()
    at_once(lambda: curl(stage, sid, first), lambda: curl(stage, sid, second))
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
                *(f"--number_ios={_how_many_reads(stage)}", f"--size={size}", "--ioengine=psync", "--randseed=7"),
                *("--readonly", "--thread", "--output-format=json"),
                output=report,
            )
            text = report.read_text()
            job = json.loads(text[text.index("{") :])["jobs"][0]["read"]
            stage.expect("reads", job["total_ios"], _how_many_reads(stage))
            seconds = job["clat_ns"]["percentile"]["50.000000"] / 1e9
            watch.record(f"{kib} KiB, one of {_how_many_reads(stage)}", seconds=seconds)


def _how_many_reads(stage: Stage) -> int:
    return stage.size(quick=100, full=200)


def ranged_requests(stage: Stage) -> None:
    size = stage.size(quick=256 * MIB, full=1024 * MIB)
    nas = simulated(stage)
    target = nas.download_target(nas.sign_in(), f"/{stage.data.big(size)}")
    count = _how_many_reads(stage)
    generator = random.Random(7)
    for kib in (4, 64):
        offsets = ",".join(str(generator.randrange(size // 65536) * 65536) for _ in range(count))
        watch = stage.watch()
        found = ask_probe(stage, "ranges", "127.0.0.1", str(nas.line.port), target, str(kib * 1024), offsets)
        watch.record(f"{kib} KiB, one of {count}", seconds=statistics.median(found["seconds"]))


def first_byte(stage: Stage) -> None:
    name = stage.data.small(stage.size(quick=200, full=500))
    with stage.mount(name) as mount:
        stage.run("ls", "-l", mount.path)
        watch = stage.watch(mount)
        found = ask_probe(stage, "first-bytes", mount.path, "20")
        watch.record("first byte, one of 20 files", seconds=statistics.median(found["seconds"]))


def one_download(stage: Stage) -> None:
    name = stage.data.small(stage.size(quick=200, full=500))
    nas = simulated(stage)
    target = nas.download_target(nas.sign_in(), f"/{name}/00000.bin")
    watch = stage.watch()
    found = ask_probe(stage, "ranges", "127.0.0.1", str(nas.line.port), target, "32768", ",".join(["0"] * 20))
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
        read_all(stage, mount.path, size)
        # A player that closes a film leaves the cache the time to write; a mount that is told to end may take it, too.
        time.sleep(2)
    with stage.mount(name, remount=True) as mount:
        watch = stage.watch(mount)
        read_all(stage, mount.path, size)
        watch.record(f"{size // MIB} MiB, cached, after a remount", payload_bytes=size)


# ----- writing ----------------------------------------------------------------------------------------------------


def write(stage: Stage) -> None:
    size = stage.size(quick=128 * MIB, full=512 * MIB)
    source = stage.data.root / stage.data.big(2 * size, 4)
    inbox = stage.data.fresh_inbox(stage.name)
    with stage.mount(inbox) as mount:
        for length in (size, 2 * size):
            _write_one(stage, mount, source, length)
        watch = stage.watch(mount)
        at_once(*(lambda name=name: _dd(stage, source, mount.path / name, size) for name in ("first", "second")))
        _await_server(mount, {"first": size, "second": size})
        watch.record(f"2 x {size // MIB} MiB at once, on the server", payload_bytes=2 * size)
    stage.data.remove(inbox)


def _write_one(stage: Stage, mount: Mount, source: Path, length: int) -> None:
    watch = stage.watch(mount)
    _dd(stage, source, mount.path / "written", length)
    closed = watch.seconds()
    if stage.name == "synofs":  # durable: on the server when close returns
        stage.expect("size on the server", (mount.served / "written").stat().st_size, length)
    _await_server(mount, {"written": length})
    watch.record(f"{length // MIB} MiB, on the server", payload_bytes=length)
    watch.record(f"{length // MIB} MiB, close returns", seconds=closed, payload_bytes=length, settle=False)
    stage.run("cmp", "-n", str(length), source, mount.served / "written")
    (mount.path / "written").unlink()


def _dd(stage: Stage, source: Path, target: Path, length: int) -> None:
    count = f"count={length // MIB}"
    output = stage.work / f"dd {target.name}"
    stage.run("dd", f"if={source}", f"of={target}", "bs=1M", count, "status=none", output=output)


def curl_write(stage: Stage) -> None:
    size = stage.size(quick=128 * MIB, full=512 * MIB)
    nas = simulated(stage)
    for length in (size, 2 * size):
        source = stage.data.root / stage.data.big(length, 4)
        inbox = stage.data.fresh_inbox(stage.name)
        sid = nas.sign_in()
        watch = stage.watch()
        stage.run(
            *("curl", "-sS", "--fail", "-H", "Expect:", "-F", f"path=/{inbox}", "-F", "create_parents=false"),
            *("-F", "overwrite=true", "-F", f"file=@{source}"),
            f"http://127.0.0.1:{nas.line.port}/webapi/entry.cgi?api=SYNO.FileStation.Upload&version=2&method=upload&_sid={sid}",
        )
        watch.record(f"{length // MIB} MiB, on the server", payload_bytes=length)
        stage.expect("size", (stage.data.root / inbox / source.name).stat().st_size, length)
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
