"""The command `synofs`: words in, words out. What the words mean is decided in `synofs.app`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Annotated

import typer
from typer.exceptions import Abort, TyperException

import synofs
from synofs.app.errors import Failure, Problem, failure_of
from synofs.app.logs import keep_traceback

ON_THE_NAS = "Done by the NAS itself, with paths inside a mount"

# Where each command is: its module is imported when it is wanted, since a mount is to be there at once.
_COMMANDS = {
    "mount": "mounting.mount",
    "umount": "mounting.umount",
    "status": "running.status",
    "flush": "running.flush",
    "refresh": "running.refresh",
    "discover": "discovering.discover_",
    "login": "signin.login",
    "logout": "signin.logout",
    "cp": "copying.cp",
    "mv": "copying.mv",
    "search": "searching.search",
    "du": "searching.du",
    "md5": "searching.md5",
    "share": "sharing.app",
    "trash": "trash.app",
    "compress": "archives.compress",
    "extract": "archives.extract",
    "peek": "archives.peek",
    "fav": "extras.favourites",
    "tasks": "extras.tasks",
    "thumb": "extras.thumb",
    "units": "units.units",
    "doctor": "doctor.doctor",
    "demo": "demo.demo",
}
_DONE_BY_THE_NAS = {"cp", "mv", "search", "du", "md5", "share", "trash", "compress", "extract", "peek", "fav", "tasks"}
_DONE_BY_THE_NAS |= {"thumb"}


def command_line(only: str | None = None) -> typer.Typer:
    """All commands; or, if `only` is one of them, that one."""
    app = typer.Typer(
        name="synofs",
        help="Mount a Synology NAS as a local folder, through its File Station.",
        epilog="Start with: synofs login https://NAS:5001, then: synofs mount https://NAS:5001 ~/nas",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_synofs)
    for name in [only] if only in _COMMANDS else _COMMANDS:
        module, _, what = _COMMANDS[name].partition(".")
        command = getattr(importlib.import_module(f"synofs.cli.{module}"), what)
        panel = ON_THE_NAS if name in _DONE_BY_THE_NAS else None
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(command)
    return app


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


def run(arguments: Sequence[str]) -> int:
    """Run one command; whatever fails is one line on stderr and an exit code of its own."""
    try:
        app = command_line(next(iter(arguments), None))
        code = typer.main.get_command(app).main(list(arguments), "synofs", standalone_mode=False)
        if code == Problem.INTERRUPTED.exit_code:  # what typer makes of Ctrl-C
            return _complain(Failure(Problem.INTERRUPTED))
        return code if isinstance(code, int) else 0
    except Failure as failure:
        return _complain(failure)
    except (Abort, KeyboardInterrupt):
        return _complain(Failure(Problem.INTERRUPTED))
    except TyperException as exc:
        command = next((word for word in arguments[:1] if word in _COMMANDS), "")
        text = exc.format_message().rstrip(".") or "one of its commands has to be named"
        return _complain(Failure(Problem.WRONG_OPTION, detail=text[:1].lower() + text[1:], command=command))
    except Exception as exc:
        return _complain(failure_of(exc, log=keep_traceback(exc)))


def _complain(failure: Failure) -> int:
    print(f"synofs: {failure.line}", file=sys.stderr)
    return failure.exit_code


def main() -> None:
    sys.exit(run(sys.argv[1:]))
