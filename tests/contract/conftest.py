"""Far sides that the contract is held against."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.listing import PagingOptions
from synofs.filestation.upload import UploadOptions
from synofs.remote import RemoteStore
from tests.contract.memory_store import MemoryStore
from tests.contract.simnas_process import PASSWORD, USER, SimnasProcess


class FarSide(Protocol):
    """A store, a folder in it for one test, and the hands of somebody else who changes things there."""

    store: RemoteStore
    root: str
    share: str

    def put(self, path: str, content: bytes, mtime: int = 1_600_000_000) -> None: ...

    def make_dir(self, path: str) -> None: ...

    def remove(self, path: str) -> None: ...

    def read(self, path: str) -> bytes | None: ...


class MemorySide:
    share = "media"
    root = "/media/test"

    def __init__(self) -> None:
        self._memory = MemoryStore("media")
        self._memory.content[self.root] = None
        self.store: RemoteStore = self._memory

    def put(self, path: str, content: bytes, mtime: int = 1_600_000_000) -> None:
        self._memory.content[path] = content
        self._memory.mtimes_ns[path] = mtime * 10**9

    def make_dir(self, path: str) -> None:
        self._memory.content[path] = None

    def remove(self, path: str) -> None:
        del self._memory.content[path]

    def read(self, path: str) -> bytes | None:
        return self._memory.content.get(path)


class NasSide:
    share = "media"

    def __init__(self, client: FileStationClient, nas: SimnasProcess, folder: str) -> None:
        self.store: RemoteStore = client
        self.client = client
        self.nas = nas
        self.root = f"/media/{folder}"

    def local(self, path: str) -> Path:
        return self.nas.directory / path.removeprefix("/media/")

    def put(self, path: str, content: bytes, mtime: int = 1_600_000_000) -> None:
        self.local(path).write_bytes(content)
        os.utime(self.local(path), (mtime, mtime))

    def make_dir(self, path: str) -> None:
        self.local(path).mkdir()

    def remove(self, path: str) -> None:
        local = self.local(path)
        local.rmdir() if local.is_dir() else local.unlink()

    def read(self, path: str) -> bytes | None:
        local = self.local(path)
        return local.read_bytes() if local.is_file() else None


# What real builds were seen to do differently, all at once.
ODD_BUILD = [
    argument
    for quirk in (
        "raw-taskid=never", "raw-brackets=broken", "raw-createfolder=ignored", "numbers=string", "gzip=off",
        "missing-getinfo=stub", "missing-download=404", "overwrite-absent=1805", "upload-replaces=in-place",
        "existing-folder=success", "illegal-name=408", "not-empty=414", "copymove-failure=error",
        "tiny-tasks=always", "device-id=absent", "dead-sid=106", "compound=not-for-files",
    )
    for argument in ("--quirk", quirk)
]  # fmt: skip
OTHER_BUILD = [
    argument
    for quirk in (
        "missing-download=408", "range-requests=ignored", "not-empty=421", "copymove-failure=599", "late-tasks=yes",
        "tiny-tasks=never", "compound=absent",
    )
    for argument in ("--quirk", quirk)
]  # fmt: skip

BUILDS: dict[str, list[str]] = {
    "dsm7": [],
    "dsm6": ["--dsm", "6"],
    "odd build": [*ODD_BUILD, "--page-cap", "7"],
    "other build": OTHER_BUILD,
}


@pytest.fixture(scope="session")
def nas_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, SimnasProcess]]:
    """One simulated NAS for each build, started when a test first needs it."""

    class Lazily(dict[str, SimnasProcess]):
        def __missing__(self, build: str) -> SimnasProcess:
            directory = tmp_path_factory.mktemp("nas") / "media"
            self[build] = nas = SimnasProcess(directory, *BUILDS[build])
            return nas

    running = Lazily()
    yield running
    for nas in running.values():
        nas.stop()


_numbers = itertools.count()


@pytest.fixture(params=["memory", *BUILDS])
async def far(request: pytest.FixtureRequest, nas_of: dict[str, SimnasProcess]) -> AsyncIterator[FarSide]:
    if request.param == "memory":
        yield MemorySide()
        return
    nas = nas_of[request.param]
    options = ClientOptions(
        url=nas.url,
        insecure_http=True,
        # Small, so that small folders and files take the long ways.
        paging=PagingOptions(first_page=10, page=20),
        upload=UploadOptions(max_post_bytes=200_000, slice_bytes=70_000),
    )
    folder = f"test {next(_numbers)}"
    async with FileStationClient(options, Credentials(USER, Secret(PASSWORD))) as client:
        side = NasSide(client, nas, folder)
        side.make_dir(side.root)
        try:
            yield side
        finally:
            nas.clear_faults()
            shutil.rmtree(side.local(side.root))
