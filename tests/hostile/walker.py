"""Walks a mount and reads what is there, as a program does: `python walker.py MOUNTPOINT SECONDS`. Prints as JSON what
it met; goes on after that time until something has succeeded. A process of its own: whoever waits for a mount may wait
for ever, and then only this is to be ended."""

import errno
import json
import os
import sys
import time
from collections import Counter


def main() -> None:
    top, end = os.fsencode(sys.argv[1]), time.monotonic() + float(sys.argv[2])
    met: Counter[str] = Counter()
    outside: list[str] = []
    longest = 0.0

    def tried(verb: str, *arguments: object) -> object:
        nonlocal longest
        started = time.monotonic()
        try:
            result = VERBS[verb](*arguments)
            met[f"{verb} ok"] += 1
            return result
        except OSError as exc:
            met[f"{verb} {errno.errorcode.get(exc.errno or 0, '?')}"] += 1
            return None
        finally:
            longest = max(longest, time.monotonic() - started)

    while time.monotonic() < end or not met["listdir ok"]:
        folders = [top]
        for _ in range(3):
            folder = folders[-1]
            for name in sorted(tried("listdir", folder) or [])[:8]:
                path = os.path.join(folder, name)
                if b"/" in name or name in (b"", b".", b"..") or os.path.dirname(os.path.realpath(path)) != folder:
                    outside.append(repr(path))
                status = tried("stat", path)
                if status is None:
                    continue
                if os.path.isdir(path):
                    folders.append(path)
                else:
                    tried("read", path)
            tried("statvfs", folder)
    print(json.dumps({"met": met, "outside": outside, "longest": longest}))


def _read(path: bytes) -> bytes:
    with open(path, "rb") as file:
        return file.read(5000)


VERBS = {"listdir": os.listdir, "stat": os.stat, "statvfs": os.statvfs, "read": _read}

if __name__ == "__main__":
    main()
