"""The command's outermost layer: whatever happens inside, a person sees one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

import synofs
from synofs.app.errors import Failure, Problem
from synofs.cli import main, running


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def statuses(_mountpoint: str | None, _command: str = "status") -> list[running.Status]:
        raise error

    monkeypatch.setattr(running, "_statuses", statuses)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Failure(Problem.NO_ANSWER, mountpoint="/mnt"), Problem.NO_ANSWER.exit_code),
        (KeyboardInterrupt(), Problem.INTERRUPTED.exit_code),
        (ZeroDivisionError("oops"), Problem.INTERNAL.exit_code),
        (OSError(5, "Input/output error"), Problem.INTERNAL.exit_code),
    ],
)
def test_every_end_is_one_line_and_a_code(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, error)
    assert main.run(["status"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("synofs: ")
    assert said.err.count("\n") == 1


def test_an_unforeseen_end_names_the_file_with_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(monkeypatch, ZeroDivisionError("oops"))
    main.run(["status"])
    assert "crash.log" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run([]) == Problem.WRONG_OPTION.exit_code
    shown = capsys.readouterr().out
    for command in ("mount", "umount", "status", "flush", "refresh", "login", "logout", "doctor", "demo"):
        assert command in shown


@pytest.mark.parametrize("group", ["fav", "tasks", "share", "trash"])
def test_a_group_alone_shows_its_commands_and_says_that_one_is_missing(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run([group]) == Problem.WRONG_OPTION.exit_code
    said = capsys.readouterr()
    assert "list" in said.out
    assert said.err == f"synofs: one of its commands has to be named: see: synofs {group} --help\n"


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["--version"]) == 0
    assert capsys.readouterr().out == f"synofs {synofs.__version__}\n"


def test_nothing_mounted_is_said_in_words_and_in_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(running, "list_mounts", lambda: [])
    assert main.run(["status"]) == 0
    assert capsys.readouterr().out == "Nothing is mounted.\n"
    assert main.run(["status", "--json"]) == 0
    assert capsys.readouterr().out == "[]\n"


def test_a_mount_is_not_held_up_by_what_it_does_not_need() -> None:
    """Each of them takes as long to import as all of a mount's own modules."""
    spared = {"pydantic", "rich", "zeroconf", "segno", "keyring", "jeepney", "PIL"}
    script = "import sys; from synofs.cli.main import command_line; command_line('mount'); print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    imported = {name.partition(".")[0] for name in ran.stdout.split()}
    assert "trio" in imported
    assert not spared & imported
