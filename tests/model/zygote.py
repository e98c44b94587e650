"""Starts the command quickly: imports it once, and forks a process for each life of a mount.

Reads one JSON object per line from stdin ({"arguments": [...], "log": FILE}), answers with the process's number. It has
no threads when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback

from synofs.cli import main as command


def child(arguments: list[str], log: str) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, nothing), (1, out), (2, out)):
        os.dup2(source, target)
    code = 1
    try:
        code = command.run(arguments)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the ended are reaped by the kernel
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(order["arguments"], order["log"])
        print(pid, flush=True)


if __name__ == "__main__":
    main()
