"""The HTML that a NAS and the proxies before it answer where no API does."""

from __future__ import annotations

from http import HTTPStatus

from starlette.responses import HTMLResponse


def html_error(status: int) -> HTMLResponse:
    """An nginx-like error page."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return HTMLResponse(
        f"<html><head><title>{status} {phrase}</title></head>"
        f"<body><center><h1>{status} {phrase}</h1></center><hr><center>nginx</center></body></html>\n",
        status_code=status,
    )


def desktop() -> HTMLResponse:
    """What a browser gets at `/`: the start of the DSM desktop."""
    return HTMLResponse("<!DOCTYPE html><html><head><title>simnas - Synology DiskStation</title></head></html>")
