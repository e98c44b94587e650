"""Fixtures of the mount ring: trees that are made once, and what serves and mounts them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from tests import trees
from tests.mount import harness
from tests.mount.harness import Mount, Nas
from tests.mount.places import Place, live_places


@pytest.fixture(scope="session")
def library_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("library")
    trees.make_library_tree(root)
    return root


@pytest.fixture(scope="session")
def wide_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("wide")
    trees.make_wide_tree(root)
    return root


@pytest.fixture(scope="session")
def odd_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("odd")
    trees.make_odd_tree(root, trees.ODD_NAMES + trees.NOT_UTF8_NAMES)
    return root


@pytest.fixture(scope="session")
def common_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="session")
def common_nas(common_folder: Path) -> Iterator[Nas]:
    """One simulated NAS for all tests that need none of their own: starting one takes as long as a test."""
    with harness.simulated_nas({"data": common_folder}) as nas:
        yield nas


@pytest.fixture
def served(common_folder: Path) -> Path:
    """An empty folder to be served, for tests that change what is in it."""
    folder = common_folder / f"test {len(os.listdir(common_folder))}"
    folder.mkdir()
    return folder


@pytest.fixture
def start_nas(served: Path, common_nas: Nas) -> Iterator[Callable[..., Nas]]:
    """`start_nas(folder, *options)`: a simulated NAS that serves a folder as the share `data`, or as one in it."""
    with ExitStack() as stack:

        def start(folder: Path, *options: str, **more: str) -> Nas:
            if folder == served and not options and not more:
                return common_nas
            return stack.enter_context(harness.simulated_nas({"data": folder}, *options, **more))

        yield start
        common_nas.clear_faults()


def _start_mount(start: Callable[..., AbstractContextManager[Mount]], served: Path, common_nas: Nas) -> Iterator:
    with ExitStack() as stack:

        def mount(nas: Nas, *options: str, **more: object) -> Mount:
            mount = stack.enter_context(start(nas, *options, **more))
            if nas is common_nas:
                mount.path = mount.mountpoint / served.name
            return mount

        yield mount


@pytest.fixture
def start_mount(start_nas: object, served: Path, common_nas: Nas) -> Iterator[Callable[..., Mount]]:
    """`start_mount(nas, *options)`: a read-only mount; its `path` shows the served folder."""
    yield from _start_mount(harness.mounted, served, common_nas)


@pytest.fixture
def start_runner(start_nas: object, served: Path, common_nas: Nas) -> Iterator[Callable[..., Mount]]:
    """The same by `runner.py`."""
    yield from _start_mount(harness.mounted_by_runner, served, common_nas)


@pytest.fixture(scope="module", params=["durable", "writeback"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    with live_places(tmp_path_factory.mktemp("posix"), request.param) as place:
        yield place
