"""Socket.IO, byte by byte. Spec: Socket.IO v5."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgpack
import pytest

import gateway
from tests.support.raw import CLOSE, SEPARATOR, TEXT, EngineClient, WebSocket, closing
from tests.support.waiting import eventually

Start = Callable[[gateway.Server], Awaitable[EngineClient]]

SID = r"[A-Za-z0-9_-]{16,}"


class Seen:
    """What the handlers of ``create_server`` have seen."""

    def __init__(self) -> None:
        self.auth: list[Any] = []
        self.messages: list[tuple[Any, ...]] = []
        self.disconnects: list[tuple[str, str]] = []
        self.sids: list[str] = []


def create_server(**options: Any) -> tuple[gateway.Server, Seen]:
    server = gateway.Server(**options)
    seen = Seen()

    def install(namespace: str) -> None:
        async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
            seen.auth.append(auth)
            seen.sids.append(sid)

        async def message(sid: str, *args: Any) -> Any:
            seen.messages.append(args)
            await server.emit("message-back", args, to=sid, namespace=namespace)

        async def with_ack(sid: str, *args: Any) -> tuple[Any, ...]:
            seen.messages.append(args)
            return args

        async def disconnect(sid: str, reason: str) -> None:
            seen.disconnects.append((namespace, reason))

        server.on("connect", connect, namespace=namespace)
        server.on("message", message, namespace=namespace)
        server.on("message-with-ack", with_ack, namespace=namespace)
        server.on("disconnect", disconnect, namespace=namespace)

    install("/")
    install("/custom")
    return server, seen


@asynccontextmanager
async def websocket(client: EngineClient, connect: str | None = "40") -> AsyncIterator[WebSocket]:
    """A WebSocket behind its Engine.IO handshake and, unless ``connect`` is None, that packet and its answer."""
    ws = await client.websocket()
    async with closing(ws):
        await ws.opening()
        if connect is not None:
            await ws.send(connect)
            answer = await ws.text()
            assert answer.startswith("40"), answer
        yield ws


# -- connect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "answer", "auth"),
    [
        ("40", rf'40\{{"sid":"{SID}"\}}', None),
        ("40{}", rf'40\{{"sid":"{SID}"\}}', None),
        ('40{"token":"123"}', rf'40\{{"sid":"{SID}"\}}', {"token": "123"}),
        ("40/,", rf'40\{{"sid":"{SID}"\}}', None),
        ("40/custom,", rf'40/custom,\{{"sid":"{SID}"\}}', None),
        ("40/custom", rf'40/custom,\{{"sid":"{SID}"\}}', None),
        ('40/custom,{"token":"abc"}', rf'40/custom,\{{"sid":"{SID}"\}}', {"token": "abc"}),
        ("40/custom?x=1,", rf'40/custom,\{{"sid":"{SID}"\}}', None),
    ],
)
async def test_a_namespace_is_joined_and_its_sid_told(
    socketio_server: Start, packet: str, answer: str, auth: Any
) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client, None) as ws:
        await ws.send(packet)
        text = await ws.text()
        assert re.fullmatch(answer, text), text
        assert seen.auth == [auth]
        assert seen.sids == [json.loads(text[text.index("{") :])["sid"]]


async def test_the_sid_of_a_namespace_is_not_that_of_the_session(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    ws = await client.websocket()
    async with closing(ws):
        session_id = (await ws.opening())["sid"]
        for packet in ("40", "40/custom,"):
            await ws.send(packet)
            await ws.text()
        assert len({session_id, *seen.sids}) == 3


async def test_connecting_works_by_polling_too(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "40\x1e40/custom,")).text == "ok"
    answers = (await client.get(sid)).text.split(SEPARATOR)
    if len(answers) == 1:
        answers += (await client.get(sid)).text.split(SEPARATOR)
    assert re.fullmatch(rf'40\{{"sid":"{SID}"\}}', answers[0])
    assert re.fullmatch(rf'40/custom,\{{"sid":"{SID}"\}}', answers[1])
    # Answer and message share a payload.
    await client.post(sid, '42["message",1]\x1e42/custom,["message",2]')
    packets = (await client.get(sid)).text.split(SEPARATOR)
    if len(packets) == 1:
        packets += (await client.get(sid)).text.split(SEPARATOR)
    assert packets == ['42["message-back",1]', '42/custom,["message-back",2]']


@pytest.mark.parametrize("namespace", ["/random", "/*", "/custom/", "/Custom"])
async def test_an_unknown_namespace_is_refused_and_the_connection_stays(socketio_server: Start, namespace: str) -> None:
    client = await socketio_server(create_server()[0])
    async with websocket(client) as ws:
        await ws.send(f"40{namespace},")
        assert await ws.text() == f'44{namespace},{{"message":"Invalid namespace"}}'
        await ws.send('42["message"]')
        assert await ws.text() == '42["message-back"]'


async def test_a_refusal_carries_what_the_handler_says(socketio_server: Start) -> None:
    server, _ = create_server()

    @server.on("connect", namespace="/guarded")  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> Any:
        if auth is None:
            return False
        raise gateway.ConnectionRefusedError(*auth["args"])

    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/guarded,")
        assert (await ws.text()).startswith('44/guarded,{"message":')
        await ws.send('40/guarded,{"args":["go away",{"code":7}]}')
        assert await ws.text() == '44/guarded,{"message":"go away","data":{"code":7}}'


async def test_what_is_emitted_while_connecting_follows_the_answer(socketio_server: Start) -> None:
    server, _ = create_server()

    @server.on("connect", namespace="/eager")  # type: ignore[untyped-decorator]
    async def connect(sid: str, environ: dict[str, Any], auth: Any) -> None:
        await server.emit("one", 1, to=sid, namespace="/eager")
        await server.emit("two", b"\x01", to=sid, namespace="/eager")
        await server.emit("three", namespace="/eager")

    client = await socketio_server(server)
    async with websocket(client, None) as ws:
        await ws.send("40/eager,")
        assert (await ws.text()).startswith('40/eager,{"sid":')
        assert await ws.text() == '42/eager,["one",1]'
        assert await ws.text() == '451-/eager,["two",{"_placeholder":true,"num":0}]'
        assert await ws.binary() == b"\x01"
        assert await ws.text() == '42/eager,["three"]'


async def test_who_joins_nothing_is_closed(socketio_server: Start) -> None:
    server, _ = create_server(connect_timeout=0.2, ping_interval=1)
    client = await socketio_server(server)
    async with websocket(client, None) as ws:
        assert await ws.close_code() == 1008
    assert server.eio.sockets == {}


async def test_who_joins_in_time_stays(socketio_server: Start) -> None:
    server, _ = create_server(connect_timeout=0.2, ping_interval=0.4)
    client = await socketio_server(server)
    async with websocket(client) as ws:
        assert await ws.text() == "2"


# -- disconnect --------------------------------------------------------------------------------------------


async def test_leaving_a_namespace_leaves_the_others(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/custom,")
        await ws.text()
        await ws.send("41/custom,")
        await eventually(lambda: seen.disconnects, "disconnect")
        assert seen.disconnects == [("/custom", "client disconnect")]
        await ws.send('42["message","still here"]')
        assert await ws.text() == '42["message-back","still here"]'
        # It may come back.
        await ws.send("40/custom,")
        assert (await ws.text()).startswith('40/custom,{"sid":')


async def test_an_event_for_a_namespace_just_left_is_dropped(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/custom,")
        await ws.text()
        await ws.send("41/custom,")
        await ws.send('42/custom,["message","late"]')
        await ws.send('42["message"]')
        assert await ws.text() == '42["message-back"]'
        assert seen.messages == [()]


async def test_leaving_and_joining_again_may_come_in_one_breath(socketio_server: Start) -> None:
    """As ``socket.disconnect().connect()`` of a client that has another namespace open."""
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/custom,")
        await ws.text()
        await ws.connection.send(WebSocket.encode(TEXT, b"41/custom,") + WebSocket.encode(TEXT, b"40/custom,"))
        text = await ws.text()
        assert re.fullmatch(rf'40/custom,\{{"sid":"{SID}"\}}', text), text
        assert len(set(seen.sids)) == 3
        assert seen.disconnects == [("/custom", "client disconnect")]


async def test_the_server_says_that_it_disconnects(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/custom,")
        await ws.text()
        await server.disconnect(seen.sids[1], namespace="/custom")
        assert await ws.text() == "41/custom,"
        await server.disconnect(seen.sids[0])
        assert await ws.text() == "41"
        assert seen.disconnects == [("/custom", "server disconnect"), ("/", "server disconnect")]


async def test_closing_the_engine_leaves_every_namespace(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send("40/custom,")
        await ws.text()
        await ws.send("1")
        assert await ws.close_code() == 1000
    await eventually(lambda: len(seen.disconnects) == 2, "both disconnects")
    assert sorted(seen.disconnects) == [("/", "client disconnect"), ("/custom", "client disconnect")]


# -- events and acks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("packet", "answer"),
    [
        ('42["message"]', '42["message-back"]'),
        ('42["message",1,"2",{"3":[true]}]', '42["message-back",1,"2",{"3":[true]}]'),
        ('42["message",null,-1.5,[],{}]', '42["message-back",null,-1.5,[],{}]'),
        ('42["message","€ 😀"]', '42["message-back","€ 😀"]'),
        ('42["message", 1 , 2]', '42["message-back",1,2]'),
        ('42["message","\\ud83d\\ude00"]', '42["message-back","😀"]'),
        ('42["message",9007199254740993]', '42["message-back",9007199254740993]'),
        ('42/custom,["message",1]', '42/custom,["message-back",1]'),
        ('42["message",{"_placeholder":false,"num":0}]', '42["message-back",{"_placeholder":false,"num":0}]'),
        ('42456["message-with-ack",1,"2",{"3":[false]}]', '43456[1,"2",{"3":[false]}]'),
        ('420["message-with-ack"]', "430[]"),
        ('42/custom,7["message-with-ack","x"]', '43/custom,7["x"]'),
        ('4212345678901234["message-with-ack"]', "4312345678901234[]"),
        ('42/,1["message-with-ack"]', "431[]"),
    ],
)
async def test_events_come_back_as_they_were(socketio_server: Start, packet: str, answer: str) -> None:
    client = await socketio_server(create_server()[0])
    async with websocket(client) as ws:
        if "/custom" in packet:
            await ws.send("40/custom,")
            await ws.text()
        await ws.send(packet)
        assert await ws.text() == answer


async def test_an_event_without_a_handler_is_dropped(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    async with websocket(client) as ws:
        await ws.send('42["unheard"]')
        await ws.send('421["message-with-ack"]')
        assert await ws.text() == "431[]"


async def test_binary_events_announce_their_attachments(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    async with websocket(client) as ws:
        await ws.send('452-["message",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]')
        await ws.send(b"\x01\x02\x03")
        await ws.send(b"")
        text = '452-["message-back",{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]'
        assert await ws.text() == text
        assert await ws.binary() == b"\x01\x02\x03"
        assert await ws.binary() == b""


async def test_attachments_may_be_named_in_any_order(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    async with websocket(client) as ws:
        await ws.send('452-["message",{"_placeholder":true,"num":1},{"num":0,"_placeholder":true}]')
        await ws.send(b"zero")
        await ws.send(b"one")
        await ws.text()
        assert [await ws.binary(), await ws.binary()] == [b"one", b"zero"]


async def test_binary_acks_go_both_ways(socketio_server: Start) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send('451-789["message-with-ack",{"_placeholder":true,"num":0}]')
        await ws.send(b"\x01\x02")
        assert await ws.text() == '461-789[{"_placeholder":true,"num":0}]'
        assert await ws.binary() == b"\x01\x02"
        answers: list[Any] = []
        await server.emit("question", (1, b"\x03"), to=seen.sids[0], callback=lambda *args: answers.append(args))
        text = await ws.text()
        match = re.fullmatch(r'451-(\d+)\["question",1,\{"_placeholder":true,"num":0\}\]', text)
        assert match is not None, text
        assert await ws.binary() == b"\x03"
        await ws.send(f'461-{match[1]}["answer",{{"_placeholder":true,"num":0}}]')
        await ws.send(b"\x04")
        await eventually(lambda: answers, "the ack")
        # A second ack of the same event, and one that nobody waits for, change nothing.
        await ws.send(f'43{match[1]}["again"]')
        await ws.send('43999["never asked"]')
        await ws.send('421["message-with-ack"]')
        assert await ws.text() == "431[]"
        assert answers == [("answer", b"\x04")]


async def test_binary_goes_by_polling_as_base64(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    sid = (await client.handshake())["sid"]
    await client.post(sid, "40")
    assert (await client.get(sid)).text.startswith("40")
    await client.post(sid, '451-["message",{"_placeholder":true,"num":0}]\x1ebAQID')
    assert (await client.get(sid)).text == '451-["message-back",{"_placeholder":true,"num":0}]\x1ebAQID'


async def test_an_attachment_may_come_in_a_later_post(socketio_server: Start) -> None:
    client = await socketio_server(create_server()[0])
    sid = (await client.handshake())["sid"]
    await client.post(sid, "40")
    await client.get(sid)
    await client.post(sid, '451-["message",{"_placeholder":true,"num":0}]')
    await client.post(sid, "bAQID")
    assert (await client.get(sid)).text == '451-["message-back",{"_placeholder":true,"num":0}]\x1ebAQID'


BROKEN: dict[str, list[str | bytes]] = {
    "unknown type": ["4abc"],
    "type without digit": ["4"],
    "type 7": ["47"],
    "connect error from a client": ['44{"message":"x"}'],
    "event without data": ["42"],
    "event that is no list": ['42{"message":1}'],
    "event without a name": ["42[]"],
    "event name that is an object": ["42[{}]"],
    "reserved name": ['42["disconnect"]'],
    "broken JSON": ['42["message"'],
    "JSON constants": ['42["message",NaN]'],
    "trailing text": ['42["message"] 1'],
    "ack id of 40 digits": ["42" + "1" * 40 + '["message"]'],
    "ack without id": ["43[]"],
    "ack without data": ["431"],
    "auth that is no object": ['40/custom,"token"'],
    "disconnect with data": ["41{}"],
    "namespace never joined": ['42/custom,["message"]'],
    "unknown namespace": ['42/random,["message"]'],
    "binary out of nowhere": [b"\x01"],
    "text where an attachment is due": ['451-["message",{"_placeholder":true,"num":0}]', '42["message"]'],
    "number of an attachment too high": ['451-["message",{"_placeholder":true,"num":1}]', b"\x01"],
    "number of an attachment negative": ['451-["message",{"_placeholder":true,"num":-1}]', b"\x01"],
    "number of an attachment no number": ['451-["message",{"_placeholder":true,"num":"splice"}]', b"\x01"],
    "attachment without placeholder": ['451-["message"]', b"\x01"],
    "attachment named twice": [
        '451-["message",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]',
        b"\x01",
    ],
    "no number of attachments": ['45-["message"]'],
    "number of attachments no number": ['45x-["message"]'],
    "too many attachments": ['4599999999-["message"]'],
}


@pytest.mark.parametrize("what", BROKEN)
async def test_malformed_packets_close_the_connection(socketio_server: Start, what: str) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        for message in BROKEN[what]:
            await ws.send(message)
        assert await ws.close_code() == 1002
    await eventually(lambda: seen.disconnects, "disconnect")
    assert seen.disconnects == [("/", "parse error")]
    assert seen.messages == []
    assert server.eio.sockets == {}


async def test_the_close_frame_says_what_was_wrong_with_a_packet(socketio_server: Start) -> None:
    server, _ = create_server()
    client = await socketio_server(server)
    async with websocket(client) as ws:
        await ws.send('42["message"')
        while (frame := await ws.frame()).opcode != CLOSE:
            pass
        assert frame.payload == (1002).to_bytes(2, "big") + b"payload is not JSON"


@pytest.mark.parametrize("packet", ['42["message"]', "431[]", '451-["message",{"_placeholder":true,"num":0}]'])
async def test_nothing_but_connect_comes_first(socketio_server: Start, packet: str) -> None:
    server, seen = create_server()
    client = await socketio_server(server)
    async with websocket(client, None) as ws:
        await ws.send(packet)
        assert await ws.close_code() == 1002
    assert seen.messages == []


# -- msgpack -----------------------------------------------------------------------------------------------


async def test_msgpack_packets_are_single_binary_messages(socketio_server: Start) -> None:
    server, seen = create_server(serializer="msgpack")
    client = await socketio_server(server)
    ws = await client.websocket()
    async with closing(ws):
        await ws.opening()
        await ws.send(msgpack.packb({"type": 0, "nsp": "/", "data": {"token": 1}}))
        answer = msgpack.unpackb(await ws.binary())
        assert answer == {"type": 0, "nsp": "/", "data": {"sid": seen.sids[0]}}
        assert seen.auth == [{"token": 1}]
        await ws.send(msgpack.packb({"type": 2, "nsp": "/", "id": 5, "data": ["message-with-ack", b"\x01", "€"]}))
        answer = msgpack.unpackb(await ws.binary())
        assert answer == {"type": 3, "nsp": "/", "id": 5, "data": [b"\x01", "€"]}
        await ws.send(msgpack.packb({"type": 1, "nsp": "/"}))
        await eventually(lambda: seen.disconnects, "disconnect")
        assert seen.disconnects == [("/", "client disconnect")]


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"\xc1",
        msgpack.packb([1]),
        msgpack.packb({"type": "2", "nsp": "/", "data": ["message"]}),
        msgpack.packb({"type": 9, "nsp": "/", "data": ["message"]}),
        msgpack.packb({"type": 2, "nsp": 1, "data": ["message"]}),
        msgpack.packb({"type": 2, "nsp": "/", "data": []}),
        msgpack.packb({"type": 2, "nsp": "/", "id": -1, "data": ["message"]}),
        msgpack.packb({"type": 4, "nsp": "/"}),
    ],
    ids=lambda packet: packet.hex()[:40] or "empty",
)
async def test_malformed_msgpack_closes_the_connection(socketio_server: Start, packet: bytes) -> None:
    server, seen = create_server(serializer="msgpack")
    client = await socketio_server(server)
    ws = await client.websocket()
    async with closing(ws):
        await ws.opening()
        await ws.send(msgpack.packb({"type": 0, "nsp": "/"}))
        await ws.binary()
        await ws.send(packet)
        assert await ws.close_code() == 1002
    assert seen.messages == []
