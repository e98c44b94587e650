"""The manual says what the commands say, and man(1) can read it."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest
import typer

from synofs.cli import manual
from synofs.cli.main import app


@pytest.mark.parametrize("name", manual.pages())
def test_the_pages_are_those_of_these_commands(name: str) -> None:
    assert (manual.FOLDER / name).read_text() == manual.pages()[name], "make them again with scripts/man"


@pytest.mark.parametrize("name", manual.pages())
def test_man_finds_nothing_wrong_with_them(name: str) -> None:
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", str(manual.FOLDER / name)]
    done = subprocess.run(command, capture_output=True, text=True, env={"MANWIDTH": "80", "PATH": "/usr/bin:/bin"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "S\bSY\bYN\bNO\bOP" in done.stdout


def all_commands() -> dict[str, Any]:
    return dict(manual._commands(typer.main.get_command(app), "synofs"))


@pytest.mark.parametrize("name", all_commands())
def test_every_command_teaches_by_example(name: str) -> None:
    """Each example is one of this very command."""
    about, _, examples = all_commands()[name].help.partition("Examples:\n")
    assert about.strip()
    shown = examples.strip().splitlines()
    assert shown
    stem = "synofs share" if name == "synofs share create" else name
    assert all(stem in line for line in shown), examples
