"""Rolling restarts while connections are opened all the time: none is refused, reset or answered by an error."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw import CLOSE, TEXT, Connection, EngineClient, Response, Stream, WebSocket, closing
from tests.support.waiting import eventually, timeout_s
from tests.workers.conftest import Gateway, NodeClients
from tests.workers.test_supervision import activating
from transports.refusals import CloseCode

Start = Callable[..., Gateway]

APPLICATION = """
from aiohttp import web
from tests.support.apps import create_app
app = create_app({"handshakes_per_second": 0})
async def hello(request):
    return web.Response(text="hello")
app.router.add_get("/hello", hello)
"""
#: Of each kind, at the same time.
OPENERS = 3
#: Between two connections of one opener, so that there are hundreds a second and not all that the machine can do.
PAUSE_S = 0.01


def check_closed(answer: Response) -> None:
    """Of a request that ends a session, which may have ended with its worker."""
    assert answer.status == 200 or (answer.status, answer.json()["code"]) == (400, 1), answer


class Load:
    """Opens connections of every kind until it is told to stop, and fails with the first that is not served."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._client = EngineClient(port, "/socket.io/")
        self._stop = asyncio.Event()
        self.has_failed = False
        self.served: Counter[str] = Counter()
        #: The workers that have opened a session.
        self.owners: set[str] = set()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            for one in (self._plain, self._handshake, self._websocket, self._kept):
                for _ in range(OPENERS):
                    group.create_task(self._repeat(one))

    def stop(self) -> None:
        self._stop.set()

    async def _repeat(self, one: Callable[[], Awaitable[None]]) -> None:
        while not self._stop.is_set():
            try:
                await one()
            except BaseException:
                self.has_failed = True
                raise
            self.served[one.__name__] += 1
            await asyncio.sleep(PAUSE_S)

    async def _plain(self) -> None:
        answer = await self._client.request("GET", "/hello")
        assert (answer.status, answer.text) == (200, "hello")

    async def _handshake(self) -> None:
        sid = (await self._client.handshake())["sid"]
        self.owners.add(sid[:7])
        check_closed(await self._client.post(sid, "1"))

    async def _websocket(self) -> None:
        ws = await self._client.websocket()
        async with closing(ws):
            self.owners.add((await ws.opening())["sid"][:7])
            await ws.send("40")
            frame = await ws.frame()
            if frame.opcode == CLOSE:
                assert frame.close_code == CloseCode.SERVICE_RESTART
            else:
                assert (frame.opcode, frame.payload[:2]) == (TEXT, b"40")
                await ws.send_frame(CLOSE, b"")

    async def _kept(self) -> None:
        """One connection for many requests: from worker to worker, as these leave."""
        async with await Connection.open(self._port) as connection:
            for _ in range(50):
                await connection.request("GET", self._client.target(transport="polling"))
                answer = await connection.read_response()
                assert answer.status == 200, answer
                sid = json.loads(answer.text[1:])["sid"]
                await connection.request("POST", self._client.target(transport="polling", sid=sid), body=b"1")
                answer = await connection.read_response()
                check_closed(answer)
                if self._stop.is_set() or answer.headers.get("connection") == "close":
                    break
                await asyncio.sleep(PAUSE_S)


@asynccontextmanager
async def under_load(port: int) -> AsyncIterator[Load]:
    load = Load(port)
    running = asyncio.create_task(load.run())
    try:
        yield load
    finally:
        load.stop()
        await running


async def replaced(server: Gateway, load: Load) -> None:
    """One rolling restart; until new workers have served."""
    before = await asyncio.to_thread(server.workers)
    server.signal(signal.SIGHUP)

    def is_over(status: dict[str, Any]) -> bool:
        assert not load.has_failed
        workers = {each["id"] for each in status["workers"]}
        return status["state"] == "running" and not workers & set(before) and workers <= load.owners

    await asyncio.to_thread(server.eventually, is_over, "other workers, all of which have served", 60)


@pytest.mark.parametrize("what", ["a socket for each worker", "one socket of systemd"])
async def test_no_connection_is_refused_or_cut_while_workers_are_replaced_twice(gateway: Start, what: str) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        has_socket = what == "one socket of systemd"
        with activating(listening) if has_socket else nullcontext({}) as options:
            server = gateway("--workers", "2", source=APPLICATION, **options)
        assert not has_socket or server.port == listening.getsockname()[1]
        async with under_load(server.port) as load:
            first = await asyncio.to_thread(server.workers)
            await eventually(lambda: set(first) <= load.owners or load.has_failed, "the first workers have served", 30)
            for _ in range(2):
                await replaced(server, load)
        assert len(load.owners) == 6
        assert set(load.served) == {"_plain", "_handshake", "_websocket", "_kept"}
        assert min(load.served.values()) > 10
        assert await asyncio.to_thread(server.end) == 0
        complaints = [line for line in server.log.splitlines() if " ERROR " in line or " WARNING " in line]
        assert [line for line in complaints if "tidegate.loop" not in line] == [], "but for a busy machine"


async def test_sessions_of_workers_that_are_replaced_are_told_to_reconnect(gateway: Start) -> None:
    server = gateway("--workers", "2", source=APPLICATION)
    client = server.client

    async def on_websocket(ws: WebSocket) -> None:
        await ws.opening()
        assert await ws.close_code() == CloseCode.SERVICE_RESTART

    async def on_stream(stream: Stream) -> None:
        await stream.opening()
        assert (await stream.rest())[-1] == "1"

    async def on_poll(poll: Connection) -> None:
        answer = await poll.read_response()
        assert (answer.status, answer.text) == (200, "1")

    sockets = [await client.websocket() for _ in range(4)]
    streams = [await client.stream() for _ in range(4)]
    sids = [(await client.handshake())["sid"] for _ in range(4)]
    polls = [await client.begin("GET", client.target(transport="polling", sid=sid)) for sid in sids]
    async with closing(*sockets, *streams, *polls):
        for connection in (*polls, *(each.connection for each in (*sockets, *streams))):
            connection.patience_s = 60  # until another worker has started
        server.signal(signal.SIGHUP)
        await asyncio.gather(*map(on_websocket, sockets), *map(on_stream, streams), *map(on_poll, polls))


STORING = """
import asyncio, os
import gateway
server = gateway.Server(handshakes_per_second=0)
store = os.open("stored", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
@server.on("store")
async def keep(sid, client, number):
    await asyncio.sleep(0.005)
    os.write(store, f"{client} {number}\\n".encode())
    return number
"""
RETRYING = ("4:polling", "4:websocket", "4:polling>websocket", "tidegate")


@pytest.mark.node
def test_messages_that_are_sent_until_they_are_answered_are_all_handled(
    gateway: Start, node_clients: Callable[..., NodeClients]
) -> None:
    server = gateway("--workers", "2", source=STORING, application="application:server")
    clients = node_clients("retrying", url=server.url, clients=RETRYING * 2)
    clients.await_running()
    for _ in range(2):
        before = set(server.workers())
        server.signal(signal.SIGHUP)
        server.eventually(
            lambda status, before=before: (
                status["state"] == "running" and not before & {each["id"] for each in status["workers"]}
            ),
            "other workers",
            60,
        )
    results = clients.stop()
    # Once or more often: the answer to a copy may have been lost.
    stored: list[list[int]] = [[] for _ in results]
    for line in (server.folder / "stored").read_text().splitlines():
        client, number = map(int, line.split())
        stored[client].append(number)
    for one, numbers in zip(results, stored, strict=True):
        assert one["sent"] == one["answered"] > 0, one
        assert sorted(set(numbers)) == list(range(one["sent"])), one
        assert one["connects"] >= 3, one
    assert server.end() == 0


#: aiohttp has begun to read the request then, so its connection cannot be handed over.
MIDDLEWARE = """
@web.middleware
async def see(request, handler):
    return await handler(request)
app.middlewares.append(see)
"""


class Asking:
    """A client of the worker that leaves last, whose requests any worker gets."""

    def __init__(self, client: EngineClient, sid: str, transport: str) -> None:
        self._client = client
        self._sid = sid
        self._transport = transport
        self._count = 1  # records that have come: the open packet
        self._waiting: Connection
        self._posting: Connection
        #: How its requests for messages have ended.
        self.ends: list[str] = []

    async def begin(self) -> None:
        await self._ask()
        target = self._client.target(transport=self._transport, sid=self._sid)
        self._posting = await self._client.begin("POST", target, headers={"Content-Length": "1"})

    async def _ask(self) -> None:
        counting = {"ack": self._count} if self._transport == "xhr-streaming" else {}
        target = self._client.target(transport=self._transport, sid=self._sid, **counting)
        self._waiting = await self._client.begin("GET", target)
        self._waiting.patience_s = 60  # until another worker has started

    async def _read(self) -> str:
        """The last packet of an answer."""
        if self._transport == "polling":
            answer = await self._waiting.read_response()
            assert answer.status == 200, answer
            return answer.text
        stream = Stream(self._waiting, await self._waiting.read_head())
        assert stream.head.status == 200, stream.head
        records = await stream.rest()
        self._count += len(records)
        return records[-1]

    async def until_told(self, is_released: asyncio.Event) -> None:
        """Ask until the session ends; the body of the POST is sent when the first worker has begun to leave."""
        finishing = asyncio.create_task(self._finish_post(is_released))
        while "1" not in self.ends:
            if self.ends:
                await self._ask()
            async with closing(self._waiting):
                self.ends.append(await self._read())
            is_released.set()
        await finishing

    async def _finish_post(self, is_released: asyncio.Event) -> None:
        async with closing(self._posting):
            await asyncio.wait_for(is_released.wait(), timeout_s(60))
            await self._posting.send(b"3")
            answer = await self._posting.read_response()
            assert (answer.status, answer.text) == (200, "ok")


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming"])
@pytest.mark.parametrize("what", ["tls", "middleware"])
async def test_worker_that_leaves_cuts_nothing_that_it_relays(
    gateway: Start, certificate: tuple[Path, Path], what: str, transport: str
) -> None:
    tls, source = None, APPLICATION
    arguments = ["--workers", "2", "--ping-interval-s", "60"]
    if what == "tls":
        tls = ssl.create_default_context(cafile=str(certificate[0]))
        arguments += ["--certfile", str(certificate[0]), "--keyfile", str(certificate[1])]
    else:
        source += MIDDLEWARE
    server = gateway(*arguments, source=source)
    client = EngineClient(server.port, "/socket.io/", tls)
    ids = {each["index"]: each["id"] for each in server.status()["workers"]}
    clients: list[Asking] = []
    while len(clients) < 12:
        if transport == "polling":
            sid = (await client.handshake())["sid"]
        else:
            stream = await client.stream(ack=0)
            sid = (await stream.opening())["sid"]
        if sid.startswith(ids[1]):
            clients.append(Asking(client, sid, transport))
            await clients[-1].begin()
        else:
            await client.post(sid, "1", transport)
    server.signal(signal.SIGHUP)
    is_released = asyncio.Event()
    await asyncio.gather(*(each.until_told(is_released) for each in clients))
    assert {end for each in clients for end in each.ends} == {"6", "1"}, "released by one, and told by the other"
    assert await asyncio.to_thread(server.end) == 0
