"""Proof of fidelity: the client library of Home Assistant, unmodified, against the simulated NAS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from synology_dsm import SynologyDSM
from synology_dsm.exceptions import (
    SynologyDSMAPIErrorException,
    SynologyDSMLogin2SAFailedException,
    SynologyDSMLogin2SARequiredException,
    SynologyDSMLoginInvalidException,
)

from synofs.simnas.totp import totp

SECRET = "JBSWY3DPEHPK3PXP"


@asynccontextmanager
async def client(nas: Any, user: str = "root", password: str = "pw", **more: Any) -> AsyncIterator[SynologyDSM]:
    async with aiohttp.ClientSession() as http:
        yield SynologyDSM(http, "127.0.0.1", nas.port, user, password, **more)


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


@pytest.mark.parametrize("dsm", ["6", "7"])
def test_sign_in_list_and_download(start: Any, share: Path, tmp_path: Path, dsm: str) -> None:
    nas = start("--dsm", dsm, sign_in=False)
    (share / "docs").mkdir()
    (share / "docs" / "a b.txt").write_bytes(b"hello" * 1000)

    async def work() -> None:
        async with client(nas) as api:
            assert await api.login()
            assert api.information.version_string.startswith(f"DSM {dsm}.")
            shares = await api.file.get_shared_folders()
            assert shares is not None
            assert [(share.name, share.additional.volume_status.readonly) for share in shares] == [("media", False)]
            files = await api.file.get_files("/media/docs")
            assert files is not None
            assert [(file.name, file.additional.size) for file in files] == [("a b.txt", 5000)]
            assert await api.file.download_file("/media/docs", "a b.txt", str(tmp_path / "copy"))
            assert (tmp_path / "copy").read_bytes() == b"hello" * 1000
            assert await api.logout()

    run(work)
    assert nas.stats()["sessions"] == 0


def test_sign_in_with_two_factors(start: Any) -> None:
    nas = start(sign_in=False, accounts=(f"otto:pw:admin:otp={SECRET}",))

    async def work() -> None:
        async with client(nas, "otto") as api:
            with pytest.raises(SynologyDSMLogin2SARequiredException):
                await api.login()
            with pytest.raises(SynologyDSMLogin2SAFailedException):
                await api.login("nonsense")
            assert await api.login(totp(SECRET))
            token = api.device_token
            assert token
        async with client(nas, "otto", device_token=token) as api:
            assert await api.login()
            assert await api.file.get_shared_folders() is not None

    run(work)


def test_a_wrong_password(start: Any) -> None:
    nas = start(sign_in=False)

    async def work() -> None:
        async with client(nas, password="wrong") as api:
            with pytest.raises(SynologyDSMLoginInvalidException):
                await api.login()

    run(work)


def test_upload_and_delete(start: Any, share: Path, tmp_path: Path) -> None:
    nas = start(sign_in=False)
    (tmp_path / "source").write_bytes(b"from a file" * 100_000)

    async def stream() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 10_000

    async def work() -> None:
        async with client(nas) as api:
            assert await api.login()
            assert await api.file.upload_file("/media", "bytes.bin", b"bytes")
            assert await api.file.upload_file("/media/new/deep", "f", str(tmp_path / "source"), create_parents=True)
            assert await api.file.upload_file("/media", "stream", stream())  # chunked
            assert (share / "bytes.bin").read_bytes() == b"bytes"
            assert (share / "new" / "deep" / "f").read_bytes() == b"from a file" * 100_000
            assert (share / "stream").read_bytes() == b"x" * 1_000_000
            with pytest.raises(SynologyDSMAPIErrorException) as refused:
                await api.file.upload_file("/media", "stream", b"again")
            assert refused.value.args[0]["code"] == 414
            for name in ("bytes.bin", "stream"):
                assert await api.file.delete_file("/media", name)

    run(work)
    assert [entry.name for entry in share.iterdir()] == ["new"]


def test_over_tls(start: Any, certificate: tuple[str, str]) -> None:
    nas = start("--tls", *certificate, sign_in=False)

    async def work() -> None:
        connector = aiohttp.TCPConnector(ssl=False)
        async with aiohttp.ClientSession(connector=connector) as http:
            api = SynologyDSM(http, "127.0.0.1", nas.port, "root", "pw", use_https=True)
            assert await api.login()
            assert await api.file.get_shared_folders() is not None

    run(work)
