"""`synofs units`: have systemd look after a mount."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from synofs.app import units as make
from synofs.app.config import parse_nas, wrong_option
from synofs.app.credentials import Keep, saved_sign_ins
from synofs.app.errors import Failure, Problem
from synofs.app.profiles import Profile
from synofs.app.units import Scope
from synofs.cli import options as opt
from synofs.cli.mounting import read_seconds
from synofs.cli.progress import working
from synofs.cli.terminal import say


def units(
    name: Annotated[
        str,
        typer.Argument(
            metavar="PROFILE",
            help="A profile with a mountpoint.",
            show_default=False,
            autocompletion=opt.profile_names,
        ),
    ],
    system: Annotated[
        bool, typer.Option("--system", help="For the machine: mounted at boot (default for root).")
    ] = False,
    user: Annotated[bool, typer.Option("--user", help="For you: mounted at log-in (default for others).")] = False,
    automount: Annotated[
        bool, typer.Option("--automount", help="Mount when somebody looks, instead of all the time (for the machine).")
    ] = False,
    idle_timeout: Annotated[
        str, typer.Option(metavar="SECONDS", help="With --automount: unmount after so much idleness; 0: never.")
    ] = "5m",
    enable: Annotated[bool, typer.Option("--enable", help="Enable and start what was written.")] = False,
    print_: Annotated[bool, typer.Option("--print", help="Print the units and write nothing.")] = False,
) -> None:
    """Write systemd units for a profile, have systemd check them, and enable them with --enable.

    Mounted whenever you are logged in, from boot on, or when somebody looks.
    Profiles of the machine are in /etc/synofs/config.toml.

    Examples:
      synofs units home --enable
      sudo synofs units nas --enable
      sudo synofs units nas --automount --enable
    """
    if system and user:
        raise wrong_option("--system and --user exclude each other", "units")
    is_root = os.geteuid() == 0
    scope = Scope.USER if user else Scope.SYSTEM if system or automount or is_root else Scope.USER
    profile = make.need_profile(name)
    if automount:
        if scope is Scope.USER:
            raise wrong_option("--automount is for the machine; a user's systemd cannot unmount FUSE", "units")
        found = make.automount_units(profile, read_seconds("idle-timeout", idle_timeout, "units"))
    else:
        found = make.service_units(profile, scope)
    with working("having systemd check the units"):
        make.check(found)
    if print_:
        print("\n".join(f"# {scope.folder / file}\n{text}" for file, text in found.files.items()), end="")
        return
    if scope is Scope.SYSTEM and not is_root:
        raise Failure(Problem.NEEDS_ROOT, command="units")
    if make.make_mountpoint(profile):
        say(f"made the folder {profile.mountpoint}")
    for path in make.write(found):
        say(f"wrote {path}")
    for link in make.link_helpers() if automount else []:
        say(f"linked {link}, for mount(8)")
    _look_for_password(profile, scope, automount=automount)
    if enable:
        with working(f"starting {found.to_enable}"):
            make.enable(found)
        say(f"enabled and started {found.to_enable}")
    else:
        systemctl = f"systemctl {scope.switch}"
        say(f"start it with: {systemctl} daemon-reload; {systemctl} enable --now {found.to_enable}")


def _look_for_password(profile: Profile, scope: Scope, *, automount: bool) -> None:
    """Say so if nobody could sign in: at boot, nobody can be asked."""
    kept = saved_sign_ins().kept_in(parse_nas(profile.nas).url)
    if kept is Keep.FILE or (kept is Keep.KEYRING and scope is Scope.USER):
        return
    if kept is Keep.KEYRING and "password-file" not in profile.words and (automount or not make.has_password(profile)):
        say(f'the password is in a keyring, which is closed at boot: run "synofs login {profile.name} --keep-in file"')
        return
    if scope is Scope.USER or automount:
        if "password-file" not in profile.words:
            say(f'there is no password yet: run "synofs login {profile.name}" or add password-file to the profile')
    elif not make.has_password(profile):
        say(
            f'there is no password yet: run "synofs login {profile.name}" as root, add password-file to the profile, '
            f"or write it to /etc/credstore/synofs-{profile.name}"
        )
