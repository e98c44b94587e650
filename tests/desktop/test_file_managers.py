"""Thunar, PCManFM and Nautilus on a mount, driven with keys and watched on the NAS's own disk."""

from __future__ import annotations

import filecmp
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.desktop.conftest import PHOTOGRAPHS, Scene
from tests.desktop.photographs import landscape, save_photograph
from tests.desktop.stage import wait_for

pytestmark = [pytest.mark.mount, pytest.mark.timeout(290)]


@dataclass(frozen=True)
class FileManager:
    command: Sequence[str]
    opening: Sequence[str] = ("Return",)  # keys that open what was selected
    selects: bool = False  # can be started with a file selected; without that, all files are selected by keys

    def open(self, scene: Scene, folder: Path) -> None:
        """A window of the folder, in front."""
        scene.desktop.start(*self.command, folder)
        scene.desktop.window(self.title(folder))
        self._settle(scene)

    def select(self, scene: Scene, file: Path) -> None:
        """A window of the folder that has this file alone, with the file selected."""
        if self.selects:
            scene.desktop.start(*self.command, "--select", file)
            scene.desktop.window(self.title(file.parent))
            self._settle(scene)
        else:
            self.open(scene, file.parent)
            scene.desktop.keys("ctrl+a")

    def _settle(self, scene: Scene) -> None:
        """A window takes keys only after its files are shown: wait until the screen stands still."""
        scene.desktop.wait_for_stillness()

    @staticmethod
    def title(folder: Path) -> str:
        return f"^{re.escape(folder.name)}( - .*)?$"


FILE_MANAGERS = {
    "thunar": FileManager(["thunar"], ["ctrl+o"]),
    "pcmanfm": FileManager(["pcmanfm", "-n"], ["Home", "Return"]),
    "nautilus": FileManager(["nautilus", "--new-window"], selects=True),
}

FIRST_REQUESTS = 20  # for thumbnails, two for each: enough that some are made

each_file_manager = pytest.mark.parametrize("name", FILE_MANAGERS)


@each_file_manager
def test_everyday_work_reaches_the_nas(scene: Scene, name: str) -> None:
    manager, screen = FILE_MANAGERS[name], scene.desktop
    mounted, disk, home = scene.mounted, scene.nas.folder, screen.home
    for folder in ("In", "Out"):
        (home / folder).mkdir()
    save_photograph(home / "In" / "holiday.jpg", 30)

    # copy in
    manager.select(scene, home / "In" / "holiday.jpg")
    screen.keys("ctrl+c")
    manager.open(scene, mounted / "Inbox")
    screen.keys("ctrl+v")
    wait_for("the copy on the NAS", lambda: same(home / "In" / "holiday.jpg", disk / "Inbox" / "holiday.jpg"))
    assert scene.calls()["Upload.upload"] == 1
    screen.look(f"{name}-copied-in")

    # new folder
    screen.keys("ctrl+shift+n")
    screen.wait_for_stillness()
    screen.keys("ctrl+a")
    screen.type("Fresh")
    screen.keys("Return")
    wait_for("the new folder", (disk / "Inbox" / "Fresh").is_dir)

    # copy out
    manager.select(scene, mounted / "One" / "one.jpg")
    screen.keys("ctrl+c")
    manager.open(scene, home / "Out")
    screen.keys("ctrl+v")
    wait_for("the copy at home", lambda: same(disk / "One" / "one.jpg", home / "Out" / "one.jpg"))

    # rename
    screen.close("One")
    manager.select(scene, mounted / "One" / "one.jpg")
    screen.keys("F2")
    screen.wait_for_stillness()
    screen.keys("ctrl+a")
    screen.type("renamed.jpg")
    screen.keys("Return")
    wait_for("the new name", (disk / "One" / "renamed.jpg").exists)
    assert not (disk / "One" / "one.jpg").exists()

    # delete
    manager.select(scene, mounted / "Old" / "old.txt")
    screen.keys("shift+Delete")
    screen.wait_for_stillness()
    screen.keys("Return")
    wait_for("the deletion", lambda: not (disk / "Old" / "old.txt").exists())

    # open
    manager.select(scene, mounted / "Read" / "letter.txt")
    screen.keys_until(manager.opening, lambda: same(disk / "Read" / "letter.txt", screen.opened / "letter.txt"))
    screen.look(f"{name}-all-done")

    calls = scene.calls()
    changes = {call: calls.get(call, 0) for call in ("Rename.rename", "Delete.delete", "Upload.upload")}
    assert changes == {"Rename.rename": 1, "Delete.delete": 1, "Upload.upload": 1}
    assert not list(disk.rglob(".synofs-*")), "hidden names are left on the NAS"


@each_file_manager
def test_dragging_a_file_into_another_folder_moves_it_on_the_nas(scene: Scene, name: str) -> None:
    manager, screen = FILE_MANAGERS[name], scene.desktop
    mounted, disk = scene.mounted, scene.nas.folder
    manager.open(scene, mounted / "Inbox")
    screen.place(screen.window(manager.title(mounted / "Inbox")), 550, 0, 550, 700)
    manager.select(scene, mounted / "Old" / "old.txt")
    screen.place(screen.window(manager.title(mounted / "Old")), 0, 0, 550, 700)
    start = screen.find_file((0, 60, 550, 500))
    screen.drag(start, (950, 550))
    wait_for("the file in the other folder", (disk / "Inbox" / "old.txt").exists)
    wait_for("nothing in the first one", lambda: not (disk / "Old" / "old.txt").exists())
    screen.wait_for_stillness()
    screen.look(f"{name}-dragged")
    calls = scene.calls()
    assert calls["CopyMove.start"] == 1
    assert "Upload.upload" not in calls


@each_file_manager
def test_while_a_slow_nas_makes_thumbnails_the_file_manager_goes_on(scene: Scene, name: str) -> None:
    """Each answer comes late, and most thumbnails never: what is done meanwhile must not wait for them."""
    manager, screen = FILE_MANAGERS[name], scene.desktop
    scene.nas.add_fault({"kind": "delay", "seconds": 0.8})
    scene.nas.add_fault({"kind": "hang", "api": "Thumb", "skip": FIRST_REQUESTS})
    screen.stillness = 2.0
    manager.open(scene, scene.mounted / "Norway")
    wait_for("the first thumbnails", lambda: scene.thumbnails() > 0)
    screen.look(f"{name}-slow")
    screen.keys("alt+Up")
    screen.window(manager.title(scene.mounted))
    manager.select(scene, scene.mounted / "Read" / "letter.txt")
    letter = scene.nas.folder / "Read" / "letter.txt"
    screen.keys_until(manager.opening, lambda: same(letter, screen.opened / "letter.txt"))
    screen.look(f"{name}-slow-later")
    assert 0 < scene.thumbnails() <= FIRST_REQUESTS


@each_file_manager
def test_a_folder_of_photographs_is_shown_without_downloading_them(scene: Scene, name: str) -> None:
    FILE_MANAGERS[name].open(scene, scene.mounted / "Norway")
    wait_for("all thumbnails", lambda: scene.thumbnails() == PHOTOGRAPHS, seconds=150)
    screen = scene.desktop
    if name == "pcmanfm":  # looks for thumbnails once only: when it opens a folder
        screen.keys("F5")
    screen.wait_for_stillness()
    screen.look(f"{name}-photographs")
    stats = scene.nas.stats()
    calls = scene.calls()
    whole = sum(file.stat().st_size for file in (scene.nas.folder / "Norway").iterdir())
    assert calls["List.list"] <= 4  # the share, the folder, and each once more if the file manager came back
    # Each thumbnail is asked for twice: the NAS makes it at the first request, and has it at the second. (If it is
    # busy, now and then not yet.)
    assert 2 * PHOTOGRAPHS <= calls["Thumb.get"] <= 2.1 * PHOTOGRAPHS
    # PCManFM reads the first bytes of every file to tell its kind; the others go by the name.
    assert calls.get("Download.download", 0) <= (PHOTOGRAPHS if name == "pcmanfm" else 0)
    assert stats["bytes_sent"] < whole / 20
    for flavour in ("normal", "large"):
        assert scene.thumbnails(flavour) == PHOTOGRAPHS

    # The requests changed the folder's mtime on the NAS. Coming back costs a listing at most, and no thumbnail again.
    FILE_MANAGERS[name].open(scene, scene.mounted / "Norway")
    screen.wait_for_stillness()
    assert scene.calls()["Thumb.get"] == calls["Thumb.get"]
    assert scene.calls()["List.list"] <= calls["List.list"] + 2


def test_pcmanfm_does_not_download_pictures_to_make_thumbnails_itself(scene: Scene) -> None:
    folder = scene.nas.folder / "Inbox"
    for number in range(8):
        landscape(number, 700, 500).save(folder / f"{number}.png")
    FILE_MANAGERS["pcmanfm"].open(scene, scene.mounted / "Inbox")
    wait_for("all thumbnails", lambda: scene.thumbnails() == 8)
    scene.desktop.keys("F5")
    scene.desktop.wait_for_stillness()
    scene.desktop.look("pcmanfm-drawings")
    whole = sum(file.stat().st_size for file in folder.iterdir())
    assert scene.nas.stats()["bytes_sent"] < whole / 2  # most of that are the NAS's thumbnails, PNG as well


def same(source: Path, copy: Path) -> bool:
    return copy.exists() and filecmp.cmp(source, copy, shallow=False)
