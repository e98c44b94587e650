"""Is the NAS there? Found out within seconds, so that nobody waits for one that is not.

While calls wait and nothing moves, a probe on a connection of its own asks for a sign of life: the question for the
API map, which no disk has to spin up for. A NAS that answers it is awake, however slow the calls are. One that does
not for `away_after_seconds` is *away*: the calls that wait fail, and new ones fail at once, until a probe succeeds.
A restart of the NAS's web server is shorter than that, and is waited out. Where somebody else answers in its place,
as the network of a hotel does, there is nothing to wait for: the NAS is away, once a probe has met him, too.

    there --nothing moves, probes fail for a while--> away --a probe succeeds--> there
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import trio

from synofs.remote import Away, CertificateRefused, NotANas, RemoteError

log = logging.getLogger(__name__)

STRANGERS = (CertificateRefused, NotANas)  # who answers is not the NAS


@dataclass(frozen=True)
class HealthOptions:
    quiet_seconds: float = 1.0  # calls wait, and nothing has moved for so long: ask
    probe_seconds: float = 1.75  # how long a probe waits
    away_after_seconds: float = 3.0  # from the first doubt on
    pause_seconds: float = 0.5  # between two looks
    away_pause_seconds: float = 2.0  # between two probes while the NAS is away
    believed_seconds: float = 2.0  # `find_out` does not ask again so soon


class Health:
    def __init__(
        self, probe: Callable[[], Awaitable[None]], activity: Callable[[], int], options: HealthOptions
    ) -> None:
        """`probe` raises a `RemoteError` when there is no sign of life; `activity` grows with everything that comes
        from the NAS."""
        self._probe = probe
        self.activity = activity
        self._options = options
        self._calls: dict[trio.CancelScope, float] = {}  # those that wait -> since when
        self._doubt = trio.Event()  # there is a reason to look
        self._suspended = False
        self._watched = False
        self._curious = 0  # how many want to know, without a call that waits
        self._asked_at = float("-inf")
        self.away_since: float | None = None  # wall clock
        self.trouble = ""  # what the last probe met
        self.on_change: Callable[[bool], None] = lambda there: None

    @property
    def away(self) -> bool:
        """Nobody need wait for it."""
        return self.away_since is not None or self._suspended

    def suspend(self) -> None:
        """The machine goes to sleep: whoever waits is answered now, and nobody waits until `resume`."""
        self._suspended = True
        for scope in list(self._calls):
            scope.cancel()

    def resume(self) -> None:
        self._suspended = False
        self.look()

    def look(self) -> None:
        """Something has happened: while the NAS is away, ask it at once whether it is back."""
        self._doubt.set()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around a call: it ends with `Away` when the NAS is found to be away."""
        if self.away:
            raise Away("the NAS is away")
        scope = trio.CancelScope()
        self._calls[scope] = trio.current_time()
        self._doubt.set()
        try:
            with scope:
                yield
        finally:
            del self._calls[scope]
        if scope.cancelled_caught:
            raise Away("the NAS went away")

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Watch until cancelled. Without it the NAS counts as there, and calls wait for their own deadlines."""
        self._watched = True
        task_status.started()
        try:
            while True:
                await self._step()
        finally:
            self._watched = False

    async def _step(self) -> None:
        if self.away_since is not None and not self._suspended:
            self._doubt = trio.Event()
            with trio.move_on_after(self._options.away_pause_seconds):
                await self._doubt.wait()
            if not self._suspended and await self._answers():
                self._set_away(False)
        elif not self._calls:
            self._doubt = trio.Event()
            await self._doubt.wait()
        else:
            await self._watch()

    async def _watch(self) -> None:
        """Calls are waiting: look whether anything moves; if not, probe until it is clear how things stand."""
        options = self._options
        seen = self.activity()
        await trio.sleep(options.pause_seconds)
        now = trio.current_time()
        if self.activity() != seen or not any(now - since >= options.quiet_seconds for since in self._calls.values()):
            return
        await self._probe_until_clear(seen)

    async def find_out(self) -> None:
        """Ask although nobody waits for it, so that what is said of it is true. Not when it answered a moment ago."""
        if self.away or trio.current_time() < self._asked_at + self._options.believed_seconds:
            return
        self._asked_at = trio.current_time()
        self._curious += 1
        try:
            await self._probe_until_clear(self.activity())
        finally:
            self._curious -= 1

    async def _probe_until_clear(self, seen: int) -> None:
        options = self._options
        doubt_since = trio.current_time()
        while not await self._answers():
            if self.activity() != seen:
                return  # slower than a probe is patient, but there
            if trio.current_time() - doubt_since >= options.away_after_seconds or not self._of_interest:
                break
            await trio.sleep(options.pause_seconds)
        else:
            return
        if self._of_interest and not self.away:
            self._set_away(True)

    async def is_gone_for(self, stranger: RemoteError) -> bool:
        """A call has met somebody who is not the NAS: so does a probe? Then the NAS is away from now on."""
        if not self._watched or not isinstance(stranger, STRANGERS):
            return False
        if not self.away:
            try:
                with trio.move_on_after(self._options.probe_seconds):
                    await self._probe()
                return False  # it is there; or nobody is, which is found out while calls wait
            except STRANGERS as error:
                self.trouble = str(error)
            except RemoteError:
                return False
            if not self.away:  # others have met him, too
                self._set_away(True)
        return True

    @property
    def _of_interest(self) -> bool:
        return bool(self._calls) or self._curious > 0

    async def _answers(self) -> bool:
        with trio.move_on_after(self._options.probe_seconds):
            try:
                await self._probe()
            except RemoteError as error:
                self.trouble = str(error)
                return False
            return True
        self.trouble = f"the NAS: no answer within {self._options.probe_seconds} s"
        return False

    def assume_away(self, trouble: str) -> None:
        """It did not answer before the watch began."""
        self.trouble = trouble
        self.away_since = time.time()
        self._doubt.set()

    def _set_away(self, away: bool) -> None:
        self.away_since = time.time() if away else None
        self._doubt.set()
        if away:
            log.warning("the NAS is away (%s); what is known of it goes on being served", self.trouble)
            for scope in list(self._calls):
                scope.cancel()
        else:
            log.warning("the NAS is back")
        self.on_change(not away)
