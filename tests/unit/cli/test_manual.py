"""The manual says what the commands say, and man(1) can read it."""

from __future__ import annotations

import inspect
import subprocess
from typing import Any

import pytest
import typer

from synofs.cli import manual
from synofs.cli.main import command_line, run


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
    return dict(manual._commands(typer.main.get_command(command_line()), "synofs"))


@pytest.mark.parametrize("name", all_commands())
def test_every_command_teaches_by_example(name: str) -> None:
    """Each example is one of this very command."""
    about, _, examples = all_commands()[name].help.partition("Examples:\n")
    assert about.strip()
    shown = examples.strip().splitlines()
    assert shown
    stem = "synofs share" if name == "synofs share create" else name
    assert all(stem in line for line in shown), examples


@pytest.mark.parametrize("name", all_commands())
def test_the_help_indents_its_examples_and_breaks_none(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    examples = inspect.cleandoc(all_commands()[name].help).partition("Examples:\n")[2].splitlines()
    run([*name.split()[1:], "--help"])
    shown = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert [f" {line}" for line in examples if f" {line}" not in shown] == []


@pytest.mark.parametrize("name", all_commands())
def test_what_is_to_be_filled_in_is_written_in_capitals(name: str) -> None:
    arguments = [one for one in all_commands()[name].params if one.param_type_name == "argument"]
    assert [one.name for one in arguments if one.metavar != str(one.metavar).upper()] == []
    assert [one for one in map(manual.metavar_of, arguments) if "[" in one or "]" in one] == []
