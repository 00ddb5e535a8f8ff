"""A client that never reads, while 100 MB are sent to it.

The server's memory stays bounded, the client is dropped as slow, and everybody else is served meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Callable

import psutil
import pytest
import socketio

from tests.support.raw import Connection, EngineClient, Stream, WebSocket, websocket_headers
from tests.support.servers import ServerProcess
from tests.support.waiting import eventually, timeout_s

MESSAGE_BYTES = 64 * 1024
TOTAL_BYTES = 100_000_000
COUNT = TOTAL_BYTES // MESSAGE_BYTES
MAX_BUFFERED_BYTES = 4 * 1024 * 1024
#: Beside what waits: up to one streaming response (1 MiB), the messages being encoded, and what the allocator keeps.
SLACK_BYTES = 8 * 1024 * 1024


class SilentClient:
    """Connects to the namespace, tells its sid, and from then on reads nothing."""

    def __init__(self, server: ServerProcess) -> None:
        self.client = EngineClient(server.port, "/socket.io/")
        self.connections: list[Connection] = []
        self.sid = ""

    async def _connection(self) -> Connection:
        # With a small receive buffer it is soon the server's turn to buffer.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.client.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        connection = Connection(reader, writer)
        self.connections.append(connection)
        return connection

    async def connect(self, transport: str) -> None:
        client = self.client
        if transport == "websocket":
            connection = await self._connection()
            await connection.request("GET", client.target(transport="websocket"), headers=websocket_headers())
            ws = WebSocket(connection, await connection.read_head())
            await ws.opening()
            await ws.send("40")
            answer = await ws.text()
        elif transport.startswith("xhr-streaming"):
            connection = await self._connection()
            counts = {"ack": 0} if transport == "xhr-streaming, counting" else {}
            await connection.request("GET", client.target(transport="xhr-streaming", **counts))
            stream = Stream(connection, await connection.read_head())
            session_id = (await stream.opening())["sid"]
            await client.post(session_id, "40", "xhr-streaming")
            answer = await stream.record()
        else:
            session_id = (await client.handshake())["sid"]
            await client.post(session_id, "40")
            answer = (await client.get(session_id)).text
            # The last poll is answered, but nobody reads it, and no other follows.
            connection = await self._connection()
            await connection.request("GET", client.target(transport="polling", sid=session_id))
        assert answer.startswith("40{"), answer
        self.sid = json.loads(answer[2:])["sid"]
        connection.reader._transport.pause_reading()  # type: ignore[attr-defined]

    def abort(self) -> None:
        for connection in self.connections:
            connection.abort()


class MemoryWatch:
    """The largest resident size of a process over what it had at the start."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._before = self._process.memory_info().rss
        self.growth_bytes = 0

    def look(self) -> None:
        self.growth_bytes = max(self.growth_bytes, self._process.memory_info().rss - self._before)


async def other(server: ServerProcess) -> socketio.AsyncClient:
    client = socketio.AsyncClient(reconnection=False)
    await client.connect(server.url, transports=["websocket"], wait_timeout=timeout_s(10))
    return client


@pytest.mark.parametrize("way", ["unicast", "broadcast"])
@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "xhr-streaming, counting", "websocket"])
async def test_who_never_reads_is_dropped_and_costs_bounded_memory(transport: str, way: str) -> None:
    """A server of its own for each, so that no memory freed by another test hides what this one takes."""
    with ServerProcess(max_buffered_bytes=MAX_BUFFERED_BYTES) as server:
        sender, bystander = await other(server), await other(server)
        # Warm up: the first large messages let the allocator grow, which is not the slow client's doing.
        await sender.call("echo", "x" * (2 * MESSAGE_BYTES))
        await sender.call("flood", ("nobody", 50, MESSAGE_BYTES, True))
        silent = SilentClient(server)
        await silent.connect(transport)
        target = silent.sid
        watch = MemoryWatch(server.pid)

        slowest = 0.0
        answers = 0
        is_flooding = True

        async def echo() -> None:
            nonlocal slowest, answers
            while is_flooding:
                began = time.monotonic()
                assert await bystander.call("echo", answers, timeout=timeout_s(20)) == answers
                slowest = max(slowest, time.monotonic() - began)
                answers += 1

        async def look() -> None:
            while is_flooding:
                watch.look()
                await asyncio.sleep(0.005)

        watchers = [asyncio.create_task(echo()), asyncio.create_task(look())]
        try:
            sent = await sender.call("flood", (target, COUNT, MESSAGE_BYTES, way == "broadcast"), timeout=timeout_s(60))
            assert sent == COUNT
            watch.look()
            assert watch.growth_bytes <= MAX_BUFFERED_BYTES + SLACK_BYTES, f"{watch.growth_bytes / 2**20:.1f} MiB"
            reasons: dict[str, str] = {}

            async def reason() -> str | None:
                reasons.update(await sender.call("reasons"))
                return reasons.get(silent.sid)

            ends = time.monotonic() + timeout_s(10)
            while await reason() is None:
                assert time.monotonic() < ends, "the slow client was never dropped"
        finally:
            is_flooding = False
            await asyncio.gather(*watchers)
            silent.abort()
        assert reasons[silent.sid] == "slow client"
        assert answers > 10, "the others were kept waiting"
        growth = f"{watch.growth_bytes / 2**20:.1f} MiB more"
        print(f"{transport}, {way}: {growth}, slowest of {answers} answers {slowest:.3f} s")
        assert bystander.connected
        await sender.disconnect()
        await bystander.disconnect()


async def test_a_room_gets_everything_while_one_of_it_is_dropped(server_process: Callable[..., ServerProcess]) -> None:
    server = server_process(max_buffered_bytes=MAX_BUFFERED_BYTES)
    sender, reader = await other(server), await other(server)
    silent = SilentClient(server)
    await silent.connect("websocket")
    heard: list[int] = []
    reader.on("blob", lambda blob: heard.append(blob["n"]))
    await reader.call("join", "room")
    await sender.call("join_other", (silent.sid, "room"))
    rounds, each = 30, 20
    for n in range(1, rounds + 1):
        # A broadcast waits for nobody, so the reader gets time to read.
        await sender.call("flood", ("room", each, MESSAGE_BYTES, True), timeout=timeout_s(60))
        await eventually(lambda n=n: len(heard) >= n * each, f"round {n}", 30)  # type: ignore[misc]
    assert heard == [*range(each)] * rounds
    assert (await sender.call("reasons"))[silent.sid] == "slow client"
    silent.abort()
    await sender.disconnect()
    await reader.disconnect()
