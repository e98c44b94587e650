"""A call through all layers: retry > session > lane > transport.

while there is time:
    take the session (sign in first, if need be)
    one attempt, in a lane
    the session's fault?     renew it, replay
    the connection's fault?  wait outside of the lanes, repeat
    otherwise it is the answer
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import trio

from synofs.filestation import retry
from synofs.filestation.auth import AuthManager
from synofs.filestation.calls import ApiCall
from synofs.filestation.health import Health
from synofs.filestation.retry import RetryOptions
from synofs.filestation.wire import Session, Wire
from synofs.remote import Away, RemoteError, TimedOut

T = TypeVar("T")

# The longest way to a working session: a new token, two sign-ins, and each time another placement.
MAX_RENEWALS = 5


@dataclass(frozen=True)
class Attempt:
    """What one try has to go by."""

    session: Session
    fresh_connection: bool
    answer_seconds: float


class Caller:
    """Makes calls until they succeed, fail for good, or are out of time."""

    def __init__(
        self,
        wire: Wire,
        auth: AuthManager,
        options: RetryOptions,
        metadata_deadline_seconds: float,
        health: Health | None = None,
    ) -> None:
        """Without `health` the NAS counts as there, and only deadlines end a call."""
        self.wire = wire
        self._health = health
        self._waiting = health.waiting if health is not None else nullcontext
        self._auth = auth
        self._options = options
        self._deadline_seconds = metadata_deadline_seconds

    @property
    def change_deadline_seconds(self) -> float:
        """For a change: it may have to wait for disks that spin up, or for a big file's blocks to be freed."""
        return 3 * self._deadline_seconds

    async def call(
        self,
        call: ApiCall,
        kind: type[T],
        *,
        deadline_seconds: float | None = None,
        check: Callable[[T], None] | None = None,
    ) -> T:
        """A call with a small answer. `check` may find an error in it, and raise that."""

        async def attempt(this: Attempt) -> T:
            answer = await self.wire.ask(
                call,
                kind,
                this.session,
                answer_seconds=this.answer_seconds,
                fresh_connection=this.fresh_connection,
            )
            if check is not None:
                check(answer)
            return answer

        seconds = self._deadline_seconds if deadline_seconds is None else deadline_seconds
        failure: RemoteError = TimedOut("the NAS: no answer came in time", path=call.path)
        with trio.move_on_after(seconds):
            return await self.run(attempt, idempotent=call.idempotent, patience_seconds=seconds)
        raise failure

    async def run(
        self,
        attempt: Callable[[Attempt], Awaitable[T]],
        *,
        idempotent: bool,
        patience_seconds: float | None = None,
    ) -> T:
        """Repeat `attempt` where that may be done, as long as the next one starts within `patience_seconds`, and as
        long as the NAS is there."""
        try:
            with self._waiting():
                return await self._run(attempt, idempotent, patience_seconds)
        except RemoteError as error:
            if self._health is not None and await self._health.is_gone_for(error):
                raise Away("the NAS went away") from error
            raise
        raise AssertionError("a call that was given up has raised")

    async def _run(
        self, attempt: Callable[[Attempt], Awaitable[T]], idempotent: bool, patience_seconds: float | None
    ) -> T:
        patience = self._deadline_seconds if patience_seconds is None else patience_seconds
        give_up_at = trio.current_time() + patience
        repeats = renewals = 0
        stale_connections = 0
        while True:
            session: Session | None = None
            reached = False  # may the NAS have acted on the call?
            try:
                session = await self._auth.session()
                reached = True
                left = max(give_up_at - trio.current_time(), 0.001)
                result = await attempt(Attempt(session, stale_connections > 0, left))
            except RemoteError as exc:
                error = exc
            else:
                self._auth.worked(session)
                return result
            if session is not None and renewals < MAX_RENEWALS:
                try:
                    if await self._auth.renewed(session, error):
                        renewals += 1
                        continue
                except RemoteError as exc:
                    error, reached = exc, False
            harmless = idempotent or not reached
            if not retry.may_repeat(error, idempotent=harmless):
                raise error
            if stale_connections == 0 and retry.repeat_at_once(error, idempotent=harmless):
                stale_connections = 1
                continue
            delay = retry.delay_seconds(self._options, repeats, random.random)
            if trio.current_time() + delay >= give_up_at:
                raise error
            repeats += 1
            await trio.sleep(delay)
