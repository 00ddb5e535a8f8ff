"""Long-polling: one payload for each GET."""

import gzip
import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import FakeExchange, FakeLoop, request, text
from transports.engine import Engine
from transports.errors import RequestRefused
from transports.outbound import Run, extend
from transports.polling import (
    PAYLOAD_BYTES,
    PollingPort,
    jsonp_index,
    jsonp_script,
    packets_per_payload,
    respond_with_payload,
)
from transports.session import Session

BROWSER = "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0"


@pytest.fixture
def session(engine: Engine) -> Session:
    return engine.create_session(request())


@pytest.fixture
def open_port(session: Session) -> Callable[..., tuple[PollingPort, FakeExchange]]:
    def open_port(user_agent: str = BROWSER, query: str = "", **headers: str) -> tuple[PollingPort, FakeExchange]:
        port = PollingPort(session, user_agent, 1024)
        session.open(port)
        exchange = FakeExchange(request(query, headers={"host": "a", **headers}))
        port.open(exchange)
        return port, exchange

    return open_port


def run_of(count: int) -> Run:
    run = Run.of(text(f"4{number}") for number in range(count))
    assert run is not None
    return run


def test_get_is_answered_with_what_there_is(open_port: Callable[..., tuple[PollingPort, FakeExchange]]) -> None:
    port, exchange = open_port()
    assert port.writable
    assert port.write(run_of(3)) is None
    assert exchange.packets == ["40", "41", "42"]
    assert exchange.headers["content-type"] == "text/plain; charset=UTF-8"
    assert exchange.headers["cache-control"] == "no-store"
    assert exchange.lost is None
    assert not port.writable


def test_second_get_is_an_error(open_port: Callable[..., tuple[PollingPort, FakeExchange]]) -> None:
    port, _ = open_port()
    with pytest.raises(RequestRefused):
        port.open(FakeExchange(request()))


@pytest.mark.parametrize(
    ("user_agent", "count"),
    [(BROWSER, 100), ("node-XMLHttpRequest", 100), ("", 16), ("Python/3.12 aiohttp/3.11", 16), ("python-requests", 16)],
)
def test_other_clients_than_browsers_get_sixteen_packets_at_a_time(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]], user_agent: str, count: int
) -> None:
    port, exchange = open_port(user_agent)
    rest = port.write(run_of(100))
    assert exchange.packets == [f"4{number}" for number in range(count)]
    if count == 100:
        assert rest is None
    else:
        assert rest is not None
        assert rest.payload().decode().split("\x1e") == [f"4{number}" for number in range(16, 100)]
    assert packets_per_payload(user_agent) >= count


@pytest.mark.parametrize("user_agent", [BROWSER, "python-requests"])
def test_long_backlog_leaves_in_payloads_of_bounded_length(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]], user_agent: str
) -> None:
    port, exchange = open_port(user_agent)
    sent = [f"4{number:06}" + "x" * (PAYLOAD_BYTES // 10) for number in range(100)]
    left = Run.of(text(data) for data in sent)
    got: list[str] = []
    while left is not None:
        left = port.write(left)
        assert len(exchange.body) <= PAYLOAD_BYTES + len(sent[0])
        assert len(exchange.packets) > 1
        got += exchange.packets
        exchange = FakeExchange(request())
        port.open(exchange)
    assert got == sent


def test_message_longer_than_a_payload_goes_alone(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]],
) -> None:
    port, exchange = open_port()
    long = "4" + "x" * PAYLOAD_BYTES
    rest = port.write(extend(text(long), text("4short")))
    assert exchange.packets == [long]
    assert rest is not None
    assert rest.payload() == b"4short"


def test_goodbye_behind_a_long_backlog_comes_last(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]],
) -> None:
    port, exchange = open_port()
    long = "4" + "x" * PAYLOAD_BYTES
    left = port.close(text(long), code=1000, reason="", by_client=False)
    assert exchange.packets == [long]
    assert left is not None
    exchange = FakeExchange(request())
    port.open(exchange)
    assert port.part(left) is None
    assert exchange.packets == ["1"]


def test_goodbye_to_other_clients_than_browsers_keeps_to_sixteen_packets(
    loop: FakeLoop, engine: Engine, ask: Callable[..., FakeExchange]
) -> None:
    session = engine.create_session(request())
    session.open(PollingPort(session, "Python/3.12 aiohttp/3.11", None))
    for number in range(20):
        session.send(text(f"4{number}"))
    session.close("server disconnect")
    received: list[str] = []
    while "1" not in received:
        answer = ask(engine, f"EIO=4&transport=polling&sid={session.id}")
        assert len(answer.packets) <= 16, "python-engineio's client refuses the whole payload"
        received += answer.packets
    assert received == [*(f"4{number}" for number in range(20)), "1"]


def test_release_answers_noop_once(open_port: Callable[..., tuple[PollingPort, FakeExchange]]) -> None:
    port, exchange = open_port()
    port.release()
    assert exchange.packets == ["6"]
    port.release()
    assert exchange.answers == 1


def test_close_says_goodbye_behind_what_waits(open_port: Callable[..., tuple[PollingPort, FakeExchange]]) -> None:
    port, exchange = open_port()
    assert port.close(run_of(2), code=1000, reason="", by_client=False) is None
    assert exchange.packets == ["40", "41", "1"]


def test_close_by_the_client_ends_its_poll_with_noop(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]],
) -> None:
    port, exchange = open_port()
    assert port.close(None, code=1000, reason="", by_client=True) is None
    assert exchange.packets == ["6"]


def test_close_without_a_get_has_to_wait_unless_the_client_knows(
    open_port: Callable[..., tuple[PollingPort, FakeExchange]],
) -> None:
    port, _ = open_port()
    port.release()
    left = port.close(run_of(1), code=1000, reason="", by_client=False)
    assert left is not None
    assert left.payload() == b"40\x1e1"
    assert port.close(None, code=1000, reason="", by_client=True) is None


def test_client_that_leaves_its_poll_ends_the_session(
    session: Session, open_port: Callable[..., tuple[PollingPort, FakeExchange]]
) -> None:
    port, exchange = open_port()
    exchange.leave()
    assert session.closed
    assert session.close_reason == "transport close"
    assert not port.writable
    assert exchange.answers == 0


# -- JSONP ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("query", "index"), [("", None), ("j=0", 0), ("j=12", 12), ("j=007", 7)])
def test_jsonp_index_is_a_number(query: str, index: int | None) -> None:
    assert jsonp_index(request(query)) == index


@pytest.mark.parametrize(
    "query", ["j=", "j=-1", "j=1;alert(1)", "j=%D9%A1", "j=1234567890", "j=1&j=1", "j=%B2", "j=1e3", "j=+1"]
)
def test_jsonp_index_that_could_be_script_is_refused(query: str) -> None:
    with pytest.raises(RequestRefused):
        jsonp_index(request(query))


@given(st.text())
def test_jsonp_argument_is_the_payload_and_cannot_end_the_script(payload: str) -> None:
    payload = payload.encode("utf-8", "replace").decode()
    script = jsonp_script(3, payload.encode()).decode()
    assert script.startswith("___eio[3](")
    assert script.endswith(");")
    literal = script[len("___eio[3](") : -len(");")]
    assert json.loads(literal) == payload
    assert script.isascii()
    assert not {"<", "/", "\u2028"} & set(literal)


def test_jsonp_answers_as_script(open_port: Callable[..., tuple[PollingPort, FakeExchange]]) -> None:
    port, exchange = open_port(query="j=5")
    port.write(extend(None, text("4</script>\u2028")))
    assert exchange.headers["content-type"] == "text/javascript; charset=UTF-8"
    assert exchange.headers["x-content-type-options"] == "nosniff"
    assert exchange.body == b'___eio[5]("4\\u003c\\u002fscript>\\u2028");'


# -- compression ---------------------------------------------------------------------------------------------


def answered(accept: str | None, size: int = 2000, threshold: int | None = 1024) -> FakeExchange:
    exchange = FakeExchange(request(headers={} if accept is None else {"accept-encoding": accept}))
    respond_with_payload(exchange, extend(None, text("4" + "x" * (size - 1))), threshold)
    return exchange


@pytest.mark.parametrize("accept", ["gzip", "deflate, gzip;q=1.0, *;q=0.5", "br , GZIP", "gzip; q=0.001"])
def test_payload_is_compressed_for_clients_that_take_it(accept: str) -> None:
    exchange = answered(accept)
    assert exchange.headers["content-encoding"] == "gzip"
    assert "Accept-Encoding" in exchange.headers["vary"]
    assert gzip.decompress(exchange.body) == b"4" + b"x" * 1999


@pytest.mark.parametrize("accept", [None, "", "deflate, br", "gzip;q=0", "gzip; q=0.0", "gzip;Q=0.000", "xgzip"])
def test_payload_is_not_compressed_for_clients_that_refuse(accept: str | None) -> None:
    exchange = answered(accept)
    assert "content-encoding" not in exchange.headers
    assert len(exchange.body) == 2000


def test_short_payloads_are_not_compressed() -> None:
    assert "content-encoding" in answered("gzip", 1024).headers
    assert "content-encoding" not in answered("gzip", 1023).headers
    assert "content-encoding" not in answered("gzip", threshold=None).headers
