"""The catalogue's rows for requests, upgrades, namespaces and endings: real bytes, on both hosts."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import gateway
from gateway import catalogue as socketio_rows
from gateway.codec import JsonPacket
from tests.conformance import test_catalogue_packets as packets
from tests.conformance.catalogue_scene import Scene, scene
from tests.support.raw import Connection, EngineClient, WebSocket, closing, websocket_headers
from tests.support.servers import ROOT
from tests.support.waiting import eventually
from transports import catalogue
from transports.engine import Engine
from transports.hosts.listener import Listener
from transports.refusals import Ends, Refusal

PATH = "/socket.io/?EIO=4&transport="
SHOWN: set[Refusal] = {
    *packets.PACKETS,
    *packets.FRAMES,
    *packets.MSGPACK,
    *packets.DROPPED,
    *packets.ONCE,
    socketio_rows.COPY_GIVEN_UP,
    catalogue.PAYLOAD_NOT_UTF8,
}
#: Rows of the connection classes and of clusters, which have suites of their own, and what these know them by.
ELSEWHERE = {
    catalogue.HANDLER_FAILED: ("tests/integration/test_router.py", catalogue.HANDLER_FAILED.reason),
    catalogue.TOO_MANY_EVENTS: ("tests/integration/test_router.py", catalogue.TOO_MANY_EVENTS.reason),
    catalogue.CLUSTER_SECRET: ("tests/workers/test_cluster.py", "catalogue.CLUSTER_SECRET"),
    catalogue.CLUSTER_GREETING: ("tests/workers/test_cluster.py", "catalogue.CLUSTER_GREETING"),
    catalogue.CLUSTER_WORKER: ("tests/workers/test_cluster.py", "catalogue.CLUSTER_WORKER"),
}


def shows(*rows: Refusal) -> Callable[[Any], Any]:
    """The test is the one of these rows."""
    SHOWN.update(rows)
    return lambda test: test


# -- heads and parameters ------------------------------------------------------------------------------------


def head(line: str, *headers: str, host: bool = True) -> bytes:
    lines = [line, *(["Host: test.example"] if host else []), *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


#: aiohttp answers these itself on its own listener: its parser comes before us.
HEADS: dict[Refusal, list[bytes]] = {
    catalogue.BAD_REQUEST_LINE: [
        head(f"GET {PATH}polling HTTP/1.2"),
        head(f"get {PATH}polling HTTP/1.1"),
        head(f"GET {PATH}polling HTTP/1.1 "),
    ],
    catalogue.BAD_HEADER: [
        head(f"GET {PATH}polling HTTP/1.1", "Bad Name: x"),
        head(f"GET {PATH}polling HTTP/1.1", "X: a", " folded"),
        head(f"GET {PATH}polling HTTP/1.1", "X: a\0b"),
        head(f"GET {PATH}polling HTTP/1.1", "no colon"),
    ],
    catalogue.REPEATED_HEADER: [
        head(f"GET {PATH}polling HTTP/1.1", "Host: other.example"),
        head(f"POST {PATH}polling HTTP/1.1", "Content-Length: 1", "Content-Length: 2"),
    ],
    catalogue.NO_HOST: [head(f"GET {PATH}polling HTTP/1.1", host=False)],
    catalogue.BAD_FRAMING: [
        head(f"POST {PATH}polling HTTP/1.1", "Content-Length: 3", "Transfer-Encoding: chunked"),
        head(f"POST {PATH}polling HTTP/1.1", "Transfer-Encoding: gzip"),
    ],
    catalogue.BAD_LENGTH: [
        head(f"POST {PATH}polling HTTP/1.1", f"Content-Length: {text}") for text in ("+5", "-1", "0x5", "5 5", "1e3")
    ],
    catalogue.BARE_LINE_END: [f"GET {PATH}polling HTTP/1.1\nHost: a\n\n".encode()],
    catalogue.TARGET_TOO_LONG: [head(f"GET {PATH}polling&x={'y' * 9000} HTTP/1.1")],
    catalogue.HEAD_TOO_LARGE: [head(f"GET {PATH}polling HTTP/1.1", *[f"X-{n}: {'y' * 1000}" for n in range(20)])],
}
REQUESTS: dict[Refusal, list[bytes]] = {
    catalogue.BAD_QUERY: [
        head(f"GET {PATH}polling&x=%ff HTTP/1.1"),
        head(f"GET {PATH}polling&{'&'.join(f'x{n}=1' for n in range(120))} HTTP/1.1"),
    ],
    catalogue.REPEATED_PARAMETER: [
        head(f"GET {PATH}polling&transport=websocket HTTP/1.1"),
        head(f"GET {PATH}polling&EIO=4 HTTP/1.1"),
        head(f"GET {PATH}polling&sid=a&%73id=b HTTP/1.1"),
    ],
    catalogue.BAD_PARAMETER: [
        head(f"GET {PATH}polling&j=x HTTP/1.1"),
        head(f"GET {PATH}polling&j=-1 HTTP/1.1"),
        head(f"GET {PATH}polling&j=%D9%A3 HTTP/1.1"),
        head(f"GET {PATH}xhr-streaming&padding=65537 HTTP/1.1"),
        head(f"GET {PATH}xhr-streaming&ack=1.5 HTTP/1.1"),
    ],
    catalogue.UNKNOWN_TRANSPORT: [
        head(f"GET {PATH} HTTP/1.1"),
        head(f"GET {PATH}flashsocket HTTP/1.1"),
        head("GET /socket.io/?EIO=4 HTTP/1.1"),
        head(f"GET {PATH}Polling HTTP/1.1"),
    ],
    catalogue.UNSUPPORTED_VERSION: [
        head(f"GET /socket.io/?{version}transport=polling HTTP/1.1")
        for version in ("", "EIO=3&", "EIO=5&", "EIO=04&", "EIO=%D9%A4&", "EIO=&")
    ],
    catalogue.BAD_METHOD: [head(f"{method} {PATH}polling HTTP/1.1") for method in ("PUT", "DELETE", "PATCH", "POST")],
    catalogue.ORIGIN_REFUSED: [
        head(f"GET {PATH}polling HTTP/1.1", "Origin: https://elsewhere.example"),
        head(f"GET {PATH}polling HTTP/1.1", "Origin: null"),
        head(
            f"GET {PATH}websocket HTTP/1.1",
            "Origin: https://elsewhere.example",
            *[f"{name}: {value}" for name, value in websocket_headers().items()],
        ),
    ],
    catalogue.UNKNOWN_SESSION: [
        head(f"GET {PATH}polling&sid=x HTTP/1.1"),
        head(f"GET {PATH}xhr-streaming&sid= HTTP/1.1"),
        head(f"POST {PATH}polling&sid=%00 HTTP/1.1", "Content-Length: 0"),
        head(
            f"GET {PATH}websocket&sid=x HTTP/1.1",
            *[f"{name}: {value}" for name, value in websocket_headers().items()],
        ),
    ],
    catalogue.UPGRADE_ELSEWHERE: [
        head(f"GET {PATH}polling HTTP/1.1", *[f"{name}: {value}" for name, value in websocket_headers().items()])
    ],
    catalogue.NOT_AN_UPGRADE: [head(f"GET {PATH}websocket HTTP/1.1")],
}
_UPGRADE = {"Connection": "Upgrade", "Upgrade": "websocket"}
_KEY = {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version": "13"}


def upgrade(version: str = "HTTP/1.1", **changed: str) -> bytes:
    headers = {**_UPGRADE, **_KEY, **{name.replace("_", "-"): value for name, value in changed.items()}}
    return head(f"GET {PATH}websocket {version}", *[f"{name}: {value}" for name, value in headers.items()])


REQUESTS |= {
    catalogue.UPGRADE_METHOD: [upgrade("HTTP/1.0")],
    catalogue.UPGRADE_BODY: [upgrade(Content_Length="3") + b"abc"],
    catalogue.WEBSOCKET_VERSION: [upgrade(Sec_WebSocket_Version="8"), upgrade(Sec_WebSocket_Version="")],
    catalogue.WEBSOCKET_KEY: [upgrade(Sec_WebSocket_Key="short"), upgrade(Sec_WebSocket_Key="A" * 24)],
}
SHOWN.update(HEADS, REQUESTS)


@pytest.mark.parametrize(("row", "raw"), packets.cases(HEADS))
async def test_head_that_is_refused(row: Refusal, raw: bytes) -> None:
    async with scene("fast") as made:
        await made.check_refusal(row, raw)
        assert made.refused == {row.name: 1}


@pytest.mark.parametrize(("row", "raw"), packets.cases(HEADS))
async def test_head_that_aiohttp_refuses_costs_nobody_else_anything(row: Refusal, raw: bytes) -> None:
    async with scene("aiohttp") as made, await Connection.open(made.client.port) as connection:
        await connection.send(raw)
        answer = await connection.read_response()
        assert answer.status < 500, row


@pytest.mark.parametrize(("row", "raw"), packets.cases(REQUESTS))
async def test_request_that_is_refused(listener: str, row: Refusal, raw: bytes) -> None:
    async with scene(listener) as made:
        await made.check_refusal(row, raw)
        assert made.refused == {row.name: 1}
        assert len(made.server.eio.sockets) == 1, "the bystander"


@shows(catalogue.NOT_FOUND)
async def test_path_that_nobody_serves() -> None:
    engine = Engine()
    server = await asyncio.get_running_loop().create_server(Listener({"/engine.io/": engine}, None), "127.0.0.1", 0)
    async with server, await Connection.open(server.sockets[0].getsockname()[1]) as connection:
        await connection.send(head("GET /other HTTP/1.1"))
        answer = await connection.read_response()
        assert (answer.status, answer.json()["message"]) == (404, "Not found")
    assert engine.counters.refused == {"not_found": 1}


@shows(catalogue.REQUEST_TIMEOUT)
async def test_request_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(Listener.__init__.__kwdefaults__, "request_timeout_s", 0.3)
    async with scene("fast") as made:
        sid = await made.polling()
        await made.check_refusal(catalogue.REQUEST_TIMEOUT, f"GET {PATH}polling HTT".encode())
        post = head(f"POST {PATH}polling&sid={sid} HTTP/1.1", "Content-Length: 100") + b"4half"
        await made.check_refusal(catalogue.REQUEST_TIMEOUT, post)
        assert made.refused == {"request_timeout": 2}
        assert (await made.client.post(sid, "41")).status == 200, "the session goes on"


# -- handshakes ------------------------------------------------------------------------------------------------


@shows(catalogue.HANDSHAKE_REFUSED, catalogue.LEFT_EARLY)
async def test_handshakes_that_the_application_refuses(echo_engine: Any) -> None:
    gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def decide(sid: str, environ: dict[str, Any]) -> Any:
        if "wait" in environ["QUERY_STRING"]:
            await gate
            return None
        return "not you"

    served = await echo_engine(connect=decide)
    made = Scene(served.engine, served.client, "")  # type: ignore[arg-type]
    refused = await served.client.request("GET", served.client.target(transport="polling"))
    made.check_response(catalogue.HANDSHAKE_REFUSED, refused)
    assert refused.json()["message"] == "not you"
    waiting = await served.client.begin("GET", served.client.target(transport="polling", wait=1))
    async with closing(waiting):
        await eventually(lambda: served.engine.sockets)
        await served.engine.disconnect()
        gate.set_result(None)
        made.check_response(catalogue.LEFT_EARLY, await waiting.read_response())
    assert served.engine.counters.refused == {"handshake_refused": 1, "left_early": 1}
    assert served.engine.admission._count == 0


FULL: dict[Refusal, dict[str, Any]] = {
    catalogue.TOO_MANY_CONNECTIONS: {"max_connections": 1},
    catalogue.TOO_MANY_FROM_ADDRESS: {"max_connections_per_address": 1, "trusted_proxies": []},
    catalogue.TOO_MANY_HANDSHAKES: {"handshakes_per_second": 0.1, "trusted_proxies": []},
}
SHOWN.update(FULL)


@pytest.mark.parametrize("row", FULL, ids=lambda row: row.name)
@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
async def test_handshakes_over_a_bound(listener: str, row: Refusal, transport: str) -> None:
    """The bystander has taken the only place."""
    async with scene(listener, **FULL[row]) as made:
        raw = upgrade() if transport == "websocket" else head(f"GET {PATH}{transport} HTTP/1.1")
        await made.check_refusal(row, raw)
        assert made.refused == {row.name: 1}


@shows(catalogue.DRAINING)
async def test_handshake_while_the_server_drains(listener: str) -> None:
    async with scene(listener) as made:
        made.server.eio.is_draining = True
        await made.check_refusal(catalogue.DRAINING, head(f"GET {PATH}polling HTTP/1.1"))
        made.server.eio.is_draining = False
        assert made.refused == {"draining": 1}


# -- requests of a session -------------------------------------------------------------------------------------

BODIES: dict[Refusal, list[tuple[dict[str, str], bytes]]] = {
    catalogue.BAD_BODY: [
        ({"Transfer-Encoding": "chunked"}, b"3\r\n41xyz\r\n"),
        ({"Transfer-Encoding": "chunked"}, b"x\r\n"),
        ({"Content-Length": "5", "Content-Encoding": "deflate"}, b"\xff\xff\xff\xff\xff"),
    ],
    catalogue.BODY_TOO_LARGE: [
        ({"Content-Length": "5001"}, b""),
        ({"Transfer-Encoding": "chunked"}, b"1389\r\n" + b"4" * 5001 + b"\r\n0\r\n\r\n"),
        (
            {"Content-Length": str(len(zlib.compress(b"4" * 9000))), "Content-Encoding": "deflate"},
            zlib.compress(b"4" * 9000),
        ),
    ],
    catalogue.UNKNOWN_CODING: [
        ({"Content-Length": "1", "Content-Encoding": "compress"}, b"4"),
        ({"Content-Length": "1", "Content-Encoding": "gzip, deflate"}, b"4"),
    ],
}
SHOWN.update(BODIES)


@pytest.mark.parametrize(("row", "sent"), packets.cases(BODIES))
@pytest.mark.parametrize("polls", [False, True])
async def test_body_that_is_refused(
    listener: str, row: Refusal, sent: tuple[dict[str, str], bytes], polls: bool
) -> None:
    async with scene(listener, max_http_buffer_size=5000) as made:
        sid = await made.polling()
        poll = await made.client.begin("GET", made.client.target(transport="polling", sid=sid)) if polls else None
        lines = [f"{name}: {value}" for name, value in sent[0].items()]
        async with await Connection.open(made.client.port) as connection:
            await connection.send(head(f"POST {PATH}polling&sid={sid} HTTP/1.1", *lines))
            await asyncio.sleep(0)
            await connection.send(sent[1])
            answer = await connection.read_response()
        if listener == "aiohttp" and answer.headers["content-type"].startswith("text/plain"):
            # What came with the head was refused by aiohttp's own parser, before the engine had the request.
            assert (row, answer.status) == (catalogue.BAD_BODY, 400)
            if poll is not None:
                await poll.close()
            return
        made.check_response(row, answer)
        if poll is not None:
            async with closing(poll):
                assert (await poll.read_response()).text == "1"
        await made.check_ended(row, sid)
        assert made.refused == {row.name: 1}


@shows(catalogue.WRONG_TRANSPORT)
async def test_requests_for_another_transport(listener: str) -> None:
    async with scene(listener) as made:
        sid = await made.polling()
        stream = await made.client.stream()
        async with closing(stream):
            streaming = (await stream.opening())["sid"]
            for attempt in (
                made.client.get(streaming, "polling"),
                made.client.post(streaming, "40", "polling"),
                made.client.post(sid, "40", "xhr-streaming"),
                made.client.post(sid, "40", "websocket"),
            ):
                made.check_response(catalogue.WRONG_TRANSPORT, await attempt)
        assert made.refused == {"wrong_transport": 4}
        assert (await made.client.post(sid, "3")).status == 200, "the session goes on"


@shows(catalogue.OVERLAPPING_GET)
async def test_second_poll(listener: str) -> None:
    async with scene(listener) as made:
        sid = await made.polling()
        first = await made.client.begin("GET", made.client.target(transport="polling", sid=sid))
        async with closing(first):
            await eventually(lambda: made.server.eio.sockets[sid].is_ready())
            made.check_response(catalogue.OVERLAPPING_GET, await made.client.get(sid))
            assert (await first.read_response()).text == "1"
        await made.check_ended(catalogue.OVERLAPPING_GET, sid)


@shows(catalogue.OVERLAPPING_POST)
async def test_second_post(listener: str) -> None:
    async with scene(listener) as made:
        sid = await made.polling()
        first = await Connection.open(made.client.port)
        async with closing(first):
            await first.send(head(f"POST {PATH}polling&sid={sid} HTTP/1.1", "Content-Length: 10") + b"4")
            session = made.server.eio.sockets[sid]
            await eventually(lambda: session.intake._posting)
            made.check_response(catalogue.OVERLAPPING_POST, await made.client.post(sid, "3"))
        await made.check_ended(catalogue.OVERLAPPING_POST, sid)


@shows(catalogue.ACK_MISSING, catalogue.ACK_LATE, catalogue.ACK_WRONG)
@pytest.mark.parametrize(
    ("first", "second", "row"),
    [
        ({}, {}, catalogue.ACK_MISSING),
        ({"ack": 0}, {}, catalogue.ACK_MISSING),
        ({}, {"ack": 1}, catalogue.ACK_LATE),
        ({"ack": 0}, {"ack": 9}, catalogue.ACK_WRONG),
    ],
)
async def test_stream_that_does_not_count_as_it_should(
    listener: str, first: dict[str, int], second: dict[str, int], row: Refusal
) -> None:
    async with scene(listener) as made:
        stream = await made.client.stream(**first)
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            made.check_response(row, await made.client.get(sid, "xhr-streaming", **second))
            assert await stream.rest() == ["1"]
        await made.check_ended(row, sid)
        assert made.refused == {row.name: 1}


# -- upgrades --------------------------------------------------------------------------------------------------


@shows(catalogue.UPGRADE_UNDER_WAY, catalogue.NO_SUCH_UPGRADE)
async def test_upgrades_that_are_refused_at_once(listener: str) -> None:
    async with scene(listener) as made:
        sid = await made.polling()
        first = await made.begin_upgrade(sid)
        second = await made.client.websocket(sid)
        async with closing(first, second):
            await made.check_close_frame(catalogue.UPGRADE_UNDER_WAY, second)
            await first.send("5")
            third = await made.client.websocket(sid)
            async with closing(third):
                await made.check_close_frame(catalogue.NO_SUCH_UPGRADE, third)
            await first.send('421["echo","over"]')
            while (text := await first.text()) != '431["over"]':
                assert text == "6"
        assert made.refused == {"upgrade_under_way": 1, "no_such_upgrade": 1}


@shows(catalogue.PROBE_EXPECTED, catalogue.UPGRADE_TIMEOUT, catalogue.UPGRADE_CUT)
@pytest.mark.parametrize(
    ("said", "row"),
    [
        (["4x"], catalogue.PROBE_EXPECTED),
        (["5"], catalogue.PROBE_EXPECTED),
        (["2"], catalogue.PROBE_EXPECTED),
        (["2probe", "2probe"], catalogue.PROBE_EXPECTED),
        (["2probe", "4x"], catalogue.PROBE_EXPECTED),
        ([], catalogue.UPGRADE_TIMEOUT),
        (["2probe"], catalogue.UPGRADE_TIMEOUT),
        (["2probe"], catalogue.UPGRADE_CUT),
    ],
)
async def test_upgrade_that_fails(listener: str, said: list[str], row: Refusal) -> None:
    async with scene(listener, upgrade_timeout=0.4 if row is catalogue.UPGRADE_TIMEOUT else 10.0) as made:
        sid = await made.polling()
        ws = await made.client.websocket(sid)
        async with closing(ws):
            for text in said:
                await ws.send(text)
            if row is catalogue.UPGRADE_CUT:
                assert await ws.text() == "3probe"
                await made.client.post(sid, "1")
            await made.check_close_frame(row, ws)
        assert made.refused == {row.name: 1}
        if row.ends is Ends.UPGRADE and row is not catalogue.UPGRADE_CUT:
            assert (await made.client.post(sid, '421["echo","still polling"]')).status == 200
            while (text := (await made.client.get(sid)).text) == "6":
                pass
            assert text == '431["still polling"]'


@shows(catalogue.PROBE_EXPECTED)
async def test_upgrade_over_post_that_fails(listener: str) -> None:
    async with scene(listener) as made:
        sid = await made.polling()
        stream = await made.client.stream(sid)
        async with closing(stream):
            answer = await made.client.post(sid, "4x", "xhr-streaming")
            made.check_response(catalogue.PROBE_EXPECTED, answer)
            assert await stream.rest() == ["1"]
        assert made.refused == {"probe_expected": 1}
        assert (await made.client.post(sid, "3")).status == 200


# -- namespaces --------------------------------------------------------------------------------------------------

JOINS: dict[Refusal, tuple[list[str], str]] = {
    socketio_rows.INVALID_NAMESPACE: (["40/nowhere,"], '44/nowhere,{"message":"Invalid namespace"}'),
    socketio_rows.ALREADY_JOINED: (["40"], '44{"message":"Already connected to this namespace"}'),
    socketio_rows.TOO_MANY_NAMESPACES: (["40/other,"], '44/other,{"message":"Too many namespaces: 1 are allowed"}'),
    socketio_rows.JOIN_REFUSED: (['40/other,{"refuse":true}'], '44/other,{"message":"not you","data":{"why":1}}'),
    socketio_rows.JOIN_FAILED: (['40/other,{"break":true}'], '44/other,{"message":"Internal server error"}'),
}
SHOWN.update(JOINS)


@pytest.mark.parametrize("row", JOINS, ids=lambda row: row.name)
async def test_namespace_that_is_refused(listener: str, row: Refusal) -> None:
    sent, answer = JOINS[row]
    limit = 1 if row is socketio_rows.TOO_MANY_NAMESPACES else 100
    async with scene(listener, has_own_faults=row is socketio_rows.JOIN_FAILED, max_namespaces=limit) as made:
        ws = await made.websocket()
        async with closing(ws):
            for text in sent:
                await ws.send(text)
            assert await ws.text() == answer
            await ws.send('421["echo","elsewhere nothing changes"]')
            assert await ws.text() == '431["elsewhere nothing changes"]'
        assert made.refused == {row.name: 1}


# -- compressed frames, packets of the application's own -----------------------------------------------------------


def compressed(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


DEFLATED: dict[Refusal, list[bytes]] = {
    catalogue.STRAY_COMPRESSION: [packets.frame(0xC9), packets.frame(0xC0, b"x")],
    catalogue.BAD_COMPRESSION: [packets.frame(0xC1, b"\xff\xff\xff"), packets.frame(0xC1, compressed(b"4" * 50)[:3])],
    catalogue.INFLATED_TOO_BIG: [
        packets.frame(0xC1, compressed(b"4" * 6000)),
        packets.frame(0xC2, compressed(b"x" * 9999)),
    ],
}
SHOWN.update(DEFLATED)


@pytest.mark.parametrize(("row", "raw"), packets.cases(DEFLATED))
async def test_compressed_frame_that_is_refused(listener: str, row: Refusal, raw: bytes) -> None:
    async with scene(listener, max_http_buffer_size=5000, websocket_compression=True) as made:
        ws = await made.websocket(headers={"Sec-WebSocket-Extensions": "permessage-deflate"})
        async with closing(ws):
            await ws.connection.send(raw)
            await made.check_close_frame(row, ws)
        assert made.refused == {row.name: 1}


class StubbornPacket(JsonPacket):
    """An application's own packet, which raises for what it does not like."""

    def decode(self, encoded_packet: str | bytes) -> int:
        if encoded_packet == "2stubborn":
            raise KeyError("no such thing")
        return super().decode(encoded_packet)


@shows(socketio_rows.CUSTOM_PACKET)
async def test_packet_class_of_the_application_that_raises(listener: str) -> None:
    async with scene(listener, serializer=StubbornPacket) as made:
        ws = await made.websocket()
        async with closing(ws):
            await ws.send("42stubborn")
            await made.check_close_frame(socketio_rows.CUSTOM_PACKET, ws)
        assert made.refused == {"custom_packet": 1}


# -- endings -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def alone(listener: str, **options: Any) -> AsyncIterator[tuple[Scene, WebSocket]]:
    """A client that need not share the server, which is about to end everything."""
    async with scene(listener, bystander=False, **options) as made:
        ws = await made.websocket()
        async with closing(ws):
            yield made, ws


async def _time_out(made: Scene, ws: WebSocket) -> None:
    assert await ws.text() == "2"


async def _drain(made: Scene, ws: WebSocket) -> None:
    made.task = asyncio.create_task(made.server.drain(2.0))


async def _fill(made: Scene, ws: WebSocket) -> None:
    session = next(iter(made.server.eio.sockets.values()))
    for _ in range(2000):
        if not session.connected:
            return
        await made.server.emit("blob", "x" * 20_000)
        await asyncio.sleep(0)
    raise AssertionError("it is still connected")


ENDINGS: dict[Refusal, tuple[Callable[[Scene, WebSocket], Awaitable[None]], dict[str, Any]]] = {
    catalogue.PING_TIMEOUT: (_time_out, {"ping_interval": 0.2, "ping_timeout": 0.2}),
    catalogue.SHUTDOWN: (_drain, {}),
    catalogue.SLOW_CLIENT: (_fill, {"max_buffered_bytes": 100_000}),
    catalogue.MEMORY_SHED: (_fill, {"max_buffered_bytes": 10**9, "max_total_buffered_bytes": 2_000_000}),
}
SHOWN.update(ENDINGS)


@pytest.mark.parametrize("row", ENDINGS, ids=lambda row: row.name)
async def test_session_that_is_ended(listener: str, row: Refusal) -> None:
    happen, options = ENDINGS[row]
    async with alone(listener, **options) as (made, ws):
        await happen(made, ws)
        if row.close_code is None:
            await eventually(lambda: not made.server.eio.sockets)
        else:
            await made.check_close_frame(row, ws)
        assert made.refused == {row.name: 1}
        assert made.server.eio.counters.closed == {row.reason: 1}
        if made.task is not None:
            await made.task


@shows(catalogue.CONNECT_TIMEOUT)
async def test_session_that_joins_nothing(listener: str) -> None:
    async with scene(listener, connect_timeout=0.3) as made:
        ws = await made.websocket(joined=False)
        async with closing(ws):
            await made.check_close_frame(catalogue.CONNECT_TIMEOUT, ws)
        assert made.refused == {"connect_timeout": 1}


# -- the whole catalogue -----------------------------------------------------------------------------------------


def test_every_row_is_shown() -> None:
    missing = [row.name for row in socketio_rows.ROWS if row not in SHOWN and row not in ELSEWHERE]
    assert missing == []


@pytest.mark.parametrize(("file", "words"), ELSEWHERE.values(), ids=[row.name for row in ELSEWHERE])
def test_other_rows_have_their_suite(file: str, words: str | None) -> None:
    assert words is not None
    assert words in Path(ROOT, file).read_text()


def test_client_of_the_suite_speaks_to_the_right_path() -> None:
    assert EngineClient(1, "/socket.io/").target(transport="polling") == PATH + "polling"
    assert gateway.Server().eio.transports == ["polling", "xhr-streaming", "websocket"]
