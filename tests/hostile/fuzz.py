"""Feeds made answers to the client and holds what comes of them against what is promised.

What must hold, whatever is answered: a result that the call's own checks take, or a `RemoteError`; and an end, in
bounded (virtual) time and after a bounded number of requests.
"""

from __future__ import annotations

import os
import random
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar
from unittest import mock

import trio
from trio.testing import MockClock

from synofs.content.reader import Reader, ReaderOptions
from synofs.filestation.auth import Credentials
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.listing import PagingOptions
from synofs.filestation.secret import Secret
from synofs.filestation.transport import Transport
from synofs.filestation.upload import UploadOptions
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.inodes import Inode
from synofs.fs.names import HIDDEN_PREFIX, kernel_name, remote_name
from synofs.fuse.errno_table import UNFORESEEN, verdict
from synofs.remote import RemoteError
from tests.hostile.call_paths import CALLS, Call, is_moment, is_whole
from tests.hostile.evil_nas import Endless, EvilNas, Temper

T = TypeVar("T")

CALL_SECONDS = 60.0  # the kernel border gives up sooner
MAX_SECONDS = 2 * 86_400.0  # virtual ones, of one call of the client: tasks on the NAS may take a day

TEMPERS = (
    Temper(),
    Temper(evil=0.05, broken=0.01, slow=0.01),
    Temper(evil=0.9, broken=0.1, slow=0.1),
    Temper(evil=0.3, evil_sign_in=0.5),
    Temper(evil=0.15, broken=0, slow=0),
)


@dataclass
class Outcome:
    inputs: int = 0
    calls: int = 0
    ends: Counter[str] = field(default_factory=Counter)  # "list_folder ok", "list_folder BadAnswer"
    failures: list[str] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        self.inputs += other.inputs
        self.calls += other.calls
        self.ends += other.ends
        self.failures += other.failures


def client_for(nas: Transport, **more: Any) -> FileStationClient:
    options = ClientOptions(
        url="http://nas",
        insecure_http=True,
        paging=PagingOptions(first_page=10, page=50, max_entries=4000, max_pages=500),
        upload=UploadOptions(max_post_bytes=4000, slice_bytes=2000),
        **more,
    )
    credentials = Credentials("ann", Secret("correct horse"), device_id=Secret("device"))
    return FileStationClient(options, credentials, transport=nas)


async def try_call(seed: int, call: Call, temper: Temper) -> Outcome:
    """One call of the client to a NAS that the seed makes."""
    nas = EvilNas(random.Random(seed), temper)
    client = client_for(nas)
    outcome = Outcome(calls=1)
    started = trio.current_time()
    end = "ok"
    try:
        await call(client)
    except RemoteError as exc:
        end = type(exc).__name__
    except (Exception, Endless) as exc:
        end = f"!{type(exc).__name__}"
        outcome.failures.append(f"seed {seed}, {call.__name__}, {temper}:\n{_told(exc)}\nlast answers: {nas.last[-3:]}")
    if trio.current_time() - started > MAX_SECONDS:
        outcome.failures.append(f"seed {seed}, {call.__name__}, {temper}: took {trio.current_time() - started:.0f} s")
    with trio.CancelScope() as scope:  # what it says at the end is not of interest
        scope.cancel()
        await client.aclose()
    outcome.ends[f"{call.__name__} {end}"] += 1
    outcome.inputs = nas.inputs
    return outcome


def _told(exc: BaseException) -> str:
    return "".join(traceback.format_exception(exc, limit=-6))[-3000:]


def run_calls(seeds: range, calls: Sequence[Call] = CALLS) -> Outcome:
    """Each seed with the next of the calls and tempers."""
    return _in_virtual_time(
        seeds, lambda seed: try_call(seed, calls[seed % len(calls)], TEMPERS[seed // len(calls) % len(TEMPERS)])
    )


def _in_virtual_time(seeds: range, attempt: Callable[[int], Awaitable[Outcome]]) -> Outcome:
    """All of them, until there are too many failures to read."""
    outcome = Outcome()

    async def run() -> None:
        for seed in seeds:
            with trio.move_on_after(10 * MAX_SECONDS) as limit:
                outcome.add(await attempt(seed))
            if limit.cancelled_caught:
                outcome.failures.append(f"seed {seed}: did not end")
            if len(outcome.failures) >= 20:
                return

    clock = MockClock(autojump_threshold=0)
    clock.jump(10_000)
    with mock.patch("trio.to_thread.run_sync", _here), mock.patch("synofs.threads.run_sync", _here):
        trio.run(run, clock=clock)
    return outcome


async def _here(work: Callable[..., T], *arguments: object, **_: object) -> T:
    """Virtual time would run away while a thread works."""
    await trio.lowlevel.checkpoint()
    return work(*arguments)


# ----- the filesystem on top of it ------------------------------------------------------------------------------


async def try_filesystem(seed: int, temper: Temper) -> Outcome:
    """Look around in a filesystem over such a NAS, as the kernel would have it do: what gets to the kernel is
    possible there, and every failure is one that has its errno."""
    nas = EvilNas(random.Random(seed), temper)
    outcome = Outcome(calls=1)
    client = client_for(nas)
    reader = Reader(client, ReaderOptions())
    options = FsOptions(share="media" if seed % 2 else None, dir_ttl_seconds=5.0, attr_ttl_seconds=5.0)
    filesystem = Filesystem(client, options, reader)
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            await nursery.start(filesystem.run)
            await _look_around(filesystem, random.Random(seed), outcome)
            nursery.cancel_scope.cancel()
    except (Exception, Endless) as exc:
        outcome.failures.append(f"seed {seed}, filesystem, {temper}:\n{_told(exc)}\nlast answers: {nas.last[-3:]}")
    outcome.inputs = nas.inputs
    return outcome


async def _look_around(filesystem: Filesystem, rng: random.Random, outcome: Outcome) -> None:
    folders = [filesystem.inodes.root]
    for _ in range(4):
        inodes = await _tried(outcome, "readdir", _read_folder, filesystem, rng.choice(folders)) or []
        folders += [inode for inode in inodes if inode.is_dir][:5]
        for inode in inodes[:6]:
            await _tried(outcome, "lookup", filesystem.lookup, inode.parent, inode.name)
            await _tried(outcome, "getattr", filesystem.getattr, inode)
            assert is_whole(inode.size)
            assert is_moment(inode.mtime_ns)
            if not inode.is_dir:
                await _tried(outcome, "read", _read_file, filesystem, inode)
        space = filesystem.statfs()
        assert 0 <= space.free_bytes <= space.total_bytes < 2**63
        await trio.sleep(rng.choice((0, 1, 10)))


async def _tried(outcome: Outcome, name: str, verb: Callable[..., Awaitable[T]], *arguments: object) -> T | None:
    end, result = "ok", None
    with trio.move_on_after(CALL_SECONDS) as limit:
        try:
            result = await verb(*arguments)
        except Exception as exc:
            if verdict(exc) is UNFORESEEN:
                raise
            end = type(exc).__name__
    outcome.ends[f"{name} {'too late' if limit.cancelled_caught else end}"] += 1
    return result


async def _read_folder(filesystem: Filesystem, folder: Inode) -> list[Inode]:
    number = await filesystem.opendir(folder)
    found: list[Inode] = []
    try:
        while len(found) < 500:
            _, entries = await filesystem.readdir(number, len(found))
            if len(entries) <= len(found):
                break
            found += entries[len(found) :]
    finally:
        await filesystem.releasedir(number)
    for inode in found:
        assert kernel_name(remote_name(inode.name)) == inode.name, "only what can be a name gets to the kernel"
        assert not inode.name.startswith(HIDDEN_PREFIX)
    assert len({inode.name for inode in found}) == len(found)
    return found


async def _read_file(filesystem: Filesystem, inode: Inode) -> None:
    number, _ = await filesystem.open(inode, os.O_RDONLY)
    try:
        size = inode.size
        piece = await filesystem.read(number, 0, 4000)
        assert len(piece) <= 4000
        assert not len(piece) or size or inode.size, "no bytes of an empty file"
    finally:
        await filesystem.release(number)


def run_filesystems(seeds: range) -> Outcome:
    return _in_virtual_time(seeds, lambda seed: try_filesystem(seed, TEMPERS[seed // 2 % len(TEMPERS)]))
