"""A simulated NAS as its own process, and a client that knows nothing but the wire format."""

from __future__ import annotations

import datetime
import gzip
import http.client
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest


@dataclass(frozen=True)
class Reply:
    """One HTTP answer, read to its end."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        decoded: dict[str, Any] = json.loads(self.body)
        return decoded

    @property
    def code(self) -> int:
        """The code of a refusal."""
        assert self.json["success"] is False, self.json
        return int(self.json["error"]["code"])

    @property
    def nested(self) -> list[int]:
        """The codes inside a refusal."""
        return [error["code"] for error in self.json["error"]["errors"]]

    @property
    def data(self) -> Any:
        assert self.status == 200, self.status
        assert self.json["success"] is True, self.json
        return self.json.get("data")


@dataclass
class Simnas:
    """A running simulated NAS, and calls to it."""

    process: subprocess.Popen[str]
    url: str
    sid: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    source: tuple[str, int] | None = None

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port

    def connect(self, timeout: float = 30) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            return http.client.HTTPSConnection("127.0.0.1", parts.port, timeout=timeout, context=context)
        return http.client.HTTPConnection("127.0.0.1", parts.port, timeout=timeout, source_address=self.source)

    def request(
        self,
        method: str,
        target: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        connection: http.client.HTTPConnection | None = None,
    ) -> Reply:
        own = connection or self.connect()
        try:
            own.request(method, target, body, headers or {})
            response = own.getresponse()
            content = response.read()
            found = {name.lower(): value for name, value in response.getheaders()}
            if found.get("content-encoding") == "gzip":
                content = gzip.decompress(content)
            return Reply(response.status, found, content)
        finally:
            if connection is None:
                own.close()

    def target(self, api: str, version: int, method: str, raw: dict[str, str] | None = None, **params: Any) -> str:
        """The URL of a call: `params` are JSON-encoded as version 2 wants them, `raw` goes as it is."""
        if not api.startswith("SYNO."):
            api = f"SYNO.FileStation.{api}"
        fields = {"api": api, "version": str(version), "method": method}
        if self.sid and not api.startswith("SYNO.API."):
            fields["_sid"] = self.sid
        fields |= self.extra
        is_raw = api.startswith("SYNO.API.")
        fields |= {k: v if is_raw and isinstance(v, str) else json.dumps(v) for k, v in params.items()}
        fields |= raw or {}
        return "/webapi/entry.cgi?" + urlencode(fields)

    def get(self, api: str, version: int, method: str, raw: dict[str, str] | None = None, **params: Any) -> Reply:
        return self.request("GET", self.target(api, version, method, raw, **params))

    def post(self, api: str, version: int, method: str, raw: dict[str, str] | None = None, **params: Any) -> Reply:
        target, _, query = self.target(api, version, method, raw, **params).partition("?")
        form = {"content-type": "application/x-www-form-urlencoded"}
        return self.request("POST", target, query.encode(), form)

    def try_login(self, account: str = "ann", password: str = "pw", version: int = 7, **params: Any) -> Reply:
        params = {"session": "FileStation", "format": "sid"} | params
        return self.post("SYNO.API.Auth", version, "login", account=account, passwd=password, **params)

    def login(self, account: str = "ann", password: str = "pw", version: int = 7, **params: Any) -> dict[str, Any]:
        """Signs in; later calls carry the sid."""
        data: dict[str, Any] = self.try_login(account, password, version, **params).data
        self.sid = data["sid"]
        return data

    def upload(
        self,
        path: str,
        filename: str,
        content: bytes,
        version: int = 2,
        headers: dict[str, str] | None = None,
        chunked: bool = False,
        **texts: Any,
    ) -> Reply:
        """A whole-file POST: the text parts, then the file."""
        parts = [("path", path), *((name, str(value)) for name, value in texts.items())]
        return self.post_form(form_body(parts, filename, content), version, headers, chunked)

    def post_form(
        self,
        body: bytes,
        version: int = 2,
        headers: dict[str, str] | None = None,
        chunked: bool = False,
        target: str | None = None,
    ) -> Reply:
        """A multipart body to Upload."""
        head = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"} | (headers or {})
        target = target or self.target("Upload", version, "upload")
        return self.request("POST", target, iter([body]) if chunked else body, head)

    def finish(self, api: str, task_id: str, version: int = 2) -> Any:
        """Asks for the status of a task until it is finished; the last answer."""
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            data = self.get(api, version, "status", taskid=task_id).data
            if data["finished"]:
                return data
        raise AssertionError(f"{task_id} does not finish")

    def names(self, folder: str, **params: Any) -> list[str]:
        return [record["name"] for record in self.get("List", 2, "list", folder_path=folder, **params).data["files"]]

    def fault(self, kind: str, **fields: Any) -> None:
        reply = self.request("POST", "/_simnas/faults", json.dumps({"kind": kind, **fields}))
        assert reply.status == 200, reply.body

    def clear_faults(self) -> None:
        assert self.request("DELETE", "/_simnas/faults").status == 200

    def stats(self) -> dict[str, Any]:
        return self.request("GET", "/_simnas/stats").json


BOUNDARY = "----b0undary"


def form_body(texts: list[tuple[str, str]], filename: str, content: bytes, field: str = "file") -> bytes:
    """A multipart body with its text parts first and one file at the end."""
    head = "".join(
        f'--{BOUNDARY}\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in texts
    )
    head += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{field}"; filename="{filename}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return head.encode("utf-8", "surrogateescape") + content + f"\r\n--{BOUNDARY}--\r\n".encode()


def urlencode(fields: dict[str, str]) -> str:
    return "&".join(
        f"{quote(k, safe='')}={quote(v.encode('utf-8', 'surrogateescape'), safe='')}" for k, v in fields.items()
    )


def _launch(stack: ExitStack, arguments: tuple[str, ...]) -> Simnas:
    process = subprocess.Popen(
        [sys.executable, "-m", "synofs.simnas", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stack.callback(_stop, process)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line.startswith("simnas listening on "):
        assert process.stderr is not None
        raise AssertionError(f"simnas did not start: {line}{process.stderr.read()}")
    return Simnas(process, line.removeprefix("simnas listening on ").strip())


def _stop(process: subprocess.Popen[str]) -> None:
    """Ends the NAS; an error that it logged fails the test."""
    process.terminate()
    try:
        _, errors = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        process.kill()
        _, errors = process.communicate()
    assert process.returncode == 0, errors
    assert errors == ""


@pytest.fixture
def share(tmp_path: Path) -> Path:
    """The directory behind the share `media` of `start` and `nas`."""
    folder = tmp_path / "media"
    folder.mkdir()
    return folder


Start = Callable[..., Simnas]


@pytest.fixture
def start(share: Path) -> Iterator[Start]:
    """`start(*options)`: a NAS with the share `media`, the admin `root` and the user `ann` (passwords `pw`)."""
    with ExitStack() as stack:

        def launch(*options: str, sign_in: bool = True, accounts: tuple[str, ...] = ()) -> Simnas:
            arguments = ["--share", f"media={share}"]
            for account in ("ann:pw", "root:pw:admin", *accounts):
                arguments += ["--account", account]
            nas = _launch(stack, (*arguments, *options))
            if sign_in:
                nas.login()
            return nas

        yield launch


@pytest.fixture
def multipart() -> Callable[..., bytes]:
    """`multipart([(name, text), ...], filename, content)`: the body of an upload."""
    return form_body


@pytest.fixture
def nas(start: Start) -> Simnas:
    """A NAS with the defaults, `ann` signed in."""
    return start()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A self-signed certificate and its key, as files."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    folder = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "synology")])
    now = datetime.datetime.now(datetime.UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(built.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return str(folder / "cert.pem"), str(folder / "key.pem")
