"""Which handlers there are, and which there are not."""

from __future__ import annotations

import inspect

import pyfuse3
import pytest

from synofs.fuse.operations import Operations


def handlers() -> dict[str, object]:
    """Every handler that the class defines."""
    return {
        name: member
        for name, member in vars(Operations).items()
        if inspect.iscoroutinefunction(member) and hasattr(pyfuse3.Operations, name)
    }


def test_every_handler_is_guarded() -> None:
    assert {"lookup", "getattr", "readdir", "open", "read", "write", "rename", "statfs", "release"} <= set(handlers())
    unguarded = [name for name, handler in handlers().items() if not hasattr(handler, "__wrapped__")]
    assert unguarded == []


@pytest.mark.parametrize("verb", ["getxattr", "setxattr", "listxattr", "removexattr"])
def test_extended_attributes_are_left_to_the_base_class_which_says_enosys(verb: str) -> None:
    """The kernel then never asks again; any other answer costs a request for each file of an `ls -l`."""
    assert verb not in vars(Operations)
