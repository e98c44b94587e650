"""Who reads, and how much: thumbnailers and indexers, and the programs of people."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from synofs.content.readahead import KIB, MIB
from synofs.content.reader import Reader, ReaderOptions
from synofs.fs.callers import Caller, Callers, Kind, kind_of_name, process_name
from synofs.fs.errors import AccessDenied
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from synofs.fs.sparing import Sparing, SparingOptions, Thumbnails
from tests.trees import revealing
from tests.unit.memory_store import MemoryStore
from tests.unit.virtual_time import in_virtual_time

PHOTO, VIDEO, SIZE = b"photo.jpg", b"video.mp4", 4 * MIB
PROGRAMS = {1: "tumblerd", 2: "tracker-extract", 3: "thunar", 4: "cp", 5: "pcmanfm/loader"}
TUMBLERD, TRACKER, THUNAR, COPY, PCMANFM = (Caller(pid, 1000) for pid in PROGRAMS)


class Witness:
    """Stands in for who brings thumbnails."""

    def __init__(self) -> None:
        self.none_there = False
        self.visits: list[str] = []
        self.looks: list[str] = []

    def visited(self, directory: Inode, caller: Caller, opened_at: float) -> None:
        self.visits.append(directory.path())

    def looked_at(self, picture: Inode, caller: Caller) -> bool:
        self.looks.append(picture.path())
        return self.none_there


class Rig:
    def __init__(self, mode: Thumbnails, *, brings: bool = True) -> None:
        self.store = MemoryStore()
        self.store.folder("/s")
        for name in (PHOTO, VIDEO):
            self.store.file(f"/s/{name.decode()}", revealing(SIZE))
        self.desktop = Witness()
        self.reader = Reader(self.store, ReaderOptions())
        self.fs = Filesystem(self.store, FsOptions(), self.reader)
        callers = Callers(PROGRAMS.__getitem__)
        self.fs.sparing = Sparing(mode, self.desktop if brings else None, callers, SparingOptions())

    async def open(self, name: bytes, caller: Caller, flags: int = os.O_RDONLY) -> int:
        share = await self.fs.lookup(self.fs.inodes.root, b"s")
        assert share is not None
        inode = await self.fs.lookup(share, name)
        assert inode is not None
        return (await self.fs.open(inode, flags, caller))[0]

    async def read(self, name: bytes, caller: Caller, offset: int, length: int = 128 * KIB) -> bytes:
        return bytes(await self.fs.read(await self.open(name, caller), offset, length))

    @property
    def fetched_bytes(self) -> int:
        return sum(call.length for call in self.store.asked("read_range"))


@pytest.fixture
async def nas(nursery):
    rig = Rig(Thumbnails.NAS)
    await nursery.start(rig.reader.run)
    await nursery.start(rig.fs.run)
    return rig


@in_virtual_time
async def test_a_thumbnailer_is_refused_a_picture_and_whoever_brings_thumbnails_hears_of_it(nas: Rig) -> None:
    with pytest.raises(AccessDenied):
        await nas.open(PHOTO, TUMBLERD)
    assert nas.desktop.looks == ["/s/photo.jpg"]
    assert nas.store.count("read_range") == 0


@in_virtual_time
async def test_a_thumbnailer_may_read_a_picture_that_the_nas_has_no_thumbnail_of(nas: Rig) -> None:
    nas.desktop.none_there = True
    assert await nas.read(PHOTO, TUMBLERD, 2 * MIB, 4096) == revealing(4096, offset=2 * MIB)


@in_virtual_time
@pytest.mark.parametrize("caller", [TUMBLERD, TRACKER])
async def test_of_a_video_they_get_the_start_and_the_end_and_nothing_ahead(nas: Rig, caller: Caller) -> None:
    assert await nas.read(VIDEO, caller, 0) == revealing(128 * KIB)
    assert await nas.read(VIDEO, caller, SIZE - 4096) == revealing(4096, offset=SIZE - 4096)
    for offset in (MIB, 2 * MIB, SIZE - 64 * KIB - 1):
        with pytest.raises(AccessDenied):
            await nas.read(VIDEO, caller, offset)
    assert nas.fetched_bytes <= 128 * KIB + 32 * KIB


@in_virtual_time
async def test_an_indexer_of_pictures_gets_the_start(nas: Rig) -> None:
    assert await nas.read(PHOTO, TRACKER, 0, 4096) == revealing(4096)
    with pytest.raises(AccessDenied):
        await nas.read(PHOTO, TRACKER, 2 * MIB)


@in_virtual_time
async def test_a_look_at_the_first_bytes_of_a_file_fetches_little_more(nas: Rig) -> None:
    await nas.read(PHOTO, THUNAR, 0, 4096)
    assert nas.fetched_bytes <= 64 * KIB


@in_virtual_time
async def test_a_file_manager_copies_with_read_ahead(nas: Rig) -> None:
    number = await nas.open(PHOTO, THUNAR)
    whole = b"".join([bytes(await nas.fs.read(number, at, 128 * KIB)) for at in range(0, SIZE, 128 * KIB)])
    assert whole == revealing(SIZE)
    assert nas.store.count("read_range") < SIZE // (128 * KIB) / 2


@in_virtual_time
async def test_every_other_program_reads_everything(nas: Rig) -> None:
    assert await nas.read(VIDEO, COPY, 2 * MIB, 4096) == revealing(4096, offset=2 * MIB)
    assert nas.desktop.looks == []


@in_virtual_time
@pytest.mark.parametrize(("mode", "brings"), [(Thumbnails.OFF, True), (Thumbnails.NAS, False)])
async def test_off_means_that_thumbnailers_read_nothing(nursery, mode: Thumbnails, brings: bool) -> None:
    rig = Rig(mode, brings=brings)
    await nursery.start(rig.fs.run)
    for name in (PHOTO, VIDEO):
        with pytest.raises(AccessDenied):
            await rig.open(name, TUMBLERD)
    assert rig.desktop.looks == []


@in_virtual_time
async def test_original_means_that_everybody_reads_everything(nursery) -> None:
    rig = Rig(Thumbnails.ORIGINAL)
    await nursery.start(rig.reader.run)
    await nursery.start(rig.fs.run)
    for caller in (TUMBLERD, TRACKER, THUNAR):
        assert await rig.read(VIDEO, caller, 2 * MIB, 4096) == revealing(4096, offset=2 * MIB)


@in_virtual_time
async def test_a_folder_is_visited_by_a_file_manager_that_has_read_it_and_by_nobody_else(nas: Rig) -> None:
    share = await nas.fs.lookup(nas.fs.inodes.root, b"s")
    assert share is not None
    for caller in (COPY, TRACKER, THUNAR):
        number = await nas.fs.opendir(share, caller)
        await nas.fs.readdir(number, 0)
        await nas.fs.releasedir(number)
    await nas.fs.releasedir(await nas.fs.opendir(share, THUNAR))  # opened, and not read
    assert nas.desktop.visits == ["/s"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("tumblerd", Kind.THUMBNAILER),
        ("gdk-pixbuf-thumbnailer"[:15], Kind.THUMBNAILER),
        ("totem-video-thumbnailer"[:15], Kind.THUMBNAILER),
        ("ffmpegthumbnailer"[:15], Kind.THUMBNAILER),
        ("evince-thumbnailer"[:15], Kind.THUMBNAILER),
        ("gsf-office-thumbnailer"[:15], Kind.THUMBNAILER),
        ("tracker-extract-3"[:15], Kind.INDEXER),
        ("localsearch-3", Kind.INDEXER),
        ("baloo_file_extractor"[:15], Kind.INDEXER),
        ("updatedb.plocate"[:15], Kind.INDEXER),
        ("file", Kind.INDEXER),
        ("Thunar", Kind.FILE_MANAGER),
        ("pcmanfm-qt", Kind.FILE_MANAGER),
        ("pcmanfm", Kind.FILE_MANAGER),
        ("pcmanfm/loader", Kind.PREVIEWER),
        ("nautilus", Kind.FILE_MANAGER),
        ("file-roller", Kind.OTHER),
        ("bash", Kind.OTHER),
        ("", Kind.OTHER),
    ],
)
def test_programs_are_told_by_what_the_kernel_keeps_of_their_names(name: str, kind: Kind) -> None:
    assert kind_of_name(name) is kind


def test_a_thread_that_makes_thumbnails_is_told_from_its_process() -> None:
    """Of a process that was renamed like PCManFM's, and has a thread like its own."""
    program = """
import sys, threading
from pathlib import Path
from synofs.fs.callers import process_name
def work(name):
    Path("/proc/thread-self/comm").write_text(name)
    print(process_name(threading.get_native_id()))
Path("/proc/self/comm").write_text("pcmanfm")
for name in ("pool", "loader"):
    thread = threading.Thread(target=work, args=(name,))
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.split() == ["pcmanfm", "pcmanfm/loader"]


def test_a_thread_has_the_name_of_its_process() -> None:
    """The kernel's number is that of a thread, and threads have names of their own."""
    seen = []

    def work() -> None:
        Path("/proc/thread-self/comm").write_text("pool-worker")
        seen.append(process_name(threading.get_native_id()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [Path("/proc/self/comm").read_text().strip()]
    assert seen != ["pool-worker"]
    assert process_name(2**22 + 1) == ""
