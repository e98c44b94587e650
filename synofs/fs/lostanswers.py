"""Making, removing, hiding and moving a name although the answer to it is lost.

A NAS hangs up on idle connections, and a call may cross its farewell; a proxy calls a NAS too busy that has done the
work. The client repeats a call that changes something only if it never arrived (filestation/retry.py). Here it is
found out by looking, and what was not done is asked for again.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from synofs.remote import Away, Exists, NotFound, RemoteEntry, RemoteStore, Unavailable

_TRIES, _FIRST = 3, 0


async def remove(store: RemoteStore, path: str, is_same: Callable[[RemoteEntry], bool]) -> None:
    """`store.remove`. What is there after a lost answer is removed only if it `is_same`: somebody else may have put
    something in the place. Raises what the store raises; the lost answer if no more is known."""
    for attempt in range(_TRIES):
        try:
            return await store.remove(path)
        except NotFound:
            if attempt == 0:
                raise
            return  # the earlier call was carried out late
        except Unavailable as lost:
            (there,) = await _look(store, [path], lost, attempt)
            if there is None:
                return
            if not is_same(there):
                raise


async def hide(store: RemoteStore, path: str, hidden_name: str, is_same: Callable[[RemoteEntry], bool]) -> None:
    """`store.rename` to a name that nobody else gives. As `remove`, but for what has arrived there: that is done."""
    hidden_path = posixpath.join(posixpath.dirname(path), hidden_name)
    for attempt in range(_TRIES):
        try:
            await store.rename(path, hidden_name)
            return
        except NotFound:
            if attempt == 0 or await store.get_entries([hidden_path]) == [None]:
                raise
            return  # the earlier call was carried out late
        except Unavailable as lost:
            there, hidden = await _look(store, [path, hidden_path], lost, attempt)
            if hidden is not None:
                return
            if there is None or not is_same(there):
                raise


async def rename(store: RemoteStore, path: str, name: str) -> None:
    """`store.rename`. What has left its old place and is in the new one has been moved."""
    dest = posixpath.join(posixpath.dirname(path), name)
    await _moved(store, path, dest, partial(store.rename, path, name), tries=_TRIES)


async def move(store: RemoteStore, path: str, dest_dir: str, *, overwrite: bool) -> None:
    """`store.move`, likewise. What may be overwritten was looked at before: it is not asked for again without that."""
    dest = posixpath.join(dest_dir, posixpath.basename(path))
    step = partial(store.move, path, dest_dir, overwrite=overwrite)
    await _moved(store, path, dest, step, tries=1 if overwrite else _TRIES)


async def _moved(
    store: RemoteStore, source: str, dest: str, step: Callable[[], Awaitable[object]], *, tries: int
) -> None:
    for attempt in range(tries):
        try:
            await step()
            return
        except (NotFound, Exists):
            if attempt == 0 or not _has_arrived(await store.get_entries([source, dest])):
                raise
            return  # the earlier call was carried out late
        except Unavailable as lost:
            found = await _look(store, [source, dest], lost, _FIRST)
            if _has_arrived(found):
                return
            if found[0] is None or attempt + 1 == tries:
                raise


def _has_arrived(found: Sequence[RemoteEntry | None]) -> bool:
    source, dest = found
    return source is None and dest is not None


async def make_dir(store: RemoteStore, path: str) -> RemoteEntry:
    """`store.make_dir`. A folder that is there after a lost answer may be somebody else's: then the lost answer is
    raised, for who makes a folder as a lock must not believe that it is his."""
    for attempt in range(_TRIES):
        try:
            return await store.make_dir(path)
        except Unavailable as lost:
            if await _look(store, [path], lost, attempt) != [None]:
                raise
    raise AssertionError("the last try returns or raises")


async def _look(
    store: RemoteStore, paths: Sequence[str], lost: Unavailable, attempt: int
) -> Sequence[RemoteEntry | None]:
    """What is there now. Raises `lost` if that cannot be found out, or enough was tried."""
    if isinstance(lost, Away) or attempt + 1 == _TRIES:
        raise lost
    try:
        return await store.get_entries(paths)
    except Unavailable:
        raise lost  # noqa: B904 - its cause tells what happened to the call
