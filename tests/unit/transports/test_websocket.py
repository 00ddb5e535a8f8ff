"""The WebSocket port on a connection in memory."""

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
from transports import reasons
from transports.engine import Engine
from transports.protocol.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, encode_close
from transports.protocol.lifecycle import State
from transports.session import Session
from transports.websocket_connection import CLOSE_TIMEOUT_S, LINGER_S

Connected = tuple[Session, FakeTransport, list[Any]]


@pytest.fixture
def connect(loop: FakeLoop, make_engine: Callable[..., Engine]) -> Callable[..., Connected]:
    def connect(unread: bytes = b"", **options: Any) -> Connected:
        engine = make_engine(**options)
        got: list[Any] = []
        engine.on("message", lambda sid, data: got.append(data))
        exchange = FakeExchange(request("EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS), unread=unread)
        engine.handle(exchange)
        loop.settle()
        assert exchange.transport is not None
        [session] = engine.sockets.values()
        return session, exchange.transport, got

    return connect


def close_body(code: int, reason: str = "") -> bytes:
    return code.to_bytes(2, "big") + reason.encode()


def test_handshake_is_answered_with_the_open_packet_behind_it(connect: Callable[..., Connected]) -> None:
    _, transport, _ = connect()
    data = transport.take()
    assert data.startswith(b"HTTP/1.1 101 ")
    [(opcode, opening)] = server_frames(data)
    assert opcode == TEXT
    assert isinstance(opening, str)
    assert opening.startswith('0{"sid":')
    assert '"upgrades":[]' in opening


def test_messages_are_delivered_text_and_binary_in_order(connect: Callable[..., Connected]) -> None:
    _, transport, got = connect()
    transport.protocol.data_received(
        client_frame(TEXT, "4a") + client_frame(BINARY, b"\x01") + client_frame(TEXT, "4") + client_frame(TEXT, "bAg==")
    )
    assert got == ["a", b"\x01", "", b"\x02"]


def test_bytes_behind_the_handshake_request_are_read(connect: Callable[..., Connected]) -> None:
    _, _, got = connect(unread=client_frame(TEXT, "4early"))
    assert got == ["early"]


def test_ping_frames_are_answered_unless_the_peer_does_not_read(connect: Callable[..., Connected]) -> None:
    session, transport, _ = connect()
    transport.take()
    transport.protocol.data_received(client_frame(PING, b"x") + client_frame(PONG, b"y"))
    assert server_frames(transport.take()) == [(PONG, b"x")]
    transport.is_jammed = True
    session.send(text("4" + "x" * 70_000))
    session.engine.loop.settle()
    transport.take()
    transport.protocol.data_received(client_frame(PING, b"x") * 1000)
    assert transport.take() == b""


REFUSED = {
    "not UTF-8": (client_frame(TEXT, b"4\xff"), 1007),
    "not masked": (b"\x81\x01x", 1002),
    "too big": (client_frame(TEXT, "4" + "x" * 2000), 1009),
    "unknown packet": (client_frame(TEXT, "9"), 1002),
    "empty packet": (client_frame(TEXT, ""), 1002),
    "broken base64": (client_frame(TEXT, "b!"), 1002),
    "upgrade out of turn": (client_frame(TEXT, "5"), 1002),
    "client's ping": (client_frame(TEXT, "2"), 1002),
    "client's open": (client_frame(TEXT, "0"), 1002),
    "continuation of nothing": (client_frame(CONTINUATION, "x"), 1002),
    "broken close": (client_frame(CLOSE, b"\x03"), 1002),
    "forbidden close code": (client_frame(CLOSE, close_body(1005)), 1002),
    "close reason not UTF-8": (client_frame(CLOSE, close_body(1000) + b"\xff"), 1007),
}


@pytest.mark.parametrize(("wire", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_allowed_closes_with_its_code(connect: Callable[..., Connected], wire: bytes, code: int) -> None:
    session, transport, got = connect(max_http_buffer_size=1000)
    transport.take()
    transport.protocol.data_received(client_frame(TEXT, "4before") + wire + client_frame(TEXT, "4after"))
    assert got == ["before"]
    assert session.closed
    assert session.close_reason == "parse error"
    [(opcode, body)] = server_frames(transport.take())
    assert opcode == CLOSE
    assert isinstance(body, bytes)
    assert int.from_bytes(body[:2], "big") == code


FRAMING = [
    name for name in REFUSED if "packet" not in name and name.partition(" ")[0] not in ("broken", "upgrade", "client's")
]


@pytest.mark.parametrize("name", [*FRAMING, "broken close"])
def test_who_breaks_the_framing_is_half_closed_and_soon_dropped(
    connect: Callable[..., Connected], loop: FakeLoop, name: str
) -> None:
    session, transport, _ = connect(max_http_buffer_size=1000)
    engine = session.engine
    transport.protocol.data_received(REFUSED[name][0])
    assert transport.has_eof
    assert not transport.is_closing(), "a reset could take the close frame from the peer"
    transport.protocol.data_received(client_frame(CLOSE, close_body(1002)) + client_frame(TEXT, "4x"))
    assert not transport.is_closing(), "nothing of it is read any more"
    assert len(engine.lingering) == 1
    loop.advance(LINGER_S + 0.1)
    assert transport.is_aborted
    assert not engine.lingering
    assert not loop.faults


def test_who_breaks_the_framing_and_leaves_is_not_waited_for(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    transport.protocol.data_received(client_frame(3))
    assert transport.protocol.eof_received() is False
    transport.lose()
    assert not session.engine.lingering
    loop.advance(LINGER_S + 1)
    assert not transport.is_aborted


def test_wrong_packets_in_whole_frames_end_with_a_closing_handshake(
    connect: Callable[..., Connected], loop: FakeLoop
) -> None:
    _, transport, _ = connect()
    transport.protocol.data_received(client_frame(TEXT, "9"))
    assert not transport.has_eof
    transport.protocol.data_received(client_frame(CLOSE, close_body(1002)))
    assert transport.is_closed


def test_frames_broken_after_our_goodbye_end_the_wait(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    session.close("server disconnect")
    transport.take()
    transport.protocol.data_received(client_frame(3))
    assert transport.has_eof
    assert transport.take() == b"", "one close frame is enough"
    loop.advance(LINGER_S + 0.1)
    assert transport.is_aborted


def test_peer_that_closes_and_reads_nothing_is_dropped(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    engine = session.engine
    transport.is_jammed = True
    session.send(text("4" + "x" * 10_000))
    loop.settle()
    transport.protocol.data_received(client_frame(CLOSE, close_body(1000)))
    assert transport.is_closed
    assert session.closed
    assert not transport.is_aborted, "what was written may still be read"
    loop.advance(CLOSE_TIMEOUT_S + 0.1)
    assert transport.is_aborted
    assert not engine.lingering


def test_nothing_follows_the_close_frame_to_a_peer_that_does_not_read(
    connect: Callable[..., Connected], loop: FakeLoop
) -> None:
    session, transport, _ = connect()
    transport.is_jammed = True
    session.send(text("4" + "x" * 70_000))
    loop.settle()
    transport.take()
    session.send(text("4waits"))
    loop.settle()
    transport.protocol.data_received(client_frame(3))
    [(opcode, _)] = server_frames(transport.take())
    assert opcode == CLOSE


def test_pings_of_125_bytes_may_come_one_byte_at_a_time(connect: Callable[..., Connected]) -> None:
    _, transport, _ = connect()
    transport.take()
    wire = client_frame(PING, bytes(range(125))) * 3
    for index in range(len(wire)):
        transport.protocol.data_received(wire[index : index + 1])
    assert server_frames(transport.take()) == [(PONG, bytes(range(125)))] * 3


@pytest.mark.parametrize(("body", "answer"), [(b"", 1000), (close_body(1000), 1000), (close_body(4321, "x"), 4321)])
def test_close_of_the_peer_is_answered_with_its_code(
    connect: Callable[..., Connected], body: bytes, answer: int
) -> None:
    session, transport, got = connect()
    transport.take()
    transport.protocol.data_received(client_frame(CLOSE, body) + client_frame(TEXT, "4late"))
    assert server_frames(transport.take()) == [(CLOSE, close_body(answer))]
    assert transport.is_closed
    assert session.close_reason == "transport close"
    assert got == []


def test_close_packet_of_the_client_is_its_goodbye(connect: Callable[..., Connected]) -> None:
    session, transport, _ = connect()
    transport.take()
    transport.protocol.data_received(client_frame(TEXT, "1"))
    assert session.close_reason == "client disconnect"
    assert server_frames(transport.take()) == [(CLOSE, close_body(1000, "client disconnect"))]
    assert session.closed


def test_goodbye_waits_for_the_answer_and_then_closes(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, got = connect()
    engine = session.engine
    session.send(text("4last"))
    transport.take()
    session.close("server shutting down")
    assert server_frames(transport.take()) == [(TEXT, "4last"), (CLOSE, encode_close(1012, "server shutting down")[2:])]
    assert not transport.is_closing()
    assert len(engine.lingering) == 1
    transport.protocol.data_received(client_frame(TEXT, "4ignored") + client_frame(CLOSE, close_body(1012)))
    assert transport.is_closed
    assert got == []
    assert not engine.lingering
    loop.advance(CLOSE_TIMEOUT_S + 1)
    assert not transport.is_aborted


def test_goodbye_that_is_not_answered_ends_with_an_abort(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    engine = session.engine
    session.close("server disconnect")
    loop.advance(CLOSE_TIMEOUT_S + 0.1)
    assert transport.is_aborted
    assert not engine.lingering


@pytest.mark.parametrize(
    ("exc", "reason"), [(None, "transport close"), (ConnectionResetError("reset"), "transport error")]
)
def test_lost_connection_ends_the_session(
    connect: Callable[..., Connected], exc: Exception | None, reason: str
) -> None:
    session, transport, _ = connect()
    transport.lose(exc)
    assert session.close_reason == reason
    assert session.closed


def test_all_of_a_turn_leaves_in_one_write(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    transport.take()
    writes: list[bytes] = []
    transport.write = writes.append  # type: ignore[method-assign]
    for content in ("4a", "4b", "4c"):
        session.send(text(content))
    assert writes == []
    loop.settle()
    assert len(writes) == 1
    assert server_frames(writes[0]) == [(TEXT, "4a"), (TEXT, "4b"), (TEXT, "4c")]


def test_paused_connection_resumes_with_what_waited(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, _ = connect()
    transport.is_jammed = True
    session.send(text("4" + "x" * 70_000))
    loop.settle()
    transport.take()
    assert not session.is_ready()
    session.send(text("4a"))
    session.send(text("4b"))
    loop.settle()
    assert transport.take() == b""
    assert session.backlog() > 70_000
    transport.unjam()
    loop.settle()
    assert server_frames(transport.take()) == [(TEXT, "4a"), (TEXT, "4b")]
    assert session.is_ready()
    assert session.state is State.OPEN


def test_nothing_follows_the_close_frame_of_a_paused_connection(
    connect: Callable[..., Connected], loop: FakeLoop
) -> None:
    session, transport, _ = connect()
    transport.take()
    transport.is_jammed = True
    session.send(text("4" + "x" * transport.high_water))
    loop.settle()
    session.send(text("4waits"))
    loop.settle()
    transport.protocol.data_received(client_frame(TEXT, "9"))
    data = transport.take()
    assert [opcode for opcode, _ in server_frames(data)] == [TEXT, CLOSE]
    assert b"waits" not in data
    assert session.close_reason == "parse error"


@pytest.mark.parametrize("size", [3_000_000, 6_000_000])
def test_one_message_is_written_whatever_its_size(connect: Callable[..., Connected], loop: FakeLoop, size: int) -> None:
    session, transport, _ = connect()
    transport.is_jammed = True
    transport.take()
    session.send(text("4" + "x" * size))
    loop.settle()
    assert session.state is State.OPEN, "its bytes must not be counted where they come from and where they go"
    assert len(transport.take()) > size


def test_fragments_count_as_packets(connect: Callable[..., Connected], loop: FakeLoop) -> None:
    session, transport, got = connect(packets_per_second=100)
    port = transport.protocol
    port.data_received(client_frame(TEXT, "4", fin=False) + client_frame(CONTINUATION, fin=False) * 1000)
    assert session.is_held
    port.data_received(client_frame(CONTINUATION, "late"))
    assert got == []
    loop.advance(30)
    assert not session.is_held
    assert got == ["late"]


def test_pings_between_fragments_hide_nothing_from_the_budget(connect: Callable[..., Connected]) -> None:
    options = {"max_total_buffered_bytes": 100_000, "packets_per_second": 0}
    session, transport, _ = connect(**options)
    transport.protocol.data_received(client_frame(TEXT, "4", fin=False))
    for _ in range(12):
        if not session.closed:
            transport.protocol.data_received(client_frame(CONTINUATION, "x" * 10_000, fin=False) + client_frame(PING))
    assert session.close_reason == reasons.MEMORY_SHED
