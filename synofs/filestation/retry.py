"""Which failure of which call may be repeated, and when. Pure decisions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from synofs.filestation.transport import ConnectError, ReceiveFailed, SendFailed, TransportError
from synofs.remote import Overloaded, RemoteError


@dataclass(frozen=True)
class RetryOptions:
    first_delay_seconds: float = 0.25
    max_delay_seconds: float = 5.0


def may_repeat(error: RemoteError, *, idempotent: bool) -> bool:
    """A call that changes something is repeated only if it certainly never reached the NAS."""
    return error.temporary and (idempotent or isinstance(error.__cause__, ConnectError))


def repeat_at_once(error: RemoteError, *, idempotent: bool) -> bool:
    """The NAS hangs up on idle connections, and a request may cross its farewell: that says nothing about it."""
    return idempotent and _is_farewell(error.__cause__)


def is_overload(error: RemoteError) -> bool:
    """Does this failure tell the lanes to slow down?

    A NAS with too much to do says so, or resets connections, or stops answering. A connection that was never
    made, or that broke while it was idle, tells nothing of the kind.
    """
    if isinstance(error, Overloaded):
        return True
    cause = error.__cause__
    is_silent = isinstance(cause, ConnectError) or _is_farewell(cause)
    return error.temporary and isinstance(cause, TransportError) and not is_silent


def _is_farewell(cause: BaseException | None) -> bool:
    return isinstance(cause, SendFailed | ReceiveFailed) and cause.reused


def delay_seconds(options: RetryOptions, attempt: int, random: Callable[[], float]) -> float:
    """Before repeat number `attempt` (from 0): doubling, and up to half of it less so that callers spread out."""
    ceiling = min(options.max_delay_seconds, options.first_delay_seconds * 2.0**attempt)
    return ceiling * (0.5 + 0.5 * random())
