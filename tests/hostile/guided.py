"""Decoders under atheris, which looks for inputs that take new ways through the code. Started by `__main__.py`."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["synofs.filestation", "json"]):
    from tests.hostile.decoders import KINDS, decode


def try_bytes(data: bytes) -> None:
    if data:
        name, kind = KINDS[data[0] % len(KINDS)]
        decode(name, kind, data[1:])


def main() -> None:
    atheris.Setup(sys.argv, try_bytes)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
