"""xhr-streaming: records, counting, limits. Spec: docs/design/xhr-streaming.md."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.transports.engine_doubles import FakeExchange, FakeLoop, request, stream_records, text
from transports.engine import Engine
from transports.errors import RequestRefused
from transports.outbound import OutboundMessage, extend
from transports.protocol.lifecycle import State
from transports.session import Session
from transports.xhr_streaming import LINGER_S, MAX_PADDING_BYTES, RESUME_S, XhrStreamingPort, padding_message

HANDSHAKE = "EIO=4&transport=xhr-streaming"


class Client:
    """What a page that streams would keep."""

    def __init__(self, engine: Engine, loop: FakeLoop) -> None:
        self.engine = engine
        self.loop = loop
        self.session_id = ""
        self.received: list[str] = []
        self.exchange: FakeExchange

    def get(self, query: str = "", **options: Any) -> FakeExchange:
        self.received += self.fresh() if self.session_id else []
        target = HANDSHAKE + (f"&sid={self.session_id}" if self.session_id else "") + query
        exchange = FakeExchange(request(target, **options))
        self.engine.handle(exchange)
        self.loop.settle()
        if exchange.transport is not None:
            self.exchange = exchange
        if not self.session_id:
            self.session_id = next(iter(self.engine.sockets))
        return exchange

    @property
    def session(self) -> Session:
        return self.engine.sockets[self.session_id]

    def send(self, *texts: str) -> None:
        """The server sends each as a message, all in one turn."""
        for content in texts:
            self.session.send(text("4" + content))
        self.loop.settle()

    def fresh(self) -> list[str]:
        """Records that came since the last call."""
        transport = self.exchange.transport
        return [] if transport is None else stream_records(transport.take())

    @property
    def has_ended(self) -> bool:
        assert self.exchange.transport is not None
        return self.exchange.transport.is_closed

    def cut(self) -> None:
        assert self.exchange.transport is not None
        self.exchange.transport.lose()
        self.loop.settle()


@pytest.fixture
def connect(loop: FakeLoop, make_engine: Callable[..., Engine]) -> Callable[..., Client]:
    def connect(query: str = "", headers: dict[str, str] | None = None, **options: Any) -> Client:
        client = Client(make_engine(**options), loop)
        client.get(query, headers=headers)
        return client

    return connect


def test_handshake_opens_a_chunked_response_that_proxies_leave_alone(connect: Callable[..., Client]) -> None:
    client = connect()
    assert client.exchange.transport is not None
    head, _, body = client.exchange.transport.take().partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert set(lines[1:]) == {
        "Content-Type: text/plain; charset=UTF-8",
        "Cache-Control: no-store, no-transform",
        "X-Accel-Buffering: no",
        "X-Content-Type-Options: nosniff",
        "Vary: Origin",
        "Connection: close",
        "Transfer-Encoding: chunked",
    }
    [opening] = stream_records(body)
    assert opening.startswith('0{"sid":')
    assert '"upgrades":["websocket"]' in opening


def test_records_follow_as_they_are_sent(connect: Callable[..., Client]) -> None:
    client = connect()
    client.fresh()
    client.send("a", "b")
    assert client.fresh() == ["4a", "4b"]
    client.session.send(OutboundMessage(b'451-["x"]', [b"\x01"]))
    client.loop.settle()
    assert client.fresh() == ['451-["x"]', "bAQ=="]
    assert not client.has_ended


def test_http_1_0_gets_no_chunks(loop: FakeLoop, engine: Engine) -> None:
    exchange = FakeExchange(request(HANDSHAKE, http_version=(1, 0)))
    engine.handle(exchange)
    loop.settle()
    assert exchange.transport is not None
    head, _, body = exchange.transport.take().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body.startswith(b"0{")
    assert body.endswith(b"}\x1e")
    [session] = engine.sockets.values()
    session.close("server disconnect")
    assert exchange.transport.take() == b"1\x1e"
    assert exchange.transport.is_closed


# -- padding -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 2048, MAX_PADDING_BYTES])
def test_padding_is_a_noop_of_that_many_bytes_before_everything_else(connect: Callable[..., Client], size: int) -> None:
    client = connect(f"&padding={size}")
    padding, opening = client.fresh()
    assert padding == "6" + " " * (size - 2)
    assert opening.startswith("0{")


@pytest.mark.parametrize("size", [0, 1])
def test_padding_too_short_for_a_packet_is_none(size: int) -> None:
    assert padding_message(request(f"padding={size}")) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("padding", "65537"),
        *((name, value) for name in ("padding", "ack") for value in ("-1", "x", "", "1.5", "%D9%A1", "9" * 30, "+2")),
    ],
)
def test_malformed_numbers_are_refused(connect: Callable[..., Client], name: str, value: str) -> None:
    engine = connect().engine
    exchange = FakeExchange(request(f"{HANDSHAKE}&{name}={value}"))
    engine.handle(exchange)
    assert exchange.error == (400, 3)
    assert len(engine.sockets) == 1, "the refused handshake leaves no session"


def test_padding_counts_as_a_record(connect: Callable[..., Client]) -> None:
    client = connect("&padding=100&ack=0")
    client.send("a")
    assert len(client.fresh()) == 3
    client.cut()
    client.send("b")
    client.get("&ack=3")
    assert client.fresh() == ["4b"]


# -- acknowledgement and resumption --------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(1, 8))
def test_counting_client_gets_exactly_what_it_does_not_have(connect: Callable[..., Client], count: int) -> None:
    client = connect("&ack=0")
    client.send("1", "2", "3")
    client.session.send(OutboundMessage(b'452-["x"]', [b"\x01", b"\x02"]))
    client.loop.settle()
    records = client.fresh()
    assert len(records) == 7
    client.cut()
    client.send("late")
    client.get(f"&ack={count}")
    assert client.fresh() == [*records[count:], "4late"]


def test_resumption_can_be_cut_again_and_again(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    client.send("1", "2", "3", "4", "5")
    expected = client.fresh()
    for acknowledged in range(1, 7):
        client.cut()
        client.get(f"&ack={acknowledged}")
        assert client.fresh() == expected[acknowledged:]
    client.send("6")
    assert client.fresh() == ["46"]


def test_what_was_acknowledged_is_not_kept(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    port: Any = client.session.port
    client.send("1")
    assert port._unacknowledged
    client.get("&ack=2")
    assert port._unacknowledged == []


def test_suspicious_client_may_open_the_next_beside_the_last(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    client.send("1", "2")
    records = client.fresh()
    first = client.exchange.transport
    assert first is not None
    client.get("&ack=2")
    assert first.is_closed
    assert first.take() == b"0\r\n\r\n"
    assert client.fresh() == records[2:]
    first.lose()
    client.loop.settle()
    assert client.session.state is State.OPEN, "the end of the older response is no news"
    client.send("3")
    assert client.fresh() == ["43"]


@pytest.mark.parametrize("count", [0, 1, 4, 99])
def test_count_that_cannot_be_right_is_refused_and_ends_the_session(connect: Callable[..., Client], count: int) -> None:
    client = connect("&ack=0")
    client.send("1", "2")  # three records
    client.get("&ack=2")
    session = client.session
    exchange = client.get(f"&ack={count}")
    assert exchange.error == (400, 3)
    assert session.closed
    assert session.close_reason == "parse error"


def test_count_of_a_client_that_did_not_count_from_the_start_is_refused(connect: Callable[..., Client]) -> None:
    client = connect()
    session = client.session
    assert client.get("&ack=1").error == (400, 3)
    assert session.closed


def test_second_get_of_a_client_that_does_not_count_is_refused(connect: Callable[..., Client]) -> None:
    client = connect()
    session = client.session
    assert client.get().error == (400, 3)
    assert session.closed


def test_get_without_count_of_a_counting_client_is_refused(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_bytes=100)
    client.send("x" * 200)
    session = client.session
    assert client.get().error == (400, 3)
    assert session.closed


def test_cut_ends_the_session_of_a_client_that_does_not_count(connect: Callable[..., Client]) -> None:
    client = connect()
    session = client.session
    client.cut()
    assert session.closed
    assert session.close_reason == "transport close"


def test_counting_client_has_some_time_to_come_back(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    session = client.session
    client.cut()
    client.loop.advance(RESUME_S - 0.5)
    assert session.state is State.OPEN
    client.loop.advance(1)
    assert session.closed
    assert session.close_reason == "transport close"


def test_client_that_came_back_is_not_cut_off_later(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    client.cut()
    client.loop.advance(5)
    client.get("&ack=1")
    client.loop.advance(RESUME_S + 1)
    assert client.session.state is State.OPEN


def test_resumption_whose_peer_is_gone_already_does_not_end_the_session(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0")
    client.send("1")
    client.cut()
    session = client.session
    exchange = FakeExchange(request(f"{HANDSHAKE}&sid={client.session_id}&ack=1"))
    exchange.is_gone = True
    client.engine.handle(exchange)
    client.loop.settle()
    assert session.state is State.OPEN, "the client has its 15 seconds, and may try once more"
    client.get("&ack=1")
    assert client.fresh() == ["41"]


def test_bound_holds_while_a_counting_client_is_away(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", max_buffered_bytes=10_000)
    session = client.session
    client.cut()
    for _ in range(4):
        client.send("x" * 1900)
    assert session.state is State.OPEN
    client.send("x" * 1900)
    assert session.close_reason == "slow client"


def test_bytes_on_an_open_response_end_it(connect: Callable[..., Client]) -> None:
    client = connect()
    session = client.session
    assert client.exchange.transport is not None
    client.exchange.transport.protocol.data_received(b"GET / HTTP/1.1")
    assert client.exchange.transport.is_aborted
    assert session.closed


# -- limits --------------------------------------------------------------------------------------------------


def test_response_ends_after_its_bytes_between_two_messages(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_bytes=5000)
    client.send(*["x" * 996] * 8)
    first = client.fresh()
    assert client.has_ended
    assert 1 < len(first) <= 6
    client.get(f"&ack={len(first)}")
    second = client.fresh()
    assert [record for record in first + second if record.startswith("4")] == ["4" + "x" * 996] * 8


def test_message_longer_than_a_response_is_not_split(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_bytes=5000)
    client.fresh()
    client.send("y" * 20_000)
    assert client.fresh() == ["4" + "y" * 20_000]
    assert client.has_ended


def test_padding_longer_than_a_response_still_lets_messages_through(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0&padding=4000", stream_max_bytes=1000)
    client.send("a", "b")
    client.loop.settle()
    received = client.fresh()
    for _ in range(5):
        client.get(f"&ack={len(received)}&padding=4000")
        received += client.fresh()
    assert [record for record in received if record[0] == "4"] == ["4a", "4b"]


def test_response_ends_after_its_time(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_s=10.0)
    client.fresh()
    client.loop.advance(9.5)
    assert not client.has_ended
    client.loop.advance(1)
    assert client.exchange.transport is not None
    assert client.exchange.transport.take() == b"0\r\n\r\n"
    assert client.has_ended
    client.send("waits")
    assert client.session.state is State.OPEN
    client.get("&ack=1")
    assert client.fresh() == ["4waits"]
    client.loop.advance(9.5)
    assert not client.has_ended
    client.loop.advance(1)
    assert client.has_ended


def test_client_that_never_opens_the_next_response_is_found_by_the_heartbeat(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_s=10.0)
    session = client.session
    client.loop.advance(46)
    assert session.close_reason == "ping timeout"


# -- back pressure, good-byes --------------------------------------------------------------------------------


def test_jammed_response_holds_messages_back_until_it_drains(connect: Callable[..., Client]) -> None:
    client = connect()
    transport = client.exchange.transport
    assert transport is not None
    transport.is_jammed = True
    client.send("x" * 70_000)
    assert transport.is_paused
    assert not client.session.is_ready()
    client.fresh()
    client.send("later")
    assert transport.take() == b""
    transport.unjam()
    client.loop.settle()
    assert client.fresh() == ["4later"]


def test_close_ends_the_response_with_a_close_packet(connect: Callable[..., Client]) -> None:
    client = connect()
    client.fresh()
    client.session.send(text("4last"))
    client.session.close("server disconnect")
    assert client.fresh() == ["4last", "1"]
    assert client.has_ended


def test_client_that_is_between_responses_is_told_when_it_comes(connect: Callable[..., Client]) -> None:
    client = connect("&ack=0", stream_max_s=10.0)
    client.loop.advance(11)
    session = client.session
    client.send("last")
    session.close("server disconnect")
    assert session.state is State.CLOSING
    exchange = client.get("&ack=1")
    assert exchange.transport is not None
    assert stream_records(exchange.transport.take()) == ["4last", "1"]
    assert session.closed


def test_ended_response_whose_peer_reads_nothing_is_dropped(connect: Callable[..., Client]) -> None:
    client = connect()
    transport = client.exchange.transport
    assert transport is not None
    transport.is_jammed = True
    client.session.close("server disconnect")
    client.loop.advance(LINGER_S - 1)
    assert not transport.is_aborted
    client.loop.advance(2)
    assert transport.is_aborted


def test_post_of_the_session_is_received(connect: Callable[..., Client]) -> None:
    client = connect()
    got: list[Any] = []
    client.engine.on("message", lambda sid, data: got.append(data))
    exchange = FakeExchange(request(f"{HANDSHAKE}&sid={client.session_id}", "POST"), b"4hello\x1ebAQ==")
    client.engine.handle(exchange)
    client.loop.settle()
    assert (exchange.status, exchange.body) == (200, b"ok")
    assert got == ["hello", b"\x01"]


def test_port_refuses_what_it_cannot_count_before_it_takes_the_connection(engine: Engine, loop: FakeLoop) -> None:
    port = XhrStreamingPort(engine.create_session(request()), 1000, 10.0)
    for query in ("ack=1", "ack=x", "padding=-1"):
        exchange = FakeExchange(request(query))
        with pytest.raises(RequestRefused):
            port.open(exchange, 0.0)
        assert exchange.transport is None
    assert port.write(extend(None, text("4a"))) is not None


def test_response_that_may_be_written_again_does_not_end_inside_of_the_transport(
    connect: Callable[..., Client], loop: FakeLoop
) -> None:
    """asyncio's ends a connection twice that is closed inside of resume_writing."""
    client = connect(stream_max_bytes=400)
    transport = client.exchange.transport
    assert transport is not None
    transport.is_paused = True
    transport.protocol.pause_writing()
    client.session.send(text("4" + "x" * 400))
    loop.settle()
    transport.unjam()
    assert not transport.is_closed
    loop.settle()
    assert transport.is_closed
