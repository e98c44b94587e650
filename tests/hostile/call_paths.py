"""Every way in which the client asks a NAS for something, each with what must hold of the answer it gives."""

from __future__ import annotations

import contextlib
import datetime
import io
import re
from collections.abc import Awaitable, Callable, Sequence

from synofs.filestation.archives import Item
from synofs.filestation.client import FileStationClient
from synofs.filestation.recycling import Discarded
from synofs.filestation.search import Hit, SearchFilter
from synofs.filestation.secret import Secret
from synofs.filestation.tasks import Progress
from synofs.remote import BadAnswer, RemoteEntry, RemoteError, Rights
from tests.hostile.answers import FILE_BYTES

Call = Callable[[FileStationClient], Awaitable[None]]

FILE = "/media/folder/file 1.jpg"
FOLDER = "/media/folder"


def is_whole(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**63


def is_moment(time_ns: object) -> bool:
    """Also one before 1970."""
    return type(time_ns) is int and -(2**63) <= time_ns < 2**63


def check_entry(entry: RemoteEntry) -> None:
    assert isinstance(entry.name, str)
    assert entry.name
    assert isinstance(entry.is_dir, bool)
    assert is_whole(entry.size)
    for time_ns in (entry.mtime_ns, entry.atime_ns, entry.ctime_ns):
        assert is_moment(time_ns), "what the kernel takes"
    assert Rights.NONE <= entry.rights <= Rights.ALL


def check_progress(progress: Progress) -> None:
    assert progress.fraction is None or 0 <= progress.fraction <= 1
    for number in (progress.done_bytes, progress.total_bytes, progress.files):
        assert number is None or is_whole(number)


async def list_folder(client: FileStationClient) -> None:
    await _list(client, FOLDER)


async def list_shares(client: FileStationClient) -> None:
    await _list(client, "/")


async def _list(client: FileStationClient, path: str) -> None:
    names: set[str] = set()

    def on_page(entries: Sequence[RemoteEntry]) -> None:
        for entry in entries:
            check_entry(entry)
            assert entry.name not in names, "no name comes twice"
            names.add(entry.name)

    await client.list_dir(path, on_page)


async def list_folders(client: FileStationClient) -> None:
    """Several in one request, where the NAS offers that."""
    await client.connect()
    paths = [FOLDER, "/media/b", "/media/c", "/media/\udcff", "/media/e"]
    names: list[set[str]] = [set() for _ in paths]
    ends: list[Exception | None] = [AssertionError("a folder without an end")] * len(paths)
    ended: list[int] = []

    def on_page(number: int, entries: Sequence[RemoteEntry]) -> None:
        assert number not in ended, "nothing comes after the end"
        for entry in entries:
            check_entry(entry)
            assert entry.name not in names[number], "no name comes twice"
            names[number].add(entry.name)

    def on_listed(number: int, error: Exception | None) -> None:
        ends[number] = error
        ended.append(number)

    for _ in range(2):
        ended.clear()
        for found in names:
            found.clear()
        await client.list_dirs(paths, on_page, on_listed)
        assert sorted(ended) == list(range(len(paths))), "each has one end"
    for end in ends:
        if end is not None:
            raise end


async def read_together(client: FileStationClient) -> None:
    """Several small files in one request; what does not come whole is read by itself."""
    files = [(f"{FOLDER}/file {n}.jpg", FILE_BYTES) for n in range(5)] + [(f"{FOLDER}/\udcff", FILE_BYTES)]
    whole = 0
    for _ in range(3):
        found = await client.read_files(files)
        assert len(found) == len(files)
        for content in found:
            assert content is None or len(content) == FILE_BYTES, "all of it, or nothing"
            whole += content is not None
    if not whole:
        raise BadAnswer("nothing came")


async def get_entries(client: FileStationClient) -> None:
    paths = ["/", FILE, FOLDER, f"{FOLDER}/\udcff", *(f"{FOLDER}/{n}" for n in range(120))]
    for asked in (paths, paths[:3], paths[1:2]):
        found = await client.get_entries(asked)
        assert len(found) == len(asked)
        for entry in found[1:] if asked[0] == "/" else found:
            if entry is not None:
                check_entry(entry)


async def read(client: FileStationClient) -> None:
    for offset, length in ((0, FILE_BYTES), (1000, 1), (FILE_BYTES - 1, 1), (500, 2000)):
        came = bytearray()

        async def on_data(at: int, piece: memoryview, offset: int = offset, came: bytearray = came) -> None:
            assert at == offset + len(came), "in order and without gaps"
            came.extend(piece)

        try:
            await client.read_range(FILE, offset, length, FILE_BYTES, on_data)
        finally:
            assert len(came) <= length, "not a byte more than was asked for"
        assert len(came) == length, "all of it, or an error"


async def spaces(client: FileStationClient) -> None:
    for found in (await client.spaces()).values():
        assert 0 <= found.free_bytes <= found.total_bytes < 2**63


async def thumbnail(client: FileStationClient) -> None:
    assert len(await client.thumbnail(FILE, "small")) <= 1024 * 1024
    assert len(await client.services.thumbnails.get(FILE)) <= 1024 * 1024


async def upload(client: FileStationClient) -> None:
    data = b"z" * 1000
    await client.upload(FILE, io.BytesIO(data), len(data), 1_700_000_000_000_000_000, overwrite=True)
    await client.upload('/media/a"b', io.BytesIO(data), len(data), None, overwrite=False)


async def upload_growing(client: FileStationClient) -> None:
    """A file that is sent while it is written: after a failure it is of no use, and says so."""
    growing = client.begin_upload(f"{FOLDER}/new", overwrite=True)
    assert growing is not None
    try:
        await growing.append(io.BytesIO(b"content"), 3, 7, 0)
        await growing.finish(io.BytesIO(b"content and more"), 16, 0)
    except RemoteError:
        with contextlib.suppress(RemoteError):
            await growing.finish(io.BytesIO(b"content and more"), 16, 0)
            raise AssertionError("it went on") from None
        raise


async def upload_in_slices(client: FileStationClient) -> None:
    data = b"z" * 5000  # more than the post that the client was told to be the largest
    await client.upload(FILE, io.BytesIO(data), len(data), None, overwrite=True)


async def make_dir(client: FileStationClient) -> None:
    check_entry(await client.make_dir(f"{FOLDER}/new"))


async def rename(client: FileStationClient) -> None:
    check_entry(await client.rename(FILE, "other"))


async def move(client: FileStationClient) -> None:
    await client.move(FILE, "/media/elsewhere", overwrite=False)


async def remove(client: FileStationClient) -> None:
    await client.remove(FILE)


async def check_writable(client: FileStationClient) -> None:
    await client.check_writable(FOLDER, "x")


async def md5(client: FileStationClient) -> None:
    assert re.fullmatch("[0-9a-f]{32}", await client.md5(FILE))


async def probe(client: FileStationClient) -> None:
    await client.probe()


async def info(client: FileStationClient) -> None:
    await client.services.info()


async def measure(client: FileStationClient) -> None:
    size = await client.services.measures.size([FOLDER, FILE], check_progress)
    assert all(type(number) is int for number in size)


async def copy(client: FileStationClient) -> None:
    await client.services.copying.copy(FILE, "/media/copies/file 1.jpg", on_progress=check_progress)


async def move_to_another_name(client: FileStationClient) -> None:
    await client.services.copying.move(FILE, "/media/other/name", overwrite=True, on_progress=check_progress)


async def search(client: FileStationClient) -> None:
    paths: set[str] = set()

    async def on_hits(hits: Sequence[Hit]) -> None:
        for hit in hits:
            check_entry(hit.entry)
            assert hit.path not in paths, "no hit comes twice"
            paths.add(hit.path)

    assert await client.services.search.find(FOLDER, SearchFilter("*.jpg"), on_hits) == len(paths)


async def share(client: FileStationClient) -> None:
    password, expires = Secret("link word"), datetime.date(2030, 1, 1)
    await client.services.sharing.create(FILE, password=password, expires=expires)


async def shares(client: FileStationClient) -> None:
    links = await client.services.sharing.list()
    await client.services.sharing.remove([link.id for link in links])


async def recycled(client: FileStationClient) -> None:
    async def on_found(found: Sequence[Discarded]) -> None:
        for discarded in found:
            check_entry(discarded.entry)
            assert discarded.path.startswith("/media/#recycle"), "nothing outside of the bin"
            assert not {"", ".", ".."} & set(discarded.path.split("/")[1:]), "nothing that leads out of it"

    await client.services.recycle_bin.list("/media", on_found)


async def restore(client: FileStationClient) -> None:
    await client.services.recycle_bin.restore(FILE, on_progress=check_progress)


async def empty_bin(client: FileStationClient) -> None:
    await client.services.recycle_bin.empty("/media", check_progress)


async def archive_contents(client: FileStationClient) -> None:
    items: list[Item] = [item async for item in client.services.archives.contents("/media/a.zip")]
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert not {"", ".", ".."} & set(item.path.split("/")), "nothing that leads out of where it is unpacked"
        assert is_whole(item.size)


async def extract(client: FileStationClient) -> None:
    await client.services.archives.extract("/media/a.zip", FOLDER, on_progress=check_progress)


async def extract_some(client: FileStationClient) -> None:
    await client.services.archives.extract("/media/a.zip", FOLDER, wanted=["file 1.jpg"], overwrite=True)


async def compress(client: FileStationClient) -> None:
    await client.services.archives.compress([FOLDER], "/media/new.zip", on_progress=check_progress)


async def favourites(client: FileStationClient) -> None:
    for favourite in await client.services.favourites.list():
        await client.services.favourites.remove(favourite.path)
    await client.services.favourites.add(FOLDER, "name")


async def background(client: FileStationClient) -> None:
    for task in await client.services.background.list():
        assert 0 <= task.progress <= 1
        assert is_whole(task.processed_size)
        assert task.total == -1 or is_whole(task.total)
        await client.services.background.stop(task)
    await client.services.background.clear_finished()


CALLS: Sequence[Call] = (
    list_folder, list_folders, list_shares, get_entries, read, read_together, spaces, thumbnail, upload,
    upload_growing, upload_in_slices, make_dir, rename, move, remove, check_writable, md5, probe, info, measure, copy,
    move_to_another_name, search, share, shares, recycled, restore, empty_bin, archive_contents, extract, extract_some,
    compress, favourites, background,
)  # fmt: skip
