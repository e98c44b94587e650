"""A mount put together by hand, for what the command offers no option for: `runner.py --help`."""

from __future__ import annotations

import argparse
import logging
import signal
from pathlib import Path

import trio

from synofs.content.reader import Reader, ReaderOptions
from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.fs.filesystem import Filesystem, FsOptions
from synofs.fuse.calls import Calls
from synofs.fuse.invalidation import KernelNotifier
from synofs.fuse.mountpoint import Mount, MountOptions


class WithBugs:
    """A store that fails in unforeseen ways where a path contains `bug`."""

    def __init__(self, store: FileStationClient) -> None:
        self._store = store

    def __getattr__(self, name: str) -> object:
        return getattr(self._store, name)

    def _stumble(self, path: str) -> None:
        if "bug" in path:
            raise ZeroDivisionError(f"a bug met {path}")

    async def list_dir(self, path, on_page) -> None:
        self._stumble(path)
        await self._store.list_dir(path, on_page)

    async def get_entries(self, paths):
        for path in paths:
            self._stumble(path)
        return await self._store.get_entries(paths)

    async def read_range(self, path, offset, length, size, on_data) -> None:
        self._stumble(path)
        await self._store.read_range(path, offset, length, size, on_data)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("mountpoint")
    parser.add_argument("user")
    parser.add_argument("password_file", type=Path)
    parser.add_argument("--deadline", type=float, default=30.0, help="seconds for each call of the kernel")
    parser.add_argument("--patience", type=float, default=20.0, help="seconds for a call to the NAS with its repeats")
    parser.add_argument("--ttl", type=float, default=30.0, help="seconds for names and attributes")
    parser.add_argument("--with-bugs", action="store_true", help="fail where a path contains `bug`")
    parser.add_argument(
        "--careless", action="store_true", help="on SIGUSR1, tell of a new name in each folder, though it is locked"
    )
    return parser.parse_args()


async def main(given: argparse.Namespace) -> None:
    password = Secret(given.password_file.read_text().strip())
    client_options = ClientOptions(given.url, insecure_http=True, metadata_deadline_seconds=given.patience)
    async with FileStationClient(client_options, Credentials(given.user, password)) as client:
        store = WithBugs(client) if given.with_bugs else client
        reader = Reader(store, ReaderOptions())
        notifier = KernelNotifier()
        options = FsOptions(dir_ttl_seconds=given.ttl, attr_ttl_seconds=given.ttl, share="data")
        fs = Filesystem(store, options, reader, notifier)
        mount = Mount(fs, MountOptions(given.mountpoint, given.url, deadline_seconds=given.deadline), notifier)
        async with trio.open_nursery() as nursery:
            await nursery.start(reader.run)
            await nursery.start(fs.run)
            nursery.start_soon(end_on_signal, mount)
            if given.careless:
                notifier.mind(Calls())  # so that it knows of no lock
                await nursery.start(tell_on_signal, fs, notifier)
            await mount.serve()
            nursery.cancel_scope.cancel()


async def end_on_signal(mount: Mount) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            mount.stop()


async def tell_on_signal(
    fs: Filesystem, notifier: KernelNotifier, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGUSR1) as signals:
        task_status.started()
        async for _ in signals:
            for held in fs.inodes.held(100):
                notifier.entry_appeared(fs.inodes.get(int(str(held["number"]))), b"name")


if __name__ == "__main__":
    logging.basicConfig(format="%(levelname)s %(name)s: %(message)s", level=logging.INFO)
    trio.run(main, arguments())
