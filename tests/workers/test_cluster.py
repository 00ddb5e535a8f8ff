"""Two hosts: two gateways that share nothing but the cluster's secret and a registry."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.catalogue_scene import pattern
from tests.conformance.node_scripts import CLIENTS
from tests.support.raw import CLOSE, Connection, closing
from tests.support.waiting import eventually, eventually_sync, timeout_s
from tests.workers.conftest import Gateway, NodeClients
from tests.workers.test_clients import check_all_answered
from transports import catalogue
from transports.peers.greeting import Caller

Start = Callable[..., Gateway]
SECRET = "a secret of the whole cluster"


class Hosts:
    """Gateways, whose workers are in one registry."""

    def __init__(self, start: Start, folder: Path) -> None:
        self._start = start
        self._registry = folder / "registry.json"
        self._registry.write_text("{}")
        self.gateways: list[Gateway] = []

    def add(self, *arguments: str, secret: str = SECRET, workers: int = 2) -> Gateway:
        cluster = ["--cluster-listen", "127.0.0.1:0", "--cluster-registry", str(self._registry)]
        environ = {"TIDEGATE_CLUSTER_SECRET": secret}
        host = self._start("--workers", str(workers), *cluster, *arguments, environ=environ)
        assert host.port
        self.gateways.append(host)
        self.publish()
        return host

    def publish(self) -> None:
        """Write down who lives where."""
        found = {}
        for host in self.gateways:
            status = host.status()
            found |= {each["id"]: status["cluster"][0] for each in status["workers"]}
        draft = self._registry.with_suffix(".new")
        draft.write_text(json.dumps(found))
        draft.replace(self._registry)


@pytest.fixture
def hosts(gateway: Start, tmp_path: Path) -> Hosts:
    return Hosts(gateway, tmp_path)


async def on(host: Gateway) -> str:
    """The id of a session on long-polling, joined."""
    sid: str = (await host.client.handshake())["sid"]
    assert (await host.client.post(sid, "40")).text == "ok"
    assert (await host.client.get(sid)).text.startswith("40{")
    return sid


@pytest.fixture
async def round_robin() -> AsyncIterator[Callable[..., Any]]:
    """Starts a balancer of connections that takes the hosts by turns; its port."""
    servers: list[asyncio.Server] = []
    tasks: set[asyncio.Task[None]] = set()

    async def start(*ports: int) -> int:
        turn = 0

        async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
            except ConnectionError:
                pass
            finally:
                writer.close()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal turn
            turn += 1
            inner, out = await asyncio.open_connection("127.0.0.1", ports[turn % len(ports)])
            for coroutine in (pump(reader, out), pump(inner, writer)):
                task = asyncio.create_task(coroutine)
                tasks.add(task)
                task.add_done_callback(tasks.discard)

        servers.append(await asyncio.start_server(serve, "127.0.0.1", 0))
        return int(servers[0].sockets[0].getsockname()[1])

    yield start
    for server in servers:
        server.close()
    for task in list(tasks):
        task.cancel()


@pytest.mark.node
@pytest.mark.parametrize("is_encrypted", [False, True])
async def test_clients_of_every_transport_between_two_hosts(
    hosts: Hosts,
    node_clients: Callable[..., NodeClients],
    round_robin: Callable[..., Any],
    certificate: tuple[Path, Path],
    is_encrypted: bool,
) -> None:
    names = ("--cluster-certfile", "--cluster-keyfile")
    arguments = [str(each) for pair in zip(names, certificate, strict=True) for each in pair] if is_encrypted else []
    ports = [hosts.add(*arguments).port for _ in range(2)]
    url = f"http://127.0.0.1:{await round_robin(*ports)}"
    clients = node_clients(url=url, clients=CLIENTS, count=9, messages=60)
    check_all_answered(await asyncio.to_thread(clients.results), 60)
    for host in hosts.gateways:
        host.eventually(lambda status: status["total"]["forwarded"].get("relayed_to_hosts", 0) > 5, "relayed")
        assert "WARNING asyncio" not in host.log
        assert "no way to worker" not in host.log
        assert await asyncio.to_thread(host.end) == 0


async def test_bodies_are_passed_on_as_they_come(hosts: Hosts) -> None:
    first, second = hosts.add(), hosts.add()
    sid = await on(first)
    client = second.client
    big = '421["echo","' + "x" * 900_000 + '"]'
    assert (await client.post(sid, big)).text == "ok"
    answer = await client.get(sid)
    assert answer.text == '431["' + "x" * 900_000 + '"]'
    async with await Connection.open(second.port) as connection:
        # In chunks, byte by byte; the connection then carries requests for others.
        target = client.target(transport="polling", sid=sid)
        head = f"POST {target} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
        await connection.send(head.encode())
        assert (await connection.read_head()).status == 100
        for byte in b'10\r\n420["echo","hi"]\r\n0\r\n\r\n':
            await connection.send(bytes([byte]))
        assert (await connection.read_response()).text == "ok"
        await connection.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await connection.read_response()).text == '430["hi"]'
        # What the owner refuses is refused in its words, and closes nothing of others.
        await connection.send(f"PUT {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await connection.read_response()).status == 400
        await connection.send(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\n\r\n4".encode())
        assert (await connection.read_response()).status == 413
        assert await connection.has_ended()
    async with await Connection.open(second.port) as old:
        fresh = await on(first)
        target = client.target(transport="polling", sid=fresh)
        await old.send(f"POST {target} HTTP/1.0\r\nContent-Length: 1\r\n\r\n3".encode())
        response = await old.read_response()
        assert (response.text, response.headers["connection"]) == ("ok", "close")


async def test_client_is_known_as_it_is_and_not_as_it_says(hosts: Hosts) -> None:
    """The origin's check at the owner sees scheme and host of the client's connection."""
    first, second = hosts.add(), hosts.add()
    sid = await on(first)
    for headers, status in [
        ({"X-Forwarded-Proto": "https", "Origin": "https://test.example"}, 200),
        ({"Origin": "https://test.example"}, 403),
        ({"PEER": "https 6.6.6.6", "Origin": "https://test.example"}, 403),
    ]:
        assert (await second.client.post(sid, "3", headers=headers)).status == status


async def test_death_of_the_owner_is_told_at_once(hosts: Hosts) -> None:
    first, second = hosts.add(workers=1), hosts.add(workers=1)
    poll_sid = await on(first)
    client = second.client
    poll = await client.begin("GET", client.target(transport="polling", sid=poll_sid))
    ws_sid = await on(first)
    ws = await client.websocket(ws_sid)
    await ws.send("2probe")
    assert await ws.text() == "3probe"
    first.eventually(lambda status: status["total"]["forwarded"].get("without_owner", 0) == 0, "nothing was lost")
    ((owner, pid),) = first.workers().items()
    os.kill(pid, signal.SIGKILL)
    async with closing(poll):
        answer = await poll.read_response()
        assert (answer.status, answer.json()["code"]) == (400, 1)
    assert await ws.connection.has_ended()
    # Its host lives on, and does not know the worker any more.
    answer = await client.post(poll_sid, "3")
    assert (answer.status, answer.json()["code"]) == (400, 1)
    # Neither is there a host.
    first.kill()
    answer = await client.post(poll_sid, "3")
    assert (answer.status, answer.json()["code"]) == (400, 1)
    assert owner in second.log


async def test_host_that_restarts_its_workers_cuts_no_poll_of_another(hosts: Hosts) -> None:
    first, second = hosts.add(workers=1), hosts.add(workers=1)
    sid = await on(first)
    client = second.client
    poll = await client.begin("GET", client.target(transport="polling", sid=sid))
    async with closing(poll):
        second.eventually(lambda status: status["total"]["forwarded"].get("relayed_to_hosts") == 1, "it is relayed")
        second.signal(signal.SIGHUP)
        answer = await poll.read_response()
    assert (answer.status, answer.text, answer.headers["connection"]) == (200, "6", "close")
    assert (await client.post(sid, '421["echo","hi"]')).text == "ok"
    assert (await client.get(sid)).text == '431["hi"]'


async def test_host_that_stops_cuts_no_poll_that_comes_while_it_waits_for_its_own_clients(hosts: Hosts) -> None:
    first, second = hosts.add(workers=1), hosts.add("--drain-timeout-s", "60", workers=1)
    sid = await on(first)
    client = second.client
    target = client.target(transport="polling", sid=sid)
    kept = await client.begin("POST", target, body=b"3")
    own = await client.begin("GET", client.target(transport="polling"))
    async with closing(kept, own):
        assert (await kept.read_response()).text == "ok"
        own_sid = json.loads((await own.read_response()).text[1:])["sid"]
        second.signal(signal.SIGTERM)
        await eventually(lambda: "clients are told to reconnect" in second.log, "it drains")
        await kept.request("GET", target)
        answer = await kept.read_response()
        assert (answer.status, answer.text, answer.headers.get("connection")) == (200, "6", "close")
        await own.request("GET", client.target(transport="polling", sid=own_sid))
        assert (await own.read_response()).text == "1"
    assert await asyncio.to_thread(second.ended) == 0
    assert (await first.client.post(sid, "3")).text == "ok"


async def test_wrong_secret_is_refused_counted_and_logged(hosts: Hosts) -> None:
    first, second = hosts.add(), hosts.add(secret="another secret, as long as it")
    sid = await on(first)
    answer = await second.client.post(sid, "3")
    assert (answer.status, answer.json()["code"]) == (400, 1)
    assert "The cluster's secret is another one" in second.log
    eventually_sync(lambda: "refused cluster_secret from 127.0.0.1" in first.log, "it is logged")
    first.eventually(lambda status: status["total"]["refused"].get("cluster_secret") == 1, "it is counted")
    assert (await first.client.post(sid, "3")).text == "ok", "the session goes on"


async def greeted(host: Gateway) -> tuple[Connection, bytes]:
    port = int(host.status()["cluster"][0].rpartition(":")[2])
    connection = await Connection.open(port)
    return connection, (await connection.reader.readuntil(b"\n")).rstrip()


async def test_internal_address_answers_nobody_else(hosts: Hosts) -> None:
    host = hosts.add()
    worker = next(iter(host.workers()))
    connection, hello = await greeted(host)
    used = Caller(SECRET.encode(), worker).call(hello)
    for said, row in [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", catalogue.CLUSTER_GREETING),
        (b"x" * 2000, catalogue.CLUSTER_GREETING),
        (used, catalogue.CLUSTER_SECRET),  # said to another connection, it proves nothing
        (Caller(b"wrong secret" * 2, worker).call(hello), catalogue.CLUSTER_SECRET),
    ]:
        stranger, _ = await greeted(host)
        async with closing(stranger):
            await stranger.send(said)
            check_refused(row, await asyncio.wait_for(stranger.reader.read(), timeout_s(10)))
    stranger, hello = await greeted(host)
    async with closing(stranger):
        await stranger.send(Caller(SECRET.encode(), "zzzzzzz").call(hello))
        check_refused(catalogue.CLUSTER_WORKER, await stranger.reader.read())
    async with closing(connection):
        await connection.send(used)
        assert (await connection.reader.readuntil(b"\n")).startswith(b"200 ")
    host.eventually(
        lambda status: status["total"]["refused"] == {"cluster_greeting": 2, "cluster_secret": 2, "cluster_worker": 1},
        "counted",
    )


def check_refused(row: Any, line: bytes) -> None:
    status, _, message = line.decode().rstrip("\n").partition(" ")
    assert int(status) == row.status
    assert re.fullmatch(pattern(row), message), message


async def test_upgraded_connection_carries_both_ways_with_back_pressure(hosts: Hosts) -> None:
    first, second = hosts.add(), hosts.add()
    sid = await on(first)
    ws = await second.client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        await ws.send("5")
        await ws.send('421["burst",2000,1000]')
        for n in range(2000):
            text = await ws.text()
            while text in ("6", "2"):
                text = await ws.text()
            assert text.startswith(f'42["tick",{{"n":{n},')
        assert await ws.text() == "431[2000]"
        await ws.send_frame(CLOSE, b"")
