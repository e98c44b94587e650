"""The composition root: the only place where the layers meet.

Read `serve_mount` from top to bottom and you know the order: settings -> transport -> client -> staging and caches ->
reader -> filesystem -> mount.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import platformdirs
import trio

from synofs.app import network, suspend, thumbnail_cache
from synofs.app.config import Settings
from synofs.app.errors import Failure, Problem
from synofs.app.feeder import Feeder, FeederOptions
from synofs.app.notices import Notices
from synofs.app.notices import is_available as notices_available
from synofs.app.supervision import kept_alive
from synofs.app.thumbnail_cache import ThumbnailCache
from synofs.content.budget import BudgetOptions
from synofs.content.cachedir import identity, open_cache_dir
from synofs.content.diskcache import DiskCache, DiskCacheOptions
from synofs.content.errors import CacheDirInUse, CacheDirUnsafe, ContentError
from synofs.content.listingstore import ListingStore
from synofs.content.reader import Reader, ReaderOptions
from synofs.content.staging import StagingArea
from synofs.filestation.auth import Credentials
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fs.sparing import Thumbnails
from synofs.fs.writes import WriteMode, WriteOptions
from synofs.fuse.invalidation import KernelNotifier
from synofs.fuse.mountpoint import Mount, MountOptions
from synofs.remote import RemoteError, Space, TimedOut, Unavailable, Unreachable

log = logging.getLogger(__name__)

LEFT_REMEDY = "the next mount sends them; until then they are safe in the cache folder"
NOTICE_SECONDS = 3.0  # the end waits so long for a desktop to take what there is to tell
SIGN_IN_SECONDS = 7.5  # so that a host that never answers is reported in under 10, on a busy machine, too


@dataclass(frozen=True, slots=True)
class Parts:
    """A mount that is being served."""

    client: FileStationClient
    reader: Reader
    filesystem: Filesystem
    mount: Mount
    notifier: KernelNotifier
    notices: Notices | None  # on a desktop


async def serve_mount(
    settings: Settings,
    credentials: Credentials,
    task_status: trio.TaskStatus[Parts] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Sign in, mount, and serve until the mount ends; the started value comes once the kernel has it."""
    _allow_many_files()
    client = FileStationClient(client_options(settings), credentials)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_shielded, client.aclose)
        staging = await _open_staging(settings, stack)
        disk, archive = await _open_caches(settings, staging, stack)
        spaces = await _sign_in_if_there(client, settings, archive)
        async with trio.open_nursery() as nursery:
            reader = Reader(client, ReaderOptions(), disk)
            await nursery.start(reader.run)

            desktop = _open_feeder(settings, client)
            if desktop is not None:
                await nursery.start(desktop.run)
            notifier = KernelNotifier()
            filesystem = Filesystem(
                client,
                _fs_options(settings),
                reader,
                notifier,
                staging,
                _write_options(settings, staging),
                archive,
                desktop,
            )
            filesystem.space.learn(spaces)
            await nursery.start(filesystem.run)
            notices = await _open_notices(settings, filesystem, nursery)

            def nas_changed(there: bool) -> None:
                filesystem.nas_changed(there)
                if notices is not None:
                    notices.nas_changed(there)

            client.health.on_change = nas_changed
            if client.health.away:  # found out before anybody could be told
                nas_changed(False)
            filesystem.watch_over(client.health)
            nursery.start_soon(kept_alive, client.health.run, "the watch over the NAS")

            mount = Mount(filesystem, _mount_options(settings), notifier)
            _watch_the_machine(nursery, client, filesystem, mount)
            async with trio.open_nursery() as mounted:
                await _begin(mounted, mount)
                task_status.started(Parts(client, reader, filesystem, mount, notifier, notices))
            pending = await filesystem.finish(within_seconds=settings.drain_seconds)  # the kernel has let go
            if notices is not None:
                await notices.finish(within_seconds=NOTICE_SECONDS)
            nursery.cancel_scope.cancel()
        if pending:
            raise Failure(Problem.UPLOADS_PENDING, pending=pending, instead=LEFT_REMEDY)


def _watch_the_machine(nursery: trio.Nursery, client: FileStationClient, filesystem: Filesystem, mount: Mount) -> None:
    """It sleeps, and it is carried from network to network."""

    async def before_sleep() -> None:
        client.health.suspend()
        filesystem.suspend()
        await mount.calls.answered()
        client.hang_up()

    def after_sleep() -> None:
        client.hang_up()
        client.health.resume()
        filesystem.awake()

    def elsewhere() -> None:
        client.hang_up()
        client.health.look()

    nursery.start_soon(kept_alive, partial(suspend.watch_clock, after_sleep), "the look at the clock")
    nursery.start_soon(kept_alive, partial(network.watch, client.local_address, elsewhere), "the look at the network")
    if suspend.is_available():
        nursery.start_soon(kept_alive, suspend.Suspend(before_sleep, after_sleep).run, "the talk with logind")


def _allow_many_files() -> None:
    """Each file on its way to the NAS is an open one here, besides those that programs have open."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def client_options(settings: Settings) -> ClientOptions:
    return ClientOptions(
        url=settings.url,
        max_requests=settings.max_requests,
        ca_file=settings.ca_file,
        fingerprint=settings.fingerprint,
        insecure_http=settings.insecure_http,
        metadata_deadline_seconds=settings.deadline_seconds,
    )


async def sign_in(client: FileStationClient, settings: Settings) -> dict[str, Space]:
    """The one request after it tells whether the share is there, and the space behind it: that is returned."""
    spaces: dict[str, Space] = {}
    with trio.move_on_after(SIGN_IN_SECONDS) as limit:
        await client.connect()
        with contextlib.suppress(RemoteError):  # whoever only wants to know the space can do without
            spaces = await client.spaces()
        is_there = settings.share is None or settings.share in spaces
        if not is_there and (await client.get_entries([f"/{settings.share}"]))[0] is None:
            raise Failure(Problem.NO_SHARE, share=settings.share)
    if limit.cancelled_caught:
        raise Failure(Problem.TIMED_OUT)
    return spaces


async def _sign_in_if_there(
    client: FileStationClient, settings: Settings, archive: ListingStore | None
) -> dict[str, Space]:
    """Sign in; or, if the NAS is away and was mounted here before, begin with what is known of it."""
    try:
        return await sign_in(client, settings)
    except (Unavailable, Failure) as exc:
        away = isinstance(exc, Unreachable | TimedOut) or (
            isinstance(exc, Failure) and exc.problem is Problem.TIMED_OUT
        )
        root = f"/{settings.share}" if settings.share else "/"
        if not away or settings.offline != "serve" or archive is None or not await archive.knows(root):
            raise
        trouble = f"the NAS: no answer within {SIGN_IN_SECONDS:g} s" if isinstance(exc, Failure) else str(exc)
        client.health.assume_away(trouble)
        log.warning("mounted without the NAS, which does not answer (%s); it will be asked again", trouble)
        return {}


async def _begin(nursery: trio.Nursery, mount: Mount) -> None:
    """Return once the kernel has the mount; what comes up before that is the kernel's, or libfuse's, refusal."""
    try:
        await nursery.start(mount.serve)
    except (OSError, RuntimeError) as exc:
        raise Failure(Problem.MOUNT_REFUSED, detail=exc) from exc


async def _shielded(work: Callable[[], Awaitable[None]]) -> None:
    with trio.CancelScope(shield=True):
        await work()


async def _open_staging(settings: Settings, stack: AsyncExitStack) -> StagingArea | None:
    """The folder for unsent files; closed, and given up to the next mount, after everything else has ended."""
    if settings.read_only:
        return None
    base = Path(settings.cache_dir) if settings.cache_dir else platformdirs.user_state_path("synofs")
    name = identity(settings.url, settings.user or "", settings.share)
    try:
        cache_dir = await trio.to_thread.run_sync(open_cache_dir, base, name)
    except CacheDirInUse as exc:
        raise Failure(Problem.CACHE_IN_USE, nas=settings.url) from exc
    except (CacheDirUnsafe, OSError) as exc:
        raise Failure(Problem.CACHE_REFUSED, detail=exc) from exc
    stack.callback(cache_dir.close)
    budget = BudgetOptions() if settings.cache_bytes is None else BudgetOptions(max_dirty_bytes=settings.cache_bytes)
    staging = StagingArea(cache_dir, budget)
    stack.push_async_callback(_shielded, staging.close)
    return staging


async def _open_caches(
    settings: Settings, staging: StagingArea | None, stack: AsyncExitStack
) -> tuple[DiskCache | None, ListingStore | None]:
    """What is kept of clean bytes and of listings. Without it (its folder is taken, or cannot be used) the mount
    works all the same."""
    if staging is not None and settings.cache_dir is not None:
        root = staging.folder
    else:
        base = Path(settings.cache_dir) if settings.cache_dir else platformdirs.user_cache_path("synofs")
        name = identity(settings.url, settings.user or "", settings.share)
        try:
            cache_dir = await trio.to_thread.run_sync(open_cache_dir, base, name)
        except (ContentError, OSError) as exc:
            level = logging.WARNING if isinstance(exc, CacheDirUnsafe) else logging.INFO
            log.log(level, "no disk cache: %s", exc)
            return None, None
        stack.callback(cache_dir.close)
        root = cache_dir.root
    options = DiskCacheOptions() if settings.cache_bytes is None else DiskCacheOptions(max_bytes=settings.cache_bytes)
    disk = DiskCache(root / "blocks", options)
    stack.push_async_callback(_shielded, disk.close)
    archive = ListingStore(root / "listings.db")
    stack.push_async_callback(_shielded, archive.close)
    return disk, archive


def _open_feeder(settings: Settings, client: FileStationClient) -> Feeder | None:
    """Thumbnails come from the NAS where that is wanted, and where Pillow is installed."""
    if settings.thumbnails != "nas":
        return None
    if not thumbnail_cache.is_available():
        log.info("no thumbnails: they need Pillow, which comes with synofs[desktop]")
        return None
    options = FeederOptions(
        mountpoint=settings.mountpoint,
        root=f"/{settings.share}" if settings.share else "/",
        at_once=max(1, settings.max_requests // 2),
    )
    return Feeder(client.thumbnail, ThumbnailCache(thumbnail_cache.cache_home() / "thumbnails"), options)


async def _open_notices(settings: Settings, filesystem: Filesystem, nursery: trio.Nursery) -> Notices | None:
    if not notices_available():
        return None
    writes = filesystem.writes
    notices = Notices(
        settings.address.host,
        writes.drain if writes is not None else None,
        lambda: filesystem.counters().get("pending_uploads", 0),
    )
    await nursery.start(notices.run)
    if writes is not None:
        writes.uploads.on_conflict = notices.conflict
        writes.uploads.on_refusal = notices.refusal
    return notices


def _write_options(settings: Settings, staging: StagingArea | None) -> WriteOptions | None:
    if staging is None:
        return None
    hostname = socket.gethostname()
    readable = "".join(c if c.isalnum() else "-" for c in hostname.partition(".")[0])[:20]
    return WriteOptions(
        client=f"{readable}-{staging.client_id}",
        hostname=hostname,
        mode=WriteMode(settings.write_mode),
        verify_md5=settings.verify,
        silent_seconds=3 * settings.deadline_seconds,
        patience_seconds=1.5 * settings.deadline_seconds,
    )


def _fs_options(settings: Settings) -> FsOptions:
    return FsOptions(
        dir_ttl_seconds=settings.dir_ttl_seconds,
        attr_ttl_seconds=settings.attr_ttl_seconds,
        uid=settings.uid,
        gid=settings.gid,
        umask=settings.umask,
        read_only=settings.read_only,
        serve_stale=settings.offline == "serve",
        max_stale_seconds=settings.max_stale_seconds,
        max_requests=settings.max_requests,
        thumbnails=Thumbnails(settings.thumbnails),
        share=settings.share,
    )


def mount_source(settings: Settings) -> str:
    """The first column of df and mount(8). The URL's colon tells coreutils that this is a remote filesystem."""
    return settings.url if settings.share is None else f"{settings.url}/{settings.share}"


def _mount_options(settings: Settings) -> MountOptions:
    return MountOptions(
        mountpoint=settings.mountpoint,
        source=mount_source(settings),
        allow_other=settings.allow_other,
        read_only=settings.read_only,
        noexec=settings.noexec,
        deadline_seconds=settings.deadline_seconds,
    )
