"""The composition root: the only place where the layers meet.

Read `serve_mount` from top to bottom and you know the order: settings -> client -> reader -> filesystem -> mount.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from synofs.app.config import Settings
from synofs.app.errors import Failure, Problem
from synofs.content.reader import Reader, ReaderOptions
from synofs.filestation.auth import Credentials
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fuse.invalidation import KernelNotifier
from synofs.fuse.mountpoint import Mount, MountOptions

SIGN_IN_SECONDS = 9.0  # so that a host that never answers is reported in under 10


@dataclass(frozen=True, slots=True)
class Parts:
    """A mount that is being served."""

    client: FileStationClient
    reader: Reader
    filesystem: Filesystem
    mount: Mount


async def serve_mount(
    settings: Settings,
    credentials: Credentials,
    task_status: trio.TaskStatus[Parts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Sign in, mount, and serve until the mount ends; the started value comes once the kernel has it."""
    client = make_client(settings, credentials)
    try:
        await sign_in(client, settings)
        async with trio.open_nursery() as nursery:
            reader = Reader(client, _reader_options(settings))
            await nursery.start(reader.run)

            notifier = KernelNotifier()
            filesystem = Filesystem(client, _fs_options(settings), reader, notifier)
            await nursery.start(filesystem.run)

            mount = Mount(filesystem, _mount_options(settings), notifier)
            async with trio.open_nursery() as mounted:
                await _begin(mounted, mount)
                task_status.started(Parts(client, reader, filesystem, mount))
            nursery.cancel_scope.cancel()  # the kernel has let go
    finally:
        with trio.CancelScope(shield=True):
            await client.aclose()


def make_client(settings: Settings, credentials: Credentials) -> FileStationClient:
    options = ClientOptions(
        url=settings.url,
        max_requests=settings.max_requests,
        ca_file=settings.ca_file,
        fingerprint=settings.fingerprint,
        insecure_http=settings.insecure_http,
    )
    return FileStationClient(options, credentials)


async def sign_in(client: FileStationClient, settings: Settings) -> None:
    with trio.move_on_after(SIGN_IN_SECONDS) as limit:
        await client.connect()
        if settings.share and (await client.get_entries([f"/{settings.share}"]))[0] is None:
            raise Failure(Problem.NO_SHARE, share=settings.share)
    if limit.cancelled_caught:
        raise Failure(Problem.TIMED_OUT)


async def _begin(nursery: trio.Nursery, mount: Mount) -> None:
    """Return once the kernel has the mount; what comes up before that is the kernel's, or libfuse's, refusal."""
    try:
        await nursery.start(mount.serve)
    except (OSError, RuntimeError) as exc:
        raise Failure(Problem.MOUNT_REFUSED, detail=exc) from exc


def _reader_options(settings: Settings) -> ReaderOptions:
    return ReaderOptions() if settings.cache_bytes is None else ReaderOptions(memory_bytes=settings.cache_bytes)


def _fs_options(settings: Settings) -> FsOptions:
    return FsOptions(
        dir_ttl_seconds=settings.dir_ttl_seconds,
        attr_ttl_seconds=settings.attr_ttl_seconds,
        uid=settings.uid,
        gid=settings.gid,
        umask=settings.umask,
        read_only=True,  # whatever the settings say: writing is not built yet
        share=settings.share,
    )


def _mount_options(settings: Settings) -> MountOptions:
    # The URL's colon tells coreutils that this is a remote filesystem.
    source = settings.url if settings.share is None else f"{settings.url}/{settings.share}"
    return MountOptions(mountpoint=settings.mountpoint, source=source, allow_other=settings.allow_other, read_only=True)
