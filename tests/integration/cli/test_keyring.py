"""Sign-ins in a real keyring: GNOME's, on a D-Bus session of its own, without a desktop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from synofs.app.errors import Problem

from .conftest import COMMAND, PASSWORD, Nas, Synofs

pytestmark = pytest.mark.mount

# The daemon stays in the foreground, as a child of the session that ends with it.
SESSION = """
printf master | gnome-keyring-daemon --foreground --unlock --components=secrets >/dev/null 2>&1 &
keyring=$!
trap 'kill $keyring' EXIT
await_keyring() {
    for _ in $(seq 100); do
        dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
            string:org.freedesktop.secrets 2>/dev/null | grep -q true && return
        sleep 0.1
    done
    exit 99
}
await_keyring
"""
LOCK = f"""
"{sys.executable}" -c '
import secretstorage
bus = secretstorage.dbus_init()
secretstorage.get_default_collection(bus).lock()'
"""


def in_a_session(script: str, home: Path, *, keyring: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY")}
    # gnome-keyring has its socket below XDG_RUNTIME_DIR, and one that is left would be taken for a living daemon's.
    runtime = home / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    environment |= {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "XDG_RUNTIME_DIR": str(runtime)}
    command = ["dbus-run-session", "--", "sh", "-c", (SESSION if keyring else "") + script]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment, check=False
    )


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "h"
    folder.mkdir()
    return folder


def sign_ins() -> str:
    return (Path(os.environ["XDG_CONFIG_HOME"]) / "synofs" / "sign-ins.json").read_text()


def login(nas: Nas, synofs: Synofs, *more: str) -> str:
    words = [COMMAND, "login", nas.url, *synofs.sign_in(nas), *more]
    return " ".join(f"'{word}'" for word in words)


def mount(nas: Nas, synofs: Synofs) -> str:
    return f"'{COMMAND}' mount {nas.url} '{synofs.mountpoint}' --insecure-http"


def test_a_sign_in_is_kept_in_the_keyring_and_mounts_from_there(nas: Nas, synofs: Synofs, home: Path) -> None:
    script = f"{login(nas, synofs)} && {mount(nas, synofs)} && ls '{synofs.mountpoint}'"
    done = in_a_session(f"{script}; '{COMMAND}' umount '{synofs.mountpoint}'", home)
    assert "saved in the keyring" in done.stderr, done.stderr
    assert done.stdout == "docs\n"
    assert PASSWORD not in sign_ins()
    assert json.loads(sign_ins())[nas.url]["credentials"]["user"] == "anna"


def test_logging_out_empties_the_keyring(nas: Nas, synofs: Synofs, home: Path) -> None:
    left = f'"{sys.executable}" -m keyring get synofs {nas.url}'
    done = in_a_session(f"{login(nas, synofs)}; {left}; '{COMMAND}' logout {nas.url}; {left}", home)
    assert done.stdout.count("password") == 1, "there before, gone after"
    assert "which was in the keyring" in done.stderr
    assert json.loads(sign_ins()) == {}


def test_a_locked_keyring_fails_at_once_where_nobody_can_unlock_it(nas: Nas, synofs: Synofs, home: Path) -> None:
    done = in_a_session(f"{login(nas, synofs)}; {LOCK} {mount(nas, synofs)}", home)
    assert done.returncode == Problem.KEYRING_CLOSED.exit_code, done.stderr
    assert "the keyring is locked" in done.stderr
    assert "--keep-in file" in done.stderr


def test_a_locked_keyring_does_not_matter_to_whoever_brings_the_password(nas: Nas, synofs: Synofs, home: Path) -> None:
    with_file = f"{mount(nas, synofs)} --user anna --password-file '{synofs.password_file}'"
    script = f"{login(nas, synofs)}; {LOCK} {with_file} && ls '{synofs.mountpoint}'"
    done = in_a_session(f"{script}; '{COMMAND}' umount '{synofs.mountpoint}'", home)
    assert done.stdout == "docs\n", done.stderr


def test_without_a_keyring_a_private_file_keeps_it_and_login_says_so(nas: Nas, synofs: Synofs, home: Path) -> None:
    done = in_a_session(f"unset DBUS_SESSION_BUS_ADDRESS; {login(nas, synofs)}", home, keyring=False)
    assert "sign-ins.json (readable by you alone), because there is no keyring here" in done.stderr
    assert json.loads(sign_ins())[nas.url]["credentials"]["password"] == PASSWORD


def test_the_file_is_taken_where_it_is_asked_for(nas: Nas, synofs: Synofs, home: Path) -> None:
    """For mounts at boot. What an earlier login left in the keyring is gone then."""
    left = f'"{sys.executable}" -m keyring get synofs {nas.url}'
    done = in_a_session(f"{login(nas, synofs)}; {login(nas, synofs, '--keep-in', 'file')}; {left}", home)
    assert done.stderr.count("saved in the keyring") == 1
    assert "sign-ins.json (readable by you alone)\n" in done.stderr
    assert json.loads(sign_ins())[nas.url]["credentials"]["password"] == PASSWORD
    assert done.stdout == ""


def test_a_keyring_that_is_demanded_and_missing_is_a_failure(nas: Nas, synofs: Synofs, home: Path) -> None:
    script = f"unset DBUS_SESSION_BUS_ADDRESS; {login(nas, synofs, '--keep-in', 'keyring')}"
    done = in_a_session(script, home, keyring=False)
    assert done.returncode == Problem.NO_KEYRING.exit_code, done.stderr
