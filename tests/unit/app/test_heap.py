from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from synofs.app.heap import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
barrier = threading.Barrier(4)
def work():
    kept = [bytearray(100_000) for _ in range(10)]
    barrier.wait()
threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc = ctypes.CDLL(None)
stdout = ctypes.c_void_p.in_dll(libc, "stdout")
libc.malloc_info(0, stdout)
libc.fflush(stdout)
"""


@pytest.mark.parametrize(("how", "one"), [("shared", True), ("default", False)])
def test_threads_share_one_heap(how: str, one: bool) -> None:
    described = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True).stdout
    assert (described.count("<heap nr=") == 1) == one, described
