"""Engine.IO over WebSocket and the upgrade to it, byte by byte. Spec: Engine.IO v4; RFC 6455."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.raw import BINARY, CLOSE, PING, PONG, TEXT, Connection, WebSocket, closing, websocket_headers
from tests.support.waiting import eventually


async def open_websocket(client: Any) -> WebSocket:
    ws: WebSocket = await client.websocket()
    await ws.opening()
    return ws


async def test_each_packet_is_one_frame(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    ws = await open_websocket(client)
    async with closing(ws):
        await ws.send("4hello")
        assert (await ws.frame()).raw == b"\x81\x064hello"
        await ws.send(b"\x01\x02\x03\x04")
        assert (await ws.frame()).raw == b"\x82\x04\x01\x02\x03\x04"
        await ws.send("4")
        assert (await ws.frame()).raw == b"\x81\x014"
        await ws.send(b"")
        assert (await ws.frame()).raw == b"\x82\x00"


@pytest.mark.parametrize("size", [124, 125, 126, 65534, 65535, 65536, 200_000])
async def test_lengths_take_their_shortest_form(echo_engine: Any, size: int) -> None:
    client = (await echo_engine()).client
    ws = await open_websocket(client)
    async with closing(ws):
        await ws.send("4" + "x" * (size - 1))
        assert await ws.text() == "4" + "x" * (size - 1)
        await ws.send(b"x" * size)
        assert await ws.binary() == b"x" * size


async def test_order_is_kept_between_text_and_binary(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    ws = await open_websocket(client)
    async with closing(ws):
        sent: list[str | bytes] = [f"4{n}" if n % 3 else bytes([n]) for n in range(100)]
        data = b"".join(
            WebSocket.encode(TEXT, item.encode()) if isinstance(item, str) else WebSocket.encode(BINARY, item)
            for item in sent
        )
        await ws.connection.send(data)
        frames = [await ws.frame() for _ in sent]
        assert [frame.text if frame.opcode == TEXT else frame.payload for frame in frames] == sent


async def test_what_follows_the_handshake_at_once_is_read(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    lines = [f"GET {client.target(transport='websocket')} HTTP/1.1", "Host: test.example"]
    lines += [f"{name}: {value}" for name, value in websocket_headers().items()]
    head = "\r\n".join([*lines, "", ""]).encode()
    async with await Connection.open(client.port) as connection:
        await connection.send(head + WebSocket.encode(TEXT, b"4early"))
        ws = WebSocket(connection, await connection.read_head())
        await ws.opening()
        assert await ws.text() == "4early"


async def test_bytes_may_come_one_by_one(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    ws = await open_websocket(client)
    async with closing(ws):
        for byte in WebSocket.encode(TEXT, b"4slow") + WebSocket.encode(BINARY, b"slow"):
            await ws.connection.send(bytes([byte]))
        assert await ws.text() == "4slow"
        assert await ws.binary() == b"slow"


async def test_fragments_are_joined_with_a_ping_between_them(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    ws = await open_websocket(client)
    async with closing(ws):
        await ws.send_frame(TEXT, b"4\xe2\x82", is_final=False)
        await ws.send_frame(PING, b"are you there")
        assert (await ws.frame()).raw == b"\x8a\x0dare you there"
        await ws.send_frame(0, b"\xac", is_final=True)
        assert await ws.text() == "4€"
        await ws.send_frame(PONG, b"unasked")
        await ws.send("4on")
        assert await ws.text() == "4on"


BROKEN = {
    "unmasked": (WebSocket.encode(TEXT, b"4hello", is_masked=False), 1002),
    "text not UTF-8": (WebSocket.encode(TEXT, b"4\xff"), 1007),
    "unknown opcode": (WebSocket.encode(3, b""), 1002),
    "unknown control opcode": (WebSocket.encode(11, b""), 1002),
    "continuation of nothing": (WebSocket.encode(0, b"4"), 1002),
    "fragmented ping": (WebSocket.encode(PING, b"", is_final=False), 1002),
    "long ping": (WebSocket.encode(PING, b"x" * 126), 1002),
    "reserved bit": (b"\xc1\x80\x00\x00\x00\x00", 1002),
    "message inside a message": (WebSocket.encode(TEXT, b"4", is_final=False) + WebSocket.encode(TEXT, b"4"), 1002),
    "too big": (WebSocket.encode(BINARY, b"x" * 1001), 1009),
    "too big in fragments": (
        WebSocket.encode(BINARY, b"x" * 600, is_final=False) + WebSocket.encode(0, b"x" * 600),
        1009,
    ),
    "no packet type": (WebSocket.encode(TEXT, b"abc"), 1002),
    "empty packet": (WebSocket.encode(TEXT, b""), 1002),
    "open packet": (WebSocket.encode(TEXT, b"0"), 1002),
    "ping packet": (WebSocket.encode(TEXT, b"2"), 1002),
    "upgrade packet": (WebSocket.encode(TEXT, b"5"), 1002),
    "close of one byte": (WebSocket.encode(CLOSE, b"x"), 1002),
    "close reason not UTF-8": (WebSocket.encode(CLOSE, b"\x03\xe8\xff"), 1007),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_what_breaks_the_protocol_is_told_and_ends_the_session(echo_engine: Any, what: str) -> None:
    data, code = BROKEN[what]
    server = await echo_engine(max_http_buffer_size=1000)
    ws = await open_websocket(server.client)
    async with closing(ws):
        await ws.connection.send(data)
        # Who has failed a connection reads no answer any more (RFC 6455, section 7.1.7), so none is sent.
        assert (await ws.frame()).close_code == code
    assert server.disconnected == [(server.connected[0], "parse error")]
    assert server.engine.sockets == {}


async def test_a_client_close_packet_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine()
    ws = await open_websocket(server.client)
    async with closing(ws):
        await ws.send("1")
        assert await ws.close_code() == 1000
    assert server.disconnected == [(server.connected[0], "client disconnect")]


@pytest.mark.parametrize(("payload", "answer"), [(b"", 1000), (b"\x03\xe8", 1000), (b"\x03\xe9bye", 1001)])
async def test_a_client_close_frame_is_answered(echo_engine: Any, payload: bytes, answer: int) -> None:
    server = await echo_engine()
    ws = await open_websocket(server.client)
    async with closing(ws):
        await ws.send_frame(CLOSE, payload)
        frame = await ws.frame()
        assert frame.close_code == answer
        assert await ws.connection.has_ended()
    await eventually(lambda: server.disconnected, "disconnect")
    assert server.disconnected == [(server.connected[0], "transport close")]


async def test_a_lost_connection_ends_the_session(echo_engine: Any) -> None:
    server = await echo_engine()
    ws = await open_websocket(server.client)
    ws.abort()
    await eventually(lambda: server.disconnected, "disconnect")
    sid, reason = server.disconnected[0]
    assert sid == server.connected[0]
    assert reason in ("transport close", "transport error")


async def test_a_server_that_closes_says_so_after_what_it_has_sent(echo_engine: Any) -> None:
    server = await echo_engine()
    ws = await open_websocket(server.client)
    async with closing(ws):
        await server.engine.send(server.connected[0], "last words")
        await server.engine.disconnect(server.connected[0])
        assert await ws.text() == "4last words"
        assert await ws.close_code() == 1000
    assert server.disconnected == [(server.connected[0], "server disconnect")]


# -- upgrade -----------------------------------------------------------------------------------------------


async def test_polling_upgrades_to_websocket(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    target = client.target(transport="polling", sid=sid)
    poll = await client.begin("GET", target)
    ws = await client.websocket(sid)
    async with closing(poll, ws):
        await eventually(lambda: server.engine.sockets[sid].port.writable, "the poll")
        await ws.send("2probe")
        assert (await ws.frame()).raw == b"\x81\x063probe"
        assert (await poll.read_response()).body == b"6"
        # A poll opened during the probe must not wait: the client could never pause.
        assert (await client.get(sid)).body == b"6"
        assert (await client.post(sid, "4by post")).text == "ok"
        assert server.engine.transport(sid) == "polling"
        await ws.send("5")
        assert await ws.text() == "4by post"
        await ws.send("4hello")
        assert await ws.text() == "4hello"
        assert server.engine.transport(sid) == "websocket"
        response = await client.get(sid)
        assert (response.status, response.json()["code"]) == (400, 3)
        assert (await client.post(sid, "4late")).status == 400
        await ws.send("4still here")
        assert await ws.text() == "4still here"
    assert server.connected == [sid]


async def test_during_the_probe_messages_go_by_poll(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        await server.engine.send(sid, "one")
        assert (await client.get(sid)).body == b"4one"
        assert (await client.get(sid)).body == b"6"
        await server.engine.send(sid, "two")
        await ws.send("5")
        assert await ws.text() == "4two"


async def test_a_poll_without_a_probe_goes_on_waiting(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    poll = await client.begin("GET", client.target(transport="polling", sid=sid))
    ws = await client.websocket(sid)
    async with closing(poll, ws):
        await client.post(sid, "4hello")
        assert (await poll.read_response()).body == b"4hello"


@pytest.mark.parametrize("first", ["4hello", "2", "2prob", "5", "3probe", "abc", "", "1"])
async def test_a_wrong_probe_fails_the_upgrade_and_not_the_session(echo_engine: Any, first: str) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send(first)
        assert await ws.close_code() >= 1000
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"
    assert server.disconnected == []


async def test_a_message_between_probe_and_upgrade_fails_the_upgrade(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        await ws.send("4too early")
        assert await ws.close_code() == 1002
    assert server.engine.transport(sid) == "polling"
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"


async def test_a_probe_whose_connection_is_lost_leaves_the_session_free_for_another(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    lost = await client.websocket(sid)
    await lost.send("2probe")
    assert await lost.text() == "3probe"
    lost.abort()
    await eventually(lambda: server.engine.sockets[sid].may_upgrade_to("websocket"), "the end of the first upgrade")
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        await ws.send("5")
        await ws.send("4hello")
        assert await ws.text() == "4hello"


async def test_a_second_websocket_is_closed_and_the_first_goes_on(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    first = await client.websocket(sid)
    second = await client.websocket(sid)
    async with closing(first, second):
        assert await second.close_code() == 1008
        await first.send("2probe")
        assert await first.text() == "3probe"
        await first.send("5")
        await eventually(lambda: server.engine.transport(sid) == "websocket", "the upgrade")
        third = await client.websocket(sid)
        async with closing(third):
            assert await third.close_code() == 1008
        await first.send("4hello")
        assert await first.text() == "4hello"


async def test_an_upgrade_that_takes_too_long_is_dropped(echo_engine: Any) -> None:
    server = await echo_engine(upgrade_timeout=0.2, ping_interval=2)
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        assert await ws.close_code() == 1002
    assert (await client.post(sid, "4hello")).text == "ok"
    assert (await client.get(sid)).body == b"4hello"
    assert server.disconnected == []


async def test_pings_go_on_during_and_after_an_upgrade(echo_engine: Any) -> None:
    server = await echo_engine(ping_interval=0.3, ping_timeout=1)
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        await eventually(lambda: server.engine.sockets[sid].run is not None, "the ping that waits")
        await ws.send("5")
        assert await ws.text() == "2"
        await ws.send("3")
        assert await ws.text() == "2"


async def test_a_session_that_closes_takes_its_probe_with_it(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    ws = await client.websocket(sid)
    async with closing(ws):
        await ws.send("2probe")
        assert await ws.text() == "3probe"
        assert (await client.post(sid, "1")).text == "ok"
        assert await ws.close_code() >= 1000
    assert server.disconnected == [(sid, "client disconnect")]
    assert server.engine.sockets == {}
