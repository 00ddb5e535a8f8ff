"""What a worker that leaves still relays: workers of two hosts in this process, over real sockets."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.raw import Connection, EngineClient, closing
from tests.support.waiting import eventually, timeout_s
from transports.engine import Engine
from transports.hosts.listener import Listener
from transports.peers.cluster import ClusterOptions
from transports.peers.forwarder import PeerForwarder, socket_path
from transports.peers.handover import LINK_GREETING
from transports.peers.links import LinkConnection, LinkListener
from transports.peers.registry import Address
from transports.session_ids import draw_worker_id

SECRET = b"a secret of the whole cluster"

#: Of a server and of its clients.
Contexts = tuple[ssl.SSLContext, ssl.SSLContext]


class Registry:
    """Where the workers of other hosts live."""

    def __init__(self) -> None:
        self.addresses: dict[str, Address] = {}

    def locate(self, worker_id: str) -> Address | None:
        return self.addresses.get(worker_id)


class SeenLinks(LinkListener):
    """Keeps what came over each link, by the order in which they were opened."""

    def __init__(self, engine: Engine) -> None:
        super().__init__({"/engine.io/": engine})
        self.seen: list[SeenLink] = []

    def connection(self, data: bytes) -> SeenLink:
        connection = SeenLink(self)
        self.seen.append(connection)
        connection.begin_with(data)
        return connection


class SeenLink(LinkConnection):
    def __init__(self, listener: LinkListener) -> None:
        super().__init__(listener)
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        super().data_received(data)


class Worker:
    """A worker in this process, and ``client``, which asks it."""

    def __init__(self, directory: Path, registry: Registry) -> None:
        directory.mkdir(exist_ok=True)
        self.id = draw_worker_id()
        self.engine = Engine()
        self.engine.worker_id = self.id
        self.public = Listener({"/engine.io/": self.engine}, None)
        self.links = SeenLinks(self.engine)
        cluster = ClusterOptions(SECRET, registry)
        self.forwarder = PeerForwarder(self.id, directory, self.public, self.links, self.engine, cluster)
        self.engine.forwarder = self.forwarder
        self.client: EngineClient
        self._directory = directory
        self._registry = registry
        self._servers: list[asyncio.Server] = []

    async def start(self, tls: Contexts | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.forwarder.start()
        server = await loop.create_server(self.public, "127.0.0.1", 0, ssl=tls and tls[0])
        assert self.forwarder.cluster_listener is not None
        cluster_server = await loop.create_server(self.forwarder.cluster_listener, "127.0.0.1", 0)
        self._servers += [server, cluster_server]
        self.client = EngineClient(server.sockets[0].getsockname()[1], tls=tls and tls[1])
        self._registry.addresses[self.id] = Address(*cluster_server.sockets[0].getsockname())

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        await self.engine.drain(0)
        await self.engine.shutdown()
        self.public.close()
        self.forwarder.close()
        assert not socket_path(self._directory, self.id).exists()


Start = Callable[..., Awaitable[Worker]]


@pytest.fixture
def tls(certificate: tuple[Path, Path]) -> Contexts:
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*certificate)
    return server, ssl.create_default_context(cafile=str(certificate[0]))


@pytest.fixture
def registry() -> Registry:
    return Registry()


@pytest.fixture
async def start(tmp_path: Path, registry: Registry) -> AsyncIterator[Start]:
    """Starts workers, each on a ``host`` named so."""
    started: list[Worker] = []

    async def start(host: str, **options: Any) -> Worker:
        worker = Worker(tmp_path / host, registry)
        started.append(worker)
        await worker.start(**options)
        return worker

    yield start
    for worker in started:
        await worker.close()


def done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


async def sessions(owner: Worker, count: int) -> list[str]:
    return [(await owner.client.handshake())["sid"] for _ in range(count)]


async def polls(relaying: Worker, owner: Worker, session_ids: list[str]) -> list[Connection]:
    """Requests that wait for messages of these sessions, by way of another worker."""
    client = relaying.client
    begun = [await client.begin("GET", client.target(transport="polling", sid=sid)) for sid in session_ids]

    def all_wait() -> bool:
        ports = [owner.engine.sockets[session_id].port for session_id in session_ids]
        return all(port is not None and port.writable for port in ports)

    await eventually(all_wait)
    return begun


async def test_owner_is_asked_for_all_answers_on_one_link_that_carries_nothing_else(start: Start) -> None:
    owner, leaving = await start("a"), await start("b")
    session_ids = await sessions(owner, 20)
    waiting = await polls(leaving, owner, session_ids)
    async with closing(*waiting):
        leaving.forwarder.leave(())
        await leaving.forwarder.finish_relays(done(), timeout_s())
        answers = [await poll.read_response() for poll in waiting]
    assert {(each.status, each.text, each.headers["connection"]) for each in answers} == {(200, "6", "close")}
    assert (await leaving.client.post(session_ids[0], "3")).text == "ok"
    asked = [link.received for link in owner.links.seen if b"RELEASE " in link.received]
    assert {line.split()[1].decode() for line in asked[0].splitlines()} == set(session_ids)
    assert b"PEER" not in b"".join(asked), "what an owner of another version cuts, since it does not know the line"


async def test_host_that_does_not_answer_is_asked_once_at_a_time(start: Start, registry: Registry) -> None:
    owner, leaving = await start("a"), await start("b")
    waiting = await polls(leaving, owner, await sessions(owner, 20))
    callers: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, caller: callers.append(caller), "127.0.0.1", 0)
    async with closing(*waiting), silent:
        registry.addresses[owner.id] = Address(*silent.sockets[0].getsockname())
        begun = asyncio.Event()
        finishing = asyncio.create_task(leaving.forwarder.finish_relays(asyncio.ensure_future(begun.wait())))
        await eventually(lambda: callers)
        begun.set()
        await finishing
        assert len(callers) == 1, "although it was to be asked again and again"
        callers[0].close()


async def test_connection_ends_with_an_answer_that_could_not_say_so(
    start: Start, registry: Registry, tmp_path: Path, tls: Contexts
) -> None:
    """Its head was sent before the worker began to leave."""
    leaving, successor = await start("a", tls=tls), await start("a")
    owner, is_leaving = draw_worker_id(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1) == LINK_GREETING:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
            await is_leaving.wait()
            writer.write(b"k")
        await reader.read()
        writer.close()

    slow = await asyncio.start_unix_server(answer, socket_path(tmp_path / "a", owner))
    target = leaving.client.target(transport="polling", sid=owner + "x" * 20)
    connection = await leaving.client.begin("POST", target, body=b"3")
    async with slow, connection:
        head = await connection.read_head()
        assert "connection" not in head.headers
        leaving.forwarder.leave([successor.id])
        is_leaving.set()
        assert await connection.read_exactly(2) == b"ok"
        assert await connection.has_ended()


async def test_what_is_relayed_while_others_are_awaited_is_answered_last_on_its_connection(start: Start) -> None:
    owner, leaving = await start("a"), await start("b")
    (sid,) = await sessions(owner, 1)
    client = leaving.client
    kept = [await client.begin("GET", client.target(transport="polling")) for _ in range(2)]
    async with closing(*kept):
        for connection in kept:
            assert (await connection.read_response()).status == 200
        leaving.forwarder.leave(())
        draining: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        finishing = asyncio.create_task(leaving.forwarder.finish_relays(draining))
        target = client.target(transport="polling", sid=sid)
        for connection, method, body, text in ((kept[0], "GET", None, "6"), (kept[1], "POST", b"3", "ok")):
            await connection.request(method, target, body=body)
            answer = await connection.read_response()
            assert (answer.status, answer.text, answer.headers["connection"]) == (200, text, "close")
            assert await connection.has_ended()
        draining.set_result(None)
        await finishing


async def test_session_of_a_request_that_is_cut_is_not_called_unknown(start: Start) -> None:
    owner, leaving = await start("a"), await start("b")
    (poll,) = await polls(leaving, owner, await sessions(owner, 1))
    async with closing(poll):
        leaving.forwarder.close()
        assert await poll.has_ended()
