"""Answers as bytes on a connection: HTTP that is none, that lies about its length, that does not end."""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.hostile import answers

PIECE = b"z" * 65536
PAUSE = b""  # in a stream of pieces: wait a moment

_STATUS_LINES = (
    b"HTTP/1.1 200 OK",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 206 Partial Content",
    b"HTTP/1.1 302 Found",
    b"HTTP/1.1 307 x",
    b"HTTP/1.1 200",
    b"HTTP/1.1 999 x",
    b"HTTP/1.1 -1 x",
    b"HTTP/1.1 2e2 x",
    b"HTTP/1.1 " + b"9" * 5000,
    b"HTTP/9.9 200 OK",
    b"HTTP/0.9 200 OK",
    b"ICY 200 OK",
    b"HTTP/1.1 204 No",
    b"HTTP/1.1 304 x",
    b"HTTP/1.1 101 Switching",
    b"SSH-2.0-OpenSSH_9",
    b"",
    b"\0\0\0",
    b"HTTP/1.1\t200\tOK",
    b"HTTP/1.1 200 " + b"r" * 70_000,
    b"HTTP/1.1 \xb2\xb3\xb9 x",
    b"+OK",
    b"HTTP/1.1 200 \xff\xfe\x1b[2J",
)

_HEADERS = (
    b"Content-Type: application/json",
    b"Content-Type: \xff\xfe",
    b"Content-Type: text/html; charset=\0",
    b"Content-Type: multipart/mixed",
    b"Content-Type: multipart/mixed; boundary=x",
    b"Content-Type: message/rfc822",
    b"Content-Length: 5",
    b"Content-Length: -1",
    b"Content-Length: 0",
    b"Content-Length: 99999999999999",
    b"Content-Length: " + b"9" * 5000,
    b"Content-Length: 1, 2",
    b"Content-Length: 0x10",
    b"Content-Length: +5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: CHUNKED",
    b"Content-Encoding: gzip",
    b"Content-Encoding: x-gzip",
    b"Content-Encoding: br",
    b"Content-Encoding: gzip, gzip",
    b"Content-Encoding: deflate",
    b"Content-Encoding: zstd",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: \xff",
    b"Keep-Alive: timeout=99999999999999999",
    b"Set-Cookie: id=evil; domain=.com; path=/; expires=99",
    b"Set-Cookie: " + b"a=b;" * 5000,
    b"Set-Cookie: \xff=\xfe; max-age=" + b"9" * 5000,
    b"Set-Cookie: =;;;=",
    b"Date: x",
    b"Date: " + b"9" * 6000,
    b"Location: http://127.0.0.1:1/?_sid=x",
    b"Location: //evil",
    b"Location: \x1b[2J",
    b"Location: http://[",
    b"Location: http://x:99999999/",
    b"Location: http://x:abc/",
    b"Location: http://\xff",
    b"Location:",
    b"Retry-After: -1",
    b"no colon here",
    b": no name",
    b" folded",
    b"Content-Disposition: attachment",
    b"Content-Range: bytes 0-4/5",
    b"Content-Range: bytes " + b"9" * 5000 + b"-1/2",
    b"X: " + b"y" * 70_000,
    b"X-\x00: nul",
    b"\xef\xbb\xbfX: bom",
    b"Upgrade: h2c",
    b"Trailer: x",
    b"HTTP/1.1 200 OK",
    b"WWW-Authenticate: Basic",
    b"Refresh: 0; url=http://evil",
)

_CHUNKS = (
    b"5\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhel",
    b"-1\r\nhello",
    b"-5\r\nhello\r\n0\r\n\r\n",
    b"0x5\r\nhello\r\n0\r\n\r\n",
    b"ffffffffffffffff\r\nhello",
    b"f" * 5000 + b"\r\nhello",
    b"zz\r\n",
    b"\r\n",
    b"5;ext=" + b"x" * 70_000 + b"\r\nhello\r\n0\r\n\r\n",
    b"5\r\nhelloXX0\r\n\r\n",
    b"0\r\n" + b"T: x\r\n" * 5000 + b"\r\n",
    b"1\r\nh\r\n" * 3000 + b"0\r\n\r\n",
    b"+5\r\nhello\r\n0\r\n\r\n",
    b"5_0\r\nhello",
    b" 5 \r\nhello\r\n0\r\n\r\n",
    b"0" * 60_000 + b"5\r\nhello\r\n0\r\n\r\n",
    b"0\r\n",
)


def stream(seed: int) -> Iterator[bytes]:
    """What the connection with this number says; after it, it hangs up. May go on for ever."""
    rng = random.Random(seed)
    kind = rng.randrange(20)
    if kind == 0:
        yield rng.randbytes(rng.choice((0, 1, 20, 3000)))
        return
    if kind == 1:
        yield from _endless(rng)
        return
    status = rng.choice(_STATUS_LINES) if rng.random() < 0.25 else _STATUS_LINES[0]
    headers = [rng.choice(_HEADERS) for _ in range(rng.choice((0, 1, 2, 3, 6)))]
    body = _body(rng)
    framing = rng.random()
    if framing < 0.4:
        headers.append(b"Content-Length: %d" % max(0, len(body) + rng.choice((0, 0, 0, 0, 1, -1, 1000))))
    elif framing < 0.75:
        headers.append(b"Transfer-Encoding: chunked")
        body = rng.choice(_CHUNKS) if rng.random() < 0.7 else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    rng.shuffle(headers)
    line_end = rng.choice((b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r"))
    answer = line_end.join([status, *headers, b"", b""]) + body
    if rng.random() < 0.15:
        answer = answers.damaged(rng, answer)
    if kind == 2:  # byte by byte, for longer than anybody should wait
        for position in range(len(answer)):
            yield answer[position : position + 1]
            yield PAUSE
        return
    if kind == 3:
        yield answer[: rng.randrange(len(answer) + 1)]
        while True:
            yield PAUSE
    yield answer


def _body(rng: random.Random) -> bytes:
    bodies = (
        b"hello",
        b"",
        b'{"success":true,"data":{}}',
        answers.gzipped(b'{"success":true}'),
        answers.gzipped(b"x") * 3,
        _BOMB,
        answers.gzipped(b"x" * 100)[:-9],
        b"\x1f\x8b" + rng.randbytes(50),
        b"<html>",
        b"x" * 100_000,
        answers.gzipped(answers.gzipped(b"x" * 9)),
    )
    return rng.choice(bodies)


def _endless(rng: random.Random) -> Iterator[bytes]:
    head = b"HTTP/1.1 200 OK\r\n"
    what = rng.randrange(7)
    if what == 0:
        start, again = head + b"\r\n", PIECE
    elif what == 1:
        start, again = head + b"Transfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + PIECE + b"\r\n"
    elif what == 2:
        start, again = head + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", PIECE  # "all that comes"
    elif what == 3:
        start, again = b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100
    elif what == 4:
        start, again = head, b"X: " + b"y" * 60_000 + b"\r\n"
    elif what == 5:
        start, again = head + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"T: x\r\n" * 1000
    else:
        start, again = head + b"X: ", PIECE
    yield start
    while True:
        yield again


_BOMB = answers.bomb(64)
