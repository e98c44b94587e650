"""What is repeated, and when."""

from __future__ import annotations

import inspect

import pytest

from synofs import remote
from synofs.filestation import retry, transport
from synofs.filestation.retry import RetryOptions, delay_seconds, is_overload, may_repeat, repeat_at_once
from synofs.filestation.transport import ConnectFailed, ReceiveFailed, ReceiveTimeout, SendFailed, TransportError
from synofs.filestation.wire import ERRORS, translated


def caused(error: remote.RemoteError, cause: Exception | None) -> remote.RemoteError:
    error.__cause__ = cause
    return error


def all_transport_errors() -> list[type[TransportError]]:
    return [
        kind
        for _, kind in inspect.getmembers(transport, inspect.isclass)
        if issubclass(kind, TransportError) and kind is not TransportError
    ]


def make(kind: type[TransportError]) -> TransportError:
    return kind("text", target="https://x") if kind is transport.Redirected else kind("text")


@pytest.mark.parametrize("kind", all_transport_errors())
def test_every_transport_error_has_a_meaning(kind: type[TransportError]) -> None:
    error = translated(make(kind), "/a")
    assert isinstance(error, remote.RemoteError)
    assert type(error) is not remote.RemoteError


def test_the_map_names_no_error_that_does_not_exist() -> None:
    assert set(ERRORS) <= set(all_transport_errors())


def test_a_person_has_to_act_where_repeating_does_not_help() -> None:
    for kind in (transport.CertificateUntrusted, transport.Redirected):
        assert not translated(make(kind)).temporary


def test_an_untrusted_certificate_keeps_its_fingerprint() -> None:
    error = translated(transport.CertificateUntrusted("self-signed", fingerprint="ab" * 32))
    assert isinstance(error, remote.CertificateRefused)
    assert error.fingerprint == "ab" * 32


def test_reading_is_repeated_after_anything_temporary() -> None:
    for kind in (remote.Unreachable, remote.TimedOut, remote.Overloaded, remote.ShortBody, remote.BadAnswer):
        assert may_repeat(kind("x"), idempotent=True)
    for kind in (remote.NotFound, remote.PermissionDenied, remote.NotANas, remote.WrongPassword, remote.Changed):
        assert not may_repeat(kind("x"), idempotent=True)


def test_a_change_is_repeated_only_if_it_never_left_this_machine() -> None:
    assert may_repeat(caused(remote.Unreachable("x"), ConnectFailed("x")), idempotent=False)
    for cause in (SendFailed("x"), ReceiveFailed("x"), ReceiveTimeout("x"), None):
        assert not may_repeat(caused(remote.Unreachable("x"), cause), idempotent=False)


def test_only_a_broken_reused_connection_is_replaced_at_once() -> None:
    stale = caused(remote.Unreachable("x"), ReceiveFailed("x", reused=True))
    assert repeat_at_once(stale, idempotent=True)
    assert not repeat_at_once(stale, idempotent=False)
    assert not repeat_at_once(caused(remote.Unreachable("x"), ReceiveFailed("x")), idempotent=True)
    assert not repeat_at_once(caused(remote.TimedOut("x"), ReceiveTimeout("x", reused=True)), idempotent=True)
    assert not repeat_at_once(remote.Overloaded("x"), idempotent=True)


def test_what_tells_of_too_much_load() -> None:
    assert is_overload(remote.Overloaded("402"))
    assert is_overload(caused(remote.Unreachable("x"), ReceiveFailed("x")))
    assert is_overload(caused(remote.TimedOut("x"), ReceiveTimeout("x")))
    assert not is_overload(caused(remote.Unreachable("x"), ReceiveFailed("x", reused=True)))
    assert not is_overload(caused(remote.Unreachable("x"), ConnectFailed("x")))
    assert not is_overload(remote.NotFound("x"))
    assert not is_overload(remote.Unavailable("119"))


def test_delays_double_to_a_ceiling_and_spread() -> None:
    options = RetryOptions(first_delay_seconds=0.25, max_delay_seconds=5.0)
    longest = [delay_seconds(options, attempt, lambda: 1.0) for attempt in range(7)]
    assert longest == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert delay_seconds(options, 0, lambda: 0.0) == 0.125


def test_retry_decides_without_doing() -> None:
    source = inspect.getsource(retry)
    assert "import trio" not in source
