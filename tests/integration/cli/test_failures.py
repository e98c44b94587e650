"""Whatever goes wrong is one line that says what and what to do, an exit code of its own, in under ten seconds
where the machine has them, and nothing left mounted."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from synofs.app.assembly import SIGN_IN_SECONDS
from synofs.app.errors import Problem
from synofs.app.mounts import allows_other

from .conftest import PASSWORD, Done, Nas, Synofs, running_nas

pytestmark = pytest.mark.mount

BUSY_SECONDS = 30.0  # what a busy machine may take besides; a call that is waited for without end takes longer


def assert_refused(done: Done, problem: Problem, synofs: Synofs) -> None:
    assert done.code == problem.exit_code, done
    assert done.out == ""
    assert done.err.startswith("synofs: ")
    assert done.err.count("\n") == 1, done.err
    assert done.seconds < SIGN_IN_SECONDS + BUSY_SECONDS
    assert not synofs.is_mounted()


# ----- signing in -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "more", "problem"),
    [
        ("nobody", [], Problem.WRONG_PASSWORD),
        ("otto", [], Problem.OTP_NEEDED),
        ("otto", ["--otp", "000000"], Problem.WRONG_OTP),
        ("refuse-406", [], Problem.OTP_SETUP_NEEDED),
        ("refuse-401", [], Problem.ACCOUNT_DISABLED),
        ("nofs", [], Problem.SIGN_IN_NOT_ALLOWED),
        ("refuse-408", [], Problem.PASSWORD_EXPIRED),
        ("refuse-409", [], Problem.PASSWORD_EXPIRED),
        ("refuse-410", [], Problem.PASSWORD_EXPIRED),
    ],
)
def test_a_refused_sign_in(user: str, more: list[str], problem: Problem, nas: Nas, synofs: Synofs) -> None:
    before = nas.stats()["calls"].get("SYNO.API.Auth.login", 0)
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas, user), *more)
    assert_refused(done, problem, synofs)
    # One try, plus one with the older login version where DSM is known to need it; never a third.
    assert nas.stats()["calls"]["SYNO.API.Auth.login"] - before <= 2


def test_a_blocked_address(content: Path, synofs: Synofs) -> None:
    with running_nas(content, "--account", "anna:other", "--auto-block", "1") as nas:
        first = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas))
        assert_refused(first, Problem.WRONG_PASSWORD, synofs)
        second = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas))
        assert_refused(second, Problem.ADDRESS_BLOCKED, synofs)


def test_no_user_and_no_password(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.mountpoint, "--insecure-http")
    assert_refused(done, Problem.NO_USER, synofs)
    done = synofs("mount", nas.url, synofs.mountpoint, "--insecure-http", "--user", "anna")
    assert_refused(done, Problem.NO_PASSWORD, synofs)


def test_a_share_that_is_not_there(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), "--share", "attic")
    assert_refused(done, Problem.NO_SHARE, synofs)
    assert "attic" in done.err


# ----- the way to the NAS ---------------------------------------------------------------------------------------


@contextmanager
def answering(answer: bytes | None) -> Iterator[str]:
    """A server that gives every caller the same answer, or (None) never any."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with ExitStack() as held:
                while True:
                    try:
                        connection = held.enter_context(server.accept()[0])
                    except OSError:
                        return
                    if answer is not None:
                        connection.settimeout(5)
                        connection.recv(65536)
                        connection.sendall(answer)
                        connection.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def http(content_type: str, body: bytes, status: str = "200 OK", more: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n{more}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(http("text/html", b"<html><h1>It works!</h1></html>"), id="html"),
        pytest.param(http("application/json", b'{"name": "a router", "version": 3}'), id="other-json"),
        pytest.param(http("application/json", b"[1, 2]"), id="a-list"),
        pytest.param(http("text/plain", b""), id="empty"),
        pytest.param(http("text/html", b"not here", "404 Not Found"), id="404"),
        pytest.param(http("text/html", b"what is POST?", "501 Unsupported method"), id="501"),
        pytest.param(b"220 mail.example.org ESMTP ready\r\n", id="not-http"),
    ],
)
def test_a_host_that_is_no_nas(answer: bytes, synofs: Synofs) -> None:
    with answering(answer) as url:
        nas = Nas(url, Path())
        done = synofs("mount", url, synofs.mountpoint, *synofs.sign_in(nas))
    assert_refused(done, Problem.NOT_A_NAS, synofs)


def test_a_redirect_to_elsewhere_is_not_followed(synofs: Synofs) -> None:
    answer = http("text/html", b"", "302 Found", "Location: https://elsewhere.example.org:5001/\r\n")
    with answering(answer) as url:
        done = synofs("mount", url, synofs.mountpoint, *synofs.sign_in(Nas(url, Path())))
    assert_refused(done, Problem.NOT_A_NAS, synofs)
    assert "elsewhere.example.org" in done.err


def test_nobody_listens(synofs: Synofs) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    done = synofs("mount", url, synofs.mountpoint, *synofs.sign_in(Nas(url, Path())))
    assert_refused(done, Problem.UNREACHABLE, synofs)


def test_a_name_without_an_address(synofs: Synofs) -> None:
    nas = Nas("https://no-such-nas.invalid:5001", Path())
    assert_refused(synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas)), Problem.UNREACHABLE, synofs)


def test_a_host_that_never_answers(synofs: Synofs) -> None:
    assert SIGN_IN_SECONDS < 8, "of ten; what is left is for the start of the program"
    with answering(None) as url:
        done = synofs("mount", url, synofs.mountpoint, *synofs.sign_in(Nas(url, Path())))
    assert_refused(done, Problem.TIMED_OUT, synofs)


def test_an_untrusted_certificate_is_named_so_that_it_can_be_trusted(
    content: Path, synofs: Synofs, certificate: Callable[[], tuple[Path, Path, str]]
) -> None:
    cert, key, fingerprint = certificate()
    with running_nas(content, "--account", f"anna:{PASSWORD}", "--tls", str(cert), str(key)) as nas:
        done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas))
        assert_refused(done, Problem.CERTIFICATE_REFUSED, synofs)
        assert f"--fingerprint {fingerprint}" in done.err

        wrong = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), "--fingerprint", "00" * 32)
        assert_refused(wrong, Problem.CERTIFICATE_REFUSED, synofs)

        synofs.mount(nas, "--fingerprint", fingerprint)
        assert os.listdir(synofs.mountpoint) == ["docs"]
        assert synofs("umount", synofs.mountpoint).code == 0


def test_http_needs_to_be_asked_for(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.mountpoint, "--user", "anna", "--password-file", synofs.password_file)
    assert_refused(done, Problem.INSECURE_HTTP, synofs)


# ----- the mountpoint -------------------------------------------------------------------------------------------


def test_a_mountpoint_that_is_not_there(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.mountpoint / "deeper", *synofs.sign_in(nas))
    assert_refused(done, Problem.MOUNTPOINT_MISSING, synofs)


def test_a_mountpoint_that_is_a_file(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.password_file, *synofs.sign_in(nas))
    assert_refused(done, Problem.MOUNTPOINT_NO_FOLDER, synofs)


def test_a_mountpoint_that_is_not_empty(nas: Nas, synofs: Synofs) -> None:
    (synofs.mountpoint / "precious.txt").write_text("do not hide me")
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas))
    assert_refused(done, Problem.MOUNTPOINT_NOT_EMPTY, synofs)


def test_a_mountpoint_that_is_in_use(nas: Nas, synofs: Synofs) -> None:
    synofs.mount(nas)
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas))
    assert (done.code, done.err.count("\n")) == (Problem.ALREADY_MOUNTED.exit_code, 1)
    assert os.listdir(synofs.mountpoint) == ["docs"]  # the first one is not harmed
    assert synofs("umount", synofs.mountpoint).code == 0


# ----- this machine ---------------------------------------------------------------------------------------------


def test_without_the_fuse_device(nas: Nas, synofs: Synofs) -> None:
    hide = 'mount -t tmpfs none /dev && exec "$@"'
    apart = ("unshare", "--mount") if os.geteuid() == 0 else ("unshare", "--mount", "--user", "--map-root-user")
    before = (*apart, "sh", "-c", hide, "sh")
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), before=before)
    assert_refused(done, Problem.NO_FUSE, synofs)


AS_A_USER = ("unshare", "--user", "--map-user=12345", "--map-group=12345")


def test_letting_others_in_needs_roots_word(nas: Nas, synofs: Synofs) -> None:
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), "--allow-other", before=AS_A_USER)
    if allows_other():
        assert done.code != Problem.ALLOW_OTHER_FORBIDDEN.exit_code
    else:
        assert_refused(done, Problem.ALLOW_OTHER_FORBIDDEN, synofs)


def test_a_user_needs_fusermount(nas: Nas, synofs: Synofs, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    assert unshare is not None
    synofs.environment["PATH"] = str(tmp_path)
    done = synofs("mount", nas.url, synofs.mountpoint, *synofs.sign_in(nas), before=(unshare, *AS_A_USER[1:]))
    assert_refused(done, Problem.NO_FUSERMOUNT, synofs)


# ----- the command line -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["mount"],
        ["mount", "https://nas:5001"],
        ["mount", "https://nas:5001", "/mnt", "--no-such-option"],
        ["mount", "https://nas:5001", "/mnt", "--dir-ttl", "soon"],
        ["mount", "https://nas:5001", "/mnt", "--max-requests", "0"],
        ["mount", "https://nas:5001", "/mnt", "--password-file", "/nonexistent"],
        ["mount", "https://nas:5001", "/mnt", "--ca-file", "/nonexistent"],
        ["mount", "https://nas:5001", "/mnt", "--fingerprint", "12"],
        ["mount", "https://nas:5001", "/mnt", "-o", "ro,no_such_option"],
        ["mount", "ftp://nas", "/mnt"],
        ["umount"],
        ["umount", "/mnt", "--timeout", "soon"],
        ["frobnicate"],
    ],
)
def test_a_wrong_command_line(words: list[str], synofs: Synofs) -> None:
    assert_refused(synofs(*words), Problem.WRONG_OPTION, synofs)


@pytest.mark.parametrize("command", ["umount", "status", "flush", "refresh"])
def test_what_is_not_mounted(command: str, synofs: Synofs) -> None:
    assert_refused(synofs(command, synofs.mountpoint), Problem.NOT_MOUNTED, synofs)


def test_forgetting_what_was_never_saved(synofs: Synofs) -> None:
    assert_refused(synofs("logout", "https://nas:5001"), Problem.NO_SAVED_SIGN_IN, synofs)
