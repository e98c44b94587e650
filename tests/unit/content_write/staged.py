"""What a staged file's content may start from, and what is in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import trio

from synofs.content.stagedfile import StagedFile
from synofs.remote import Fingerprint
from tests.trees import revealing

LARGE = 200 * 1024  # written in a thread
BASE = revealing(1_000_000)
BASE_VERSION = Fingerprint(len(BASE), 5_000_000_000)


class Base:
    """The version on the NAS; counts what is fetched of it."""

    def __init__(self, content: bytes = BASE) -> None:
        self.content = content
        self.fetched: list[tuple[int, int]] = []
        self.gate: trio.Event | None = None
        self.asked = trio.Event()

    async def __call__(self, offset: int, length: int) -> bytes:
        self.fetched.append((offset, length))
        self.asked.set()
        await trio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        data = self.content[offset : offset + length]
        assert len(data) == length
        return data

    @property
    def fetched_bytes(self) -> int:
        return sum(length for _, length in self.fetched)


async def nothing(offset: int, length: int) -> bytes:
    raise AssertionError("nothing is to be fetched")


async def whole(staged: StagedFile, base: Callable = nothing) -> bytes:
    return bytes(await staged.read(0, staged.size + 100, base))


def content_of(path: str) -> bytes:
    return Path(path).read_bytes()
