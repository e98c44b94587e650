"""The methods of the APIs, one module per family. METHODS is all of them."""

from __future__ import annotations

from collections.abc import Mapping

from ..nas import Method
from . import (
    archives,
    background,
    changes,
    compound,
    copymove,
    download,
    favorites,
    info_auth,
    listing,
    measures,
    search,
    services,
    sharing,
    thumbs,
    upload,
)

_MODULES = (
    archives,
    background,
    changes,
    compound,
    copymove,
    download,
    favorites,
    info_auth,
    listing,
    measures,
    search,
    services,
    sharing,
    thumbs,
    upload,
)

METHODS: Mapping[str, Mapping[str, Method]] = {
    api: methods for module in _MODULES for api, methods in module.METHODS.items()
}
