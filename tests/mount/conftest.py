"""Fixtures of the mount ring: trees that are made once, and what serves and mounts them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests import trees
from tests.mount import harness
from tests.mount.harness import Mount, Nas


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


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """An empty folder to be served, for tests that change what is in it."""
    folder = tmp_path / "served"
    folder.mkdir()
    return folder


@pytest.fixture
def start_nas() -> Iterator[Callable[..., Nas]]:
    """`start_nas(folder, *options)`: a simulated NAS that serves a folder as the share `data`."""
    with ExitStack() as stack:

        def start(folder: Path, *options: str, **more: str) -> Nas:
            return stack.enter_context(harness.simulated_nas({"data": folder}, *options, **more))

        yield start


@pytest.fixture
def start_mount(start_nas: object) -> Iterator[Callable[..., Mount]]:
    """`start_mount(nas, *options)`: a read-only mount of the share `data`."""
    with ExitStack() as stack:

        def start(nas: Nas, *options: str, **more: object) -> Mount:
            return stack.enter_context(harness.mounted(nas, *options, **more))

        yield start


@pytest.fixture
def start_runner(start_nas: object) -> Iterator[Callable[..., Mount]]:
    """The same by `runner.py`."""
    with ExitStack() as stack:

        def start(nas: Nas, *options: str) -> Mount:
            return stack.enter_context(harness.mounted_by_runner(nas, *options))

        yield start
