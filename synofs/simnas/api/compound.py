"""SYNO.Entry.Request: several calls in one request.

On record are the parameters that DSM's own pages send (`compound`: a JSON array of calls, whose parameters stand
beside `api`, `method` and `version`; `mode`: "sequential" or "parallel"; `stop_when_error`) and the form of the answer
(`has_fail`, and a `result` for each call, in order). That File Station's methods are taken in it is not on record, so
a quirk takes that away. What is left undone by `stop_when_error` is told as 112, after the name of that code.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from starlette.responses import Response

from ..nas import Answer, Call, Method
from ..wire import ApiError, Params, refusal


class _InsteadOfAll(Exception):
    """A fault, or a file: an answer that is no JSON value."""

    def __init__(self, response: Response) -> None:
        self.response = response


async def request(call: Call) -> Answer:
    try:
        return await _request(call)
    except _InsteadOfAll as whole:
        return whole.response


async def _request(call: Call) -> Answer:
    try:
        items = json.loads(call.params.raw("compound") or "")
    except ValueError:
        raise ApiError(113) from None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise ApiError(113)
    stop = (call.params.raw("stop_when_error") or "").strip('"') == "true"
    if (call.params.raw("mode") or "").strip('"') == "parallel":
        results = list(await asyncio.gather(*(_answer(call, item) for item in items)))
    else:
        results = []
        for item in items:
            failed = stop and any(not result["success"] for result in results)
            results.append(_named(item) | refusal(ApiError(112)) if failed else await _answer(call, item))
    return {"has_fail": any(not result["success"] for result in results), "result": results}


async def _answer(call: Call, item: dict[str, Any]) -> dict[str, Any]:
    name = _named(item)
    version = item.get("version")
    fields = {key: json.dumps(value, ensure_ascii=False) for key, value in item.items()}
    fields |= {key: call.params.raw(key) or "" for key in ("_sid", "SynoToken") if key in call.params}
    inner = Call(
        call.nas,
        call.request,
        str(name["api"]),
        version if isinstance(version, int) else 0,
        str(name["method"]),
        Params(fields, 2, call.nas.quirks),
        shaping=call.shaping,
    )
    call.nas.stats.nested[f"{inner.api}.{inner.method}"] += 1
    if call.nas.options.latency_seconds:  # what a call costs, it costs in company, too
        await asyncio.sleep(call.nas.options.latency_seconds)
    try:
        if inner.api == "SYNO.Entry.Request" or (
            call.nas.quirks.compound == "not-for-files" and inner.api.startswith("SYNO.FileStation.")
        ):
            raise ApiError(103)
        data = await call.nas.answer(inner)
        if isinstance(data, Response):
            raise _InsteadOfAll(data)
    except ApiError as error:
        return name | refusal(error)
    return name | {"success": True} | ({} if data is None else {"data": data})


def _named(item: dict[str, Any]) -> dict[str, Any]:
    return {"api": item.get("api", ""), "method": item.get("method", ""), "version": item.get("version", 1)}


METHODS: dict[str, dict[str, Method]] = {"SYNO.Entry.Request": {"request": request}}
