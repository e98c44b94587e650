"""Units are filled in from the templates, for this installation, and systemd itself finds nothing wrong with them."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from synofs.app import errors, units
from synofs.app.errors import Failure, Problem
from synofs.app.profiles import Profile
from synofs.app.units import Scope

HOME = Profile("home", Path("config.toml"), "nas", "/mnt/my nas-%", {})
needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")


@pytest.mark.parametrize(
    "path", ["/", "/mnt/nas", "/mnt//nas/", "/mnt/my nas-%", "/.hidden/x", "/mnt/Größe", "/a_b:c.d", "/mnt/#1"]
)
@needs_systemd
def test_mount_units_have_the_names_that_systemd_wants(path: str) -> None:
    done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, text=True, check=True)
    assert units.escape_path(path) == done.stdout.strip()


@pytest.mark.parametrize("scope", list(Scope))
def test_a_service_calls_the_program_of_this_installation(scope: Scope) -> None:
    made = units.service_units(HOME, scope)
    assert made.to_enable == "synofs@home.service"
    text = made.files["synofs@.service"]
    program = str(units.installed_program("synofs"))
    assert re.search(rf"(?m)^ExecStart={re.escape(program)} mount %i --foreground", text)
    assert re.search(rf"(?m)^ExecStopPost=-{re.escape(program)} umount %i --dead$", text)
    assert "=synofs " not in text


def test_an_automount_is_for_the_folder_of_the_profile() -> None:
    made = units.automount_units(HOME, idle_seconds=90)
    name = r"mnt-my\x20nas\x2d\x25"
    assert list(made.files) == [f"{name}.mount", f"{name}.automount"]
    assert made.to_enable == f"{name}.automount"
    assert {"What=home", "Where=/mnt/my nas-%%", "Type=synofs"} <= set(made.files[f"{name}.mount"].splitlines())
    assert {"TimeoutIdleSec=90", "Where=/mnt/my nas-%%"} <= set(made.files[f"{name}.automount"].splitlines())


def test_a_profile_without_a_folder_has_no_units() -> None:
    bare = Profile("bare", Path("config.toml"), "nas", None, {})
    for make in (lambda: units.service_units(bare, Scope.USER), lambda: units.automount_units(bare, 1)):
        with pytest.raises(Failure) as caught:
            make()
        assert caught.value.problem is Problem.NO_MOUNTPOINT


@needs_systemd
@pytest.mark.parametrize("kind", ["system", "user", "automount"])
def test_systemd_accepts_them_and_refuses_what_is_wrong(kind: str) -> None:
    made = units.automount_units(HOME, 60) if kind == "automount" else units.service_units(HOME, Scope(kind))
    units.check(made)
    first, text = next(iter(made.files.items()))
    section = "[Mount]" if kind == "automount" else "[Service]"
    made.files[first] = text.replace(section, f"{section}\nNoSuchKey=1")
    with pytest.raises(Failure) as caught:
        units.check(made)
    assert caught.value.problem is Problem.UNITS_REFUSED
    assert "NoSuchKey" in caught.value.line


def test_no_restart_for_failures_that_another_try_cannot_mend() -> None:
    """Above all none of a refused sign-in: DSM blocks the address of whoever keeps trying."""
    for scope in Scope:
        text = units.service_units(HOME, scope).files["synofs@.service"]
        found = re.search(r"(?m)^RestartPreventExitStatus=(.*)$", text)
        assert found is not None
        final = {int(code) for code in found[1].split()}
        refused = {problem.exit_code for kind, problem in errors.OF_REMOTE_ERROR.items() if problem.name in SIGN_IN}
        assert refused
        assert refused <= final
        assert final <= {problem.exit_code for problem in Problem}, "a code that does not exist"
        temporary = {Problem.UNREACHABLE, Problem.TIMED_OUT, Problem.NOT_A_NAS, Problem.OVERLOADED, Problem.INTERNAL}
        assert not final & {problem.exit_code for problem in temporary}


SIGN_IN = {
    "WRONG_PASSWORD", "OTP_NEEDED", "WRONG_OTP", "OTP_SETUP_NEEDED", "ACCOUNT_DISABLED", "SIGN_IN_NOT_ALLOWED",
    "ADDRESS_BLOCKED", "PASSWORD_EXPIRED", "SIGN_IN_REFUSED",
}  # fmt: skip


@pytest.mark.parametrize("scope", list(Scope))
def test_what_nothing_but_a_clearing_can_end_is_cleared_within_90_seconds(scope: Scope) -> None:
    """What systemd waits for, one after the other, before ExecStopPost: WATCHDOG=1, and the effects of SIGABRT and
    SIGKILL. That it is so is tried in tests/systemd, with shorter times."""
    text = units.service_units(HOME, scope).files["synofs@.service"]
    times = dict(re.findall(r"(?m)^(WatchdogSec|TimeoutAbortSec|TimeoutStopSec)=(\d+)$", text))
    assert len(times) == 3
    assert sum(map(int, times.values())) <= 90
    assert int(times["TimeoutStopSec"]) >= 15, "ExecStopPost has no more than that, either"


def test_files_are_written_where_the_users_systemd_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    made = units.service_units(HOME, Scope.USER)
    assert units.write(made) == [tmp_path / "systemd/user/synofs@.service"]
    assert (tmp_path / "systemd/user/synofs@.service").read_text() == made.files["synofs@.service"]


def test_the_folder_is_made_where_there_is_none(tmp_path: Path) -> None:
    profile = Profile("home", Path("config.toml"), "nas", str(tmp_path / "a/b"), {})
    assert units.make_mountpoint(profile)
    assert (tmp_path / "a/b").is_dir()
    assert not units.make_mountpoint(profile)


def test_helpers_are_linked_once_and_again_when_their_installation_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "SBIN", tmp_path)
    (tmp_path / "umount.synofs").symlink_to(tmp_path / "gone")
    assert units.link_helpers() == [tmp_path / "mount.synofs", tmp_path / "umount.synofs"]
    assert (tmp_path / "umount.synofs").resolve() == units.installed_program("umount.synofs").resolve()
    assert units.link_helpers() == []
