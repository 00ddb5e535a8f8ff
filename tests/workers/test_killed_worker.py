"""What the death of a worker takes along of the connections that its listening socket has got."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from itertools import count

import psutil

from tests.support.raw import Connection
from tests.support.waiting import eventually_sync
from tests.workers.conftest import Gateway

Start = Callable[..., Gateway]
#: Enough that each of two workers gets some.
MANY = 24


def accepted(pid: int, port: int) -> int:
    """How many connections of clients the process has."""
    found = psutil.Process(pid).net_connections("tcp4")
    return sum(each.status == psutil.CONN_ESTABLISHED and each.laddr.port == port for each in found)


def stop(pid: int) -> None:
    os.kill(pid, signal.SIGSTOP)
    eventually_sync(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, "it has stopped")


async def request(connection: Connection, server: Gateway, sid: str) -> None:
    target = server.client.target(transport="polling", sid=sid)
    await connection.send(f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n3".encode())


async def two_workers(gateway: Start) -> tuple[Gateway, str, int]:
    """A gateway, a session of one of its workers, and the process id of the other."""
    server = gateway("--workers", "2", "--ping-interval-s", "60")
    sid = (await server.client.handshake())["sid"]
    assert (await server.client.post(sid, "40")).text == "ok"
    (victim,) = [pid for worker_id, pid in server.workers().items() if worker_id != sid[:7]]
    return server, sid, victim


async def test_connections_in_the_queue_of_a_killed_worker_are_served(gateway: Start) -> None:
    server, sid, victim = await two_workers(gateway)
    stop(victim)
    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(await Connection.open(server.port)) for _ in range(MANY)]
        for connection in connections:
            await request(connection, server, sid)
        os.kill(victim, signal.SIGKILL)
        for connection in connections:
            assert (await connection.read_response()).text == "ok"


async def test_connections_without_a_request_outlive_a_killed_worker(gateway: Start) -> None:
    """While it lives it does not accept them: the kernel keeps them until the request comes."""
    server, sid, victim = await two_workers(gateway)
    for attempt in count(1):
        async with AsyncExitStack() as stack:
            connections = [await stack.enter_async_context(await Connection.open(server.port)) for _ in range(MANY)]
            # It has accepted what came after them, so it could have accepted them.
            owners: set[str] = set()
            while len(owners) < 2:
                owners.add((await server.client.handshake())["sid"][:7])
            stop(victim)
            if accepted(victim, server.port):
                os.kill(victim, signal.SIGCONT)
                assert attempt < 20, "connections were accepted each time, not only where all this took a second"
                continue
            for connection in connections:
                await request(connection, server, sid)
            os.kill(victim, signal.SIGKILL)
            for connection in connections:
                assert (await connection.read_response()).text == "ok"
            break
