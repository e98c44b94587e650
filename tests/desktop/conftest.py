"""A mount of a NAS with photographs, a desktop beside it, and the requests that the NAS was asked."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.desktop.photographs import fill_with_photographs, save_photograph
from tests.desktop.stage import Desktop, desktop, missing, wait_for
from tests.integration.cli.conftest import PASSWORD, Nas, Synofs, running_nas, synofs

__all__ = ["synofs"]  # a fixture

PHOTOGRAPHS = 200


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    lacking = missing()
    if lacking:
        skip = pytest.mark.skip(reason=f"needs {', '.join(lacking)}")
        for item in items:
            if item.path.is_relative_to(Path(__file__).parent):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the NAS holds: drawn once, because it takes seconds."""
    folder = tmp_path_factory.mktemp("volume")
    fill_with_photographs(folder / "Norway", PHOTOGRAPHS)
    for name in ("Inbox", "One", "Old", "Read"):
        (folder / name).mkdir()
    save_photograph(folder / "One" / "one.jpg", 20)
    (folder / "Old" / "old.txt").write_text("nobody needs this\n")
    (folder / "Read" / "letter.txt").write_text("Dear NAS,\n")
    return folder


@dataclass
class Scene:
    desktop: Desktop
    nas: Nas
    mounted: Path  # the share

    def calls(self) -> dict[str, int]:
        """What the NAS was asked since the start: "List.list": 3."""
        calls = self.nas.stats()["calls"]
        return {name.removeprefix("SYNO.").removeprefix("FileStation."): count for name, count in calls.items()}

    def thumbnails(self, flavour: str = "large") -> int:
        return len(list((self.desktop.home / ".cache" / "thumbnails" / flavour).glob("[0-9a-f]*.png")))


@pytest.fixture
def scene(volume: Path, tmp_path: Path, synofs: Synofs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    folder = tmp_path / "volume"
    shutil.copytree(volume, folder, copy_function=os.link)  # nothing is written in place on the NAS's side
    home = tmp_path / "home"
    with running_nas(folder, "--account", f"anna:{PASSWORD}") as nas:
        with desktop(home, tmp_path / "screenshots") as session:
            monkeypatch.setenv("XDG_CACHE_HOME", session.environment["XDG_CACHE_HOME"])
            monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
            synofs.mount(nas)
            try:
                yield Scene(session, nas, synofs.mountpoint / "docs")
            finally:
                session.look("at-the-end")  # for whoever wonders why it failed
                session.end()  # nobody holds the mount any more
                # Services that the bus has started end a little later.
                wait_for(
                    "the end of the mount", lambda: synofs("umount", synofs.mountpoint, "--timeout", "20").code == 0
                )
