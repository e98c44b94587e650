"""The flame graph tells shares that are true."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from tests.benchmarks.flame import WIDTH, folded, function, svg


def test_a_frame_is_as_wide_as_its_share_and_lies_above_its_caller() -> None:
    drawn = svg(folded("main;a (x.py:1) 3\nmain;a (x.py:7);b 1\nmain;<c> 4\n"), "a title")
    found = {
        title: (float(width), int(y))
        for title, y, width in re.findall(r'<title>(.*?)</title><rect x="[\d.]+" y="(\d+)" width="([\d.]+)"', drawn)
    }
    assert found["a (x.py): 50.0 %"][0] == found["&lt;c&gt;: 50.0 %"][0] == WIDTH / 2
    assert found["b: 12.5 %"][0] == WIDTH / 8
    assert found["main: 100.0 %"][1] > found["a (x.py): 50.0 %"][1] > found["b: 12.5 %"][1]
    ElementTree.fromstring(drawn)


def test_lines_of_one_function_are_one_frame() -> None:
    assert function("send (synofs/wire.py:12)") == "send (synofs/wire.py)"
    assert function("thread (24): MainThread") == "thread (24): MainThread"
