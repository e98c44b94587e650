"""Sessions, against the simulated NAS."""

from __future__ import annotations

import base64
import hmac
import io
import struct
import time
from collections.abc import Callable

import pytest
import trio

from synofs import remote
from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.client import ClientOptions, FileStationClient
from tests.contract.simnas_process import PASSWORD, USER, SimnasProcess
from tests.integration.filestation.conftest import client_of
from tests.trees import revealing

pytestmark = pytest.mark.trio

LOGIN = "SYNO.API.Auth.login"


def one_time_code(secret: str) -> str:
    """RFC 6238, as an authenticator app computes it."""
    counter = struct.pack(">Q", int(time.time()) // 30)
    digest = hmac.digest(base64.b32decode(secret), counter, "sha1")
    offset = digest[-1] & 15
    number = struct.unpack(">I", digest[offset : offset + 4])[0] & 0x7FFFFFFF
    return f"{number % 1_000_000:06}"


StartNas = Callable[..., SimnasProcess]


async def test_signing_out_leaves_no_session_behind(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        assert nas.sessions() == 1
    assert nas.sessions() == 0


async def test_a_client_that_never_connected_signs_in_by_itself(nas: SimnasProcess) -> None:
    client = FileStationClient(ClientOptions(url=nas.url, insecure_http=True), Credentials(USER, Secret(PASSWORD)))
    assert (await client.get_entries(["/media"]))[0] is not None
    await client.aclose()
    assert nas.sessions() == 0


@pytest.mark.parametrize("code", [106, 107, 119, 105])
async def test_a_hundred_calls_meet_one_dead_session(nas: SimnasProcess, code: int) -> None:
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        nas.reset_calls()
        nas.fault("expire_sids", code=code)
        client._wire.trouble = code == 105  # as after a restart: what 105 means is looked into then
        async with trio.open_nursery() as nursery:
            for number in range(100):
                nursery.start_soon(client.get_entries, [f"/media/{number}"])
        assert nas.calls()[LOGIN] == 1
        assert client.stats().sign_ins == 2


async def test_downloads_and_uploads_outlast_a_dead_session(nas: SimnasProcess) -> None:
    content = revealing(500_000)
    (nas.directory / "file").write_bytes(content)
    async with client_of(nas) as client:
        received = bytearray()

        async def on_data(offset: int, piece: memoryview) -> None:
            received.extend(piece)

        nas.fault("expire_sids")
        await client.read_range("/media/file", 0, len(content), len(content), on_data)
        assert received == content
        nas.fault("expire_sids")
        await client.upload("/media/new", io.BytesIO(content), len(content), None, overwrite=False)
        assert (nas.directory / "new").read_bytes() == content
        assert client.stats().sign_ins == 3


async def test_119_on_every_tenth_call_is_invisible(nas: SimnasProcess) -> None:
    for number in range(200):
        (nas.directory / str(number)).write_bytes(b"x")
    nas.fault("error", api="List", code=119, probability=0.1, seed=7)
    async with client_of(nas) as client:
        async with trio.open_nursery() as nursery:
            for number in range(200):
                nursery.start_soon(client.get_entries, [f"/media/{number}"])


async def test_a_session_that_is_never_taken_does_not_loop(nas: SimnasProcess) -> None:
    nas.fault("error", api="List", code=119)
    async with client_of(nas) as client:
        for _ in range(5):
            with pytest.raises(remote.SignInNotAllowed):
                await client.get_entries(["/media"])
        assert nas.calls()[LOGIN] == 2


@pytest.mark.parametrize("quirk", ["token-method=rotate", "token-method=same"])
async def test_syno_tokens_that_became_invalid(start_nas: StartNas, quirk: str) -> None:
    nas = start_nas("--quirk", quirk)
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        nas.fault("rotate_tokens")
        await client.get_entries(["/media"])
        assert client.stats().sign_ins <= 2
        if quirk.endswith("rotate"):
            assert client.stats().sign_ins == 1


async def test_a_nas_that_restarts_is_outlasted_by_reading(nas: SimnasProcess) -> None:
    for number in range(30):
        (nas.directory / f"d{number}").mkdir()
        (nas.directory / f"d{number}" / "f").write_bytes(b"x")
    found: list[str] = []
    async with client_of(nas) as client:

        async def walk(folder: str) -> None:
            await client.list_dir(folder, lambda page: found.extend(entry.name for entry in page))

        await client.get_entries(["/media"])
        nas.fault("restart", seconds=1.5)
        async with trio.open_nursery() as nursery:
            for number in range(30):
                nursery.start_soon(walk, f"/media/d{number}")
        assert found == ["f"] * 30
        assert client.stats().sign_ins == 2


async def test_a_nas_that_restarts_again_and_again(nas: SimnasProcess) -> None:
    async with client_of(nas) as client:
        for _ in range(4):
            nas.fault("restart", seconds=0.2)
            assert (await client.get_entries(["/media"]))[0] is not None


async def test_sessions_that_end_by_themselves(start_nas: StartNas) -> None:
    nas = start_nas("--session-seconds", "1")
    async with client_of(nas) as client:
        await client.get_entries(["/media"])
        await trio.sleep(1.5)
        await client.get_entries(["/media"])
        assert client.stats().sign_ins == 2


async def test_a_wrong_password_is_sent_once(start_nas: StartNas) -> None:
    nas = start_nas("--auto-block", "3")
    client = FileStationClient(ClientOptions(url=nas.url, insecure_http=True), Credentials(USER, Secret("wrong")))
    for _ in range(10):
        with pytest.raises(remote.WrongPassword):
            await client.connect()
        with pytest.raises(remote.WrongPassword):
            await client.list_dir("/", lambda page: None)
    assert nas.calls()[LOGIN] == 1
    client.set_credentials(Credentials(USER, Secret(PASSWORD)))
    await client.connect()
    await client.aclose()


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        (":refuse=401", remote.AccountDisabled),
        (":refuse=405", remote.SignInNotAllowed),
        (":refuse=406", remote.OtpSetupNeeded),
        (":refuse=408", remote.PasswordExpired),
        (":refuse=411", remote.AccountDisabled),
        (":noapp", remote.SignInNotAllowed),
        (":otp=JBSWY3DPEHPK3PXP", remote.OtpNeeded),
    ],
)
async def test_refused_accounts(start_nas: StartNas, flags: str, kind: type[remote.RemoteError]) -> None:
    nas = start_nas(account_flags=flags)
    with pytest.raises(kind):
        async with client_of(nas):
            pass


@pytest.mark.parametrize("quirks", [(), ("device-id=absent",), ("device-id=empty", "otp-reuse=refused")])
@pytest.mark.parametrize("dsm", ["6", "7"])
async def test_two_factor_sign_in_and_the_remembered_device(
    start_nas: StartNas, dsm: str, quirks: tuple[str, ...]
) -> None:
    secret = "JBSWY3DPEHPK3PXP"
    arguments = [argument for quirk in quirks for argument in ("--quirk", quirk)]
    nas = start_nas("--dsm", dsm, *arguments, account_flags=f":otp={secret}")
    code = Secret(one_time_code(secret))
    with pytest.raises(remote.OtpNeeded):
        async with client_of(nas):
            pass
    async with client_of(nas, Credentials(USER, Secret(PASSWORD), otp=code, device_name="laptop")) as client:
        await client.get_entries(["/media"])
        device = client.device_id
    if dsm == "7" and "otp-reuse=refused" in quirks:
        assert device is None, "v7 gives no device id, and v6 does not take the code again"
        return
    assert device
    remembered = Credentials(USER, Secret(PASSWORD), device_id=device, device_name="laptop")
    async with client_of(nas, remembered) as client:
        await client.get_entries(["/media"])
    with pytest.raises(remote.OtpNeeded):
        async with client_of(nas, Credentials(USER, Secret(PASSWORD), device_id=device, device_name="other")):
            pass


async def test_many_clients_of_one_account_live_together(nas: SimnasProcess) -> None:
    async with client_of(nas) as first, client_of(nas) as second:
        for _ in range(3):
            await first.get_entries(["/media"])
            await second.get_entries(["/media"])
        assert (first.stats().sign_ins, second.stats().sign_ins) == (1, 1)


async def test_clients_that_end_each_others_sessions_still_work(start_nas: StartNas) -> None:
    nas = start_nas("--quirk", "duplicate-login=107")
    async with client_of(nas) as first, client_of(nas) as second:
        for _ in range(3):
            await first.get_entries(["/media"])
            await second.get_entries(["/media"])
