"""A simulated NAS of a test's own, and clients for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.client import ClientOptions, FileStationClient
from tests.contract.simnas_process import PASSWORD, USER, SimnasProcess

NewClient = Callable[..., AbstractAsyncContextManager[FileStationClient]]


@pytest.fixture
def start_nas(tmp_path: Path) -> Iterator[Callable[..., SimnasProcess]]:
    running: list[SimnasProcess] = []

    def start(*arguments: str, **more: Any) -> SimnasProcess:
        nas = SimnasProcess(tmp_path / f"media{len(running)}", *arguments, **more)
        running.append(nas)
        return nas

    yield start
    for nas in running:
        nas.stop()


@pytest.fixture
def nas(start_nas: Callable[..., SimnasProcess]) -> SimnasProcess:
    return start_nas()


@asynccontextmanager
async def client_of(
    nas: SimnasProcess, credentials: Credentials | None = None, **options: Any
) -> AsyncIterator[FileStationClient]:
    """Signed in when it is given, signed out at the end."""
    who = credentials or Credentials(USER, Secret(PASSWORD))
    async with FileStationClient(ClientOptions(url=nas.url, insecure_http=True, **options), who) as client:
        yield client
