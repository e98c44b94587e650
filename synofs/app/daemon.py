"""`python -m synofs.app.daemon FD`: the process behind a mount that was not asked to stay in the foreground.

It reads its order (settings and secrets) from stdin, reports on the pipe FD that it is ready or why it is not, and
then belongs to nobody but the kernel and the control socket. Nothing comes from its stdout or stderr but what Python
itself may have to say when it crashes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import logging
import os
import sys

from synofs.app.errors import Failure
from synofs.app.logs import access_log_path, log_calls_to_file, log_path, log_to_file
from synofs.app.order import Order
from synofs.app.service import run

log = logging.getLogger("synofs.app.daemon")  # not __name__, which is "__main__" here


class Report:
    """The pipe to whoever started the daemon: one line, then closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def ready(self) -> None:
        """From now on, nothing that happens to the caller's terminal matters.

        Not earlier: on an automount point, whoever has left the process group of systemd's mount command waits for
        the mount like everybody else, and that would be for us.
        """
        os.setsid()
        self._send({"ready": True})

    def failed(self, failure: Failure) -> None:
        self._send(failure.to_json())

    def _send(self, message: dict[str, object]) -> None:
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # nobody waits any more
            os.write(self._descriptor, json.dumps(message).encode() + b"\n")
        os.close(self._descriptor)
        self._descriptor = None


def main() -> int:
    report = Report(int(sys.argv[1]))
    order = Order.from_json(json.load(sys.stdin))
    log_to_file(log_path(order.settings.mountpoint), order.settings.log_level)
    if order.settings.access_log:
        log_calls_to_file(access_log_path(order.settings.mountpoint))
    faulthandler.enable()
    try:
        run(order, report.ready)
    except Failure as failure:
        log.error("%s", failure.line)
        report.failed(failure)
        return failure.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
