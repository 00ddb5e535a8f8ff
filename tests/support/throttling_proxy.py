"""A TCP proxy that lets as much through as it is told."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

_CHUNK_BYTES = 64 * 1024


class ThrottlingProxy:
    """bytes_per_s: of each direction of each connection; None is as fast as it goes.

    delay_s: before each chunk is passed on. listening_delay_s: the same, of what a Redis server says to those who have
        subscribed
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.bytes_per_s: int | None = None
        self.delay_s = 0.0
        self.listening_delay_s = 0.0
        self._listening: set[asyncio.StreamWriter] = set()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def stall(self) -> None:
        self._flowing.clear()

    def flow(self) -> None:
        self._flowing.set()

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target_port)
        except OSError:
            writer.close()
            return
        for task in (
            asyncio.create_task(self._pass_on(reader, back, writer)),
            asyncio.create_task(self._pass_on(there, writer, writer)),
        ):
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(_CHUNK_BYTES):
                await self._flowing.wait()
                if b"SUBSCRIBE" in data:
                    self._listening.add(client)
                if writer in self._listening:
                    await asyncio.sleep(self.listening_delay_s)
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if self.bytes_per_s is not None:
                    await asyncio.sleep(len(data) / self.bytes_per_s)
                writer.write(data)
                await writer.drain()
        writer.close()


@contextlib.asynccontextmanager
async def throttling_proxy(target_port: int) -> AsyncIterator[ThrottlingProxy]:
    proxy = ThrottlingProxy(target_port)
    server = await asyncio.start_server(proxy._accepted, "127.0.0.1", 0, limit=_CHUNK_BYTES)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        proxy.flow()
        for task in list(proxy._tasks):
            task.cancel()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
