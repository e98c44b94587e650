"""What a daemon is told when it is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from synofs.app import credentials as secrets
from synofs.app.config import Settings
from synofs.filestation.auth import Credentials


@dataclass(frozen=True, slots=True)
class Order:
    """All that a daemon needs to know. Its JSON holds secrets: it goes through a pipe and nowhere else."""

    settings: Settings
    credentials: Credentials

    def to_json(self) -> dict[str, object]:
        return {"settings": self.settings.to_json(), "credentials": secrets.to_json(self.credentials)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Order:
        return cls(Settings.from_json(data["settings"]), secrets.from_json(data["credentials"]))
