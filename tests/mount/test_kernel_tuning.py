"""What is set in the kernel once a mount is there."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.harness import Mount, Nas

pytestmark = pytest.mark.mount


def test_the_kernel_reads_ahead_by_a_mebibyte_where_we_may_set_it(
    served: Path, start_nas: Callable[..., Nas], start_mount: Callable[..., Mount]
) -> None:
    """Set before the kernel's INIT is over, it would be lowered to 128 KiB again."""
    mount = start_mount(start_nas(served))
    device = os.stat(mount.mountpoint).st_dev
    setting = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    wanted = "1024" if os.access(setting, os.W_OK) else "128"
    deadline = time.monotonic() + 10
    while setting.read_text().strip() != wanted:
        assert time.monotonic() < deadline, f"{setting} is {setting.read_text().strip()}, not {wanted}"
        time.sleep(0.01)
