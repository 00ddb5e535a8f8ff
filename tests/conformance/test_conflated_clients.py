"""A client that stops reading and reads on later, over real sockets: what it gets of three kinds of messages."""

from __future__ import annotations

import asyncio
import base64
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

import gateway
from gateway.runner import new_event_loop
from tests.support.raw import SEPARATOR, TEXT, Connection, EngineClient, Stream, WebSocket, websocket_headers
from tests.support.servers import serving
from tests.support.waiting import eventually, timeout_s
from transports.hosts.unsent import UNSENT_BYTES, limit_unsent

KEYS = 40
ROUNDS = 25
FILLER = "x" * 4000
#: What a connection holds when its peer does not read: unsent bytes in the kernel, the port's buffer, the buffers of
#: both ends. Without a limit the kernel alone takes megabytes.
MAX_FILLER_BYTES = 600_000

Serve = Callable[[gateway.Server], Awaitable[EngineClient]]


def as_record(data: bytes) -> str:
    """A binary packet, as polling and streams carry it."""
    return "b" + base64.b64encode(data).decode()


async def fill(server: gateway.Server) -> int:
    """Send until the only client takes no more; how many messages that took."""
    [session] = server.eio.sockets.values()
    count = 0
    while session.is_ready():
        await server.emit("filler", FILLER)
        count += 1
        await asyncio.sleep(0)
        if not session.is_ready():
            await asyncio.sleep(0.05)  # what is on its way may yet make room
    return count


class Client:
    """Reads when it is told to."""

    def __init__(self, client: EngineClient, transport: str, counts: bool = False, agent: str = "") -> None:
        self._client = client
        self.transport = transport
        self._is_counting = counts
        self._headers = {"User-Agent": agent} if agent else {}
        self._connection: Connection | None = None
        self._reads: Any = None
        self._received = 0
        self._session_id = ""

    async def _connect(self) -> Connection:
        # With a small receive buffer it is soon the server's turn to hold things back.
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self._client.port))
        reader, writer = await asyncio.open_connection(sock=sock, limit=8192)
        return Connection(reader, writer)

    async def connect(self) -> None:
        """Join the namespace."""
        if self.transport == "websocket":
            self._connection = await self._connect()
            await self._connection.request(
                "GET", self._client.target(transport="websocket"), headers=websocket_headers()
            )
            ws = self._reads = WebSocket(self._connection, await self._connection.read_head())
            await ws.opening()
            await ws.send("40")
            answer = await ws.text()
        elif self.transport == "xhr-streaming":
            stream = await self._open_stream()
            self._session_id = (await stream.opening())["sid"]
            self._received += 1
            await self._client.post(self._session_id, "40", "xhr-streaming")
            answer = await self._record(stream)
        else:
            self._session_id = (await self._client.handshake())["sid"]
            await self._client.post(self._session_id, "40")
            answer = (await self._poll())[0]
        assert answer.startswith("40{"), answer

    async def _open_stream(self) -> Stream:
        self._connection = await self._connect()
        known = {"sid": self._session_id} if self._session_id else {}
        counts = {"ack": self._received} if self._is_counting else {}
        target = self._client.target(transport="xhr-streaming", **known, **counts)
        await self._connection.request("GET", target)
        self._reads = Stream(self._connection, await self._connection.read_head())
        return self._reads

    async def _record(self, stream: Stream) -> str:
        record = await stream.record()
        self._received += 1
        return record

    async def _poll(self) -> list[str]:
        target = self._client.target(transport="polling", sid=self._session_id)
        answer = await self._client.request("GET", target, headers=self._headers)
        assert answer.status == 200, answer
        return answer.text.split(SEPARATOR)

    async def until(self, last: str) -> list[str]:
        """Read on, up to the packet ``last``."""
        packets: list[str] = []
        while last not in packets:
            if self.transport == "websocket":
                frame = await self._reads.frame()
                packets.append(frame.text if frame.opcode == TEXT else as_record(frame.payload))
            elif self.transport == "polling":
                packets += await self._poll()
            else:
                try:
                    packets.append(await self._record(self._reads))
                except EOFError:
                    await self._reads.close()
                    await self._open_stream()
        return packets

    def abort(self) -> None:
        if self._connection is not None:
            self._connection.abort()


CLIENTS: dict[str, dict[str, Any]] = {
    "websocket": {"transport": "websocket"},
    "xhr-streaming": {"transport": "xhr-streaming"},
    "xhr-streaming, counting": {"transport": "xhr-streaming", "counts": True},
    "polling": {"transport": "polling", "agent": "Mozilla/5.0"},
    "polling, 16 packets": {"transport": "polling"},
}


@pytest.mark.parametrize("kind", CLIENTS)
async def test_who_reads_on_gets_what_is_reliable_and_then_exactly_the_newest_of_each_key(
    socketio_server: Serve, kind: str
) -> None:
    server = gateway.Server()
    client = Client(await socketio_server(server), **CLIENTS[kind])
    await client.connect()
    [session] = server.eio.sockets.values()
    fillers = await fill(server)
    assert fillers * len(FILLER) < MAX_FILLER_BYTES
    for n in range(ROUNDS):
        for key in range(KEYS):
            await server.emit("price", (key, n), conflate=("price", key))
        await server.emit("news", n)
        await server.emit("pulse", n, volatile=True)
    backlog = session.backlog()
    counters = server.eio.counters
    assert (counters.conflated, counters.dropped_volatile) == (KEYS * (ROUNDS - 1), ROUNDS)
    newest = [f'42["price",{key},{ROUNDS - 1}]' for key in range(KEYS)]
    packets = await client.until(newest[-1])
    filler = '42["filler",' + json.dumps(FILLER) + "]"
    expected = [filler] * fillers + [f'42["news",{n}]' for n in range(ROUNDS)] + newest
    assert packets == expected
    assert backlog < MAX_FILLER_BYTES
    # And everything reaches it once more as it comes.
    await server.emit("price", (0, ROUNDS), conflate=("price", 0))
    assert await client.until(f'42["price",0,{ROUNDS}]') == [f'42["price",0,{ROUNDS}]']
    assert list(server.eio.sockets.values()) == [session]
    client.abort()


@pytest.mark.parametrize("kind", CLIENTS)
async def test_attachments_come_whole_and_of_the_newest_only(socketio_server: Serve, kind: str) -> None:
    server = gateway.Server()
    client = Client(await socketio_server(server), **CLIENTS[kind])
    await client.connect()
    await fill(server)
    for n in range(3):
        for key in range(10):
            await server.emit("frame", (bytes([key, n]), bytes([n, key])), conflate=key)
    await server.emit("end", conflate="end")
    packets = [packet for packet in await client.until('42["end"]') if "filler" not in packet]
    event = '452-["frame",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]'
    expected = []
    for key in range(10):
        expected += [event, as_record(bytes([key, 2])), as_record(bytes([2, key]))]
    assert packets == [*expected, '42["end"]']
    client.abort()


@pytest.mark.parametrize("loop_kind", ["asyncio", "uvloop"])
def test_connections_have_the_limit_of_unsent_bytes(listener: str, loop_kind: str) -> None:
    """Also with a runner that did not set it on its listening sockets; both kinds of loop."""
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None:
        pytest.skip("this platform has no TCP_NOTSENT_LOWAT")

    async def limits() -> list[int]:
        server = gateway.Server()
        app = web.Application()
        server.attach(app)
        found = []
        async with serving(app, listener) as port:
            client = EngineClient(port, "/socket.io/")
            ws, stream = await client.websocket(), await client.stream()
            await eventually(lambda: len(server.eio.sockets) == 2)
            for session in server.eio.sockets.values():
                port_object: Any = session.port
                holder = getattr(port_object, "_response", port_object)
                found.append(holder._transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, option))
            ws.abort()
            stream.abort()
        return found

    factory = new_event_loop if loop_kind == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(limits()) == [UNSENT_BYTES, UNSENT_BYTES]


async def test_listening_sockets_pass_the_limit_on() -> None:
    option = getattr(socket, "TCP_NOTSENT_LOWAT", None)
    if option is None:
        pytest.skip("this platform has no TCP_NOTSENT_LOWAT")
    runner = gateway.AppRunner(web.Application())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    runner.limit_unsent()
    try:
        connection = await Connection.open(runner.addresses[0][1])
        accepted = await eventually(lambda: list(runner.server.connections), "the connection", timeout_s(5))
        sock = accepted[0]._transport.get_extra_info("socket")
        assert sock.getsockopt(socket.IPPROTO_TCP, option) == UNSENT_BYTES
        assert runner.server.inherits_unsent_limit
        connection.abort()
    finally:
        await runner.cleanup()


def test_what_is_no_tcp_socket_is_left_alone() -> None:
    one, other = socket.socketpair()
    with one, other:
        assert limit_unsent(one) is False
    assert limit_unsent(None) is False
    closed = socket.socket()
    closed.close()
    assert limit_unsent(closed) is False
