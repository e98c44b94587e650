"""Which handlers there are, and which there are not."""

from __future__ import annotations

import errno
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


class Broken:
    """Whatever a handler asks of the filesystem, it meets a bug."""

    inodes = property(lambda self: self)

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError(name)


@pytest.mark.trio
@pytest.mark.parametrize("verb", sorted(handlers()))
async def test_a_bug_below_any_handler_is_an_input_output_error_of_that_call(verb: str, expect_logs) -> None:
    harmless = {"fsyncdir": None, "readlink": errno.EPERM}  # they ask nothing
    operations = Operations(Broken(), 10.0)  # type: ignore[arg-type]
    handler = getattr(operations, verb)
    arguments = [1 for _ in inspect.signature(handler).parameters]
    if verb == "rename":
        arguments = [1, b"a", 1, b"b", 0, None]
    if harmless.get(verb, errno.EIO) is None:
        await handler(*arguments)
        return
    if verb not in harmless:
        expect_logs("failed in a way nobody foresaw")
    with pytest.raises(pyfuse3.FUSEError) as caught:
        await handler(*arguments)
    assert caught.value.errno == harmless.get(verb, errno.EIO)
    assert operations.calls.under_way() == []
