"""A line to a server on which everything can happen that happens to lines: `python -m tests.bounded.line HOST:PORT`.

It prints its own port, and then obeys lines on stdin, answering each with one:

    pass           bytes go through
    slow SECONDS   what comes from the server comes so much later
    swallow        connections are accepted, and nothing is ever answered; what was on its way waits
    refuse         connections are broken off and refused
"""

from __future__ import annotations

import asyncio
import contextlib
import sys

PIECE = 256 * 1024


class Line:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_seconds = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port, limit=PIECE)
        self.port = self._server.sockets[0].getsockname()[1]

    async def obey(self, command: str) -> None:
        verb, _, value = command.partition(" ")
        self._delay_seconds = float(value) if verb == "slow" else 0.0
        if verb == "swallow":
            self._flowing.clear()
        else:
            self._flowing.set()
        if verb == "refuse" and self._server is not None:
            self._server.close()
            self._server = None
            for writer in list(self._writers):
                writer.transport.abort()
        elif verb != "refuse" and self._server is None:
            await self.open()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        there: asyncio.StreamWriter | None = None
        try:
            await self._flowing.wait()
            back, there = await asyncio.open_connection(*self._target, limit=PIECE)
            self._writers.add(there)
            await asyncio.gather(self._pump(reader, there, late=False), self._pump(back, writer, late=True))
        except OSError:
            pass
        finally:
            for end in filter(None, (writer, there)):
                self._writers.discard(end)
                end.transport.abort()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, late: bool) -> None:
        while piece := await reader.read(PIECE):
            if late and self._delay_seconds:
                await asyncio.sleep(self._delay_seconds)
            await self._flowing.wait()
            writer.write(piece)
            await writer.drain()
        with contextlib.suppress(OSError, NotImplementedError):
            writer.write_eof()


async def main() -> None:
    host, _, port = sys.argv[1].rpartition(":")
    line = Line(host, int(port))
    await line.open()
    print(line.port, flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := (await commands.readline()).decode().strip():
        await line.obey(command)
        print(command, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
