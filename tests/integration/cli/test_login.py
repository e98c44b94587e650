"""`synofs login` at a terminal: it asks for what is missing, and afterwards nothing is asked any more."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from synofs.app.errors import Problem
from synofs.simnas.totp import totp

from .conftest import COMMAND, PASSWORD, Nas, Synofs, running_nas

pytestmark = pytest.mark.mount

SECRET = "GEZDGNBVGY3TQOJQ"


def dialogue(words: list[str], lines: list[tuple[str, str]]) -> tuple[int, str]:
    """Run the command at a terminal of its own, answering each question; returns exit code and what was shown."""
    terminal, inside = pty.openpty()
    # Passwords are asked for at the controlling terminal, which setsid makes of its stdin.
    command = ["setsid", "--ctty", "--wait", str(COMMAND), *words]
    process = subprocess.Popen(command, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    shown = ""
    at = 0

    def read_until(pattern: str | None) -> None:
        nonlocal shown, at
        deadline = time.monotonic() + 30
        while True:
            found = re.search(pattern, shown[at:], re.DOTALL) if pattern else None
            if found:
                at += found.end()
                return
            assert select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0], f"no {pattern}: {shown}"
            try:
                piece = os.read(terminal, 4096)
            except OSError:  # the terminal's other end is closed
                piece = b""
            if not piece:
                assert pattern is None, f"it ended without {pattern}: {shown}"
                return
            shown += piece.decode()

    try:
        for question, answer in lines:
            read_until(question)
            os.write(terminal, answer.encode() + b"\n")
        read_until(None)
        return process.wait(30), shown
    finally:
        os.close(terminal)
        process.kill()
        process.wait()


def test_with_two_factors_and_an_unknown_certificate(
    content: Path, synofs: Synofs, certificate: Callable[[], tuple[Path, Path, str]]
) -> None:
    cert, key, fingerprint = certificate()
    accounts = ("--account", f"otto:{PASSWORD}:otp={SECRET}")
    with running_nas(content, *accounts, "--tls", str(cert), str(key)) as nas:
        code, shown = dialogue(
            ["login", nas.url],
            [
                ("Trust it from now on", "y"),
                ("User on 127.0.0.1: ", "otto"),
                ("Password of otto on 127.0.0.1: ", PASSWORD),
                ("One-time code of otto", "000000"),
                ("not accepted.*One-time code of otto", totp(SECRET)),
            ],
        )
        assert code == 0, shown
        assert PASSWORD not in shown
        seen = re.sub(r"[^0-9a-f]", "", "".join(re.findall(r"^synofs:   (\S+)", shown, re.MULTILINE)).lower())
        assert seen == fingerprint

        assert synofs("mount", nas.url, synofs.mountpoint).code == 0  # no user, password, code or certificate
        assert os.listdir(synofs.mountpoint) == ["docs"]
        assert synofs("umount", synofs.mountpoint).code == 0


def test_a_certificate_that_is_not_trusted_ends_it(
    content: Path, synofs: Synofs, certificate: Callable[[], tuple[Path, Path, str]]
) -> None:
    cert, key, _ = certificate()
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--tls", str(cert), str(key)) as nas:
        code, shown = dialogue(["login", nas.url], [("Trust it from now on", "n")])
        assert "Password" not in shown
        assert code == Problem.CERTIFICATE_REFUSED.exit_code
        assert synofs("logout", nas.url).code == Problem.NO_SAVED_SIGN_IN.exit_code


def test_a_mount_at_a_terminal_asks_for_the_password(nas: Nas, synofs: Synofs) -> None:
    code, shown = dialogue(
        ["mount", nas.url, str(synofs.mountpoint), "--insecure-http"],
        [("User on", "anna"), ("Password of anna", PASSWORD)],
    )
    assert code == 0, shown
    assert os.listdir(synofs.mountpoint) == ["docs"]
    assert synofs("umount", synofs.mountpoint).code == 0


def test_a_mountpoint_that_will_not_do_is_told_before_anything_is_asked(nas: Nas, synofs: Synofs) -> None:
    code, shown = dialogue(["mount", nas.url, str(synofs.mountpoint / "missing"), "--insecure-http"], [])
    assert code == Problem.MOUNTPOINT_MISSING.exit_code
    assert "Password" not in shown


def login_with_code(nas: Nas) -> None:
    code, shown = dialogue(
        ["login", nas.url, "--insecure-http"],
        [("User on", "otto"), ("Password of otto", PASSWORD), ("One-time code of otto", totp(SECRET))],
    )
    assert code == 0, shown


def test_after_a_logout_the_nas_trusts_this_device_no_more(nas: Nas, synofs: Synofs) -> None:
    login_with_code(nas)
    saved = Path(os.environ["XDG_CONFIG_HOME"], "synofs", "sign-ins.json")
    kept = saved.read_text()
    sessions = nas.stats()["sessions"]
    done = synofs("logout", nas.url)
    assert done.code == 0
    assert "trusts this device no more" in done.err
    assert nas.stats()["sessions"] == sessions, "none is left behind"
    saved.write_text(kept)
    assert synofs("mount", nas.url, synofs.mountpoint, "--insecure-http").code == Problem.OTP_NEEDED.exit_code


def test_a_nas_that_goes_on_trusting_is_told_of(content: Path, synofs: Synofs) -> None:
    accounts = ("--account", f"otto:{PASSWORD}:otp={SECRET}", "--quirk", "trust-device=ignored")
    with running_nas(content, *accounts) as nas:
        login_with_code(nas)
        done = synofs("logout", nas.url)
        assert done.code == Problem.STILL_TRUSTED.exit_code
        assert "forgot the sign-in" in done.err
        assert "remove it in DSM" in done.err
        assert synofs("logout", nas.url).code == Problem.NO_SAVED_SIGN_IN.exit_code


def test_a_logout_while_the_nas_is_off_forgets_and_says_what_is_left(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", f"otto:{PASSWORD}:otp={SECRET}") as nas:
        login_with_code(nas)
    done = synofs("logout", nas.url)
    assert done.code == Problem.STILL_TRUSTED.exit_code
    assert "cannot reach" in done.err
    assert synofs("logout", nas.url).code == Problem.NO_SAVED_SIGN_IN.exit_code


def test_a_certificate_that_changed_is_refused_until_somebody_trusts_it_again(
    content: Path, synofs: Synofs, certificate: Callable[[], tuple[Path, Path, str]]
) -> None:
    cert, key, _ = certificate()
    account = ("--account", f"anna:{PASSWORD}")
    with running_nas(content, *account, "--tls", str(cert), str(key)) as nas:
        trusting = [("Trust it from now on", "y"), ("User", "anna"), ("Password", PASSWORD)]
        assert dialogue(["login", nas.url], trusting)[0] == 0
        port = nas.url.rpartition(":")[2]
    cert, key, fingerprint = certificate()
    with running_nas(content, *account, "--listen", f"127.0.0.1:{port}", "--tls", str(cert), str(key)) as nas:
        done = synofs("mount", nas.url, synofs.mountpoint)
        assert done.code == Problem.CERTIFICATE_REFUSED.exit_code
        assert fingerprint in done.err.replace(":", "").lower()
        code, shown = dialogue(["login", nas.url], trusting)
        assert code == 0, shown
        assert synofs("mount", nas.url, synofs.mountpoint).code == 0
        assert synofs("umount", synofs.mountpoint).code == 0


def test_where_nobody_can_be_asked_the_advice_does_not_lead_back_here(nas: Nas, synofs: Synofs) -> None:
    login = ["login", nas.url, "--insecure-http"]
    password = ["--password-file", synofs.password_file]
    for words, option in (
        ([], "--user NAME"),
        (["--user", "anna"], "--password-file FILE"),
        (["--user", "otto", *password], "--otp CODE"),
    ):
        done = synofs(*login, *words)
        assert f"add {option}, or run this on a terminal" in done.err
        assert "synofs login" not in done.err
    assert synofs(*login).code == Problem.NO_USER.exit_code
    assert "synofs login" in synofs("mount", nas.url, synofs.mountpoint, "--insecure-http").err


def test_who_cannot_be_reached_is_said_before_a_password_is_typed(synofs: Synofs) -> None:
    code, shown = dialogue(["login", "https://127.0.0.1:1"], [])
    assert code == Problem.UNREACHABLE.exit_code
    assert "User" not in shown
