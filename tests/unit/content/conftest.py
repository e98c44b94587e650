"""A reader, and the NAS that it reads from."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from synofs.content.readahead import KIB, MIB
from synofs.content.reader import FileReader, Reader, ReaderOptions
from synofs.remote import Fingerprint
from tests.trees import revealing
from tests.unit.memory_store import MemoryStore

PATH = "/s/file"
BIG = 8 * MIB
BLOCK = 128 * KIB


class Rig:
    def __init__(self, store: MemoryStore, options: ReaderOptions) -> None:
        self.store = store
        self.reader = Reader(store, options)

    def put(self, size: int, version: int = 0, *, mtime: int | None = None, path: str = PATH) -> None:
        self.store.file(path, revealing(size, version), mtime=1000 + version if mtime is None else mtime)

    def open(self, path: str = PATH, version: Fingerprint | None = None, **more) -> FileReader:
        return self.reader.open(hash(path), version or self.store.version(path), lambda: path, **more)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def options() -> ReaderOptions:
    return ReaderOptions()


@pytest.fixture
async def rig(store: MemoryStore, options: ReaderOptions, nursery: trio.Nursery) -> Rig:
    rig = Rig(store, options)
    await nursery.start(rig.reader.run)
    return rig


async def read_all(file: FileReader, size: int, block: int = BLOCK) -> bytes:
    parts = []
    offset = 0
    while data := await file.read(offset, block):
        parts.append(bytes(data))
        offset += len(data)
        assert offset <= size
    return b"".join(parts)


async def collect(results: list, work: Callable[..., Awaitable], *args) -> None:
    """The result of the call, or the error that it ended with."""
    try:
        results.append(bytes(await work(*args)))
    except Exception as error:
        results.append(error)
