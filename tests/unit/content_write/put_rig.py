"""One file on its way to the NAS: the putter alone, over a NAS in memory."""

from __future__ import annotations

import re

import pytest

from synofs.content.hidden import HiddenFolders
from synofs.content.put import Placed, PutOptions, Putter
from synofs.content.stagedfile import StagedFile
from synofs.content.staging import StagingArea
from synofs.remote import RemoteEntry, TimedOut
from tests.unit.content_write.nas import Nas

HIDDEN = "/s/.synofs-me"
TEMP = f"{HIDDEN}/f"
LOST = TimedOut("no answer")


class Known:
    def __init__(self) -> None:
        self.paths: list[str] = []

    async def add(self, path: str) -> None:
        self.paths.append(path)


class PutRig:
    def __init__(self, nas: Nas, area: StagingArea, *, verify_md5: bool = False) -> None:
        self.nas = nas
        self.area = area
        self.leftovers = Known()
        self.hidden = HiddenFolders(nas, self.leftovers, ".synofs-me")
        self.putter = Putter(nas, PutOptions("ann-laptop", verify_md5), self.hidden, self._confirm)

    async def _confirm(self, path: str) -> RemoteEntry | None:
        return (await self.nas.get_entries([path]))[0]

    async def new(self, content: bytes, path: str = "/s/f") -> StagedFile:
        staged = await self.area.stage(path, None, empty=True)
        await staged.write(0, content)
        return staged

    async def edit(self, content: bytes, base_md5: str | None = None) -> StagedFile:
        """All of /s/f is written anew."""
        staged = await self.area.stage("/s/f", self.nas.version("/s/f"), empty=True, base_md5=base_md5)
        await staged.write(0, content)
        return staged

    async def put(self, staged: StagedFile) -> Placed:
        """One attempt, as the queue makes it."""
        frozen = await staged.freeze()
        try:
            placed = await self.putter.put(staged, staged.path, frozen)
            staged.placed(placed.fingerprint, placed.md5)
            await staged.save()
            return placed
        finally:
            await staged.unfreeze(frozen)

    async def fails(self, staged: StagedFile, error: type[Exception]) -> None:
        with pytest.raises(error):
            await self.put(staged)

    def visible(self) -> dict[str, bytes]:
        return {path: content for path, content in self.nas.files().items() if "/.synofs-" not in path}


CONFLICT = re.compile(r"^/s/f \(conflict ann-laptop \d{4}-\d\d-\d\d \d{4}( \d+)?\)$")


def conflict_in(files: dict[str, bytes]) -> tuple[str, bytes]:
    """The one conflict copy."""
    (found,) = [(path, content) for path, content in files.items() if CONFLICT.match(path)]
    return found
