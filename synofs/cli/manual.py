"""The manual pages, made from the commands themselves: `man/synofs.1` and `man/mount.synofs.8`.

`scripts/man` writes them. They are part of the repository because a build, which has none of the dependencies, cannot
ask the commands; a unit test sees to it that they say what the commands say.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

import synofs
from synofs.app.config import GENERIC_WORDS, OPTIONS
from synofs.app.errors import Problem
from synofs.cli.main import command_line

FOLDER = Path(synofs.__file__).parents[1] / "man"
FSTAB = FOLDER.parent / "systemd" / "fstab.example"

FILES = (
    ("~/.config/synofs/config.toml, /etc/synofs/config.toml", "Profiles: NAS boxes with a name. Yours counts first."),
    ("~/.config/synofs/sign-ins.json", "What synofs login has saved; secrets only where there is no keyring."),
    ("~/.local/state/synofs", "Files that are not sent yet, and logs."),
    ("~/.cache/synofs", "What was read."),
)
ENVIRONMENT = (
    ("SYNOFS_PASSWORD_FILE", "A file whose first line is the password."),
    ("CREDENTIALS_DIRECTORY", "Set by systemd; the credential synofs-password is the password."),
    ("XDG_CONFIG_HOME, XDG_STATE_HOME, XDG_CACHE_HOME", "Where the files below lie instead."),
)


def pages() -> dict[str, str]:
    """Name and text of each page."""
    return {"synofs.1": synofs_1(), "mount.synofs.8": mount_synofs_8()}


# ----- the pages ------------------------------------------------------------------------------------------------


def synofs_1() -> str:
    group: Any = typer.main.get_command(command_line())
    lines = [*_head("synofs", 1), *_section("NAME"), r"synofs \- " + _text(_first(group.help))]
    lines += [*_section("SYNOPSIS"), r"\fBsynofs\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]"]
    lines += [*_section("DESCRIPTION"), _text(_first(group.help)), ".PP", _text(group.epilog or "")]
    lines += _section("COMMANDS")
    for name, command in _commands(group, "synofs"):
        lines += _command(name, command)
    lines += _exit_codes()
    lines += [*_section("ENVIRONMENT"), *_list(ENVIRONMENT), *_section("FILES"), *_list(FILES)]
    lines += [*_section("SEE ALSO"), r"\fBmount.synofs\fR(8), \fBfusermount3\fR(1), \fBsystemd.automount\fR(5)"]
    return "\n".join(lines) + "\n"


def mount_synofs_8() -> str:
    group: Any = typer.main.get_command(command_line())
    helps = {option.removeprefix("--"): one for one in group.commands["mount"].params for option in one.opts}
    words = [(_word(name, helps.get(name)), _about(name, helps.get(name))) for name in OPTIONS if name != "otp"]
    lines = [
        *_head("mount.synofs", 8),
        *_section("NAME"),
        r"mount.synofs \- mount a Synology NAS, for mount(8) and fstab",
    ]
    lines += _section("SYNOPSIS")
    lines += [r"\fBmount \-t synofs\fR \fINAS\fR \fIFOLDER\fR [\fB\-o\fR \fIOPTION\fR[,\fIOPTION\fR...]]"]
    lines += [*_section("DESCRIPTION"), _text(DESCRIPTION)]
    lines += [*_section("OPTIONS"), *_list(words), ".PP", _text(f"{GENERIC} {', '.join(sorted(GENERIC_WORDS))}.")]
    lines += [*_section("EXIT STATUS"), *_list(MOUNT_CODES)]
    lines += [*_section("EXAMPLES"), *_verbatim(FSTAB.read_text(encoding="utf-8").splitlines())]
    lines += [*_section("SEE ALSO"), r"\fBsynofs\fR(1), \fBmount\fR(8), \fBfstab\fR(5), \fBsystemd.mount\fR(5)"]
    return "\n".join(lines) + "\n"


DESCRIPTION = (
    "mount(8) calls mount.synofs, which it looks for in /sbin. NAS is a profile or an address: https://nas:5001, "
    "anna@nas, nas. It returns once the mount answers, and asks nobody for a password: that comes from password-file, "
    "from SYNOFS_PASSWORD_FILE, or from what synofs login has saved. umount(8) waits up to 60 seconds for uploads, and "
    "refuses if some are left; umount -l does not wait, and what is left is sent after the next mount."
)
GENERIC = (
    "ro, noexec and _netdev mean what they mean everywhere. username= is another word for user=. An underscore and a "
    "hyphen are the same. remount is refused. For others than synofs, or without effect, are all words that begin with "
    "x-, comment=, and:"
)
MOUNT_CODES = (
    ("0", "mounted, or mounted already"),
    ("1", "wrong words, or a profile that cannot be used"),
    ("2", "this machine has no FUSE"),
    ("8", "interrupted"),
    ("32", "the mount failed"),
)


def _word(name: str, option: Any) -> str:
    is_switch = OPTIONS[name][1] is None
    metavar = getattr(option, "metavar", None) or "VALUE"
    return name if is_switch else f"{name}={metavar}"


def _about(name: str, option: Any) -> str:
    known = {"noexec": "Programs in it cannot be run.", "netdev": "Same as _netdev, which is the default here."}
    return known.get(name) or option.help


# ----- their parts ----------------------------------------------------------------------------------------------


def _commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option"]
    usage = rf"\fB{_text(name)}\fR"
    usage += r" [\fIOPTIONS\fR]" if options else ""
    for one in arguments:
        metavar = one.metavar or one.name.upper()
        usage += rf" \fI{_text(metavar if one.required or metavar.startswith('[') else f'[{metavar}]')}\fR"
    yield f'.SS "{_text(name)}"'
    yield usage
    about, _, examples = inspect.cleandoc(command.help or "").partition("Examples:\n")
    for paragraph in re.split(r"\n\s*\n", about.strip()):
        yield ".PP"
        yield _text(" ".join(paragraph.split()))
    yield from _list((metavar_of(one), one.help) for one in arguments if one.help)
    yield from _list((_switch(one), _help(one)) for one in options)
    if examples:
        yield ".PP"
        yield "Examples:"
        yield from _verbatim(inspect.cleandoc(examples).splitlines())


def metavar_of(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper()).replace("[", "").replace("]", "")


def _switch(option: Any) -> str:
    names = ", ".join(sorted(option.opts, key=len))
    return names if option.is_flag else f"{names} {option.metavar or option.name.upper()}"


def _help(option: Any) -> str:
    shown = option.show_default and not option.is_flag and isinstance(option.default, str)
    return f"{option.help} (default: {option.default})" if shown else option.help or ""


def _exit_codes() -> Iterator[str]:
    yield from _section("EXIT STATUS")
    yield "Each kind of failure has a code of its own, and one line on standard error that says what to do."
    yield from _list([("0", "done"), *((str(one.exit_code), _plain(one.says)) for one in Problem)])


def _plain(says: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: match[1].upper(), says)


# ----- roff -----------------------------------------------------------------------------------------------------


def _head(name: str, section: int) -> list[str]:
    return [
        r".\" Made by scripts/man from the commands themselves.",
        f'.TH {name.upper()} {section} "" "synofs {synofs.__version__}" "synofs"',
    ]


def _section(title: str) -> list[str]:
    return [f'.SH "{title}"']


def _list(entries: Any) -> Iterator[str]:
    for term, about in entries:
        yield ".TP"
        yield rf"\fB{_text(term)}\fR"
        yield _text(about)


def _verbatim(lines: list[str]) -> list[str]:
    return [".PP", ".nf", ".RS 4", *(_text(line) for line in lines), ".RE", ".fi"]


def _first(text: str | None) -> str:
    return (text or "").strip().split("\n")[0]


def _text(text: str) -> str:
    """Escaped: a backslash, a hyphen that is to stay one, and a dot or quote that would begin a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("~", r"\(ti").replace("^", r"\(ha")
    escaped = escaped.replace('"', r"\(dq").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
