"""What clients do to a server, one function for each: connect, misbehave at some point, go without a word.

Each takes a ``Client`` and returns when it has gone; the server may have thrown it out before.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from tests.fuzz.mutation import mutate
from tests.fuzz.targets import TARGETS
from tests.support.raw import BINARY, CLOSE, PING, TEXT, Connection, EngineClient, Stream, WebSocket, websocket_headers

#: The first message of a client that joins a namespace, and the event that fills the room it is in.
JOIN = "40"
PATH = "/socket.io/"


class Client:
    """Connections that are dropped at the end, and choices that a seed makes."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.rng = rng
        self.engine = EngineClient(port, PATH)
        self._stack = AsyncExitStack()

    async def connection(self, receive_buffer: int | None = None) -> Connection:
        if receive_buffer is None:
            connection = await Connection.open(self.engine.port)
        else:
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", self.engine.port))
            reader, writer = await asyncio.open_connection(sock=sock, limit=receive_buffer)
            connection = Connection(reader, writer)
        self._stack.callback(connection.abort)
        return connection

    async def websocket(self, sid: str | None = None, receive_buffer: int | None = None) -> WebSocket:
        connection = await self.connection(receive_buffer)
        known = {} if sid is None else {"sid": sid}
        target = self.engine.target(transport="websocket", **known)
        await connection.request("GET", target, headers=websocket_headers())
        return WebSocket(connection, await connection.read_head())

    async def joined(self) -> WebSocket:
        """A WebSocket that has joined the namespace."""
        ws = await self.websocket()
        await ws.opening()
        await ws.send(JOIN)
        await ws.text()
        return ws

    async def polling(self) -> str:
        """A session on long-polling that has joined the namespace."""
        sid: str = (await self.engine.handshake())["sid"]
        await self.engine.post(sid, JOIN)
        await self.engine.get(sid)
        return sid

    async def stream(self, sid: str | None = None, receive_buffer: int | None = None, **parameters: int) -> Stream:
        connection = await self.connection(receive_buffer)
        known = {} if sid is None else {"sid": sid}
        await connection.request("GET", self.engine.target(transport="xhr-streaming", **known, **parameters))
        return Stream(connection, await connection.read_head())

    async def pause(self, at_most_s: float = 0.5) -> None:
        """Part of what the client does: it takes its time."""
        await asyncio.sleep(self.rng.random() * at_most_s)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()


async def leaves_in_the_head(client: Client) -> None:
    connection = await client.connection()
    head = f"GET {client.engine.target(transport='polling')} HTTP/1.1\r\nHost: a\r\nX-A: 1\r\n\r\n".encode()
    await connection.send(head[: client.rng.randrange(len(head))])
    await client.pause()


async def sends_the_head_slowly(client: Client) -> None:
    connection = await client.connection()
    head = f"GET {client.engine.target(transport='polling')} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    for start in range(0, len(head), 8):
        await connection.send(head[start : start + 8])
        await client.pause(0.1)
    await connection.read_response()


async def leaves_in_the_body(client: Client) -> None:
    sid = await client.polling()
    connection = await client.connection()
    await connection.request(
        "POST", client.engine.target(transport="polling", sid=sid), headers={"Content-Length": "1000"}
    )
    await connection.send(b"4" * client.rng.randrange(999))
    await client.pause()


async def leaves_in_a_chunk(client: Client) -> None:
    sid = await client.polling()
    connection = await client.connection()
    target = client.engine.target(transport="polling", sid=sid)
    await connection.request("POST", target, headers={"Transfer-Encoding": "chunked"})
    await connection.send(client.rng.choice((b"5\r\n42", b"5\r\nhello\r\n0\r\n", b"xyz\r\n", b"ffffffff\r\n")))
    await client.pause()


async def cuts_its_poll(client: Client) -> None:
    sid = await client.polling()
    connection = await client.connection()
    await connection.request("GET", client.engine.target(transport="polling", sid=sid))
    await client.pause()


async def polls_twice(client: Client) -> None:
    sid = await client.polling()
    for _ in range(2):
        connection = await client.connection()
        await connection.request("GET", client.engine.target(transport="polling", sid=sid))
    await connection.read_response()


async def never_polls_again(client: Client) -> None:
    sid = await client.polling()
    await client.engine.post(sid, '42["join","silent"]')


async def abandons_the_upgrade(client: Client) -> None:
    """At each step: the head, the handshake, the probe, its answer, the upgrade packet."""
    sid = await client.polling()
    steps = client.rng.randrange(6)
    if not steps:
        connection = await client.connection()
        await connection.send(f"GET {client.engine.target(transport='websocket', sid=sid)} HTTP/1.1\r\n".encode())
        return
    ws = await client.websocket(sid)
    if steps > 1:
        await ws.send("2probe")
    if steps > 2:
        await ws.text()
    if steps > 3:
        await ws.send("5")
    if steps > 4:
        await ws.send('421["echo",1]')
        await ws.text()
    await client.pause()
    if client.rng.random() < 0.5:
        await client.engine.post(sid, '42["echo"]')


async def abandons_the_streaming_upgrade(client: Client) -> None:
    sid = await client.polling()
    steps = client.rng.randrange(4)
    stream = await client.stream(sid)
    if steps:
        await client.engine.post(sid, "2probe", "xhr-streaming")
    if steps > 1:
        await stream.record()
    if steps > 2:
        await client.engine.post(sid, "5", "xhr-streaming")
    await client.pause()


async def cuts_its_stream(client: Client) -> None:
    """A counting client may come back for the rest, and may count wrongly."""
    stream = await client.stream(ack=0)
    sid = (await stream.opening())["sid"]
    await client.engine.post(sid, JOIN, "xhr-streaming")
    await stream.record()
    stream.abort()
    if client.rng.random() < 0.7:
        again = await client.stream(sid, ack=client.rng.choice((0, 1, 2, 99)))
        await client.pause()
        again.abort()


async def never_reads(client: Client) -> None:
    """A WebSocket in a room that is flooded; the server drops it as slow."""
    await _fill(client, await client.websocket(receive_buffer=4096))


async def never_reads_its_stream(client: Client) -> None:
    room = f"room{client.rng.randrange(3)}"
    stream = await client.stream(receive_buffer=4096)
    sid = (await stream.opening())["sid"]
    await client.engine.post(sid, f'{JOIN}\x1e42["join","{room}"]', "xhr-streaming")
    stream.connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await client.engine.post(sid, f'42["flood","{room}"]', "xhr-streaming")
    await client.pause()


async def _fill(client: Client, ws: WebSocket) -> None:
    room = f"room{client.rng.randrange(3)}"
    await ws.opening()
    await ws.send(JOIN)
    await ws.text()
    await ws.send(f'42["join","{room}"]')
    ws.connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await ws.send(f'42["flood","{room}"]')
    await client.pause(2)


async def sends_malformed_packets(client: Client) -> None:
    ws = await client.joined()
    for _ in range(client.rng.randrange(1, 5)):
        await ws.send("4" + _malformed("json", client.rng).decode(errors="replace"))
        if client.rng.random() < 0.5:
            await ws.send(client.rng.randbytes(10))
    await client.pause()


async def sends_malformed_frames(client: Client) -> None:
    ws = await client.joined()
    await ws.connection.send(_malformed("frames", client.rng))
    await client.pause()


async def sends_malformed_requests(client: Client) -> None:
    connection = await client.connection()
    request = _malformed(client.rng.choice(("negotiation", "http-head")), client.rng)
    await connection.send(request.replace(b"/engine.io/", PATH.encode()) + b"\r\n\r\n")
    await client.pause()


async def sends_malformed_payloads(client: Client) -> None:
    sid = await client.polling()
    await client.engine.post(sid, _malformed("payload", client.rng))


def _malformed(target: str, rng: random.Random) -> bytes:
    seeds = list(TARGETS[target].seeds().values())
    return mutate(rng.choice(seeds), rng, TARGETS[target].words(), seeds, 4096)


async def joins_thousands_of_namespaces(client: Client) -> None:
    ws = await client.joined()
    for start in range(0, 1500, 50):
        frames = [ws.encode(TEXT, b"40/n%d," % number) for number in range(start, start + 50)]
        await ws.connection.send(b"".join(frames))
    for _ in range(50):
        await ws.frame()


async def leaves_attachments_out(client: Client) -> None:
    ws = await client.joined()
    places = ",".join(f'{{"_placeholder":true,"num":{number}}}' for number in range(5))
    await ws.send(f'455-["echo",{places}]')
    for _ in range(client.rng.randrange(5)):
        await ws.send_frame(BINARY, b"x" * 1000)
    await client.pause()


async def floods_pings(client: Client) -> None:
    ws = await client.joined()
    ws.connection.reader._transport.pause_reading()  # type: ignore[attr-defined]
    frame = ws.encode(PING, b"x" * 125)
    for _ in range(20):
        await ws.connection.send(frame * 100)


async def joins_and_leaves_rooms(client: Client) -> None:
    ws = await client.joined()
    for _ in range(100):
        action = client.rng.choice(("join", "leave"))
        await ws.send(f'42["{action}","r{client.rng.randrange(1000)}"]')
    await ws.send('4299["echo"]')
    while (await ws.text()) != "4399[]":
        pass


async def answers_no_pings(client: Client) -> None:
    ws = await client.joined()
    while (await ws.frame()).opcode != CLOSE:
        pass


async def leaves_its_handlers_waiting(client: Client) -> None:
    ws = await client.joined()
    await ws.send(f'421["{client.rng.choice(("late", "call"))}",1]')
    await client.pause()


async def is_refused(client: Client) -> None:
    ws = await client.websocket()
    await ws.opening()
    await ws.send("40/refuse,{}")
    assert (await ws.text()).startswith("44/refuse,")


async def joins_nothing(client: Client) -> None:
    ws = await client.websocket()
    await ws.opening()
    while (await ws.frame()).opcode != CLOSE:
        pass


async def comes_in_a_storm(client: Client) -> None:
    sockets = await asyncio.gather(*(client.joined() for _ in range(20)))
    await client.pause()
    assert len(sockets) == 20


async def closes_rudely(client: Client) -> None:
    ws = await client.joined()
    body = client.rng.choice((b"", b"\x03", b"\x03\xe8", b"\x03\xed", b"\x03\xe8\xff", b"\x13\x88bye"))
    await ws.send_frame(CLOSE, body)
    await client.pause(0.1)
    if client.rng.random() < 0.5:
        ws.connection.writer.write_eof()
        await client.pause(0.1)


ALL: tuple[Callable[[Client], Awaitable[None]], ...] = (
    leaves_in_the_head,
    sends_the_head_slowly,
    leaves_in_the_body,
    leaves_in_a_chunk,
    cuts_its_poll,
    polls_twice,
    never_polls_again,
    abandons_the_upgrade,
    abandons_the_streaming_upgrade,
    cuts_its_stream,
    never_reads,
    never_reads_its_stream,
    sends_malformed_packets,
    sends_malformed_frames,
    sends_malformed_requests,
    sends_malformed_payloads,
    joins_thousands_of_namespaces,
    leaves_attachments_out,
    floods_pings,
    joins_and_leaves_rooms,
    answers_no_pings,
    leaves_its_handlers_waiting,
    is_refused,
    joins_nothing,
    comes_in_a_storm,
    closes_rudely,
)
