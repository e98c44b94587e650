"""What every `RemoteStore` promises, held against each."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence

import pytest
import trio

from synofs import remote
from synofs.remote import RemoteEntry, RemoteStore, Rights
from tests.contract.conftest import FarSide
from tests.trees import ODD_NAMES, revealing

pytestmark = pytest.mark.trio


async def listed(far: FarSide, path: str) -> list[RemoteEntry]:
    pages: list[Sequence[RemoteEntry]] = []
    await far.store.list_dir(path, pages.append)
    return [entry for page in pages for entry in page]


async def names(far: FarSide, path: str) -> list[str]:
    return [entry.name for entry in await listed(far, path)]


async def read(far: FarSide, path: str, offset: int, length: int, size: int) -> bytes:
    data = bytearray()

    async def on_data(position: int, piece: memoryview) -> None:
        assert position == offset + len(data)
        data.extend(piece)

    await far.store.read_range(path, offset, length, size, on_data)
    return bytes(data)


async def upload(
    far: FarSide, path: str, content: bytes, mtime_ns: int | None = None, *, overwrite: bool = False
) -> None:
    await far.store.upload(path, io.BytesIO(content), len(content), mtime_ns, overwrite=overwrite)


async def entry_at(far: FarSide, path: str) -> RemoteEntry | None:
    return (await far.store.get_entries([path]))[0]


async def test_it_is_a_remote_store(far: FarSide) -> None:
    promised = [name for name in vars(RemoteStore) if not name.startswith("_")]
    assert len(promised) > 10
    for name in promised:
        assert hasattr(far.store, name)


# ----- listing ----------------------------------------------------------------------------------------------------


async def test_the_root_lists_the_shares(far: FarSide) -> None:
    [share] = [entry for entry in await listed(far, "/") if entry.name == far.share]
    assert share.is_dir
    assert Rights.READ in share.rights


@pytest.mark.parametrize("count", [0, 1, 10, 11, 95])
async def test_a_folder_is_listed_once_and_whole(far: FarSide, count: int) -> None:
    for number in range(count):
        far.put(f"{far.root}/{number:04}", b"x")
    assert sorted(await names(far, far.root)) == [f"{number:04}" for number in range(count)]


async def test_an_entry_tells_kind_size_and_time(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"12345", mtime=1_500_000_000)
    far.make_dir(f"{far.root}/folder")
    entries = {entry.name: entry for entry in await listed(far, far.root)}
    file = entries["file"]
    assert (file.is_dir, file.size, file.mtime_ns) == (False, 5, 1_500_000_000 * 10**9)
    assert Rights.READ | Rights.WRITE in file.rights
    assert entries["folder"].is_dir


async def test_a_folder_that_is_not_there_cannot_be_listed(far: FarSide) -> None:
    for path in (f"{far.root}/none", "/none"):
        with pytest.raises(remote.RemoteError) as caught:
            await listed(far, path)
        assert type(caught.value) in (remote.NotFound, remote.PermissionDenied)
        assert caught.value.path == path


async def test_folders_that_are_listed_together_are_as_if_listed_alone(far: FarSide) -> None:
    paths = [f"{far.root}/{name}" for name in ("empty", "some", "none", "file", "many", 'odd "]}, é')]
    for path in paths:
        if path.endswith("file"):
            far.put(path, b"x")
        elif not path.endswith("none"):
            far.make_dir(path)
    for number in range(3):
        far.put(f"{far.root}/some/{number}", b"x" * number)
        far.put(f'{far.root}/odd "]}}, é/{number}', b"x")
    for number in range(45):
        far.put(f"{far.root}/many/{number:04}", b"x")

    alone: list[list[RemoteEntry] | type[Exception]] = []
    for path in paths:
        try:
            alone.append(sorted(await listed(far, path)))
        except remote.RemoteError as error:
            alone.append(type(error))
    for _ in range(2):  # it may have learned the first time that the NAS does not do that
        entries: list[list[RemoteEntry]] = [[] for _ in paths]
        ends: dict[int, Exception | None] = {}

        def on_listed(number: int, error: Exception | None, ends: dict[int, Exception | None] = ends) -> None:
            assert number not in ends
            ends[number] = error

        def on_page(number: int, page: Sequence[RemoteEntry], entries: list[list[RemoteEntry]] = entries) -> None:
            entries[number].extend(page)

        await far.store.list_dirs(paths, on_page, on_listed)
        together = [
            sorted(found) if ends[number] is None else type(ends[number]) for number, found in enumerate(entries)
        ]
        assert together == alone


async def test_small_files_that_are_read_together_are_whole_or_left_out(far: FarSide) -> None:
    names = ["plain", "empty", 'odd "]}, é', "longer now", "gone", "packs well"]
    contents = {name: revealing(1000 + number) for number, name in enumerate(names)}
    contents |= {"empty": b"", "packs well": bytes(100_000)}
    for name, content in contents.items():
        far.put(f"{far.root}/{name}", content)
    files = [(f"{far.root}/{name}", len(content)) for name, content in contents.items()]
    far.put(f"{far.root}/longer now", b"x" * 5000)
    far.remove(f"{far.root}/gone")
    came = dict(zip(names, await far.store.read_files(files), strict=True))
    assert came["longer now"] is None
    assert came["gone"] is None
    for name in names:
        assert came[name] in (None, contents[name])

    del files[3:5]
    again = await far.store.read_files(files)
    assert any(data is not None for data in again), "all of them are there"
    for name, data in zip(["plain", "empty", 'odd "]}, é', "packs well"], again, strict=True):
        assert data in (None, contents[name])


async def test_a_file_is_no_folder(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"x")
    with pytest.raises(remote.RemoteError):
        await listed(far, f"{far.root}/file")


async def test_odd_names_are_themselves_in_every_call(far: FarSide) -> None:
    async def one(root: str, name: str) -> None:
        folder, path = f"{root}/d/{name}", f"{root}/{name}"
        far.make_dir(root)
        far.make_dir(f"{root}/d")
        far.make_dir(folder)
        far.put(f"{folder}/{name}", b"inside")
        far.put(path, b"content")
        assert sorted(await names(far, root)) == sorted({name, "d"})
        assert await names(far, folder) == [name]
        entry = await entry_at(far, path)
        assert entry is not None
        assert (entry.name, entry.size) == (name, 7)
        assert await read(far, path, 0, 7, 7) == b"content"
        assert await far.store.md5(path) == hashlib.md5(b"content").hexdigest()
        await far.store.move(path, folder, overwrite=True)
        assert far.read(f"{folder}/{name}") == b"content"
        await far.store.remove(f"{folder}/{name}")
        await far.store.remove(folder)
        assert await names(far, root) == ["d"]

    async with trio.open_nursery() as nursery:
        for number, name in enumerate(ODD_NAMES):
            nursery.start_soon(one, f"{far.root}/{number}", os.fsdecode(name))


# ----- looking ----------------------------------------------------------------------------------------------------


async def test_many_paths_are_looked_at_together_in_their_order(far: FarSide) -> None:
    paths = [f"{far.root}/{number}" for number in range(230)]
    for path in paths[::2]:
        far.put(path, b"x" * (int(path.rpartition("/")[2]) + 1))
    found = await far.store.get_entries(paths)
    assert len(found) == len(paths)
    for number, entry in enumerate(found):
        if number % 2:
            assert entry is None
        else:
            assert entry is not None
            assert (entry.name, entry.size) == (str(number), number + 1)


async def test_looking_at_nothing_asks_nothing(far: FarSide) -> None:
    assert await far.store.get_entries([]) == []


async def test_the_root_and_a_share_can_be_looked_at(far: FarSide) -> None:
    root, share, none = await far.store.get_entries(["/", f"/{far.share}", f"/{far.share}/none"])
    assert root is not None
    assert root.is_dir
    assert share is not None
    assert share.is_dir
    assert none is None


async def test_below_a_file_nothing_is_there(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"x")
    assert await entry_at(far, f"{far.root}/file/below") is None


async def test_space_is_known_for_a_share(far: FarSide) -> None:
    spaces = await far.store.spaces()
    assert 0 <= spaces[far.share].free_bytes <= spaces[far.share].total_bytes
    assert "none" not in spaces


# ----- reading ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offset", "length"), [(0, 0), (0, 1), (0, 300_000), (1, 1), (299_999, 1), (65_535, 2), (100_001, 150_000)]
)
async def test_a_range_is_read_exactly(far: FarSide, offset: int, length: int) -> None:
    content = revealing(300_000)
    far.put(f"{far.root}/file", content)
    assert await read(far, f"{far.root}/file", offset, length, len(content)) == content[offset : offset + length]


async def test_a_json_file_that_looks_like_an_error_is_read_as_a_file(far: FarSide) -> None:
    content = b'{"success":false,"error":{"code":119}}'
    far.put(f"{far.root}/trap.json", content)
    assert await read(far, f"{far.root}/trap.json", 0, len(content), len(content)) == content


async def test_another_size_is_a_change(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"12345")
    for believed in (4, 6, 500):
        with pytest.raises(remote.Changed):
            await read(far, f"{far.root}/file", 0, min(believed, 5), believed)


async def test_a_file_that_is_gone_is_not_found(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"12345")
    far.remove(f"{far.root}/file")
    with pytest.raises(remote.NotFound):
        await read(far, f"{far.root}/file", 0, 5, 5)


# ----- uploading --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 100_000, 199_999, 200_001, 500_000])
async def test_an_upload_arrives_whole(far: FarSide, size: int) -> None:
    content = revealing(size)
    progress: list[int] = []
    await far.store.upload(
        f"{far.root}/file", io.BytesIO(content), size, 1_234_567_890_123_456_789, overwrite=False,
        on_progress=progress.append,
    )  # fmt: skip
    assert far.read(f"{far.root}/file") == content
    entry = await entry_at(far, f"{far.root}/file")
    assert entry is not None
    assert (entry.size, entry.mtime_ns) == (size, 1_234_567_890 * 10**9)
    assert progress == sorted(progress)
    assert not size or progress[-1] == size
    assert await names(far, far.root) == ["file"]


async def test_an_upload_starts_where_its_source_stands(far: FarSide) -> None:
    source = io.BytesIO(b"0123456789")
    source.seek(3)
    await far.store.upload(f"{far.root}/file", source, 4, None, overwrite=False)
    assert far.read(f"{far.root}/file") == b"3456"


@pytest.mark.parametrize("size", [10, 300_000])
async def test_what_is_there_is_replaced_only_on_request(far: FarSide, size: int) -> None:
    far.put(f"{far.root}/file", b"old")
    with pytest.raises(remote.Exists):
        await upload(far, f"{far.root}/file", revealing(size))
    assert far.read(f"{far.root}/file") == b"old"
    await upload(far, f"{far.root}/file", revealing(size), overwrite=True)
    assert far.read(f"{far.root}/file") == revealing(size)


async def test_a_file_may_be_sent_while_it_grows(far: FarSide) -> None:
    path, content = f"{far.root}/grows", revealing(300_000)
    growing = far.store.begin_upload(path, overwrite=False)
    assert growing is not None
    await growing.append(io.BytesIO(content[:200_000]), 150_000, 200_000, 1_500_000_000 * 10**9)
    await growing.append(io.BytesIO(content[:250_000]), 249_999, 250_000, 1_500_000_000 * 10**9)
    assert growing.sent == 249_999
    assert await entry_at(far, path) is None  # nothing is to be seen before its end
    await growing.finish(io.BytesIO(content), len(content), 1_600_000_000 * 10**9)
    entry = await entry_at(far, path)
    assert entry is not None
    assert entry.mtime_ns == 1_600_000_000 * 10**9
    assert await read(far, path, 0, len(content), entry.size) == content


@pytest.mark.parametrize("overwrite", [False, True])
async def test_a_file_that_grows_replaces_only_on_request(far: FarSide, overwrite: bool) -> None:
    path, content = f"{far.root}/f", revealing(1000)
    far.put(path, b"old")
    growing = far.store.begin_upload(path, overwrite=overwrite)
    assert growing is not None
    refused = False
    try:
        await growing.append(io.BytesIO(content), 500, 1000, 0)
        await growing.finish(io.BytesIO(content), 1000, 0)
    except remote.Exists:  # the first slice may tell already
        refused = True
    assert refused != overwrite
    assert (await entry_at(far, path)).size == (1000 if overwrite else 3)


async def test_an_upload_needs_its_folder(far: FarSide) -> None:
    with pytest.raises(remote.NotFound):
        await upload(far, f"{far.root}/none/file", b"x")
    assert await names(far, far.root) == []


@pytest.mark.parametrize("name", ["ünï", "a b", "%41+&=;", "it's", "[x],y", "\udcff", "-x", "日本", "n" * 255])
async def test_names_are_uploaded_as_they_are(far: FarSide, name: str) -> None:
    await upload(far, f"{far.root}/{name}", b"x")
    assert await names(far, far.root) == [name]


# ----- changing ---------------------------------------------------------------------------------------------------


async def test_a_folder_is_made_and_described(far: FarSide) -> None:
    entry = await far.store.make_dir(f"{far.root}/new")
    assert (entry.name, entry.is_dir) == ("new", True)
    assert await names(far, far.root) == ["new"]


async def test_a_folder_is_made_only_once(far: FarSide) -> None:
    far.put(f"{far.root}/file", b"x")
    for _ in range(2):
        far.make_dir(f"{far.root}/there")
        with pytest.raises(remote.Exists):
            await far.store.make_dir(f"{far.root}/there")
        with pytest.raises(remote.Exists):
            await far.store.make_dir(f"{far.root}/file")
        far.remove(f"{far.root}/there")
        await far.store.make_dir(f"{far.root}/there")
        await far.store.remove(f"{far.root}/there")


async def test_a_folder_needs_its_parent(far: FarSide) -> None:
    with pytest.raises(remote.NotFound):
        await far.store.make_dir(f"{far.root}/none/new")


async def test_renaming_gives_another_name_and_keeps_the_rest(far: FarSide) -> None:
    far.put(f"{far.root}/a", b"content", mtime=1_500_000_000)
    entry = await far.store.rename(f"{far.root}/a", "b c")
    assert (entry.name, entry.size, entry.mtime_ns) == ("b c", 7, 1_500_000_000 * 10**9)
    assert await names(far, far.root) == ["b c"]


async def test_a_folder_is_renamed_with_all_it_holds(far: FarSide) -> None:
    far.make_dir(f"{far.root}/a")
    far.put(f"{far.root}/a/x", b"content")
    await far.store.rename(f"{far.root}/a", "b")
    assert far.read(f"{far.root}/b/x") == b"content"


async def test_renaming_never_replaces(far: FarSide) -> None:
    far.put(f"{far.root}/a", b"a")
    far.put(f"{far.root}/b", b"b")
    with pytest.raises(remote.Exists):
        await far.store.rename(f"{far.root}/a", "b")
    assert (far.read(f"{far.root}/a"), far.read(f"{far.root}/b")) == (b"a", b"b")


async def test_only_case_may_change(far: FarSide) -> None:
    far.put(f"{far.root}/readme", b"x")
    await far.store.rename(f"{far.root}/readme", "README")
    assert await names(far, far.root) == ["README"]


async def test_nothing_is_not_renamed(far: FarSide) -> None:
    with pytest.raises(remote.NotFound):
        await far.store.rename(f"{far.root}/none", "b")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
async def test_what_is_no_name_is_refused(far: FarSide, name: str) -> None:
    far.put(f"{far.root}/a", b"x")
    with pytest.raises(remote.InvalidName):
        await far.store.rename(f"{far.root}/a", name)
    assert await names(far, far.root) == ["a"]


async def test_a_move_keeps_name_content_and_time(far: FarSide) -> None:
    far.make_dir(f"{far.root}/to")
    far.put(f"{far.root}/a", b"content", mtime=1_500_000_000)
    entry = await far.store.move(f"{far.root}/a", f"{far.root}/to", overwrite=False)
    assert await names(far, far.root) == ["to"]
    assert entry == await entry_at(far, f"{far.root}/to/a")
    assert (entry.size, entry.mtime_ns) == (7, 1_500_000_000 * 10**9)


async def test_a_folder_is_moved_with_all_it_holds(far: FarSide) -> None:
    far.make_dir(f"{far.root}/to")
    far.make_dir(f"{far.root}/a")
    far.put(f"{far.root}/a/x", b"content")
    await far.store.move(f"{far.root}/a", f"{far.root}/to", overwrite=False)
    assert far.read(f"{far.root}/to/a/x") == b"content"
    assert await names(far, far.root) == ["to"]


async def test_a_move_replaces_only_on_request(far: FarSide) -> None:
    far.make_dir(f"{far.root}/to")
    far.put(f"{far.root}/a", b"new")
    far.put(f"{far.root}/to/a", b"old")
    with pytest.raises(remote.Exists):
        await far.store.move(f"{far.root}/a", f"{far.root}/to", overwrite=False)
    assert (far.read(f"{far.root}/a"), far.read(f"{far.root}/to/a")) == (b"new", b"old")
    await far.store.move(f"{far.root}/a", f"{far.root}/to", overwrite=True)
    assert (far.read(f"{far.root}/a"), far.read(f"{far.root}/to/a")) == (None, b"new")


async def test_nothing_is_not_moved(far: FarSide) -> None:
    far.make_dir(f"{far.root}/to")
    with pytest.raises(remote.NotFound):
        await far.store.move(f"{far.root}/none", f"{far.root}/to", overwrite=False)


async def test_a_move_to_nowhere_leaves_all_in_place(far: FarSide) -> None:
    far.put(f"{far.root}/a", b"x")
    with pytest.raises(remote.RemoteError):
        await far.store.move(f"{far.root}/a", f"{far.root}/none", overwrite=False)
    assert far.read(f"{far.root}/a") == b"x"


async def test_files_and_empty_folders_are_removed(far: FarSide) -> None:
    far.put(f"{far.root}/a", b"x")
    far.make_dir(f"{far.root}/d")
    await far.store.remove(f"{far.root}/a")
    await far.store.remove(f"{far.root}/d")
    assert await names(far, far.root) == []


async def test_a_folder_with_entries_is_not_removed(far: FarSide) -> None:
    far.make_dir(f"{far.root}/d")
    far.put(f"{far.root}/d/a", b"x")
    with pytest.raises(remote.NotEmpty):
        await far.store.remove(f"{far.root}/d")
    assert far.read(f"{far.root}/d/a") == b"x"


async def test_removing_nothing_is_no_error(far: FarSide) -> None:
    await far.store.remove(f"{far.root}/none")


async def test_what_can_be_written_is_told_without_writing(far: FarSide) -> None:
    await far.store.check_writable(far.root, "new")
    assert await names(far, far.root) == []
    far.put(f"{far.root}/there", b"x")
    await far.store.check_writable(far.root, "there")
    assert far.read(f"{far.root}/there") == b"x"


@pytest.mark.parametrize("size", [0, 1, 1_000_000])
async def test_the_nas_computes_the_md5(far: FarSide, size: int) -> None:
    far.put(f"{far.root}/a", revealing(size))
    assert await far.store.md5(f"{far.root}/a") == hashlib.md5(revealing(size)).hexdigest()


async def test_nothing_has_no_md5(far: FarSide) -> None:
    with pytest.raises(remote.NotFound):
        await far.store.md5(f"{far.root}/none")
