"""To whom secrets are sent: to the one host whose certificate is the right one, and to nobody else."""

from __future__ import annotations

import contextlib
import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, urlsplit

import pytest

from synofs.app.errors import Problem
from synofs.filestation.auth import Credentials
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.discovery import APIS
from synofs.filestation.secret import Secret
from synofs.filestation.transport import Request
from synofs.remote import RemoteError
from tests.hostile.call_paths import CALLS, Call
from tests.hostile.http_nas import HttpNas, http_nas, redirect
from tests.integration.cli.conftest import PASSWORD, Done, Synofs, running_nas
from tests.integration.filestation.certificates import Certificate, self_signed
from tests.integration.filestation.raw_server import Connection, serving

USER = "anna"
SECRETS = (PASSWORD, "device-secret", "123456")


def forms_of(secret: str) -> set[bytes]:
    """As it is, and as a URL or a form has it."""
    return {secret.encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()}


def assert_knows_nothing(nas: HttpNas) -> None:
    for secret in SECRETS:
        for form in forms_of(secret):
            assert form not in nas.everything


# ----- certificates ---------------------------------------------------------------------------------------------


@pytest.fixture
def right(tmp_path: Path) -> Certificate:
    return self_signed(tmp_path, serial=10)


@pytest.fixture
def wrong(tmp_path: Path) -> dict[str, Certificate]:
    return {
        "expired": self_signed(tmp_path, serial=11, days=-1),
        "for another host": self_signed(tmp_path, serial=12, names=("elsewhere",), addresses=("192.0.2.1",)),
        "of nobody": self_signed(tmp_path, serial=13),
    }


def options_for(kind: str, wrong: dict[str, Certificate], right: Certificate) -> tuple[Certificate, list[str], str]:
    """Which certificate is shown, what the user has trusted, and what the refusal says."""
    if kind == "expired":
        return wrong[kind], ["--ca-file", str(wrong[kind].pem_file)], "certificate has expired"
    if kind == "for another host":
        return wrong[kind], ["--ca-file", str(wrong[kind].pem_file)], "not valid for '127.0.0.1'"
    if kind == "of nobody":
        return wrong[kind], [], "self-signed certificate"
    return wrong["of nobody"], ["--fingerprint", right.fingerprint], "it is not the pinned one"


KINDS = ["expired", "for another host", "of nobody", "changed since it was pinned"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("command", ["mount", "doctor"])
def test_a_certificate_that_is_not_the_right_one_is_refused_before_anything_is_sent(
    command: str, kind: str, wrong: dict[str, Certificate], right: Certificate, synofs: Synofs
) -> None:
    shown, trust, reason = options_for(kind, wrong, right)
    with http_nas(context=shown.server_context()) as nas:
        done = run(synofs, command, f"https://127.0.0.1:{nas.port}", *trust)
        assert reason in done.out + done.err
        assert shown.fingerprint in done.out + done.err, "what to compare it with"
        assert "--fingerprint" in done.out + done.err, "what to do"
        if command == "mount":
            assert done.code == Problem.CERTIFICATE_REFUSED.exit_code
        assert done.code != 0
        assert nas.received == []


def run(synofs: Synofs, command: str, url: str, *more: str) -> Done:
    words = ["--user", USER, "--password-file", str(synofs.password_file), *more]
    mountpoint = [str(synofs.mountpoint)] if command == "mount" else []
    return synofs(command, url, *mountpoint, *words)


@pytest.mark.parametrize("command", ["mount", "doctor"])
def test_a_host_that_speaks_no_tls_is_told_nothing_in_clear(command: str, synofs: Synofs) -> None:
    received = []

    def in_clear(connection: Connection) -> None:
        received.append(connection.sock.recv(65536))
        connection.answer(b"The plain HTTP request was sent to an HTTPS port, or so", status="400 Bad Request")
        connection.wait_for_hang_up()

    with serving(in_clear) as server:
        done = run(synofs, command, f"https://127.0.0.1:{server.port}")
    assert done.code != 0
    assert "speaks no TLS" in done.out + done.err
    assert "5001" in done.out + done.err, "what to do"
    assert received
    for secret in SECRETS:
        assert not [sent for sent in received if any(form in sent for form in forms_of(secret))]


@pytest.mark.mount
@pytest.mark.parametrize("kind", ["not the pinned one", "self-signed certificate", "no answer"])
def test_a_mount_in_whose_nass_place_somebody_else_answers_tells_him_nothing_and_goes_on_without_it(
    kind: str, right: Certificate, wrong: dict[str, Certificate], synofs: Synofs, tmp_path: Path
) -> None:
    """As the network of a hotel does, or whoever can bend the way to the NAS. (No answer: he speaks no TLS.)"""
    synofs.expected_in_the_log += ["the NAS is away", "the NAS is back"]
    volume, docs = tmp_path / "volume", synofs.mountpoint / "docs"
    (volume / "unseen").mkdir(parents=True)
    trust = ["--ca-file", right.pem_file] if kind == "self-signed certificate" else ["--fingerprint", right.fingerprint]
    his = None if kind == "no answer" else wrong["of nobody"].server_context()
    server = ("--account", f"{USER}:{PASSWORD}", "--tls", str(right.pem_file), str(right.key_file))
    with running_nas(volume, *server) as nas:
        port = urlsplit(nas.url).port
        assert port is not None
        synofs.mount(nas, *trust, "--write-mode", "writeback", "--dir-ttl", "0.2", "--attr-ttl", "0.2")
        assert os.listdir(docs) == ["unseen"]
        time.sleep(0.5)
    with http_nas(context=his, port=port) as stranger:
        assert os.listdir(docs) == ["unseen"], "what is known is shown"
        with pytest.raises(OSError, match="No route to host"):
            os.listdir(docs / "unseen")
        (docs / "plans").write_text("of great value")
        assert sorted(os.listdir(docs)) == ["plans", "unseen"]
        status = synofs.status()
        assert (status["state"], status["pending_uploads"]) == ("offline", 1)
        assert kind in status["last_trouble"]
        warnings = [line for line in synofs.logs().splitlines() if " INFO " not in line]
        assert len(warnings) == 1, warnings
        assert kind in warnings[0]
        assert stranger.received == []
    with running_nas(volume, *server, "--listen", f"127.0.0.1:{port}"):
        assert synofs("flush", synofs.mountpoint).code == 0
        assert (volume / "plans").read_text() == "of great value"
        assert synofs("umount", synofs.mountpoint).code == 0


def test_http_is_not_spoken_unless_it_is_allowed(synofs: Synofs) -> None:
    with http_nas() as nas:
        done = run(synofs, "mount", f"http://127.0.0.1:{nas.port}")
        assert done.code == Problem.INSECURE_HTTP.exit_code
        assert nas.received == []


# ----- redirects ------------------------------------------------------------------------------------------------


@pytest.fixture
def thief() -> Iterator[HttpNas]:
    """Where the redirects lead to."""
    with http_nas() as nas:
        yield nas


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_https_is_not_redirected_to_http(status: int, right: Certificate, thief: HttpNas, synofs: Synofs) -> None:
    def elsewhere(name: str, request: Request) -> bytes:
        return redirect(f"http://127.0.0.1:{thief.port}{request.path}?{request.query}", status)

    with http_nas(elsewhere, context=right.server_context()) as nas:
        done = run(synofs, "mount", f"https://127.0.0.1:{nas.port}", "--fingerprint", right.fingerprint)
        assert done.code == Problem.NOT_A_NAS.exit_code
        assert f"redirects to http://127.0.0.1:{thief.port}; redirects are not followed" in done.err
        assert thief.received == []
        assert_knows_nothing(nas)


def client_to(nas: HttpNas, scheme: str = "http", fingerprint: str | None = None) -> FileStationClient:
    options = ClientOptions(
        url=f"{scheme}://127.0.0.1:{nas.port}",
        insecure_http=True,
        fingerprint=fingerprint,
        metadata_deadline_seconds=0.5,
    )
    secrets = Credentials(USER, Secret(PASSWORD), device_id=Secret("device-secret"))
    return FileStationClient(options, secrets)


@pytest.mark.trio
@pytest.mark.parametrize("call", CALLS, ids=[call.__name__ for call in CALLS])
async def test_no_call_follows_a_redirect(call: Call, thief: HttpNas, right: Certificate) -> None:
    """Signed in at the right host, whatever is asked for next is sent elsewhere."""

    def elsewhere(name: str, request: Request) -> bytes | None:
        if name.startswith("API."):
            return None
        return redirect(f"http://127.0.0.1:{thief.port}{request.path}?{request.query}")

    with http_nas(elsewhere, context=right.server_context()) as nas:
        client = client_to(nas, "https", right.fingerprint)
        with contextlib.suppress(RemoteError):
            await call(client)
        await client.aclose()
        assert nas.received
    assert thief.received == []


@pytest.mark.trio
@pytest.mark.parametrize("where", ["API.Info.query", "API.Auth.login", "API.Auth.logout"])
async def test_no_sign_in_follows_a_redirect(where: str, thief: HttpNas) -> None:
    def elsewhere(name: str, request: Request) -> bytes | None:
        return redirect(f"//127.0.0.1:{thief.port}/webapi/auth.cgi") if name == where else None

    with http_nas(elsewhere) as nas:
        client = client_to(nas)
        with contextlib.suppress(RemoteError):
            await client.connect()
            await client.upload("/media/x", io.BytesIO(b"x"), 1, None, overwrite=True)
        await client.aclose()
        assert nas.received
    assert thief.received == []


@pytest.mark.trio
async def test_an_api_that_is_said_to_be_elsewhere_is_not_looked_for_there(thief: HttpNas) -> None:
    """The NAS names the path of each API, and a path is all that it may name."""
    for path in (
        f"@127.0.0.1:{thief.port}/x",
        f"//127.0.0.1:{thief.port}/",
        "../../x",
        "a?b",
        "a\r\nX: y",
        "http://x/",
    ):
        known = {name: {"path": path, "minVersion": 1, "maxVersion": 7} for name in APIS}
        body = json.dumps({"success": True, "data": known}).encode()
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)

        def discovered(name: str, request: Request, answer: bytes = answer) -> bytes | None:
            return answer if name == "API.Info.query" else None

        with http_nas(discovered) as nas:
            client = client_to(nas)
            with pytest.raises(RemoteError):
                await client.connect()
            await client.aclose()
            assert_knows_nothing(nas)
    assert thief.received == []


@pytest.mark.trio
async def test_proxies_of_the_environment_are_not_used(thief: HttpNas, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{thief.port}")
    with http_nas() as nas:
        client = client_to(nas)
        await client.connect()
        await client.aclose()
        assert nas.received
    assert thief.received == []


@pytest.mark.trio
async def test_the_password_is_sent_to_sign_in_only(right: Certificate) -> None:
    """And never in a URL, which proxies and servers log."""
    with http_nas(context=right.server_context()) as nas:
        for call in CALLS:
            client = client_to(nas, "https", right.fingerprint)
            with contextlib.suppress(RemoteError):
                await call(client)
            await client.aclose()
    with_password = [sent for sent in nas.received if any(form in sent for form in forms_of(PASSWORD))]
    assert with_password
    assert all(b"method=login" in sent.partition(b"\r\n\r\n")[2] for sent in with_password)
    heads = b"\n".join(sent.partition(b"\r\n")[0] for sent in nas.received)
    for word in (*SECRETS, "passwd", "device_id", "_sid=", "SynoToken="):
        assert word.encode() not in heads
