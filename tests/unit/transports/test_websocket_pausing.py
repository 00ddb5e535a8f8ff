"""Pausing and resuming what a WebSocket port hands over."""

import sys
from collections.abc import Callable
from itertools import pairwise
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
)
from transports.engine import Engine
from transports.protocol.frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from transports.session import Session
from transports.websocket import WebSocketPort
from transports.websocket_connection import TURN_MESSAGES

CLOSE_FRAME = client_frame(CLOSE, b"\x03\xe8")


class Peer:
    """A connected session, what it got, and what it does on getting it."""

    def __init__(self, session: Session, transport: FakeTransport) -> None:
        self.session = session
        self.transport = transport
        self.got: list[Any] = []
        self.on_message: Callable[[Any], None] = lambda _: None
        self.deepest = 0

    @property
    def port(self) -> WebSocketPort:
        port: WebSocketPort = self.transport.protocol
        return port

    def receive(self, *wire: bytes) -> None:
        self.port.data_received(b"".join(wire))

    def message(self, _: str, data: Any) -> None:
        depth = 0
        frame: Any = sys._getframe()
        while frame is not None:
            depth, frame = depth + 1, frame.f_back
        self.deepest = max(self.deepest, depth)
        self.got.append(data)
        self.on_message(data)


@pytest.fixture
def peer(loop: FakeLoop, make_engine: Callable[..., Engine]) -> Peer:
    return connect(loop, make_engine(max_http_buffer_size=1000))


def connect(loop: FakeLoop, engine: Engine) -> Peer:
    exchange = FakeExchange(request("EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS))
    engine.handle(exchange)
    loop.settle()
    assert exchange.transport is not None
    [session] = engine.sockets.values()
    peer = Peer(session, exchange.transport)
    engine.on("message", peer.message)
    exchange.transport.take()
    return peer


def texts(*names: Any) -> bytes:
    return b"".join(client_frame(TEXT, f"4{name}") for name in names)


def test_nothing_is_handed_over_while_paused(peer: Peer) -> None:
    peer.port.pause_reading()
    assert peer.transport.is_reading_paused
    peer.receive(texts("a"), client_frame(BINARY, b"b"))  # a transport may have had more in hand
    peer.receive(texts("c"))
    assert peer.got == []
    peer.port.resume_reading()
    assert peer.got == ["a", b"b", "c"]
    assert not peer.transport.is_reading_paused


def test_rest_of_a_chunk_waits_for_whoever_pauses_in_the_middle(peer: Peer) -> None:
    peer.on_message = lambda data: peer.port.pause_reading() if data == "b" else None
    peer.receive(texts("a", "b", "c", "d"))
    assert peer.got == ["a", "b"]
    assert peer.transport.is_reading_paused
    peer.port.resume_reading()
    assert peer.got == ["a", "b", "c", "d"]
    assert not peer.transport.is_reading_paused


def test_socket_is_read_on_only_when_all_was_handed_over(peer: Peer) -> None:
    seen: list[bool] = []
    peer.port.pause_reading()
    peer.receive(texts(*range(5)))
    peer.on_message = lambda _: seen.append(peer.transport.is_reading_paused)
    peer.port.resume_reading()
    assert seen == [True] * 5
    assert not peer.transport.is_reading_paused


def test_pause_after_every_message_of_a_large_chunk_keeps_order_and_depth(peer: Peer) -> None:
    count = 20_000
    peer.on_message = lambda _: peer.port.pause_reading()
    peer.receive(texts(*range(count)))
    resumes = 0
    while len(peer.got) < count:
        peer.port.resume_reading()
        resumes += 1
    assert peer.got == [str(n) for n in range(count)]
    assert resumes == count
    assert peer.deepest < 100


def test_pause_and_resume_inside_of_a_delivery_keep_order_and_depth(loop: FakeLoop, peer: Peer) -> None:
    def wink(_: Any) -> None:
        peer.port.pause_reading()
        peer.port.resume_reading()

    peer.on_message = wink
    peer.receive(texts(*range(3000)))
    peer.on_message = lambda data: peer.port.pause_reading() if data == "3000" else wink(data)
    loop.settle()
    peer.receive(texts(*range(3000, 6000)))
    loop.settle()
    assert peer.got[-1] == "3000"
    peer.port.resume_reading()
    loop.settle()
    assert peer.got == [str(n) for n in range(6000)]
    assert peer.deepest < 100
    assert not peer.transport.is_reading_paused
    assert peer.port.buffered_in() == 0


def test_many_messages_of_one_read_leave_the_others_turns(loop: FakeLoop, make_engine: Callable[..., Engine]) -> None:
    peer = connect(loop, make_engine(packets_per_second=0, bytes_per_second=0))
    turns: list[int] = []

    def turn() -> None:
        turns.append(len(peer.got))
        if len(peer.got) < 1000:
            loop.call_soon(turn)

    loop.call_soon(turn)
    peer.receive(texts(*range(1000)), client_frame(3))
    loop.settle()
    assert peer.got == [str(number) for number in range(1000)]
    assert turns[0] == TURN_MESSAGES
    assert all(later - earlier <= TURN_MESSAGES for earlier, later in pairwise(turns))
    assert peer.session.close_reason == "parse error", "what follows them keeps its place"


def test_fault_in_handing_over_ends_the_session(loop: FakeLoop, peer: Peer) -> None:
    def fault(_: Any) -> None:
        raise KeyboardInterrupt

    peer.port.pause_reading()
    peer.receive(texts("a", "b"))
    peer.on_message = fault
    with pytest.raises(KeyboardInterrupt):
        peer.port.resume_reading()
    peer.port.connection_lost(None)
    loop.settle()
    assert peer.session.closed
    assert peer.got == ["a"]


def test_pausing_and_resuming_twice_is_once(peer: Peer) -> None:
    peer.port.resume_reading()
    peer.port.pause_reading()
    peer.port.pause_reading()
    peer.receive(texts("a"))
    peer.port.resume_reading()
    peer.port.resume_reading()
    assert peer.got == ["a"]
    peer.receive(texts("b"))
    assert peer.got == ["a", "b"]


def test_control_frames_keep_their_place_among_what_is_kept(peer: Peer) -> None:
    order: list[str] = []
    peer.on_message = lambda data: order.append(f"{data} after {len(server_frames(bytes(peer.transport.written)))}")
    peer.port.pause_reading()
    peer.receive(texts("a"), client_frame(PING, b"x"), texts("b"), CLOSE_FRAME)
    assert peer.transport.take() == b""
    peer.port.resume_reading()
    assert order == ["a after 0", "b after 1"]
    assert [opcode for opcode, _ in server_frames(peer.transport.take())] == [PONG, CLOSE]
    assert peer.session.close_reason == "transport close"
    assert peer.transport.is_closed


def test_framing_error_waits_for_the_messages_before_it(peer: Peer) -> None:
    peer.on_message = lambda _: peer.port.pause_reading()
    peer.receive(texts("a", "b"), client_frame(3))
    peer.receive(texts("late"))
    assert peer.got == ["a"]
    peer.port.resume_reading()
    assert peer.got == ["a", "b"]
    assert peer.session.connected
    peer.port.resume_reading()
    assert peer.session.close_reason == "parse error"
    assert peer.transport.has_eof
    assert not peer.transport.is_reading_paused, "or the peer's leaving would go unseen"
    assert peer.got == ["a", "b"]


def test_framing_error_behind_the_message_that_pauses_waits_too(peer: Peer) -> None:
    peer.on_message = lambda _: peer.port.pause_reading()
    peer.receive(texts("a"), client_frame(3))
    assert peer.session.connected
    peer.port.resume_reading()
    assert peer.session.close_reason == "parse error"


def test_port_that_closes_while_paused_drops_what_it_kept(peer: Peer, loop: FakeLoop) -> None:
    peer.port.pause_reading()
    peer.receive(texts("a", "b"))
    peer.session.close("server disconnect")
    assert peer.port.buffered_in() == 0
    assert not peer.transport.is_reading_paused, "the peer's answer is awaited"
    peer.port.resume_reading()
    peer.receive(texts("c"), CLOSE_FRAME)
    assert peer.got == []
    assert peer.transport.is_closed
    assert not loop.faults


def test_answer_to_our_goodbye_may_be_among_what_was_kept(peer: Peer) -> None:
    peer.port.pause_reading()
    peer.receive(texts("a"), CLOSE_FRAME)
    peer.session.close("server disconnect")
    assert peer.got == []
    assert peer.transport.is_closed
    assert not peer.session.engine.lingering


@pytest.mark.parametrize("how", ["lose", "abort"])
def test_port_that_is_lost_while_paused_drops_what_it_kept(peer: Peer, how: str) -> None:
    port = peer.port
    port.pause_reading()
    peer.receive(texts("a"))
    if how == "lose":
        peer.transport.lose()
    else:
        port.abort()
    port.resume_reading()
    port.pause_reading()
    assert peer.got == []
    assert port.buffered_in() == 0


def test_delivery_that_ends_the_session_ends_the_handing_over(peer: Peer) -> None:
    peer.port.pause_reading()
    peer.receive(texts("a", "b", "c"))
    peer.on_message = lambda data: peer.session.close("server disconnect") if data == "b" else None
    peer.port.resume_reading()
    assert peer.got == ["a", "b"]
    assert peer.port.buffered_in() == 0


def test_closing_transport_is_not_asked_to_pause(peer: Peer) -> None:
    peer.transport.is_closed = True  # the loop has seen the end, and has not told the port yet
    peer.port.pause_reading()
    peer.port.resume_reading()
    assert not peer.transport.is_reading_paused


def test_port_may_be_paused_before_it_is_open(loop: FakeLoop, make_engine: Callable[..., Engine]) -> None:
    engine = make_engine()
    got: list[Any] = []
    engine.on("message", lambda _, data: got.append(data))
    session = engine.create_session(request())
    port = WebSocketPort(session, 1000)
    session.open(port)
    port.pause_reading()
    transport = FakeTransport()
    transport.protocol = port
    port.open(transport, b"", None, texts("early"))
    assert transport.is_reading_paused
    assert got == []
    port.resume_reading()
    assert got == ["early"]


def test_what_is_held_is_counted(peer: Peer) -> None:
    assert peer.port.buffered_in() == 0
    frame = client_frame(BINARY, b"x" * 500)
    peer.receive(frame[:300])
    assert peer.port.buffered_in() == 300
    peer.receive(frame[300:])
    assert peer.port.buffered_in() == 0
    peer.receive(client_frame(BINARY, b"x" * 400, fin=False))
    assert peer.port.buffered_in() == 400
    peer.receive(client_frame(CONTINUATION, b"x"))
    assert peer.port.buffered_in() == 0
    peer.port.pause_reading()
    peer.receive(texts("a" * 99, "b" * 99))
    assert 200 <= peer.port.buffered_in() <= 1000
    peer.on_message = lambda _: peer.port.pause_reading()
    peer.port.resume_reading()
    assert 100 <= peer.port.buffered_in() <= 500
    peer.port.resume_reading()
    assert peer.port.buffered_in() == 0


def test_exception_out_of_a_delivery_does_not_let_later_messages_pass(peer: Peer) -> None:
    class Application:
        def message_received(self, session: Session, data: Any) -> None:
            raise LookupError(data)

        def session_closed(self, session: Session, reason: str) -> None:
            pass

    peer.port.pause_reading()
    peer.receive(texts("a", "b"))
    peer.session.engine.application = Application()  # type: ignore[assignment]
    with pytest.raises(LookupError, match="a"):
        peer.port.resume_reading()
    assert peer.transport.is_aborted
    assert peer.port.buffered_in() == 0
