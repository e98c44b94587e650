"""Secrets do not show."""

from __future__ import annotations

from synofs.filestation.auth import Credentials, Secret
from synofs.filestation.transport import Head, Request, Response
from synofs.filestation.wire import Session


def test_a_secret_shows_itself_only_on_request() -> None:
    secret = Secret("hunter2")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>20}", "%s" % secret, "{}".format(secret)):  # noqa: UP031, UP032
        assert "hunter2" not in shown
    assert secret.reveal() == "hunter2"
    assert type(secret.reveal()) is str
    assert secret == "hunter2"


def test_nothing_that_holds_a_secret_shows_it() -> None:
    secret = Secret("hunter2")
    holders = [
        Credentials("ann", secret, otp=secret, device_id=secret),
        Session(secret, secret),
        Request("GET", "/x", query="_sid=hunter2", headers={"Cookie": "id=hunter2"}, body=b"hunter2"),
        Response(Head(200, {"set-cookie": "id=hunter2"}), b"hunter2"),
    ]
    for holder in holders:
        assert "hunter2" not in repr(holder)
        assert "hunter2" not in str(holder)
