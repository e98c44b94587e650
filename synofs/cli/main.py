"""The command `synofs`: words in, words out. What the words mean is decided in `synofs.app`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.exceptions import Abort, TyperException

import synofs
from synofs.app.errors import Failure, Problem, failure_of
from synofs.app.logs import keep_traceback
from synofs.cli import (
    archives,
    copying,
    demo,
    discovering,
    doctor,
    extras,
    mounting,
    running,
    searching,
    sharing,
    signin,
    trash,
    units,
)

ON_THE_NAS = "Done by the NAS itself, with paths inside a mount"

app = typer.Typer(
    name="synofs",
    help="Mount a Synology NAS as a local folder, through its File Station.",
    epilog="Start with: synofs login https://NAS:5001, then: synofs mount https://NAS:5001 ~/nas",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def _synofs(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(f"synofs {synofs.__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(Problem.WRONG_OPTION.exit_code)


app.command("mount")(mounting.mount)
app.command("umount")(mounting.umount)
app.command("status")(running.status)
app.command("flush")(running.flush)
app.command("refresh")(running.refresh)
app.command("discover")(discovering.discover_)
app.command("login")(signin.login)
app.command("logout")(signin.logout)
app.command("cp", rich_help_panel=ON_THE_NAS)(copying.cp)
app.command("mv", rich_help_panel=ON_THE_NAS)(copying.mv)
app.command("search", rich_help_panel=ON_THE_NAS)(searching.search)
app.command("du", rich_help_panel=ON_THE_NAS)(searching.du)
app.command("md5", rich_help_panel=ON_THE_NAS)(searching.md5)
app.add_typer(sharing.app, name="share", rich_help_panel=ON_THE_NAS)
app.add_typer(trash.app, name="trash", rich_help_panel=ON_THE_NAS)
app.command("compress", rich_help_panel=ON_THE_NAS)(archives.compress)
app.command("extract", rich_help_panel=ON_THE_NAS)(archives.extract)
app.command("peek", rich_help_panel=ON_THE_NAS)(archives.peek)
app.add_typer(extras.favourites, name="fav", rich_help_panel=ON_THE_NAS)
app.add_typer(extras.tasks, name="tasks", rich_help_panel=ON_THE_NAS)
app.command("thumb", rich_help_panel=ON_THE_NAS)(extras.thumb)
app.command("units")(units.units)
app.command("doctor")(doctor.doctor)
app.command("demo")(demo.demo)


def run(arguments: Sequence[str]) -> int:
    """Run one command; whatever fails is one line on stderr and an exit code of its own."""
    try:
        code = typer.main.get_command(app).main(list(arguments), "synofs", standalone_mode=False)
        if code == Problem.INTERRUPTED.exit_code:  # what typer makes of Ctrl-C
            return _complain(Failure(Problem.INTERRUPTED))
        return code if isinstance(code, int) else 0
    except Failure as failure:
        return _complain(failure)
    except (Abort, KeyboardInterrupt):
        return _complain(Failure(Problem.INTERRUPTED))
    except TyperException as exc:
        command = next((word for word in arguments[:1] if word in _command_names()), "")
        text = exc.format_message().rstrip(".") or "one of its commands has to be named"
        return _complain(Failure(Problem.WRONG_OPTION, detail=text[:1].lower() + text[1:], command=command))
    except Exception as exc:
        return _complain(failure_of(exc, log=keep_traceback(exc)))


def _command_names() -> set[str]:
    group: Any = typer.main.get_command(app)
    return set(group.commands)


def _complain(failure: Failure) -> int:
    print(f"synofs: {failure.line}", file=sys.stderr)
    return failure.exit_code


def main() -> None:
    sys.exit(run(sys.argv[1:]))
