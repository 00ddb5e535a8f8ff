"""A slow line, to see what happens at its other end: a TCP relay that passes on so many bytes a second, no more."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

#: What the line itself holds on the way: little, as the buffers of a real one would.
HELD_BYTES = 16 * 1024
PIECE_BYTES = 1024


class SlowLine:
    """All connections share the line. Only the way to the client is slow, requests pass at once."""

    def __init__(self, host: str, port: int, bytes_per_s: float) -> None:
        """host, port: the server's."""
        self.bytes_per_s = bytes_per_s
        self._server = (host, port)
        self._free_at = 0.0

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncIterator[int]:
        """The port that it listens on."""
        passing: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.create_task(self._pass(reader, writer))
            passing.add(task)
            task.add_done_callback(passing.discard)

        listener = await asyncio.start_server(accept, host, port)
        try:
            yield listener.sockets[0].getsockname()[1]
        finally:
            listener.close()
            for task in passing:
                task.cancel()
            await asyncio.gather(*passing, return_exceptions=True)

    async def _pass(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        try:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, HELD_BYTES)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, self._server)
            server_reader, server = await asyncio.open_connection(sock=sock, limit=PIECE_BYTES)
        except OSError:
            client.close()
            return
        up = asyncio.create_task(self._up(client_reader, server))
        try:
            while piece := await server_reader.read(PIECE_BYTES):
                await self._turn(len(piece))
                if client.is_closing():
                    break
                client.write(piece)
                await client.drain()
        except ConnectionError:
            pass  # either end has gone; so does the other
        finally:
            up.cancel()
            client.close()
            server.close()

    async def _up(self, reader: asyncio.StreamReader, server: asyncio.StreamWriter) -> None:
        try:
            while (data := await reader.read(65536)) and not server.is_closing():
                server.write(data)
                await server.drain()
        except ConnectionError:
            pass
        server.close()

    async def _turn(self, nbytes: int) -> None:
        """Wait until the line has carried everything before, and these."""
        now = asyncio.get_running_loop().time()
        self._free_at = max(self._free_at, now) + nbytes / self.bytes_per_s
        await asyncio.sleep(self._free_at - now)
