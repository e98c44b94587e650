"""Does this NAS put together a file that grew after its first slice? It is not documented: tried once in a mount, with
three bytes under a hidden name.

That it keeps a first slice out of sight, and does not take it for the whole file, is known after one round trip; from
then on a file's own slices may go, beside the rest of the trial. They are in vain should it fail.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from io import BytesIO

import trio

from synofs.remote import BeginningLost, RemoteError, RemoteStore

log = logging.getLogger(__name__)

_BYTES = b"abc"

# A hidden name in a folder, noted before it is made and removed some time after the end of the block.
HiddenFile = Callable[[str], AbstractAsyncContextManager[str]]


class SliceTrial:
    def __init__(self, store: RemoteStore, hidden_file: HiddenFile) -> None:
        self._store = store
        self._hidden_file = hidden_file
        self._may_begin = trio.Event()
        self._over = trio.Event()
        self.error: RemoteError | None = None  # why it failed

    async def run(self, folder: str) -> None:
        try:
            async with self._hidden_file(folder) as path:
                await self._try(path)
        except RemoteError as error:
            self.error = error
        except Exception:  # a head start and no more: it must not end the mount
            log.exception("trying slices failed in a way nobody foresaw")
            self.error = RemoteError("slices could not be tried")
        finally:
            self._may_begin.set()
            self._over.set()

    async def _try(self, path: str) -> None:
        source, moment = BytesIO(_BYTES), time.time_ns()
        trial = self._store.begin_upload(path, overwrite=True)
        assert trial is not None
        await trial.append(source, 1, 2, moment)
        self._may_begin.set()
        await trial.finish(source, len(_BYTES), moment)
        (entry,) = await self._store.get_entries([path])
        if entry is None or entry.size != len(_BYTES):
            raise BeginningLost("a file that grew was not put together", path=path)

    async def may_begin(self) -> None:
        """Return when a first slice stays out of sight. Raises why the trial failed."""
        await self._may_begin.wait()
        self._check()

    async def passed(self) -> None:
        """Return when it has ended well. Raises why it failed."""
        await self._over.wait()
        self._check()

    def _check(self) -> None:
        if self.error is not None:
            raise self.error
