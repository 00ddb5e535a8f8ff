"""permessage-deflate on a WebSocket port: the handshake, both directions, what is refused."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import (
    WEBSOCKET_HEADERS,
    FakeExchange,
    FakeLoop,
    FakeTransport,
    client_frame,
    request,
    server_frames,
    text,
)
from transports.engine import Engine
from transports.protocol.frames import BINARY, CLOSE, COMPRESSED, CONTINUATION, TEXT
from transports.protocol.permessage_deflate import deflate, inflate
from transports.session import Session
from transports.websocket_connection import INFLATE_TURN_BYTES

OFFER = "permessage-deflate; client_max_window_bits"
Connect = Callable[..., tuple[Session, FakeTransport, list[Any]]]


@pytest.fixture
def connect(loop: FakeLoop, make_engine: Callable[..., Engine]) -> Connect:
    made: dict[str, Engine] = {}

    def connect(offer: str | None = OFFER, **options: Any) -> tuple[Session, FakeTransport, list[Any]]:
        if "engine" not in made:
            made["engine"] = make_engine(**{"websocket_compression": True, **options})
        engine = made["engine"]
        got: list[Any] = []
        before = set(engine.sockets)
        headers = dict(WEBSOCKET_HEADERS)
        if offer is not None:
            headers["sec-websocket-extensions"] = offer
        exchange = FakeExchange(request("EIO=4&transport=websocket", headers=headers))
        engine.handle(exchange)
        loop.settle()
        assert exchange.transport is not None
        [sid] = set(engine.sockets) - before
        engine.on("message", lambda _, data: got.append(data))
        return engine.sockets[sid], exchange.transport, got

    return connect


def answer(transport: FakeTransport) -> str | None:
    found = re.search(rb"\r\nSec-WebSocket-Extensions: (.*)\r\n", transport.take())
    return None if found is None else found[1].decode()


def compressed(opcode: int, data: bytes) -> bytes:
    return client_frame(opcode, deflate(data, 15), rsv=COMPRESSED)


def test_offer_is_answered_in_the_handshake(connect: Connect) -> None:
    _, transport, _ = connect()
    assert answer(transport) == "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    _, transport, _ = connect("permessage-deflate; server_max_window_bits=11")
    answered = answer(transport)
    assert answered is not None
    assert answered.endswith("; server_max_window_bits=11")


@pytest.mark.parametrize("offer", [None, "permessage-deflate; unknown"])
def test_without_an_offer_that_fits_nothing_is_compressed(connect: Connect, loop: FakeLoop, offer: str | None) -> None:
    session, transport, _ = connect(offer)
    assert answer(transport) is None
    session.send(text("4" + "x" * 5000))
    loop.settle()
    assert server_frames(transport.take()) == [(TEXT, "4" + "x" * 5000)]
    transport.protocol.data_received(compressed(TEXT, b"4x"))
    assert session.close_reason == "parse error"


def test_it_is_off_by_default(connect: Connect) -> None:
    _, transport, _ = connect(websocket_compression=False)
    assert answer(transport) is None


def test_upgrade_agrees_on_it_too(connect: Connect, loop: FakeLoop) -> None:
    session, _, _ = connect()
    engine = session.engine
    polling = FakeExchange(request("EIO=4&transport=polling"))
    engine.handle(polling)
    loop.settle()
    [sid] = set(engine.sockets) - {session.id}
    headers = {**WEBSOCKET_HEADERS, "sec-websocket-extensions": OFFER}
    exchange = FakeExchange(request(f"EIO=4&transport=websocket&sid={sid}", headers=headers))
    engine.handle(exchange)
    assert exchange.transport is not None
    assert answer(exchange.transport) is not None


def test_messages_are_compressed_from_the_threshold_on(connect: Connect, loop: FakeLoop) -> None:
    session, transport, _ = connect(compression_threshold=200)
    transport.take()
    session.send(text("4" + "x" * 198))
    session.send(text("4" + "y" * 199))
    loop.settle()
    short, (opcode, long) = server_frames(transport.take())
    assert short == (TEXT, "4" + "x" * 198)
    assert opcode == TEXT | COMPRESSED
    assert isinstance(long, bytes)
    assert inflate(long, 200) == b"4" + b"y" * 199


def test_broadcast_is_compressed_once_for_all(connect: Connect, loop: FakeLoop) -> None:
    sessions = [connect()[:2] for _ in range(3)]
    plain = connect(None)[:2]
    for _, transport in [*sessions, plain]:
        transport.take()
    writes: list[bytes] = []
    for _, transport in sessions:
        transport.write = writes.append  # type: ignore[method-assign]
    message = text("4" + "x" * 5000)
    sessions[0][0].engine.broadcast([session for session, _ in [*sessions, plain]], message)
    loop.settle()
    assert len(writes) == 3
    assert writes[0] is writes[1] is writes[2]
    assert len(writes[0]) < 100
    assert server_frames(plain[1].take()) == [(TEXT, "4" + "x" * 5000)]


def test_compressed_messages_are_taken_whole_and_in_fragments(connect: Connect) -> None:
    _, transport, got = connect()
    packed = deflate("4zwölf €".encode(), 15)
    transport.protocol.data_received(
        compressed(TEXT, b"4" + b"a" * 2000)
        + client_frame(TEXT, "4plain")
        + client_frame(TEXT, packed[:3], rsv=COMPRESSED, fin=False)
        + client_frame(CONTINUATION, packed[3:])
        + compressed(BINARY, bytes(300))
    )
    assert got == ["a" * 2000, "plain", "zwölf €", bytes(300)]


REFUSED = {
    "inflates to too much": (compressed(BINARY, bytes(1001)), 1009),
    "not deflated": (client_frame(BINARY, b"\xff" * 20, rsv=COMPRESSED), 1007),
    "not UTF-8": (compressed(TEXT, b"4\xff"), 1007),
    "compressed control frame": (client_frame(CLOSE, deflate(b"\x03\xe8", 15), rsv=COMPRESSED), 1002),
    "another reserved bit": (client_frame(TEXT, "4x", rsv=0x20), 1002),
}


@pytest.mark.parametrize(("wire", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_allowed_closes_with_its_code(connect: Connect, wire: bytes, code: int) -> None:
    session, transport, got = connect(max_http_buffer_size=1000)
    transport.take()
    transport.protocol.data_received(compressed(TEXT, b"4before") + wire + client_frame(TEXT, "4after"))
    assert got == ["before"]
    assert session.close_reason == "parse error"
    [(opcode, body)] = server_frames(transport.take())
    assert opcode == CLOSE
    assert isinstance(body, bytes)
    assert int.from_bytes(body[:2], "big") == code
    assert transport.has_eof


def test_kept_messages_wait_compressed(connect: Connect, loop: FakeLoop) -> None:
    _, transport, got = connect()
    port = transport.protocol
    port.pause_reading()
    port.data_received(compressed(BINARY, bytes(900_000)) * 20)
    assert port.buffered_in() < 100_000
    port.resume_reading()
    loop.settle()
    assert got == [bytes(900_000)] * 20
    assert not transport.is_reading_paused


def test_much_to_inflate_leaves_others_their_turn(connect: Connect, loop: FakeLoop) -> None:
    _, transport, got = connect()
    port = transport.protocol
    messages = [bytes([n]) * (INFLATE_TURN_BYTES // 2 + 1) for n in range(9)]
    port.data_received(b"".join(compressed(BINARY, message) for message in messages) + client_frame(TEXT, "4last"))
    assert len(got) == 2
    assert transport.is_reading_paused
    loop.turn()
    assert len(got) == 4
    port.pause_reading()
    loop.settle()
    assert len(got) == 4, "paused by the session, too"
    port.resume_reading()
    port.pause_reading()
    port.resume_reading()
    loop.settle()
    assert got == [*messages, "last"]
    assert not transport.is_reading_paused
    assert port.buffered_in() == 0


def test_pause_while_waiting_for_a_turn_is_kept(connect: Connect, loop: FakeLoop) -> None:
    _, transport, got = connect()
    port = transport.protocol
    port.data_received(compressed(BINARY, bytes(900_000)) * 2)
    assert len(got) == 1
    port.pause_reading()
    port.resume_reading()
    assert len(got) == 1, "the turn is still to come"
    loop.settle()
    assert len(got) == 2


def test_close_while_waiting_for_a_turn_drops_the_rest(connect: Connect, loop: FakeLoop) -> None:
    session, transport, got = connect()
    transport.protocol.data_received(compressed(BINARY, bytes(900_000)) * 2)
    session.close("server disconnect")
    assert not transport.is_reading_paused
    loop.settle()
    assert len(got) == 1


def test_rates_are_of_what_compressed_messages_inflate_to(connect: Connect, loop: FakeLoop) -> None:
    session, transport, got = connect(bytes_per_second=10_000, packets_per_second=0)
    small = deflate(b"4" + b"a" * 15_000, 15)
    assert len(small) < 100
    for _ in range(3):
        transport.protocol.data_received(client_frame(TEXT, small, rsv=COMPRESSED))
    assert len(got) == 2, "two seconds' worth is 20,000 bytes"
    assert session.is_held
    loop.advance(60)
    assert len(got) == 3
    assert not session.is_held
