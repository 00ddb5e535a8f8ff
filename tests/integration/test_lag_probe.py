"""The lag of the loop, sampled while an application runs."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
import socketio
from aiohttp import web

import gateway
from tests.support.servers import LISTENERS, serving
from tests.support.waiting import eventually
from transports.loop_lag import INTERVAL_S, NAMED_S

pytestmark = pytest.mark.usefixtures("no_logged_errors")


@pytest.mark.parametrize("listener", LISTENERS)
async def test_lag_is_sampled_from_the_start_of_the_application_to_its_end(listener: str) -> None:
    app = web.Application()
    first, second = gateway.Server(), gateway.Router(gateway.SocketConnection, namespace="other")
    first.attach(app)
    second.attach(app)
    assert first.eio.loop_lag.dump()["count"] == 0
    async with serving(app, listener):
        await eventually(lambda: first.eio.loop_lag.dump()["count"] >= 3)
        time.sleep(2 * INTERVAL_S)
        await eventually(lambda: second.stats.dump()["max_loop_lag_s"] >= INTERVAL_S, "they share a loop")
    count = first.eio.loop_lag.dump()["count"]
    await asyncio.sleep(2 * INTERVAL_S)
    assert first.eio.loop_lag.dump()["count"] == count


async def test_handler_that_blocks_the_loop_is_named(caplog: pytest.LogCaptureFixture) -> None:
    app = web.Application()
    server = gateway.Server()
    server.attach(app)

    @server.event
    async def reckless(sid: str) -> str:
        time.sleep(3 * NAMED_S)
        return "done"

    with caplog.at_level(logging.WARNING, "tidegate.loop"):
        async with serving(app) as port:
            client = socketio.AsyncClient(reconnection=False)
            await client.connect(f"http://127.0.0.1:{port}", transports=["websocket"])
            assert await client.call("reckless") == "done"
            await eventually(lambda: server.eio.loop_lag.worst_s > NAMED_S)
            await client.disconnect()
    lines = [record.getMessage() for record in caplog.records if record.name == "tidegate.loop"]
    assert any("reckless (" in line and "test_lag_probe.py" in line for line in lines), lines
    assert any("was held up for" in line for line in lines), lines
