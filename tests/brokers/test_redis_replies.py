"""When replies of Redis are read: at once where somebody awaits one, else a moment later."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.brokers.redis_connection import ConnectionLost, RedisConnection, connect
from gateway.brokers.redis_options import Address
from tests.support.redis_server import RedisServer, running
from tests.support.waiting import eventually, timeout_s

from .recording import numbered
from .test_redis_failures import nodes_at

pytestmark = pytest.mark.usefixtures("no_logged_errors")


class Waiting:
    """As the entries of an outbox: nobody awaits the reply."""

    def __init__(self, replies: list[Any]) -> None:
        self._replies = replies

    def reply(self, value: Any) -> None:
        self._replies.append(value)


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[RedisConnection]:
    server = RedisServer(tmp_path)
    with running(server):
        address = Address("127.0.0.1", server.port)
        found = await connect(address, tls=None, username=None, password=None, timeout_s=timeout_s(5))
        yield found
        found.abort("the test is over")


def write(connection: RedisConnection, replies: list[Any], command: bytes) -> None:
    connection.write(command)
    connection.expected.append(Waiting(replies))
    connection.read_later()


async def test_reply_that_nobody_awaits_is_read_later(connection: RedisConnection) -> None:
    replies: list[Any] = []
    for number in range(3):
        write(connection, replies, b"INCR n\r\n")
        await eventually(lambda number=number: len(replies) > number, "the reply")
    assert replies == [1, 2, 3]
    assert not connection.expected


async def test_replies_are_read_though_something_is_written_in_every_turn(connection: RedisConnection) -> None:
    replies: list[Any] = []
    async with asyncio.timeout(timeout_s(10)):
        while not replies:
            write(connection, replies, b"PING\r\n")
            await asyncio.sleep(0)


async def test_reply_that_is_awaited_is_read_behind_those_before_it(connection: RedisConnection) -> None:
    replies: list[Any] = []
    write(connection, replies, b"INCR n\r\n")
    write(connection, replies, b"INCR n\r\n")
    awaited = connection.call("INCR", "n")
    write(connection, replies, b"INCR n\r\n")
    assert connection._reads_on is None, "it is read while somebody awaits something"
    assert await awaited == 3
    assert replies[:2] == [1, 2]
    await eventually(lambda: replies == [1, 2, 4], "the last one")
    write(connection, replies, b"INCR n\r\n")
    assert connection._reads_on is not None, "nobody awaits anything any more"


async def test_end_is_noticed_while_nothing_is_read(connection: RedisConnection) -> None:
    lost: list[str] = []
    connection.on_lost = lost.append
    write(connection, [], b"QUIT\r\n")
    await eventually(lambda: lost, "the end of the connection")
    connection.read_later()
    connection.read_now()
    with pytest.raises(ConnectionLost):
        await connection.call("PING")


async def test_outbox_empties_though_nobody_awaits_replies(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    with running(server):
        async with nodes_at(server.url) as spawn:
            one, two = await spawn(2)
            await two.subscribe("room")
            for payload in numbered(500):
                await one.broker.publish("room", payload)
            assert one.broker.health.outbox_messages
            await eventually(lambda: not one.broker.health.outbox_messages, "all replies")
            await two.got(numbered(500))
            assert not one.broker.health.outbox_bytes
