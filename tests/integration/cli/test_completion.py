"""What the shells' completion asks the command, in each shell's own words."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .conftest import COMMAND

SHELLS = ("bash", "zsh", "fish")


def offered(shell: str, words: str, config: Path) -> str:
    """What is offered for the last of these words."""
    environment = {"_SYNOFS_COMPLETE": f"complete_{shell}", "XDG_CONFIG_HOME": str(config)}
    environment |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    environment |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    if shell == "fish":
        environment["_TYPER_COMPLETE_WORD_TO_COMPLETE"] = words.rpartition(" ")[2]
    done = subprocess.run([COMMAND], capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "synofs"
    folder.mkdir()
    (folder / "config.toml").write_text('[profiles.home]\nnas = "nas"\n[profiles.office]\nnas = "other"\n')
    return tmp_path


@pytest.mark.parametrize("shell", SHELLS)
def test_profiles_are_completed(shell: str, config: Path) -> None:
    assert "home" in offered(shell, "synofs mount ho", config)
    assert "office" not in offered(shell, "synofs mount ho", config)


@pytest.mark.parametrize("shell", SHELLS)
def test_commands_and_options_are_completed(shell: str, config: Path) -> None:
    assert "umount" in offered(shell, "synofs um", config)
    assert "--read-only" in offered(shell, "synofs mount --read", config)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_broken_configuration_breaks_no_completion(shell: str, config: Path) -> None:
    (config / "synofs" / "config.toml").write_text("[broken")
    assert "home" not in offered(shell, "synofs mount ho", config)
