"""`python probe.py WHAT ARGUMENTS`: measures from inside a process what no ordinary program tells; JSON on stdout.

A program of its own, without imports from here: a mount that hangs must not hang the benchmark.
"""

from __future__ import annotations

import json
import os
import sys
import time


def scan(folder: str) -> dict[str, float]:
    """Seconds until the first entry of a folder, until all of them; how many."""
    started = time.perf_counter()
    first = 0.0
    count = 0
    with os.scandir(folder) as entries:
        for _ in entries:
            count += 1
            if count == 1:
                first = time.perf_counter() - started
    return {"first": first, "all": time.perf_counter() - started, "count": count}


def first_bytes(folder: str, files: str) -> dict[str, list[float]]:
    """Seconds to open a file and read its first byte, for some files spread over the folder."""
    names = sorted(os.listdir(folder))
    step = max(1, len(names) // int(files))
    taken = []
    # Backwards, and not the neighbours: nobody reads in order here.
    for name in names[::-step][: int(files)]:
        started = time.perf_counter()
        fd = os.open(os.path.join(folder, name), os.O_RDONLY)
        os.read(fd, 1)
        taken.append(time.perf_counter() - started)
        os.close(fd)
    return {"seconds": taken}


def ranges(host: str, port: str, target: str, size: str, offsets: str) -> dict[str, list[float]]:
    """Seconds for one ranged request on a connection that is open, at each of the offsets."""
    import http.client

    connection = http.client.HTTPConnection(host, int(port))
    taken = []
    for offset in [0, *map(int, offsets.split(","))]:
        started = time.perf_counter()
        connection.request("GET", target, headers={"Range": f"bytes={offset}-{offset + int(size) - 1}"})
        answer = connection.getresponse()
        data = answer.read()
        taken.append(time.perf_counter() - started)
        assert answer.status == 206, answer.status
        assert len(data) == int(size), len(data)
    return {"seconds": taken[1:]}  # the first opened the connection


if __name__ == "__main__":
    print(json.dumps({"scan": scan, "first-bytes": first_bytes, "ranges": ranges}[sys.argv[1]](*sys.argv[2:])))
