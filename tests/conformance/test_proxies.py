"""Clients behind proxies, on both hosts: what handlers see, and which pages are of the same origin.

Spec: RFC 7239; the Fetch standard, "HTTP-CORS protocol".
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

import gateway
from tests.support.raw import Connection, EngineClient, closing
from tests.support.servers import serving
from transports.engine import Engine

Start = Callable[..., Awaitable[Any]]


async def seen(server: Any, headers: dict[str, str], transport: str = "polling") -> tuple[str, str, str]:
    """Address, scheme and Host header that the connect handler is told of."""
    client = server.client
    if transport == "websocket":
        await (await client.websocket(headers=headers)).close()
    else:
        target = client.target(transport=transport)
        async with await client.begin("GET", target, headers=headers) as connection:
            assert (await connection.read_head()).status == 200
    environ = server.environs[-1]
    return environ["REMOTE_ADDR"], environ["wsgi.url_scheme"], environ["HTTP_HOST"]


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, ("127.0.0.1", "http")),
        ({"X-Forwarded-For": "6.6.6.6, 192.0.2.1", "X-Forwarded-Proto": "https"}, ("192.0.2.1", "https")),
        ({"Forwarded": 'for="[2001:db8::1]:4711";proto=https;host=app.example'}, ("2001:db8::1", "https")),
        ({"X-Forwarded-For": "nonsense"}, ("127.0.0.1", "http")),
        ({"Forwarded": 'for="'}, ("127.0.0.1", "http")),
        ({"Forwarded": "for=6.6.6.6", "X-Forwarded-For": "192.0.2.1"}, ("127.0.0.1", "http")),
    ],
)
async def test_what_a_trusted_proxy_says_is_what_handlers_see(
    echo_engine: Start, transport: str, headers: dict[str, str], expected: tuple[str, str]
) -> None:
    server = await echo_engine()
    assert await seen(server, headers, transport) == (*expected, "test.example")


async def test_who_is_not_trusted_is_not_believed(echo_engine: Start) -> None:
    server = await echo_engine(trusted_proxies=["192.0.2.0/24"])
    headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https", "Forwarded": "for=192.0.2.1"}
    assert await seen(server, headers) == ("127.0.0.1", "http", "test.example")


async def test_header_that_is_sent_twice_is_one_list(echo_engine: Start) -> None:
    server = await echo_engine()
    async with await Connection.open(server.client.port) as connection:
        target = server.client.target(transport="polling")
        lines = [f"GET {target} HTTP/1.1", "Host: a", "X-Forwarded-For: 6.6.6.6", "X-Forwarded-For: 192.0.2.1", "", ""]
        await connection.send("\r\n".join(lines).encode())
        assert (await connection.read_response()).status == 200
    assert server.environs[-1]["REMOTE_ADDR"] == "192.0.2.1"


async def test_page_of_the_proxys_origin_is_of_the_same_origin(echo_engine: Start) -> None:
    client = (await echo_engine()).client
    target = client.target(transport="polling")
    for headers, origin in [
        ({"X-Forwarded-Proto": "https"}, "https://test.example"),
        ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "app.example"}, "https://app.example"),
        ({"Forwarded": 'proto=https;host="app.example:8443"'}, "https://app.example:8443"),
        ({"X-Forwarded-Host": "app.example", "X-Forwarded-Port": "8080"}, "http://app.example:8080"),
        ({"X-Forwarded-Proto": "https"}, "http://test.example"),
    ]:
        response = await client.request("GET", target, headers={**headers, "Origin": origin})
        assert (response.status, response.headers["access-control-allow-origin"]) == (200, origin)
        assert response.headers["vary"] == "Origin"
        sid = response.text.partition('"sid":"')[2].partition('"')[0]
        assert (await client.post(sid, "4a", headers={**headers, "Origin": origin})).text == "ok"
    ws = await client.websocket(headers={"X-Forwarded-Proto": "https", "Origin": "https://test.example"})
    async with closing(ws):
        await ws.opening()


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
async def test_refusal_says_which_header_was_not_believed(echo_engine: Start, transport: str) -> None:
    client = (await echo_engine(trusted_proxies=[])).client
    headers = {"X-Forwarded-Proto": "https", "Origin": "https://test.example"}
    response = await client.request("GET", client.target(transport=transport), headers=headers)
    assert response.status == 403
    assert response.json() == {
        "code": 4,
        "message": "https://test.example is not an accepted origin; expected http://test.example "
        "(X-Forwarded-Proto from 127.0.0.1 was not believed: it is not in trusted_proxies)",
    }
    assert response.headers["vary"] == "Origin"
    assert "access-control-allow-origin" not in response.headers


@pytest.mark.parametrize(
    ("allowed", "varies"), [(None, True), (["https://app.example"], True), ("*", False), ([], False)]
)
async def test_every_answer_that_depends_on_the_origin_says_so(echo_engine: Start, allowed: Any, varies: bool) -> None:
    client = (await echo_engine(cors_allowed_origins=allowed)).client
    for method, target in (
        ("GET", client.target(transport="polling")),
        ("GET", client.target(transport="polling", sid="unknown")),
        ("POST", client.target(transport="polling")),
        ("OPTIONS", client.target(transport="polling")),
    ):
        response = await client.request(method, target)
        assert ("origin" in response.headers.get("vary", "").lower()) == varies


async def test_null_is_allowed_by_name_only(echo_engine: Start) -> None:
    headers = {"Origin": "null"}
    for allowed in (None, "https://app.example", ["https://app.example"]):
        client = (await echo_engine(cors_allowed_origins=allowed)).client
        response = await client.request("GET", client.target(transport="polling"), headers=headers)
        assert response.status == 403
        assert "access-control-allow-origin" not in response.headers
    client = (await echo_engine(cors_allowed_origins=["null"])).client
    response = await client.request("GET", client.target(transport="polling"), headers=headers)
    assert (response.status, response.headers["access-control-allow-origin"]) == (200, "null")
    client = (await echo_engine(cors_allowed_origins="*")).client
    response = await client.request("GET", client.target(transport="polling"), headers=headers)
    assert response.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in response.headers


# -- applications and sockets ------------------------------------------------------------------------------


def recording(**options: Any) -> tuple[Engine, list[dict[str, Any]]]:
    engine = Engine(**options)
    environs: list[dict[str, Any]] = []
    engine.on("connect", lambda sid, environ: environs.append(environ))
    return engine, environs


async def test_what_the_applications_middleware_says_stands(listener: str, no_logged_errors: None) -> None:
    @web.middleware
    async def rewrite(request: web.Request, handler: Any) -> web.StreamResponse:
        answer: web.StreamResponse = await handler(
            request.clone(remote="198.51.100.7", scheme="https", host="own.example")
        )
        return answer

    engine, environs = recording()
    app = web.Application(middlewares=[rewrite])
    engine.attach(app)
    async with serving(app, listener) as port:
        client = EngineClient(port)
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "http", "Origin": "https://own.example"}
        response = await client.request("GET", client.target(transport="polling"), headers=headers)
        assert (response.status, response.headers["access-control-allow-origin"]) == (200, "https://own.example")
        environ = environs[-1]
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == ("198.51.100.7", "https")
        assert environ["HTTP_HOST"] == "test.example"


@pytest.mark.parametrize("trusted", [["loopback"], ["127.0.0.1"]])
async def test_unix_sockets_count_as_loopback(
    listener: str, no_logged_errors: None, tmp_path: Path, trusted: list[str]
) -> None:
    engine, environs = recording(trusted_proxies=trusted)
    app = web.Application()
    engine.attach(app)
    runner = (gateway.AppRunner if listener == "fast" else web.AppRunner)(app, access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        path = str(tmp_path / "s")
        await web.UnixSite(runner, path).start()
        async with Connection(*await asyncio.open_unix_connection(path)) as connection:
            headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
            await connection.request("GET", "/engine.io/?EIO=4&transport=polling", headers=headers)
            assert (await connection.read_response()).status == 200
        for sid in list(engine.sockets):
            await engine.disconnect(sid)
            engine.sockets[sid].give_up()
    finally:
        await runner.cleanup()
    expected = ("192.0.2.1", "https") if trusted == ["loopback"] else ("", "http")
    assert (environs[-1]["REMOTE_ADDR"], environs[-1]["wsgi.url_scheme"]) == expected
