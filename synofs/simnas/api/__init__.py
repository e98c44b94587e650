"""The methods of the APIs, one module per family. METHODS is all of them."""

from __future__ import annotations

from collections.abc import Mapping

from ..nas import Method
from . import background, changes, copymove, download, info_auth, listing, measures, services, upload

METHODS: Mapping[str, Mapping[str, Method]] = {
    api: methods
    for module in (background, changes, copymove, download, info_auth, listing, measures, services, upload)
    for api, methods in module.METHODS.items()
}
