"""The work that is measured. Each workload is a function that one contestant goes through once, on a fresh stage."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.benchmarks import metadata, transfers
from tests.benchmarks.cached import fill_cache
from tests.benchmarks.driving import read_all
from tests.benchmarks.processes import BenchmarkFailed, drop_page_cache
from tests.benchmarks.stage import Line, Stage

LATENCIES_MS = (0, 20, 50)
GIGABIT = 1000

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
        read_all(stage, mount.path / "00000.bin", 32 << 10)
        time.sleep(2)
    fill_cache(mount.work, files)
    mount = stage.mount(name, remount=True)
    started = time.perf_counter()
    with mount:
        os.listdir(mount.path)
        taken = time.perf_counter() - started
        stage.watch(mount).record(f"mounted with {files:,} cached files", seconds=taken, settle=False)


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("walk", "find and ls -lR of a tree, 10 files in each folder", metadata.walk, WALKERS),
        Workload(
            "ls", "one ls in that tree", metadata.one_listing, ("synofs", "rclone", "sshfs"), latencies_ms=(20,), laps=1
        ),
        Workload("folder", "a big folder", metadata.big_folder, READERS, limit=Limit("one page", metadata.one_page)),
        Workload("folder-half", "a folder half as big", metadata.medium_folder, READERS, latencies_ms=(20,)),
        Workload("folder-tenth", "a folder a tenth as big", metadata.small_folder, READERS, latencies_ms=(20,)),
        Workload(
            "revalidate",
            f"a tree again after the TTL ({metadata.TTL_SECONDS} s here)",
            metadata.revalidate,
            ("synofs", "rclone", "sshfs"),
            latencies_ms=(20,),
            laps=1,
        ),
        Workload("rsync", "rsync -an of a tree that is the same already", metadata.rsync, READERS),
        Workload("source", "a source tree: git status, grep -r", metadata.source_tree, READERS, laps=1),
        Workload(
            "read",
            "sequential read",
            transfers.read,
            STREAMERS,
            limit=Limit("curl", transfers.curl_read),
            has_bandwidth=True,
        ),
        Workload(
            "random",
            "random reads of a big file; seconds are the median of one read",
            transfers.random_reads,
            STREAMERS,
            limit=Limit("one request", transfers.ranged_requests),
            has_bandwidth=True,
            laps=1,
        ),
        Workload(
            "first-byte",
            "open a small file and read its first byte; the median of one",
            transfers.first_byte,
            STREAMERS,
            limit=Limit("one request", transfers.one_download),
        ),
        Workload("copy-out", "cp -r of small files (32 KiB) from the mount", transfers.copy_out, STREAMERS),
        Workload(
            "copy-in",
            "cp -r of small files (32 KiB) to the mount",
            transfers.copy_in,
            ("synofs", "synofs-wb", "synofs-wb-16", "rclone", "rclone-tuned", "sshfs"),
        ),
        Workload(
            "write",
            "sequential write",
            transfers.write,
            WRITERS,
            limit=Limit("curl", transfers.curl_write),
            has_bandwidth=True,
        ),
        Workload(
            "disk-cache",
            "the same file again after a remount, page cache dropped",
            transfers.disk_cache,
            ("synofs", "rclone", "rclone-tuned"),
            latencies_ms=(20,),
        ),
        Workload(
            "ready", "until a mount with a full cache answers", ready, ("synofs", "rclone"), latencies_ms=(0,), laps=1
        ),
        Workload("forget", "memory for entries", forget, ("synofs", "rclone", "sshfs"), latencies_ms=(0,), laps=1),
    )
}
