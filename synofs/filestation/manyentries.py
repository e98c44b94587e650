"""What the NAS says of many paths: one `getinfo` for some hundred of them.

How many it takes is documented nowhere, and a proxy before it may have limits of its own. So a batch that is refused
is halved until it is taken; if that was because of its length, later ones are no longer.
"""

from __future__ import annotations

from collections.abc import Sequence

import trio

from synofs.filestation import calls
from synofs.filestation.api_errors import error_of_code
from synofs.filestation.caller import Caller
from synofs.filestation.parsing import Listing, Record, entry_of, is_missing, matched
from synofs.remote import (
    BadAnswer,
    FileTooBig,
    InvalidName,
    InvalidRequest,
    NameTooLong,
    NotFound,
    PermissionDenied,
    RemoteEntry,
    Rights,
)

PATHS_PER_CALL = 100  # as many paths as a form body of some 10 kB holds

# A limit on the way, or a single path for which some builds refuse the whole call.
_REFUSALS = (FileTooBig, InvalidName, InvalidRequest, NameTooLong, NotFound)
_ROOT = RemoteEntry("", True, 0, 0, 0, 0, Rights.READ | Rights.EXECUTE)


class ManyEntries:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._most = PATHS_PER_CALL

    async def get(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        """See `RemoteStore.get_entries`."""
        batches = [paths[start : start + self._most] for start in range(0, len(paths), self._most)]
        if len(batches) <= 1:
            return await self._of_batch(paths)
        found: dict[int, list[RemoteEntry | None]] = {}
        failures: list[Exception] = []
        async with trio.open_nursery() as nursery:

            async def get(number: int) -> None:
                try:
                    found[number] = await self._of_batch(batches[number])
                except Exception as exc:  # raised below as it is, and not as a nursery would wrap it
                    failures.append(exc)
                    nursery.cancel_scope.cancel()

            for number in range(len(batches)):
                nursery.start_soon(get, number)
        if failures:
            raise failures[0]
        return [entry for number in range(len(batches)) for entry in found[number]]

    async def _of_batch(self, paths: Sequence[str]) -> list[RemoteEntry | None]:
        below_root = [path for path in paths if path != "/"]
        found: dict[str, RemoteEntry | None] = {"/": _ROOT}
        if below_root:
            entries, _ = await self._ask(below_root)
            found |= zip(below_root, entries, strict=True)
        return [found[path] for path in paths]

    async def _ask(self, paths: Sequence[str]) -> tuple[list[RemoteEntry | None], bool]:
        """The entries, and whether the NAS took all of the paths at once."""
        alone = len(paths) == 1
        try:
            listing = await self._caller.call(calls.get_info(paths), Listing)
        except _REFUSALS as exc:
            if alone and isinstance(exc, NotFound):
                return [None], False
            if alone:
                raise
        else:
            records = _matched_unless_short(paths, listing.records)
            if records is not None:
                return [_entry_or_none(*of, alone=alone) for of in zip(paths, records, strict=True)], True
        middle = len(paths) // 2
        first, first_taken = await self._ask(paths[:middle])
        second, second_taken = await self._ask(paths[middle:])
        if first_taken and second_taken:
            self._most = min(self._most, middle)
        return first + second, False


def _matched_unless_short(paths: Sequence[str], records: Sequence[Record]) -> Sequence[Record] | None:
    """None: it has answered for some of several paths only."""
    try:
        return matched(paths, records)
    except BadAnswer:
        if len(paths) == 1:
            raise
        return None


def _entry_or_none(path: str, record: Record, *, alone: bool) -> RemoteEntry | None:
    if not is_missing(record):
        return entry_of(record)
    if not record.code:
        return None
    error = error_of_code("SYNO.FileStation.List", record.code, path=path)
    if isinstance(error, NotFound):
        return None
    if isinstance(error, PermissionDenied) and not alone:
        return None  # out of our sight; the others' answers matter more than telling the difference
    raise error
