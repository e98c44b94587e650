"""Trusted devices: what spares an account the one-time code on this machine."""

from __future__ import annotations

from synofs.filestation import calls
from synofs.filestation.caller import Caller
from synofs.filestation.parsing import Empty
from synofs.filestation.secret import Secret


class Devices:
    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def distrust(self, device_id: Secret) -> None:
        """Ask the NAS to trust this device no more.

        The API is not documented, so its success proves nothing: whoever wants to be sure signs in with the token.
        """
        await self._caller.call(calls.distrust_device(device_id.reveal()), Empty)
