"""A NAS, or a network, in trouble; against the simulated NAS."""

from __future__ import annotations

import io
import time
from collections.abc import Callable

import pytest
import trio

from synofs import remote
from tests.contract.simnas_process import SimnasProcess
from tests.integration.filestation.conftest import client_of
from tests.trees import revealing

pytestmark = pytest.mark.trio

StartNas = Callable[..., SimnasProcess]
GETINFO = "SYNO.FileStation.List.getinfo"
UPLOAD = "SYNO.FileStation.Upload.upload"


async def read(client: object, path: str, size: int, offset: int = 0) -> bytes:
    received = bytearray()

    async def on_data(position: int, piece: memoryview) -> None:
        assert position == offset + len(received)
        received.extend(piece)

    await client.read_range(path, offset, size - offset, size, on_data)  # type: ignore[attr-defined]
    return bytes(received)


async def test_idle_connections_that_the_nas_drops_cost_nothing(start_nas: StartNas) -> None:
    nas = start_nas()
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        before = client.stats()
        for _ in range(5):
            nas.fault("drop_idle")
            await client.get_entries(["/media"])
        after = client.stats()
        assert after.sign_ins == before.sign_ins
        assert after.allowed_requests == 6
        assert after.api_calls[GETINFO] - before.api_calls[GETINFO] in range(5, 11)


@pytest.mark.parametrize("reset", [True, False])
async def test_answers_that_are_dropped_are_asked_for_again(nas: SimnasProcess, reset: bool) -> None:
    async with client_of(nas) as client:
        nas.fault("drop", api="List", times=3, reset=reset)
        assert (await client.get_entries(["/media"]))[0] is not None
        nas.fault("drop", api="List", times=1, after_bytes=10, reset=reset)
        assert (await client.get_entries(["/media"]))[0] is not None


async def test_a_busy_nas_is_asked_less_and_answers_in_the_end(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        nas.fault("error", api="List", code=402, times=4)
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(client.get_entries, [f"/media/{number}"])
        assert client.stats().allowed_requests < 6


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
async def test_pages_of_a_proxy_in_trouble_are_outlasted(nas: SimnasProcess, status: int) -> None:
    async with client_of(nas) as client:
        nas.fault("status", api="List", status=status, times=2)
        assert (await client.get_entries(["/media"]))[0] is not None


async def test_nonsense_in_place_of_an_answer_is_outlasted(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        nas.fault("body", api="List", body="<html>maintenance</html>", times=1)
        nas.fault("truncate", api="List", bytes=20, times=1, skip=1)
        assert (await client.get_entries(["/media"]))[0] is not None


async def test_nonsense_for_ever_is_a_bad_answer(nas: SimnasProcess) -> None:
    async with client_of(nas, metadata_deadline_seconds=1.5) as client:
        nas.fault("body", api="List", body="<html>maintenance</html>")
        with pytest.raises(remote.BadAnswer):
            await client.get_entries(["/media"])


async def test_a_nas_that_hangs_is_given_up_at_the_deadline_and_other_calls_go_on(nas: SimnasProcess) -> None:
    async with client_of(nas, metadata_deadline_seconds=1.0) as client:
        nas.fault("hang", api="List", path="stuck")
        start = time.monotonic()

        async def stuck() -> None:
            with pytest.raises(remote.TimedOut):
                await client.get_entries(["/media/stuck"])

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(stuck)
            await trio.sleep(0.1)
            await client.get_entries(["/media"])
            assert time.monotonic() - start < 0.9
        assert time.monotonic() - start < 5
        assert client.stats().active_requests == 0


async def test_metadata_does_not_wait_for_transfers(nas: SimnasProcess) -> None:
    (nas.directory / "file").write_bytes(bytes(1_000_000))
    async with client_of(nas) as client:
        nas.fault("hang", api="Download")
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(read, client, "/media/file", 1_000_000)
            await nas.have_counted("SYNO.FileStation.Download.download", 4)
            with trio.fail_after(5):
                await client.get_entries(["/media"])
            assert nas.calls()["SYNO.FileStation.Download.download"] == 4
            assert client.stats().waiting_requests == 4
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("max_requests", [1, 3])
async def test_never_more_calls_at_once_than_allowed(nas: SimnasProcess, max_requests: int) -> None:
    async with client_of(nas, max_requests=max_requests) as client:
        nas.fault("hang", api="List", path="stuck")
        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(client.get_entries, ["/media/stuck"])
            await nas.have_counted(GETINFO, max_requests)
            await trio.testing.wait_all_tasks_blocked(0.2)
            assert nas.calls()[GETINFO] == max_requests
            nursery.cancel_scope.cancel()


# ----- downloads --------------------------------------------------------------------------------------------------


async def test_a_download_that_breaks_is_resumed_where_it_broke(nas: SimnasProcess) -> None:
    content = revealing(2_000_000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas) as client:
        nas.fault("drop", api="Download", after_bytes=700_000, times=1)
        assert await read(client, "/media/file", len(content)) == content
        assert client.stats().bytes_read == len(content)


async def test_a_download_that_breaks_twice_is_short(nas: SimnasProcess) -> None:
    content = revealing(2_000_000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas) as client:
        nas.fault("drop", api="Download", after_bytes=300_000)
        with pytest.raises(remote.ShortBody):
            await read(client, "/media/file", len(content))


async def test_a_body_that_looks_complete_and_is_not_is_noticed(nas: SimnasProcess) -> None:
    content = revealing(100_000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas, metadata_deadline_seconds=1.0) as client:
        nas.fault("truncate", api="Download", bytes=5000)
        with pytest.raises(remote.RemoteError) as caught:
            await read(client, "/media/file", len(content))
        assert isinstance(caught.value, remote.BadAnswer | remote.ShortBody | remote.Changed)


async def test_a_file_that_changes_its_size_is_a_change(nas: SimnasProcess) -> None:
    (nas.directory / "file").write_bytes(bytes(100_000))
    async with client_of(nas) as client:
        (nas.directory / "file").write_bytes(bytes(99_999))
        with pytest.raises(remote.Changed):
            await read(client, "/media/file", 100_000)
        (nas.directory / "file").write_bytes(bytes(10))
        with pytest.raises(remote.Changed):
            await read(client, "/media/file", 100_000, offset=50_000)


@pytest.mark.parametrize("variant", ["502", "404", "408", "407"])
async def test_every_way_to_say_that_a_file_is_gone(start_nas: StartNas, variant: str) -> None:
    nas = start_nas("--quirk", f"missing-download={variant}")
    async with client_of(nas) as client:
        with pytest.raises(remote.NotFound):
            await read(client, "/media/none", 10)


async def test_502_for_a_file_that_is_there_is_only_a_busy_nas(nas: SimnasProcess) -> None:
    content = revealing(1000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas) as client:
        nas.fault("status", api="Download", status=502, times=2)
        assert await read(client, "/media/file", len(content)) == content


async def test_a_nas_that_ignores_ranges_is_read_and_remembered(start_nas: StartNas) -> None:
    nas = start_nas("--quirk", "range-requests=ignored")
    content = revealing(3_000_000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas) as client:
        assert not client.ranges_ignored
        assert await read(client, "/media/file", len(content), offset=1_000_000) == content[1_000_000:]
        assert client.ranges_ignored


async def test_cancelling_a_download_frees_everything(nas: SimnasProcess) -> None:
    (nas.directory / "file").write_bytes(bytes(5_000_000))
    async with client_of(nas, max_requests=2) as client:
        for _ in range(5):
            with trio.CancelScope() as scope:

                async def on_data(offset: int, piece: memoryview, scope: trio.CancelScope = scope) -> None:
                    scope.cancel()
                    await trio.lowlevel.checkpoint()

                await client.read_range("/media/file", 0, 5_000_000, 5_000_000, on_data)
            assert scope.cancelled_caught
        assert client.stats().active_requests == 0
        assert len(await read(client, "/media/file", 5_000_000)) == 5_000_000


# ----- uploads ----------------------------------------------------------------------------------------------------


async def test_an_upload_that_breaks_is_not_repeated_by_the_client(nas: SimnasProcess) -> None:
    content = revealing(3_000_000)
    async with client_of(nas) as client:
        for when in ("request", "response"):
            nas.fault("drop", api="Upload", when=when, times=1, after_bytes=0)
            nas.reset_calls()
            with pytest.raises(remote.Unavailable):
                await client.upload(f"/media/{when}", io.BytesIO(content), len(content), None, overwrite=False)
            assert nas.calls().get(UPLOAD, 1) == 1
        assert (nas.directory / "response").read_bytes() == content, "it had arrived; only the answer was lost"


async def test_a_proxy_that_takes_no_large_bodies(start_nas: StartNas) -> None:
    nas = start_nas("--max-body-bytes", "100000")
    async with client_of(nas) as client:
        with pytest.raises(remote.FileTooBig):
            await client.upload("/media/big", io.BytesIO(bytes(5_000_000)), 5_000_000, None, overwrite=False)
        await client.upload("/media/small", io.BytesIO(b"x"), 1, None, overwrite=False)


@pytest.mark.parametrize("status", [502, 504])
async def test_a_proxy_that_gives_up_on_an_upload(nas: SimnasProcess, status: int) -> None:
    async with client_of(nas) as client:
        nas.fault("status", api="Upload", status=status, when="after", times=1)
        with pytest.raises(remote.Overloaded):
            await client.upload("/media/x", io.BytesIO(b"x"), 1, None, overwrite=False)
        assert nas.calls()[UPLOAD] == 1


async def test_full_volumes_and_quotas(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        nas.fault("volume", bytes=1000)
        with pytest.raises(remote.NoSpace):
            await client.upload("/media/x", io.BytesIO(bytes(100_000)), 100_000, None, overwrite=False)
        nas.fault("volume", bytes=None)
        nas.fault("quota", bytes=1000)
        with pytest.raises(remote.QuotaExceeded):
            await client.upload("/media/x", io.BytesIO(bytes(100_000)), 100_000, None, overwrite=False)
        nas.fault("quota", bytes=None)
        nas.fault("readonly", on=True)
        with pytest.raises(remote.ReadOnlyStore):
            await client.make_dir("/media/d")


async def test_what_may_not_be_written(start_nas: StartNas) -> None:
    nas = start_nas(share_flags=":ro")
    async with client_of(nas) as client:
        shares: list[remote.RemoteEntry] = []
        await client.list_dir("/", shares.extend)
        assert remote.Rights.WRITE not in shares[0].rights
        for refused in (
            client.make_dir("/media/d"),
            client.check_writable("/media", "x"),
            client.upload("/media/x", io.BytesIO(b"x"), 1, None, overwrite=False),
        ):
            with pytest.raises((remote.PermissionDenied, remote.ReadOnlyStore)):
                await refused


async def test_names_that_are_too_long_in_an_encrypted_share(start_nas: StartNas) -> None:
    nas = start_nas(share_flags=":encrypted")
    async with client_of(nas) as client:
        with pytest.raises(remote.NameTooLong):
            await client.make_dir(f"/media/{'n' * 200}")


async def test_a_source_that_became_shorter_leaves_nothing(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        with pytest.raises(remote.InputOutput):
            await client.upload("/media/x", io.BytesIO(b"abc"), 10, None, overwrite=False)
        await client.get_entries(["/media"])
    assert not (nas.directory / "x").exists()


# ----- counts -----------------------------------------------------------------------------------------------------


async def test_ten_thousand_entries_cost_three_calls(nas: SimnasProcess) -> None:
    for number in range(10_000):
        (nas.directory / f"{number:05}").touch()
    async with client_of(nas) as client:
        names: list[str] = []
        await client.list_dir("/media", lambda page: names.extend(entry.name for entry in page))
        assert len(set(names)) == len(names) == 10_000
        assert nas.calls()["SYNO.FileStation.List.list"] == 3


async def test_one_small_file_costs_one_call_each_way(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        nas.reset_calls()
        await client.upload("/media/x", io.BytesIO(b"hello"), 5, None, overwrite=True)
        assert await read(client, "/media/x", 5) == b"hello"
        assert nas.calls() == {UPLOAD: 1, "SYNO.FileStation.Download.download": 1}
        counted = client.stats()
        assert (counted.bytes_read, counted.bytes_written) == (5, 5)


async def test_our_count_of_calls_is_the_nas_count(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        await client.list_dir("/media", lambda page: None)
        await client.make_dir("/media/d")
        assert dict(client.stats().api_calls) == nas.calls()


async def test_probing_needs_no_session(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        before = nas.calls()["SYNO.API.Auth.login"]
        await client.probe()
        assert nas.calls()["SYNO.API.Auth.login"] == before
    nas.fault("restart", seconds=3)
    with pytest.raises(remote.Unreachable):
        await client.probe()
