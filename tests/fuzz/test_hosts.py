"""The seeds of requests against real servers: each gets an answer or an end, and nobody a traceback."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.raw import Connection
from tests.support.servers import LISTENERS, ServerProcess
from transports.errors import RemoteProtocolError
from transports.protocol.http1 import parse_head

from .targets import TARGETS


def requests() -> list[bytes]:
    """Well-formed ones, to the path that is served; aiohttp logs a traceback of its own for the others."""
    found = []
    for name in ("request", "negotiation"):
        for seed in TARGETS[name].seeds().values():
            head, _, body = seed.partition(b"\r\n\r\n")
            head = head.rstrip(b"\0\1\4\5\6").replace(b"/engine.io/", b"/socket.io/")
            try:
                parse_head(head)
            except RemoteProtocolError:
                continue
            found.append(head + b"\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body) + body)
    assert len(found) > 40
    return found


@pytest.mark.parametrize("listener", LISTENERS)
async def test_every_host_answers_every_seed(listener: str, server_process: Callable[..., ServerProcess]) -> None:
    server = server_process(listener=listener)
    statuses = []
    for request in requests():
        connection = await Connection.open(server.port)
        await connection.send(request)
        head = await connection.read_head()
        connection.abort()
        statuses.append(head.status)
        assert head.status < 500, (request, head)
    assert {200, 101, 400, 403} <= set(statuses)
    async with await Connection.open(server.port) as connection:
        await connection.request("GET", "/socket.io/?EIO=4&transport=polling")
        assert (await connection.read_response()).status == 200
