"""Search, sizes, links, favourites, archives, background tasks; against the simulated NAS."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Callable, Sequence

import pytest

from synofs import remote
from synofs.filestation.client import FileStationClient
from synofs.filestation.measures import TreeSize
from synofs.filestation.search import Hit, SearchFilter
from synofs.filestation.secret import Secret
from tests.contract.simnas_process import SimnasProcess
from tests.integration.filestation.conftest import client_of

pytestmark = pytest.mark.trio

StartNas = Callable[..., SimnasProcess]


def make_tree(nas: SimnasProcess) -> None:
    for folder in ("a", "a/b", "c"):
        (nas.directory / folder).mkdir()
    for number in range(30):
        (nas.directory / "a" / "b" / f"song {number}.mp3").write_bytes(b"x" * number)
    (nas.directory / "c" / "song 99.mp3").write_bytes(b"y")
    (nas.directory / "c" / "text.txt").write_bytes(b"text")


async def found_by(client: FileStationClient, folder: str, pattern: str, *, recursive: bool = True) -> list[Hit]:
    found: list[Hit] = []

    async def take(hits: Sequence[Hit]) -> None:
        found.extend(hits)

    await client.services.search.find(folder, SearchFilter(pattern, recursive=recursive), take)
    return found


@pytest.mark.parametrize("quirk", ["search-limit-0=nothing", "search-limit-0=all"])
async def test_a_search_finds_everything_once_and_leaves_nothing_running(start_nas: StartNas, quirk: str) -> None:
    nas = start_nas("--quirk", quirk, "--quirk", "raw-taskid=never")
    make_tree(nas)
    async with client_of(nas) as client:
        found = await found_by(client, "/media", "*.mp3")
        assert sorted(f.path for f in found) == sorted(
            [f"/media/a/b/song {number}.mp3" for number in range(30)] + ["/media/c/song 99.mp3"]
        )
        sizes = {f.entry.name: f.entry.size for f in found}
        assert sizes["song 7.mp3"] == 7
        assert await found_by(client, "/media/c", "*.mp3", recursive=False) != []
        assert await found_by(client, "/media", "nothing at all") == []
        calls = nas.calls()
        assert calls["SYNO.FileStation.Search.clean"] == calls["SYNO.FileStation.Search.start"] == 3


async def test_the_size_of_a_folder_counts_what_is_below_it(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        size = await client.services.measures.size(["/media/a"])
        assert size == TreeSize(folders=1, files=30, size=sum(range(30)))


async def test_a_copy_stays_on_the_nas(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.copying.copy("/media/c/text.txt", "/media/a/text.txt")
        assert (nas.directory / "a" / "text.txt").read_bytes() == b"text"
        assert (nas.directory / "c" / "text.txt").exists()
        with pytest.raises(remote.Exists):
            await client.services.copying.copy("/media/c/text.txt", "/media/a/text.txt")
        with pytest.raises(remote.NotFound):
            await client.services.copying.copy("/media/c/none", "/media/a/none")
        assert client.stats().bytes_read == client.stats().bytes_written == 0


async def test_links_are_made_listed_and_removed(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        expires = datetime.date(2099, 12, 31)
        link = await client.services.sharing.create("/media/c/text.txt", password=Secret("secret"), expires=expires)
        assert link.url
        [listed] = await client.services.sharing.list()
        assert (listed.id, listed.path, listed.has_password) == (link.id, "/media/c/text.txt", True)
        assert listed.date_expired.startswith("2099-12-31")
        await client.services.sharing.remove([link.id])
        assert await client.services.sharing.list() == []
        with pytest.raises(remote.NotFound):
            await client.services.sharing.remove([link.id])


async def test_favourites_are_added_listed_and_removed(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.favourites.add("/media/c", "songs")
        assert [(f.path, f.name, f.status) for f in await client.services.favourites.list()] == [
            ("/media/c", "songs", "valid")
        ]
        with pytest.raises(remote.Exists):
            await client.services.favourites.add("/media/c", "again")
        await client.services.favourites.remove("/media/c")
        assert await client.services.favourites.list() == []


async def test_archives_are_made_listed_and_unpacked(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.archives.compress(["/media/c"], "/media/c.zip")
        with zipfile.ZipFile(nas.directory / "c.zip") as archive:
            assert any(name.endswith("text.txt") for name in archive.namelist())
        top = await client.services.archives.level("/media/c.zip")
        assert [(item.name, item.is_dir) for item in top] == [("c", True)]
        inside = await client.services.archives.level("/media/c.zip", top[0].id)
        assert sorted(item.name for item in inside) == ["song 99.mp3", "text.txt"]
        await client.make_dir("/media/out")
        await client.services.archives.extract("/media/c.zip", "/media/out")
        assert (nas.directory / "out" / "c" / "text.txt").read_bytes() == b"text"


async def test_the_nas_tells_who_we_are(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        info = await client.services.info()
        assert info.hostname
        assert isinstance(info.uid, int)


async def test_background_tasks_can_be_listed_and_cleared(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        await client.services.background.list()
        await client.services.background.clear_finished()
        assert await client.services.background.list() == []


async def test_no_right_to_share_is_a_refusal(start_nas: StartNas) -> None:
    nas = start_nas(account_flags=":nosharing")
    make_tree(nas)
    async with client_of(nas) as client:
        with pytest.raises(remote.PermissionDenied):
            await client.services.sharing.create("/media/c/text.txt")
