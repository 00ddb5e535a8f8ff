"""Rolling restarts while connections are opened all the time: none is refused, reset or answered by an error."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

import pytest

from tests.support.raw import CLOSE, TEXT, Connection, EngineClient, Response, closing
from tests.support.waiting import eventually
from tests.workers.conftest import Gateway
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
    sockets = [await client.websocket() for _ in range(4)]
    streams = [await client.stream() for _ in range(4)]
    async with closing(*sockets, *streams):
        polls = []
        for _ in range(4):
            sid = (await client.handshake())["sid"]
            polls.append(await client.begin("GET", client.target(transport="polling", sid=sid)))
        server.signal(signal.SIGHUP)
        async with closing(*polls):
            for poll in polls:
                answer = await poll.read_response()
                assert (answer.status, answer.text) == (200, "1")
        for ws in sockets:
            await ws.opening()
            assert await ws.close_code() == CloseCode.SERVICE_RESTART
        for stream in streams:
            await stream.opening()
            assert (await stream.rest())[-1] == "1"
