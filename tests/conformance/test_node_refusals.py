"""What an application finds out about refusals, with real JavaScript clients."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web

import gateway
from gateway.refusal_docs import BY_NAME
from tests.conformance.node_scripts import run_concern
from tests.support.raw import EngineClient
from tests.support.servers import serving
from transports.engine import Engine

pytestmark = pytest.mark.node

SHOWS_HANDSHAKE = ("stock polling", "stock fetch", "tidegate polling", "tidegate streaming", "tidegate all")
WEBSOCKET = ("stock websocket", "tidegate websocket")


@dataclass
class Servers:
    """Base URLs by what the server refuses."""

    open: str
    turning_away: str
    full: str
    draining: str


@pytest.fixture
async def servers(listener: str, no_logged_errors: None) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:

        async def start(attachable: Any, *path: str) -> str:
            app = web.Application()
            attachable.attach(app, *path)
            return f"http://127.0.0.1:{await stack.enter_async_context(serving(app, listener))}"

        server = gateway.Server(cors_allowed_origins=["http://good.example"], max_http_buffer_size=10_000)

        def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
            if auth:
                raise gateway.ConnectionRefusedError("no entry", {"code": 7})

        server.on("connect", connect)
        turning_away = Engine()
        turning_away.on("connect", lambda sid, environ: "Not you, Zoë {text}")
        full = Engine(max_connections=1)
        full_url = await start(full, "socket.io")
        await EngineClient(int(full_url.rpartition(":")[2]), "/socket.io/").handshake()
        draining = gateway.Server()
        urls = Servers(await start(server), await start(turning_away, "socket.io"), full_url, await start(draining))
        await draining.eio.drain(0.1)
        yield urls


async def results(client: str, steps: list[dict[str, Any]]) -> Any:
    return await asyncio.to_thread(run_concern, "refusals", client=client, steps=steps)


@pytest.mark.parametrize("client", [*SHOWS_HANDSHAKE, *WEBSOCKET])
async def test_handshakes(servers: Servers, client: str) -> None:
    found = await results(
        client,
        [
            {
                "step": "origin_refused",
                "url": servers.open,
                "options": {"extraHeaders": {"origin": "http://evil.example"}},
            },
            {"step": "handshake_refused", "url": servers.turning_away},
            {"step": "too_many_connections", "url": servers.full},
            {"step": "draining", "url": servers.draining},
        ],
    )
    if client in WEBSOCKET:
        assert found == dict.fromkeys(["origin_refused", "handshake_refused", "too_many_connections", "draining"])
        return
    for name, refusal in found.items():
        row = BY_NAME[name]
        assert refusal["name"] == name
        assert (refusal["status"], refusal["code"]) == (row.status, row.code)
        assert refusal["retry"] == row.retry
        assert refusal.get("retryAfterS") == (5 if row.retry == "later" else None)
    assert found["handshake_refused"]["message"] == "Not you, Zoë {text}"
    assert found["origin_refused"]["message"].startswith("http://evil.example is not an accepted origin")


@pytest.mark.parametrize("client", [*SHOWS_HANDSHAKE, *WEBSOCKET])
async def test_namespaces(servers: Servers, client: str) -> None:
    found = await results(
        client,
        [
            {"step": "invalid_namespace", "url": servers.open, "namespace": "/nowhere"},
            {"step": "join_refused", "url": servers.open, "options": {"auth": {"a": 1}}},
        ],
    )
    assert found == {
        "invalid_namespace": {
            "name": "invalid_namespace",
            "door": "Socket.IO",
            "message": "Invalid namespace",
            "ends": "namespace",
            "retry": "no",
        },
        "join_refused": {
            "name": "join_refused",
            "door": "Socket.IO",
            "message": "no entry",
            "ends": "namespace",
            "retry": "no",
        },
    }


PACKETS = {
    "bad_json": '2["message"',
    "not_joined": "2/" + "ä" * 200 + ',["message"]',  # longer than the reason of a close frame
    "body_too_large": "x" * 20_000,
}


@pytest.mark.parametrize("client", [*SHOWS_HANDSHAKE, *WEBSOCKET])
async def test_packets(servers: Servers, client: str) -> None:
    steps = [{"step": name, "url": servers.open, "write": packet} for name, packet in PACKETS.items()]
    found = await results(client, steps)
    for name, refusal in found.items():
        if refusal is None and client.startswith("stock") and client not in WEBSOCKET:
            continue  # the close packet may come before the answer to the POST
        row = BY_NAME["message_too_big" if name == "body_too_large" and client in WEBSOCKET else name]
        numbers = {"closeCode": row.close_code} if client in WEBSOCKET else {"status": row.status, "code": row.code}
        assert refusal == {
            "name": row.name,
            "door": row.door,
            "message": refusal["message"],
            "ends": "session",
            "retry": "anew",
            **numbers,
        }


@pytest.mark.parametrize("client", WEBSOCKET)
async def test_a_server_that_goes(listener: str, client: str) -> None:
    server = gateway.Server()
    server.on("go", lambda sid: server.start_background_task(server.eio.drain, 1.0))
    app = web.Application()
    server.attach(app)
    async with serving(app, listener) as port:
        url = f"http://127.0.0.1:{port}"
        found = await results(client, [{"step": "shutdown", "url": url, "write": '2["go"]'}])
    assert found["shutdown"] == {
        "name": "shutdown",
        "door": "Engine.IO",
        "message": "server shutting down",
        "ends": "session",
        "retry": "later",
        "closeCode": 1012,
        "retryAfterS": 5,
    }


async def test_who_is_turned_away_is_not_asked_again_on_every_transport(listener: str) -> None:
    asked: list[str] = []

    def connect(sid: str, environ: dict[str, Any]) -> str:
        asked.append(sid)
        return "no"

    engine = Engine()
    engine.on("connect", connect)
    app = web.Application()
    engine.attach(app, "socket.io")
    async with serving(app, listener) as port:
        found = await results("tidegate all", [{"step": "once", "url": f"http://127.0.0.1:{port}"}])
    assert found["once"]["message"] == "no"
    assert len(asked) == 1
