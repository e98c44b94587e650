"""What desktops look for in every folder, and hardly ever find."""

from __future__ import annotations

import os

import pytest

from tests.desktop.conftest import PHOTOGRAPHS, Scene

pytestmark = pytest.mark.mount

PROBED = [".Trash", ".Trash-1000", ".hidden", ".xdg-volume-info", "autorun.inf", ".directory", "Thumbs.db", ".git"]


def test_probes_of_desktops_cost_no_request_after_the_folder_was_listed(scene: Scene) -> None:
    folders = [scene.mounted.parent, scene.mounted, scene.mounted / "Norway"]
    for folder in folders:
        os.listdir(folder)
    before = scene.calls()
    for _ in range(3):
        for folder in folders:
            for name in PROBED:
                assert not (folder / name).exists()
    assert scene.calls() == before


def test_the_first_probe_of_an_unknown_folder_pays_for_all_that_follow(scene: Scene) -> None:
    """The negative answer comes from the folder's listing, which the file manager needs next."""
    folder = scene.mounted / "Norway"
    assert not (folder / ".hidden").exists()
    first = scene.calls()
    assert not any((folder / name).exists() for name in PROBED)
    assert len(os.listdir(folder)) == PHOTOGRAPHS
    assert all((folder / name).stat().st_size for name in os.listdir(folder))
    assert scene.calls() == first
