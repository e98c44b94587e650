"""A line to a server on which everything can happen that happens to lines: `python -m tests.bounded.line HOST:PORT`.

It prints its own port, and then obeys lines on stdin, answering each with one:

    pass           bytes go through
    slow SECONDS   what comes from the server comes so much later
    swallow        connections are accepted, and nothing is ever answered; what was on its way waits
    drop           the same, and nobody takes a connection or refuses it, as if the machine or its cable were gone
    refuse         connections are broken off and refused
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

PIECE = 256 * 1024
BACKLOG = 100
FILLERS = 3


class Line:
    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._connections: set[asyncio.Task[None]] = set()
        self._fillers: list[socket.socket] = []
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._delay_seconds = 0.0
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    def open(self) -> None:
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self._listener.setblocking(False)
            self.port = self._listener.getsockname()[1]
        self._listener.listen(BACKLOG)
        while self._fillers:
            self._fillers.pop().close()
        if self._accepting is None:
            self._accepting = asyncio.create_task(self._accept(self._listener))

    async def obey(self, command: str) -> None:
        verb, _, value = command.partition(" ")
        self._delay_seconds = float(value) if verb == "slow" else 0.0
        if verb in ("swallow", "drop"):
            self._flowing.clear()
        else:
            self._flowing.set()
        if verb in ("refuse", "drop") and self._accepting is not None:
            self._accepting.cancel()
            await asyncio.wait([self._accepting])
            self._accepting = None
        if verb == "refuse" and self._listener is not None:
            self._listener.close()
            self._listener = None
            for writer in list(self._writers):
                writer.transport.abort()
        elif verb == "drop" and self._listener is not None:
            self._fill(self._listener)
        elif verb != "refuse":
            self.open()

    def _fill(self, listener: socket.socket) -> None:
        """The kernel drops who comes when the queue of those that nobody has accepted is full."""
        listener.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            self._fillers.append(filler)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
            reader, writer = await asyncio.open_connection(sock=accepted, limit=PIECE)
            task = asyncio.create_task(self._connected(reader, writer))
            self._connections.add(task)
            task.add_done_callback(self._connections.discard)

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
    line.open()
    print(line.port, flush=True)
    commands = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while command := (await commands.readline()).decode().strip():
        await line.obey(command)
        print(command, flush=True)


if __name__ == "__main__":
    asyncio.run(main())
