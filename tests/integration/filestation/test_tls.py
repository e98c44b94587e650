"""Which certificates are trusted, and how an untrusted one is told."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from synofs import remote
from synofs.filestation import transport
from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.client import ClientOptions, FileStationClient
from synofs.filestation.requests_transport import RequestsTransport
from synofs.filestation.transport import Request, TransportOptions
from tests.integration.filestation.certificates import Certificate, self_signed
from tests.integration.filestation.raw_server import RawServer, always, serving

pytestmark = pytest.mark.trio

GET = Request("GET", "/", answer_seconds=20)


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return self_signed(tmp_path_factory.mktemp("own"))


def answering(certificate: Certificate) -> Any:
    return serving(always(lambda connection, request: connection.answer()), certificate.server_context())


async def get(server: RawServer, host: str = "127.0.0.1", **trust: Any) -> transport.Response:
    http = RequestsTransport(TransportOptions("https", host, server.port, **trust))
    try:
        return await http.send(GET)
    finally:
        await http.aclose()


async def test_a_self_signed_certificate_is_refused_and_its_fingerprint_told(own: Certificate) -> None:
    with answering(own) as server:
        with pytest.raises(transport.CertificateUntrusted) as caught:
            await get(server)
    assert caught.value.fingerprint == own.fingerprint
    assert "self" in str(caught.value)


async def test_nothing_is_sent_to_an_untrusted_host(own: Certificate) -> None:
    received: list[bytes] = []
    behaviour = always(lambda connection, request: received.append(request))
    with serving(behaviour, own.server_context()) as server:
        with pytest.raises(transport.CertificateUntrusted):
            await get(server)
        with pytest.raises(transport.CertificateUntrusted):
            await get(server, fingerprint="00" * 32)
    assert received == []


async def test_the_pinned_certificate_is_taken_whatever_its_name_and_age(tmp_path: Path) -> None:
    old = self_signed(tmp_path, names=("elsewhere",), addresses=(), days=-1)
    with answering(old) as server:
        assert (await get(server, fingerprint=old.fingerprint)).status == 200


async def test_another_certificate_than_the_pinned_one_is_refused(own: Certificate, tmp_path: Path) -> None:
    other = self_signed(tmp_path, serial=2)
    with answering(own) as server:
        with pytest.raises(transport.CertificateUntrusted, match="pinned") as caught:
            await get(server, fingerprint=other.fingerprint)
    assert caught.value.fingerprint == own.fingerprint


async def test_the_nas_own_certificate_as_ca_file(own: Certificate) -> None:
    with answering(own) as server:
        for host in ("127.0.0.1", "localhost"):
            assert (await get(server, host, ca_file=str(own.pem_file))).status == 200


async def test_a_certificate_for_another_name_is_refused_even_with_its_ca_file(tmp_path: Path) -> None:
    elsewhere = self_signed(tmp_path, names=("elsewhere",), addresses=())
    with answering(elsewhere) as server:
        with pytest.raises(transport.CertificateUntrusted) as caught:
            await get(server, ca_file=str(elsewhere.pem_file))
    assert caught.value.fingerprint == elsewhere.fingerprint


async def test_a_ca_file_replaces_all_other_trust(own: Certificate, tmp_path: Path) -> None:
    other = self_signed(tmp_path, serial=2)
    with answering(own) as server:
        with pytest.raises(transport.CertificateUntrusted):
            await get(server, ca_file=str(other.pem_file))


async def test_a_ca_file_that_is_none_is_told(own: Certificate, tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    with answering(own) as server:
        for path in ("none", "empty"):
            with pytest.raises(transport.CertificateUntrusted, match=path):
                await get(server, ca_file=str(tmp_path / path))


async def test_pooled_tls_connections_are_reused(own: Certificate) -> None:
    with answering(own) as server:
        options = TransportOptions("https", "127.0.0.1", server.port, fingerprint=own.fingerprint)
        http = RequestsTransport(options)
        for _ in range(3):
            await http.send(GET)
        await http.aclose()
        assert server.accepted == 1


async def test_when_the_resolver_fails_the_nas_is_met_where_it_was(
    own: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    def fail(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with answering(own) as server:
        http = RequestsTransport(TransportOptions("https", "nas.example", server.port, fingerprint=own.fingerprint))
        monkeypatch.setattr(socket, "getaddrinfo", resolve)
        assert (await http.send(GET)).status == 200
        monkeypatch.setattr(socket, "getaddrinfo", fail)
        http.hang_up()  # as after a suspend
        assert (await http.send(GET)).status == 200
        await http.aclose()


async def test_a_host_that_speaks_no_tls() -> None:
    def plain(connection: Any) -> None:
        connection.sock.recv(5)
        connection.answer(b"", status="400 Bad Request")

    with serving(plain) as server:
        with pytest.raises(transport.TlsFailed):
            await get(server)


async def test_a_handshake_that_hangs() -> None:
    def silent(connection: Any) -> None:
        connection.wait_for_hang_up()

    with serving(silent) as server:
        with pytest.raises(transport.TlsTimeout):
            await get(server, connect_timeout_seconds=0.3)


async def test_a_tls_answer_that_hangs_ends_at_the_deadline(own: Certificate) -> None:
    def hang(connection: Any) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        connection.wait_for_hang_up()

    with serving(hang, own.server_context()) as server:
        http = RequestsTransport(TransportOptions("https", "127.0.0.1", server.port, fingerprint=own.fingerprint))
        with pytest.raises(transport.ReceiveTimeout):
            await http.send(Request("GET", "/", answer_seconds=0.4))
        await http.aclose()


async def test_the_client_tells_what_to_do(own: Certificate) -> None:
    with answering(own) as server:
        client = FileStationClient(
            ClientOptions(url=f"https://127.0.0.1:{server.port}"), Credentials("ann", Secret("hunter2"))
        )
        for attempt in (client.connect, client.probe):
            with pytest.raises(remote.CertificateRefused) as caught:
                await attempt()
            assert caught.value.fingerprint == own.fingerprint
            assert not caught.value.temporary
        await client.aclose()


async def test_plain_http_to_a_tls_port_is_no_nas(own: Certificate) -> None:
    with answering(own) as server:
        client = FileStationClient(
            ClientOptions(url=f"http://127.0.0.1:{server.port}", insecure_http=True),
            Credentials("ann", Secret("hunter2")),
        )
        with pytest.raises(remote.RemoteError) as caught:
            await client.connect()
        assert isinstance(caught.value, remote.Unreachable | remote.NotANas | remote.BadAnswer)
        await client.aclose()
