"""Search, sizes, links, favourites, archives, background tasks; against the simulated NAS."""

from __future__ import annotations

import datetime
import zipfile
from collections.abc import Callable

import pytest

from synofs import remote
from synofs.filestation.client import FileStationClient
from synofs.filestation.services import FolderSize, Found
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


async def found_by(client: FileStationClient, folder: str, pattern: str, **more: object) -> list[Found]:
    found: list[Found] = []
    await client.services.search(folder, pattern, found.extend, **more)  # type: ignore[arg-type]
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
        assert await client.services.folder_size("/media/a") == FolderSize(
            folders=1, files=30, size_bytes=sum(range(30))
        )


async def test_a_copy_stays_on_the_nas(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.copy("/media/c/text.txt", "/media/a", overwrite=False)
        assert (nas.directory / "a" / "text.txt").read_bytes() == b"text"
        assert (nas.directory / "c" / "text.txt").exists()
        with pytest.raises(remote.Exists):
            await client.services.copy("/media/c/text.txt", "/media/a", overwrite=False)
        with pytest.raises(remote.NotFound):
            await client.services.copy("/media/c/none", "/media/a", overwrite=False)
        assert client.stats().bytes_read == client.stats().bytes_written == 0


async def test_links_are_made_listed_and_removed(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        expires = datetime.date(2099, 12, 31)
        link = await client.services.share_link("/media/c/text.txt", password="secret", expires=expires)
        assert link.url
        [listed] = await client.services.links()
        assert (listed.id, listed.path, listed.has_password) == (link.id, "/media/c/text.txt", True)
        assert (listed.date_expired or "").startswith("2099-12-31")
        await client.services.remove_link(link.id)
        assert await client.services.links() == []


async def test_favourites_are_added_listed_and_removed(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.add_favourite("/media/c", "songs")
        assert [(f.path, f.name, f.status) for f in await client.services.favourites()] == [
            ("/media/c", "songs", "valid")
        ]
        with pytest.raises(remote.Exists):
            await client.services.add_favourite("/media/c", "again")
        await client.services.remove_favourite("/media/c")
        assert await client.services.favourites() == []


async def test_archives_are_made_listed_and_unpacked(nas: SimnasProcess) -> None:
    make_tree(nas)
    async with client_of(nas) as client:
        await client.services.compress(["/media/c"], "/media/c.zip")
        with zipfile.ZipFile(nas.directory / "c.zip") as archive:
            assert any(name.endswith("text.txt") for name in archive.namelist())
        top = await client.services.archive_items("/media/c.zip")
        assert [(item.name, item.is_dir) for item in top] == [("c", True)]
        inside = await client.services.archive_items("/media/c.zip", item_id=top[0].item_id)
        assert sorted(item.name for item in inside) == ["song 99.mp3", "text.txt"]
        await client.make_dir("/media/out")
        await client.services.extract("/media/c.zip", "/media/out")
        assert (nas.directory / "out" / "c" / "text.txt").read_bytes() == b"text"


async def test_the_nas_tells_who_we_are(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        info = await client.services.info()
        assert info.hostname
        assert isinstance(info.uid, int)


async def test_background_tasks_can_be_listed_and_cleared(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        await client.services.background_tasks()
        await client.services.clear_finished_tasks()
        assert await client.services.background_tasks() == []


async def test_no_right_to_share_is_a_refusal(start_nas: StartNas) -> None:
    nas = start_nas(account_flags=":nosharing")
    make_tree(nas)
    async with client_of(nas) as client:
        with pytest.raises(remote.PermissionDenied):
            await client.services.share_link("/media/c/text.txt")
