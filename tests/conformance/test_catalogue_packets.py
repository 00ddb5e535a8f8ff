"""The catalogue's rows for packets and frames: real bytes, on every transport that carries them, on both hosts."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import Any

import msgpack
import pytest

from gateway import catalogue as socketio_rows
from gateway.codec import MAX_ATTACHMENTS, MAX_DEPTH
from tests.conformance.catalogue_scene import Scene, pattern, scene
from tests.support.raw import BINARY, TEXT, WebSocket, closing
from tests.support.waiting import eventually
from transports import catalogue
from transports.refusals import Ends, Refusal

#: What is sent on a session that has joined "/": text packets with Engine.IO's type, bytes as binary messages.
PACKETS: dict[Refusal, list[list[str | bytes]]] = {
    catalogue.EMPTY_PACKET: [[""]],
    catalogue.UNKNOWN_PACKET_TYPE: [["7"], ["x"], [" 4"], ["٤2"], ["\u00a04"]],
    catalogue.BAD_BASE64: [["bAB=C"], ["b\u00e4"], ["b===="], ["bA"]],
    catalogue.UNEXPECTED_PACKET: [["0"], ["5"], ["2"], ["2probe"], ['0{"sid":"x"}']],
    socketio_rows.UNKNOWN_TYPE: [["4"], ["47"], ["4٢"], ["4-1"], ['4["a"]']],
    socketio_rows.STRAY_BINARY: [[b"\x00\x01"], [b""]],
    socketio_rows.NO_ATTACHMENT_COUNT: [["45"], ['45["a"]'], ['45-["a"]'], ['45x-["a"]'], ['45٣-["a"]'], ["46["]],
    socketio_rows.TOO_MANY_ATTACHMENTS: [[f'45{MAX_ATTACHMENTS + 1}-["a"]'], ['451000000000-["a"]']],
    socketio_rows.ATTACHMENTS_TOO_BIG: [
        ['453-["echo",{"_placeholder":true,"num":0}]', b"x" * 3000, b"x" * 3000],
    ],
    socketio_rows.NAMESPACE_TOO_LONG: [["40/" + "n" * 300 + ","], ["42/" + "n" * 300 + ',["a"]']],
    socketio_rows.BAD_JSON: [
        ["42[NaN]"],
        ['42["a",Infinity]'],
        ['42["a"'],
        ['42["a"]x'],
        ['42["\\ud800"]'],
        ["42{'a':1}"],
        ["40{"],
        ['42["a",1e400]'],
        ['42["a\nb"]'],
    ],
    socketio_rows.ACK_ID_TOO_LONG: [["42" + "1" * 17 + '["echo"]'], ["43" + "9" * 400 + "[]"]],
    socketio_rows.TEXT_FOR_ATTACHMENT: [['451-["echo",{"_placeholder":true,"num":0}]', '42["echo"]']],
    socketio_rows.BAD_PLACEHOLDER: [
        ['451-["echo",{"_placeholder":true,"num":1}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":-1}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":"0"}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":0.0}]', b"x"],
        ['451-["echo",{"_placeholder":true}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":true}]', b"x"],
        ['451-["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":0}]', b"x"],
    ],
    socketio_rows.SPARE_ATTACHMENT: [
        ['452-["echo",{"_placeholder":true,"num":0}]', b"x", b"y"],
        ['451-["echo"]', b"x"],
    ],
    socketio_rows.TOO_DEEP: [['42["echo",' + "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1) + "]"]],
    socketio_rows.NO_EVENT_NAME: [["42"], ["42[]"], ["42{}"], ['42"echo"'], ["42null"], ["42/other"]],
    socketio_rows.BAD_EVENT_NAME: [["42[null]"], ["42[[]]"], ["42[{}]"], ["42[1.5]"], ["42[true]"]],
    socketio_rows.RESERVED_EVENT: [
        ['42["connect"]'],
        ['42["connect",{"REMOTE_ADDR":"10.0.0.1"}]'],
        ['42["disconnect"]'],
        ['42["connect_error"]'],
        ['42["disconnecting"]'],
        ['42["newListener"]'],
        ['42["removeListener"]'],
        ['42["\\u0063onnect"]'],
        ['450-["connect"]'],
    ],
    socketio_rows.BAD_ACK: [["43"], ["43[]"], ["431"], ["431{}"], ['431"a"']],
    socketio_rows.BAD_AUTH: [["40[]"], ['40"token"'], ["40/other,[]"]],
    socketio_rows.STRAY_ACK_ID: [["401"], ["40/other,1{}"], ["417"]],
    socketio_rows.DISCONNECT_PAYLOAD: [["41{}"], ["41[]"], ['41"bye"']],
    socketio_rows.CLIENT_CONNECT_ERROR: [["44"], ['44{"message":"x"}']],
    socketio_rows.NOT_JOINED: [
        ['42/other,["echo"]'],
        ["43/other,1[]"],
        ['42/nowhere,["echo"]'],
        ['451-/other,["echo",{"_placeholder":true,"num":0}]'],
    ],
}
_SIDES = ("polling", "xhr-streaming", "websocket")


def cases(table: dict[Refusal, list[Any]]) -> list[Any]:
    return [
        pytest.param(row, sent, id=f"{row.name}-{number}")
        for row, variants in table.items()
        for number, sent in enumerate(variants)
    ]


@pytest.fixture
async def shared(listener: str) -> Any:
    """One server for a test; its log is looked at afterwards."""
    async with scene(listener, max_attachments_bytes=5000, max_http_buffer_size=5000) as made:
        yield made


@pytest.mark.parametrize(("row", "sent"), cases(PACKETS))
async def test_packet_that_is_refused(
    shared: Scene, row: Refusal, sent: list[str | bytes], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "tidegate.refusals"):
        for transport in _SIDES:
            await _send_on(shared, transport, row, sent)
    assert shared.refused == {row.name: len(_SIDES)}
    lines = [record.getMessage().partition(":")[0] for record in caplog.records if record.name == "tidegate.refusals"]
    assert lines.count(f"refused {row.name} from 127.0.0.1") == 1, "once for each kind and peer"
    assert not any(record.exc_info for record in caplog.records)


async def _send_on(shared: Scene, transport: str, row: Refusal, sent: list[str | bytes]) -> None:
    if transport == "websocket":
        ws = await shared.websocket()
        async with closing(ws):
            for part in sent:
                await ws.send(part)
            await shared.check_close_frame(row, ws)
        return
    *before, last = [part if isinstance(part, str) else encoded(part) for part in sent]
    if transport == "polling":
        sid = await shared.polling()
        poll = await shared.client.begin("GET", shared.client.target(transport="polling", sid=sid))
        for body in before:
            assert (await shared.client.post(sid, body)).status == 200
        shared.check_response(row, await shared.client.post(sid, last))
        async with closing(poll):
            assert (await poll.read_response()).text == "1", "the poll that waits is told that it is over"
    else:
        stream = await shared.client.stream()
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            assert (await shared.client.post(sid, "40", transport)).status == 200
            assert (await stream.record()).startswith("40{")
            for body in before:
                assert (await shared.client.post(sid, body, transport)).status == 200
            shared.check_response(row, await shared.client.post(sid, last, transport))
            assert await stream.rest() == ["1"]
    await shared.check_ended(row, sid)


def encoded(data: bytes) -> str:
    import base64

    return "b" + base64.b64encode(data).decode()


@pytest.mark.parametrize("body", [b"\xff", b'42["\xed\xa0\x80"]', b"4\xc0\x80"])
async def test_payload_that_is_no_utf8(shared: Scene, body: bytes) -> None:
    sid = await shared.polling()
    shared.check_response(catalogue.PAYLOAD_NOT_UTF8, await shared.client.post(sid, body))
    await shared.check_ended(catalogue.PAYLOAD_NOT_UTF8, sid)
    assert shared.refused == {"payload_not_utf8": 1}


# -- frames --------------------------------------------------------------------------------------------------


MASK = b"\0\0\0\0"


def frame(first: int, payload: bytes = b"", *, masked: bool = True) -> bytes:
    size = len(payload)
    head = (
        bytes((first, (0x80 if masked else 0) | size)) if size < 126 else bytes((first, 0x80 | 126)) + size.to_bytes(2)
    )
    return head + (MASK if masked else b"") + payload


FRAMES: dict[Refusal, list[bytes]] = {
    catalogue.RESERVED_BIT: [frame(0xC1, b"4"), frame(0xA1, b"4"), frame(0x91, b"4"), frame(0xC9), frame(0xC8)],
    catalogue.NOT_MASKED: [frame(0x81, b"3", masked=False), frame(0x89, masked=False), frame(0x88, masked=False)],
    catalogue.UNKNOWN_OPCODE: [frame(0x83), frame(0x87), frame(0x8B), frame(0x8F), frame(0x03)],
    catalogue.BAD_CONTROL_FRAME: [frame(0x09), frame(0x08), frame(0x0A), frame(0x89, b"x" * 126)],
    catalogue.STRAY_CONTINUATION: [frame(0x80, b"4"), frame(0x00, b"4")],
    catalogue.INTERLEAVED_MESSAGE: [frame(0x01, b"4") + frame(0x81, b"4"), frame(0x02, b"4") + frame(0x01, b"4")],
    catalogue.LENGTH_TOP_BIT: [b"\x81\xff\x80" + bytes(7) + MASK, b"\x82\xff" + b"\xff" * 8 + MASK],
    catalogue.LENGTH_NOT_SHORTEST: [b"\x81\xfe\x00\x05" + MASK, b"\x81\xff" + (126).to_bytes(8) + MASK],
    catalogue.MESSAGE_TOO_BIG: [
        b"\x81\xff" + (2**62).to_bytes(8) + MASK,
        b"\x82\xfe" + (5001).to_bytes(2) + MASK,
        frame(0x02, b"x" * 4000) + b"\x80\xfe" + (1500).to_bytes(2) + MASK,
    ],
    catalogue.TEXT_NOT_UTF8: [frame(0x81, b"4\xff"), frame(0x01, b"4\xe2\x82") + frame(0x80, b"x")],
    catalogue.BAD_CLOSE: [frame(0x88, b"\x03"), frame(0x88, (1005).to_bytes(2)), frame(0x88, (999).to_bytes(2))],
    catalogue.CLOSE_NOT_UTF8: [frame(0x88, (1000).to_bytes(2) + b"\xff")],
}


@pytest.mark.parametrize(("row", "raw"), cases(FRAMES))
@pytest.mark.parametrize("bytewise", [False, True], ids=["whole", "bytewise"])
async def test_frame_that_is_refused(shared: Scene, row: Refusal, raw: bytes, bytewise: bool) -> None:
    ws = await shared.websocket()
    async with closing(ws):
        try:
            for part in [raw[i : i + 1] for i in range(len(raw))] if bytewise and len(raw) < 300 else [raw]:
                await ws.connection.send(part)
        except ConnectionError:
            pass  # it had seen enough
        await shared.check_close_frame(row, ws)
    assert shared.refused == {row.name: 1}
    assert row.ends is Ends.SESSION
    assert shared.server.eio.counters.closed == {row.reason: 1}


# -- msgpack -------------------------------------------------------------------------------------------------

MSGPACK: dict[Refusal, list[Any]] = {
    socketio_rows.TEXT_FOR_MSGPACK: ['42["echo"]'],
    socketio_rows.NOT_MSGPACK: [b"\xc1", b"\x81", msgpack.packb([1]), msgpack.packb({1: 2}), b"\xdf\xff\xff\xff\xff"],
    socketio_rows.BAD_NAMESPACE: [
        msgpack.packb({"type": 2, "data": ["echo"]}),
        msgpack.packb({"type": 2, "nsp": "other", "data": ["echo"]}),
        msgpack.packb({"type": 2, "nsp": 7, "data": ["echo"]}),
    ],
    socketio_rows.BAD_ACK_ID: [
        msgpack.packb({"type": 2, "nsp": "/", "data": ["echo"], "id": "1"}),
        msgpack.packb({"type": 2, "nsp": "/", "data": ["echo"], "id": -1}),
        msgpack.packb({"type": 2, "nsp": "/", "data": ["echo"], "id": True}),
    ],
    socketio_rows.UNKNOWN_TYPE: [msgpack.packb({"type": 9, "nsp": "/"}), msgpack.packb({"type": "2", "nsp": "/"})],
    socketio_rows.RESERVED_EVENT: [msgpack.packb({"type": 2, "nsp": "/", "data": ["connect"]})],
}


async def _open_msgpack(shared: Scene) -> WebSocket:
    ws = await shared.client.websocket()
    await ws.opening()
    await ws.send(msgpack.packb({"type": 0, "nsp": "/"}))
    assert (await ws.frame()).opcode == BINARY
    return ws


@pytest.mark.parametrize(("row", "sent"), cases(MSGPACK))
async def test_msgpack_that_is_refused(listener: str, row: Refusal, sent: str | bytes) -> None:
    from tests.conformance.catalogue_scene import msgpack_scene

    async with msgpack_scene(listener) as made:
        ws = await _open_msgpack(made)
        async with closing(ws):
            await ws.send_frame(TEXT, b"4" + sent.encode()[1:]) if isinstance(sent, str) else await ws.send(sent)
            await made.check_close_frame(row, ws)
        assert made.refused == {row.name: 1}


# -- messages that go nowhere -----------------------------------------------------------------------------------


DROPPED = {
    socketio_rows.LATE_EVENT: 1,
    socketio_rows.UNHANDLED_EVENT: 2,
    socketio_rows.UNKNOWN_ACK: 1,
    socketio_rows.ACK_GIVEN_UP: 1,
    socketio_rows.TOO_MANY_ROOMS: 1,
}


async def test_messages_that_are_dropped_leave_the_session_alone(listener: str) -> None:
    async with scene(listener, max_pending_acks=2, max_rooms=2) as made:
        ws = await made.websocket()
        async with closing(ws):
            await ws.send("40/other,")
            await ws.text()
            await ws.send("41/other,")
            await ws.send('42/other,["leave"]')  # just left
            await ws.send('42["nobody"]')
            await ws.send('4212345["nobody"]')
            await ws.send("4399[]")
            await ws.send('42["ask",3]')
            for _ in range(3):
                assert json.loads((await ws.text()).lstrip("42310"))[0] == "question"
            await ws.send('427["enter",3]')
            assert await ws.text() == '437[{"message":"the client is in 2 rooms already"}]'
            await ws.send('421["echo",1]')
            assert await ws.text() == "431[1]"
        assert made.refused == {row.name: count for row, count in DROPPED.items()}


# -- messages sent with tidegate:once ---------------------------------------------------------------------------


def _once(ack_id: int | str, number: object, *event: object, floor: int = 1, stream: str = "s" * 16) -> str:
    return f"42{ack_id}" + json.dumps(["tidegate:once", stream, number, floor, *event])


#: Packets, the number with which the last is answered, and options of the server.
ONCE: dict[Refusal, tuple[list[str], int, dict[str, int]]] = {
    socketio_rows.EVENT_FAILED: ([_once(9, 1, "fail")], 1, {}),
    socketio_rows.ONCE_SETTLED: ([_once(1, 2, "echo", floor=2), _once(9, 1, "echo")], 3, {}),
    socketio_rows.BAD_ONCE: ([_once(9, 1, "connect")], 4, {}),
    socketio_rows.ONCE_OUTSTANDING: ([_once(9, 1001, "echo")], 4, {}),
    socketio_rows.TOO_MANY_STREAMS: (
        [*(_once(1, 1, "echo", stream=f"{number:016}") for number in range(16)), _once(9, 1, "echo")],
        4,
        {},
    ),
    socketio_rows.ONCE_FULL: ([_once(1, 1, "never"), _once(9, 1, "echo", stream="t" * 16)], 4, {"max_once_streams": 1}),
}


@pytest.mark.parametrize(("row", "sent", "kind", "options"), [(row, *case) for row, case in ONCE.items()])
@pytest.mark.parametrize("transport", _SIDES)
async def test_refusal_that_is_an_ack(
    listener: str, transport: str, row: Refusal, sent: list[str], kind: int, options: dict[str, int]
) -> None:
    assert row.ends is Ends.ANSWERED
    async with scene(listener, has_own_faults=row is socketio_rows.EVENT_FAILED, **options) as made:
        server = made.server
        ended = asyncio.Event()

        @server.event
        def fail(sid: str) -> None:
            raise RuntimeError("the application's own fault")

        @server.event
        async def never(sid: str) -> None:
            await ended.wait()

        answers = await _exchange(made, transport, sent)
        ended.set()
        [answer] = [answer for answer in answers if answer.startswith("439[")]
        told, said = json.loads(answer[3:])
        assert told == kind
        assert re.fullmatch(pattern(row), said["message"]), answer
        assert made.refused == {row.name: 1}


async def _exchange(made: Scene, transport: str, sent: list[str]) -> list[str]:
    """All packets up to the answer to number 9, after which the session still works."""
    answers: list[str] = []
    sent = [*sent, '428["echo"]']
    if transport == "websocket":
        ws = await made.websocket()
        async with closing(ws):
            for text in sent:
                await ws.send(text)
            while "438[]" not in answers:
                answers.append(await ws.text())
    elif transport == "polling":
        sid = await made.polling()
        assert (await made.client.post(sid, "\x1e".join(sent))).status == 200
        while "438[]" not in answers:
            answers += (await made.client.get(sid)).text.split("\x1e")
    else:
        stream = await made.client.stream()
        async with closing(stream):
            sid = (await stream.opening())["sid"]
            for text in ("40", *sent):
                assert (await made.client.post(sid, text, "xhr-streaming")).status == 200
            while "438[]" not in answers:
                answers.append(await stream.record())
    return answers


async def test_copies_that_are_given_up_are_dropped(listener: str) -> None:
    async with scene(listener) as made:
        ended = asyncio.Event()

        @made.server.event
        async def wait(sid: str) -> None:
            await ended.wait()

        ws = await made.websocket()
        async with closing(ws):
            for ack_id in range(9):
                await ws.send(_once(ack_id, 1, "wait"))
            await eventually(lambda: made.refused == {socketio_rows.COPY_GIVEN_UP.name: 1})
            ended.set()
            assert [await ws.text() for _ in range(8)] == [f"43{ack_id}[0]" for ack_id in range(1, 9)]
