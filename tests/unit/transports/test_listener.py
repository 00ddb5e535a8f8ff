"""Connections of the fast listener while they speak HTTP: deadlines, bounds, who may stay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import FakeLoop, FakeTransport, text
from transports.engine import Engine
from transports.hosts.listener import STUCK_S, Connection, Listener

GET = b"GET /engine.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n"


class Socket(FakeTransport):
    """An accepted connection."""

    def __init__(self, peername: Any = ("192.0.2.1", 4711), is_secure: bool = False) -> None:
        super().__init__()
        self.extra = {"peername": peername, "sslcontext": object() if is_secure else None}
        self.is_reading_paused = False
        self.has_written_eof = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self.extra.get(name, default)

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_written_eof = True

    def pause_reading(self) -> None:
        assert not self.is_reading_paused
        self.is_reading_paused = True

    def resume_reading(self) -> None:
        assert self.is_reading_paused
        self.is_reading_paused = False


class Fallback(asyncio.Protocol):
    """The web framework."""

    def __init__(self) -> None:
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data


Connect = Callable[..., tuple[Connection, Socket]]


@pytest.fixture
def listener(engine: Engine) -> Listener:
    return Listener({"/engine.io/": engine}, Fallback, request_timeout_s=20, keepalive_timeout_s=75, linger_s=5)


@pytest.fixture
def connect(loop: FakeLoop, listener: Listener) -> Connect:
    def connect(*sent: bytes, **options: Any) -> tuple[Connection, Socket]:
        connection = listener()
        socket = Socket(**options)
        socket.set_protocol(connection)
        connection.connection_made(socket)
        for data in sent:
            connection.data_received(data)
            loop.settle()
        return connection, socket

    return connect


def status(socket: Socket) -> int:
    return int(socket.written[9:12])


def sid_of(socket: Socket) -> str:
    return socket.take().decode().partition('"sid":"')[2].partition('"')[0]


# -- deadlines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /engine.io/?", GET, b"\r\n"])
def test_half_a_head_is_waited_for_until_its_deadline(
    loop: FakeLoop, listener: Listener, connect: Connect, sent: bytes
) -> None:
    _, socket = connect(*([sent] if sent else []))
    loop.advance(19)
    assert not socket.is_closed
    assert len(listener.connections) == 1
    loop.advance(2)
    if sent.strip():
        assert status(socket) == 408
        assert socket.has_written_eof
        loop.advance(6)
    assert socket.is_closed
    assert len(listener.connections) == 0


def test_bytes_that_drip_do_not_move_the_deadline(loop: FakeLoop, connect: Connect) -> None:
    connection, socket = connect()
    for byte in GET[:21]:
        connection.data_received(bytes([byte]))
        loop.advance(1)
    assert status(socket) == 408


def test_next_head_has_its_own_deadline(loop: FakeLoop, connect: Connect) -> None:
    connection, socket = connect(GET + b"\r\n")
    assert status(socket) == 200
    loop.advance(70)
    socket.take()
    connection.data_received(b"G")
    loop.advance(19)
    assert socket.take() == b""
    loop.advance(2)
    assert status(socket) == 408


def test_half_a_head_behind_a_request_has_the_deadline_of_heads(loop: FakeLoop, connect: Connect) -> None:
    _, socket = connect(GET + b"\r\nGET /eng")
    assert status(socket) == 200
    socket.take()
    loop.advance(21)
    assert status(socket) == 408


def test_connections_of_one_address_are_bounded_before_they_ask_for_anything(
    loop: FakeLoop, make_engine: Callable[..., Engine]
) -> None:
    engine = make_engine(max_connections_per_address=2, trusted_proxies=["192.0.2.9"])
    listener = Listener({"/engine.io/": engine}, Fallback)
    sockets = []
    for peer in ("192.0.2.1",) * 3 + ("192.0.2.9",) * 3 + ("192.0.2.2",):
        connection = listener()
        socket = Socket(peername=(peer, 4711))
        socket.set_protocol(connection)
        connection.connection_made(socket)
        sockets.append(socket)
    assert [socket.written[9:12] for socket in sockets] == [b"", b"", b"429", b"", b"", b"", b""]
    assert engine.counters.refused == {"too_many_from_address": 1}
    loop.advance(60)
    assert all(socket.is_closed for socket in sockets)
    assert listener._by_group == {}


def test_idle_connection_is_closed(loop: FakeLoop, connect: Connect) -> None:
    _, socket = connect(GET + b"\r\n")
    loop.advance(74)
    assert not socket.is_closed
    loop.advance(2)
    assert socket.is_closed


@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n\r\n4hal", b"Transfer-Encoding: chunked\r\n\r\n5\r\n4h"])
def test_body_that_does_not_come_is_408_and_the_session_lives(
    loop: FakeLoop, engine: Engine, connect: Connect, framing: bytes
) -> None:
    sid = sid_of(connect(GET + b"\r\n")[1])
    head = b"POST /engine.io/?EIO=4&transport=polling&sid=%b HTTP/1.1\r\nHost: a\r\n" % sid.encode()
    connection, socket = connect(head + framing)
    loop.advance(19)
    assert socket.written == b""
    loop.advance(2)
    assert status(socket) == 408
    assert b"Connection: close" in socket.written
    assert socket.has_written_eof
    # What still comes is dropped, for a while.
    connection.data_received(b"f" * 100)
    loop.advance(6)
    assert socket.is_closed
    _, after = connect(head + b"Content-Length: 2\r\n\r\n4a")
    assert status(after) == 200
    assert engine.sockets[sid].connected


def test_waiting_poll_has_no_deadline_of_the_listener(loop: FakeLoop, engine: Engine, connect: Connect) -> None:
    engine.ping_interval_s = 1000
    sid = sid_of(connect(GET + b"\r\n")[1])
    _, socket = connect(GET.replace(b" HTTP", b"&sid=%b HTTP" % sid.encode()) + b"\r\n")
    loop.advance(300)
    assert not socket.is_closed
    assert socket.written == b""


# -- answers that nobody reads -------------------------------------------------------------------------

OPTIONS = b"OPTIONS /engine.io/ HTTP/1.1\r\nHost: a\r\n\r\n"


def test_requests_wait_while_the_peer_takes_no_answers(loop: FakeLoop, connect: Connect) -> None:
    connection, socket = connect()
    socket.high_water = 50
    socket.is_jammed = True
    connection.data_received(OPTIONS * 100)
    loop.settle()
    assert socket.is_reading_paused
    assert socket.written.count(b"204") == 1
    socket.is_jammed = False
    socket.unjam()
    loop.settle()
    assert not socket.is_reading_paused
    assert socket.written.count(b"204") == 100


def test_who_never_takes_its_answer_is_cut(loop: FakeLoop, listener: Listener, connect: Connect) -> None:
    connection, socket = connect()
    socket.high_water = 10
    socket.is_jammed = True
    connection.data_received(OPTIONS)
    loop.advance(76)
    assert socket.is_closed
    assert not listener.connections
    loop.advance(STUCK_S + 1)
    assert socket.is_aborted


def test_requests_sent_ahead_are_bounded(loop: FakeLoop, engine: Engine, connect: Connect) -> None:
    sid = sid_of(connect(GET + b"\r\n")[1])
    connection, socket = connect(GET.replace(b" HTTP", b"&sid=%b HTTP" % sid.encode()) + b"\r\n")
    connection.data_received(b"x" * 16_000)
    assert not socket.is_aborted
    connection.data_received(b"x" * 1_000)
    assert socket.is_aborted
    assert engine.sockets == {}, "the poll on that connection has ended, and so has its session"


# -- who is there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peername", "peer"),
    [(("192.0.2.1", 4711), "192.0.2.1"), (("2001:db8::1", 1, 0, 0), "2001:db8::1"), ("", ""), (None, "")],
)
def test_peer_is_known_from_the_moment_it_is_accepted(
    engine: Engine, connect: Connect, peername: Any, peer: str
) -> None:
    connection, _ = connect(peername=peername)
    assert connection.peer == peer
    connection.data_received(GET + b"\r\n")
    [session] = engine.sockets.values()
    assert (session.request.peer, session.request.remote, session.request.scheme) == (peer, peer, "http")


def test_proxy_over_a_unix_socket_is_believed(engine: Engine, connect: Connect) -> None:
    connect(GET + b"X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: https\r\n\r\n", peername="")
    [session] = engine.sockets.values()
    assert (session.request.peer, session.request.remote, session.request.scheme) == ("", "192.0.2.9", "https")


def test_encrypted_connection_is_https(engine: Engine, connect: Connect) -> None:
    connect(GET + b"\r\n", is_secure=True)
    [session] = engine.sockets.values()
    assert session.request.scheme == "https"


def test_connections_are_counted_until_they_leave_http(listener: Listener, connect: Connect) -> None:
    _, idle = connect()
    connect(GET + b"\r\n")
    assert len(listener.connections) == 2
    _, given = connect(b"GET /other HTTP/1.1\r\nHost: a\r\n\r\n")
    assert isinstance(given.protocol, Fallback)
    assert given.protocol.received.startswith(b"GET /other")
    assert len(listener.connections) == 2
    idle.lose()
    assert len(listener.connections) == 1
    listener.close()
    assert len(listener.connections) == 0


# -- heads ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"GET /engine.io/ HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /engine.io/ HTTP/1.1\r\nHost: a\n\n", 400),
        (b"GET /engine.io/ HTTP/1.1\r\nHost: a\n\r\n", 400),
        (b"GET /engine.io/\n", 400),
        (b"GET /engine.io/?" + b"x" * 8192 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /engine.io/?" + b"x" * 17_000, 414),
        (b"GET /engine.io/ HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 17_000, 431),
        (b"GET /engine.io/ HTTP/1.1\r\n" + b"a:\r\n" * 4100 + b"\r\n", 431),
    ],
)
def test_heads_that_cannot_be_are_refused_at_once(connect: Connect, sent: bytes, expected: int) -> None:
    _, whole = connect(sent)
    assert status(whole) == expected
    assert whole.has_written_eof
    connection, bytewise = connect()
    for start in range(0, len(sent), 7):
        connection.data_received(sent[start : start + 7])
    assert status(bytewise) == expected
    assert bytewise.written.count(b"HTTP/1.1 ") == 1


def test_empty_line_before_a_request_is_skipped(connect: Connect) -> None:
    _, socket = connect(b"\r\n" + GET + b"\r\n", b"\r", b"\n", OPTIONS)
    assert socket.written.count(b"HTTP/1.1 200") == 1
    assert socket.written.count(b"HTTP/1.1 204") == 1


def test_body_that_is_refused_unread_is_never_taken_for_a_request(loop: FakeLoop, connect: Connect) -> None:
    """Also where the connection was about to look for the next request in what had come before."""
    connection, socket = connect(GET + b"\r\n")
    sid = sid_of(socket)
    poll = f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    refused = b"POST /engine.io/?EIO=4&transport=polling&sid=none HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    connection.data_received(poll + refused[:10])
    session = connection._listener._engines[b"/engine.io/"].sockets[sid]
    session.send(text("4news"))
    loop.turn()  # the poll is answered, and the rest is to be looked at in the next turn
    connection.data_received(refused[10:] + GET + b"\r\n")
    loop.settle()
    assert socket.take().count(b"HTTP/1.1 ") == 2
    assert socket.has_written_eof


def test_requests_that_waited_for_the_peer_to_read_are_not_answered_inside_of_the_transport(
    loop: FakeLoop, connect: Connect
) -> None:
    """asyncio's ends a connection twice that is closed inside of resume_writing."""
    connection, socket = connect()
    socket.is_jammed = True
    connection.pause_writing()
    connection.data_received(GET + b"Connection: close\r\n\r\n")
    assert not socket.written
    socket.is_paused = True
    socket.unjam()
    assert not socket.is_closed
    loop.settle()
    assert status(socket) == 200
    assert socket.is_closed


def test_addresses_of_one_customer_share_their_connections(loop: FakeLoop, make_engine: Callable[..., Engine]) -> None:
    engine = make_engine(max_connections_per_address=2, trusted_proxies=["2001:db8::9"])
    listener = Listener({"/engine.io/": engine}, Fallback)

    def connect_from(host: str) -> Socket:
        connection = listener()
        socket = Socket((host, 4711, 0, 0))
        socket.set_protocol(connection)
        connection.connection_made(socket)
        return socket

    sockets = [connect_from(host) for host in ("2001:db8::1", "2001:db8::2", "2001:db8::9", "2001:db8::3")]
    assert [bool(socket.written) for socket in sockets] == [False, False, False, True]
    assert status(sockets[3]) == 429
    sockets[2].lose()
    assert status(connect_from("2001:db8::4")) == 429, "the proxy was not counted, so it makes no room"
    assert not connect_from("2001:db8:0:1::1").written


def test_answers_that_a_client_does_not_take_do_not_add_up(loop: FakeLoop, engine: Engine, connect: Connect) -> None:
    """It asks for the next on another connection, again and again."""
    sid = sid_of(connect(GET + b"\r\n")[1])
    get = f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    sockets = []
    for _ in range(5):
        connection, socket = connect()
        socket.is_jammed = True
        connection.data_received(get)
        engine.sockets[sid].send(text("4" + "x" * 10_000))
        loop.settle()
        sockets.append(socket)
    assert all(b"xxx" in socket.written for socket in sockets)
    assert [socket.is_aborted for socket in sockets] == [True] * 4 + [False]
    assert engine.sockets[sid].connected


def test_answer_to_somebody_else_on_the_same_connection_is_left_alone(
    loop: FakeLoop, engine: Engine, connect: Connect
) -> None:
    """As proxies share them."""
    sids = [sid_of(connect(GET + b"\r\n")[1]) for _ in range(2)]
    gets = [f"GET /engine.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for sid in sids]
    shared, socket = connect()
    for sid, get in zip(sids, gets, strict=True):
        socket.unjam()
        socket.is_jammed = True
        shared.data_received(get)
        engine.sockets[sid].send(text("4" + "x" * 10_000))
        loop.settle()
    connect(gets[0])
    assert not socket.is_aborted
    connect(gets[1])
    assert socket.is_aborted


def test_answer_that_is_taken_a_few_bytes_at_a_time_is_not_kept_for_ever(loop: FakeLoop, connect: Connect) -> None:
    connection, socket = connect()
    socket.is_jammed = True
    connection.data_received(OPTIONS)
    socket.buffered = 1_000_000
    loop.advance(76)
    assert socket.is_closed
    for _ in range(3):
        socket.buffered -= 100_000
        loop.advance(STUCK_S)
        assert not socket.is_aborted
    socket.buffered -= 100
    loop.advance(STUCK_S + 1)
    assert socket.is_aborted
