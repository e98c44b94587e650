"""What the faults that hit a call do to it, to its answer and to its connection."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response
from starlette.types import Message, Send

from .faults import ActiveFault, Fault
from .nas import Call
from .pages import html_error
from .wire import ApiError


class Dropped(Exception):
    """The connection of the call was cut: there is nobody to answer."""


async def strike(call: Call, struck: list[ActiveFault]) -> Response | None:
    """Applies faults before the call is executed. Returns an answer that takes the place of the call's.

    Raises ApiError or Dropped. What concerns the answer is noted in `call.shaping` and `call.drop_request_after`.
    """
    for active in struck:
        fault = active.fault
        match fault.kind:
            case "delay":
                await asyncio.sleep(fault.seconds)
            case "hang":
                await _hang(call, active)
            case "drop" if fault.when == "request":
                if not fault.after_bytes or call.request.method == "GET":
                    drop_now(call, reset=fault.reset)
                call.drop_request_after = fault.after_bytes
                call.shaping.reset = fault.reset
            case "drop":
                call.shaping.drop_after = fault.after_bytes
                call.shaping.reset = fault.reset
            case "truncate":
                call.shaping.truncate_to = fault.bytes or 0
            case "corrupt":
                call.shaping.corrupt = True
            case "error" | "status" | "body" if fault.when != "after":
                return _instead(fault)
    return None


def late_answer(struck: list[ActiveFault]) -> Response | None:
    """The answer that takes the place of the one of an executed call, if a fault says so. May raise ApiError."""
    for active in struck:
        if active.fault.kind in ("error", "status", "body") and active.fault.when == "after":
            return _instead(active.fault)
    return None


def drop_now(call: Call, *, reset: bool) -> None:
    call.connection.drop(reset=reset)
    raise Dropped


async def _hang(call: Call, active: ActiveFault) -> None:
    released = asyncio.ensure_future(active.released.wait())
    lost = asyncio.ensure_future(call.connection.lost.wait())
    try:
        await asyncio.wait({released, lost}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        released.cancel()
        lost.cancel()
    if call.connection.lost.is_set():
        raise Dropped


def _instead(fault: Fault) -> Response:
    if fault.kind == "error":
        raise ApiError(fault.code or 100, fault.errors)
    if fault.kind == "status" and not fault.body:
        return html_error(fault.status or 502)
    return Response(fault.body, status_code=fault.status or 200, media_type=fault.content_type)


def shaped(call: Call, send: Send) -> Send:
    """`send` as the faults want it: the answer is cut, ended too early but well-formed, or has a bit flipped."""
    shaping = call.shaping
    sent = 0

    async def sending(message: Message) -> None:
        nonlocal sent
        if call.connection.closed:
            return
        if message["type"] == "http.response.start":
            if shaping.drop_after == 0:
                call.connection.drop(reset=shaping.reset)
                return
            if shaping.truncate_to is not None:
                message = {**message, "headers": _shortened(message["headers"], shaping.truncate_to)}
            await send(message)
            return
        body: bytes = message.get("body", b"")
        if shaping.corrupt and body:
            body = bytes([body[0] ^ 1]) + body[1:]
            shaping.corrupt = False
        if shaping.truncate_to is not None:
            body = body[: max(0, shaping.truncate_to - sent)]
        ends = shaping.drop_after is not None and sent + len(body) >= shaping.drop_after
        if ends:
            body = body[: (shaping.drop_after or 0) - sent]
        sent += len(body)
        await call.nas.downlink.pass_bytes(len(body))
        call.nas.stats.bytes_sent += len(body)
        await send({**message, "body": body, "more_body": message.get("more_body", False) or ends})
        if ends:
            call.connection.hang_up(reset=shaping.reset)

    return sending


def _shortened(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    result: list[tuple[bytes, Any]] = []
    for name, value in headers:
        if name.lower() == b"content-length":
            value = str(min(int(value), length)).encode()
        result.append((name, value))
    return result
