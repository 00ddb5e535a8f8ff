"""Which request is for whom, and every refusal with its code and status."""

import asyncio
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.transports.engine_doubles import (
    WEBSOCKET_HEADERS,
    FakeExchange,
    FakeLoop,
    client_frame,
    request,
    server_frames,
    stream_records,
)
from transports.engine import Engine
from transports.negotiation import MAX_LINGERING, _jsonp_body
from transports.protocol.frames import CLOSE, TEXT
from transports.protocol.lifecycle import State
from transports.session import Session

Ask = Callable[..., FakeExchange]

POLLING = "EIO=4&transport=polling"


@pytest.fixture
def polling(engine: Engine, ask: Ask) -> Session:
    """A session that began with long-polling."""
    ask(engine, POLLING)
    [session] = engine.sockets.values()
    return session


@pytest.mark.parametrize(
    ("query", "method", "expected"),
    [
        ("EIO=4", "GET", (400, 0)),
        ("EIO=4&transport=carrier-pigeon", "GET", (400, 0)),
        ("EIO=4&transport=polling&transport=polling", "GET", (400, 3)),
        ("transport=polling", "GET", (400, 5)),
        ("EIO=3&transport=polling", "GET", (400, 5)),
        ("EIO=4&EIO=4&transport=polling", "GET", (400, 3)),
        ("EIO=4&transport=polling&sid=unknown", "GET", (400, 1)),
        ("EIO=4&transport=polling&sid=", "GET", (400, 1)),
        ("EIO=4&transport=polling&sid=a&sid=b", "GET", (400, 3)),
        ("EIO=4&transport=polling&sid=unknown", "POST", (400, 1)),
        ("EIO=4&transport=websocket&sid=unknown", "GET", (400, 1)),
        ("EIO=4&transport=polling", "POST", (400, 2)),
        ("EIO=4&transport=polling", "PUT", (400, 2)),
        ("EIO=4&transport=polling&sid=unknown", "DELETE", (400, 2)),
        ("EIO=4&transport=websocket", "GET", (400, 3)),
        ("EIO=4&transport=polling&j=x", "GET", (400, 3)),
        ("EIO=4&transport=xhr-streaming&ack=x", "GET", (400, 3)),
        ("EIO=4&transport=xhr-streaming&ack=1", "GET", (400, 3)),
        ("EIO=%ff&transport=polling", "GET", (400, 3)),
    ],
)
def test_refusals_have_the_reference_servers_codes(
    engine: Engine, ask: Ask, query: str, method: str, expected: tuple[int, int]
) -> None:
    exchange = ask(engine, query, method=method)
    assert exchange.error == expected
    assert exchange.headers["content-type"] == "application/json"
    assert exchange.answers == 1
    assert not engine.sockets
    assert sum(engine.counters.refused.values()) == 1


def test_transport_that_is_not_offered_is_unknown(make_engine: Callable[..., Engine], ask: Ask) -> None:
    engine = make_engine(transports=["websocket"])
    assert ask(engine, POLLING).error == (400, 0)
    assert ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS).transport is not None


def test_websocket_upgrade_header_with_another_transport_is_refused(engine: Engine, ask: Ask) -> None:
    assert ask(engine, POLLING, headers=WEBSOCKET_HEADERS).error == (400, 3)
    assert not engine.sockets


def test_websocket_version_that_is_not_spoken_is_426_and_named(engine: Engine, ask: Ask) -> None:
    headers = {**WEBSOCKET_HEADERS, "sec-websocket-version": "8"}
    exchange = ask(engine, "EIO=4&transport=websocket", headers=headers)
    assert exchange.status == 426
    assert exchange.headers["sec-websocket-version"] == "13"


def test_header_that_is_not_latin_1_is_refused_like_any_other(engine: Engine, ask: Ask) -> None:
    headers = {**WEBSOCKET_HEADERS, "sec-websocket-key": "\u20ac" * 24}
    assert ask(engine, "EIO=4&transport=websocket", headers=headers).error == (400, 3)


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming"])
def test_origin_that_no_header_can_carry_leaves_no_session(engine: Engine, ask: Ask, transport: str) -> None:
    headers = {"host": "\u20ac", "origin": "http://\u20ac"}
    try:
        ask(engine, f"EIO=4&transport={transport}", headers=headers)
    except UnicodeEncodeError:
        pytest.fail("the negotiator never raises for what the peer sent")
    for session in engine.sockets.values():
        assert session.state is State.OPEN, "a session without connection would stay for ever"


def test_options_is_answered_without_looking_further(engine: Engine, ask: Ask) -> None:
    exchange = ask(engine, "", method="OPTIONS", headers={"host": "example.org", "origin": "http://example.org"})
    assert (exchange.status, exchange.body) == (204, b"")
    assert exchange.headers["access-control-allow-origin"] == "http://example.org"


def test_foreign_origin_is_refused_before_anything_else(engine: Engine, ask: Ask) -> None:
    headers = {"host": "example.org", "origin": "https://evil.example"}
    for query in (POLLING, "EIO=4&transport=xhr-streaming", "nonsense=1"):
        assert ask(engine, query, headers=headers).error == (403, 4)
    exchange = ask(engine, "EIO=4&transport=websocket", headers={**WEBSOCKET_HEADERS, "origin": "https://evil.example"})
    assert exchange.error == (403, 4)
    assert "access-control-allow-origin" not in exchange.headers


def test_refusals_carry_cors_headers_where_the_origin_is_allowed(engine: Engine, ask: Ask) -> None:
    exchange = ask(engine, "EIO=3", headers={"host": "example.org", "origin": "http://example.org"})
    assert exchange.error == (400, 0)
    assert exchange.headers["access-control-allow-origin"] == "http://example.org"


def test_draining_server_refuses_handshakes_and_serves_its_sessions(engine: Engine, ask: Ask, polling: Session) -> None:
    engine.is_draining = True
    assert ask(engine, POLLING).error == (503, 4)
    assert ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS).error == (503, 4)
    assert ask(engine, f"{POLLING}&sid={polling.id}", b"4x", method="POST").status == 200


# -- handshake -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "upgrades"),
    [
        ("EIO=4&transport=polling", '["websocket"]'),
        ("EIO=4&transport=polling&transports=polling,xhr-streaming,websocket", '["xhr-streaming","websocket"]'),
        ("EIO=4&transport=polling&transports=polling", '["websocket"]'),
        ("EIO=4&transport=xhr-streaming", '["websocket"]'),
        ("EIO=4&transport=xhr-streaming&transports=polling,xhr-streaming", '["websocket"]'),
    ],
)
def test_open_packet_offers_what_the_client_can_use(engine: Engine, ask: Ask, query: str, upgrades: str) -> None:
    exchange = ask(engine, query)
    opening = exchange.packets[0] if exchange.transport is None else stream_records(exchange.transport.take())[0]
    assert f'"upgrades":{upgrades}' in opening
    assert '"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000' in opening


def test_open_packet_offers_nothing_where_upgrades_are_off(make_engine: Callable[..., Engine], ask: Ask) -> None:
    assert '"upgrades":[]' in ask(make_engine(allow_upgrades=False), POLLING).packets[0]
    assert '"upgrades":[]' in ask(make_engine(transports=["polling"]), POLLING).packets[0]


@pytest.mark.parametrize(
    ("answer", "refused"),
    [(None, None), (True, None), (False, "Unauthorized"), ("go away", "go away"), ({"a": 1}, "{'a': 1}")],
)
@pytest.mark.parametrize("is_async", [False, True])
def test_connect_handler_accepts_or_refuses(
    engine: Engine, ask: Ask, answer: Any, refused: str | None, is_async: bool
) -> None:
    def connect(sid: str, environ: dict[str, Any]) -> Any:
        assert environ["QUERY_STRING"] == POLLING
        return answer

    async def connect_later(sid: str, environ: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return answer

    engine.on("connect", connect_later if is_async else connect)
    exchange = ask(engine, POLLING)
    if refused is None:
        assert exchange.packets[0].startswith("0{")
    else:
        assert exchange.error == (401, 4)
        assert refused in exchange.body.decode()
        assert not engine.sockets


@pytest.mark.parametrize("is_async", [False, True])
def test_connect_handler_that_fails_refuses(engine: Engine, ask: Ask, is_async: bool) -> None:
    def connect(sid: str, environ: Any) -> None:
        raise RuntimeError("secret")

    async def connect_later(sid: str, environ: Any) -> None:
        raise RuntimeError("secret")

    engine.on("connect", connect_later if is_async else connect)
    exchange = ask(engine, POLLING)
    assert exchange.error == (401, 4)
    assert b"secret" not in exchange.body
    assert not engine.sockets


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
def test_messages_sent_by_the_connect_handler_follow_the_open_packet(engine: Engine, ask: Ask, transport: str) -> None:
    async def connect(sid: str, environ: Any) -> None:
        await engine.send(sid, "hello")
        await asyncio.sleep(0.1)
        await engine.send(sid, b"\x01")

    engine.on("connect", connect)
    headers = WEBSOCKET_HEADERS if transport == "websocket" else None
    exchange = ask(engine, f"EIO=4&transport={transport}", headers=headers)
    assert exchange.answers == 0
    engine.loop.advance(0.2)  # type: ignore[attr-defined]
    if transport == "polling":
        received: list[Any] = exchange.packets
    else:
        assert exchange.transport is not None
        data = exchange.transport.take()
        received = stream_records(data) if transport == "xhr-streaming" else [c for _, c in server_frames(data)]
    assert received[0].startswith("0{")
    assert received[1:] == ["4hello", b"\x01" if transport == "websocket" else "bAQ=="]


@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
def test_session_that_its_connect_handler_disconnects_is_ended_cleanly(
    engine: Engine, ask: Ask, loop: FakeLoop, transport: str
) -> None:
    async def connect(sid: str, environ: Any) -> None:
        await engine.disconnect(sid)

    engine.on("connect", connect)
    headers = WEBSOCKET_HEADERS if transport == "websocket" else None
    exchange = ask(engine, f"EIO=4&transport={transport}", headers=headers)
    loop.advance(15)
    assert loop.faults == []
    assert exchange.answers == 1, "the client gets an answer"
    assert exchange.transport is None or exchange.transport.is_closing(), "and its connection does not stay"
    assert not engine.sockets


def test_session_that_ends_while_the_server_drains_and_its_connect_handler_thinks(
    engine: Engine, ask: Ask, loop: FakeLoop
) -> None:
    async def connect(sid: str, environ: Any) -> None:
        await asyncio.sleep(8)

    engine.on("connect", connect)
    exchange = ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS)
    loop.run(engine.drain(10.0))
    loop.advance(10)
    assert loop.faults == []
    assert exchange.answers == 1
    assert exchange.transport is None or exchange.transport.is_closing()


@pytest.mark.parametrize("transport", ["xhr-streaming", "websocket"])
def test_client_that_left_during_the_handshake_is_reported_as_disconnected(
    engine: Engine, ask: Ask, loop: FakeLoop, transport: str
) -> None:
    seen: list[str] = []

    async def connect(sid: str, environ: Any) -> None:
        seen.append("connect")
        await asyncio.sleep(1)

    engine.on("connect", connect)
    engine.on("disconnect", lambda sid, reason: seen.append(reason))
    headers = WEBSOCKET_HEADERS if transport == "websocket" else None
    exchange = ask(engine, f"EIO=4&transport={transport}", headers=headers)
    exchange.leave()
    loop.advance(2)
    assert not engine.sockets
    assert seen == ["connect", "transport close"], "what connect has set up must be taken down"


def test_client_that_left_before_a_refusal_is_not_reported(engine: Engine, ask: Ask, loop: FakeLoop) -> None:
    seen: list[str] = []

    async def connect(sid: str, environ: Any) -> bool:
        await asyncio.sleep(1)
        return False

    engine.on("connect", connect)
    engine.on("disconnect", lambda sid, reason: seen.append(reason))
    ask(engine, POLLING).leave()
    loop.advance(2)
    assert seen == []
    assert not engine.sockets


def test_session_that_is_still_opening_is_unknown_to_requests(engine: Engine, ask: Ask) -> None:
    async def connect(sid: str, environ: Any) -> None:
        await asyncio.sleep(1)

    engine.on("connect", connect)
    ask(engine, POLLING)
    [session_id] = engine.sockets
    assert ask(engine, f"{POLLING}&sid={session_id}").error == (400, 1)


@pytest.mark.parametrize(
    ("cookie", "expected"),
    [
        ("io", "io={sid}; path=/; SameSite=Lax"),
        ({"name": "io", "path": "/x", "secure": True, "HttpOnly": True}, "io={sid}; path=/x; secure; HttpOnly"),
    ],
)
@pytest.mark.parametrize("transport", ["polling", "xhr-streaming", "websocket"])
def test_handshake_sets_the_cookie_on_every_transport(
    make_engine: Callable[..., Engine], ask: Ask, cookie: Any, expected: str, transport: str
) -> None:
    engine = make_engine(cookie=cookie)
    exchange = ask(
        engine, f"EIO=4&transport={transport}", headers=WEBSOCKET_HEADERS if transport == "websocket" else None
    )
    [session] = engine.sockets.values()
    line = expected.replace("{sid}", session.id)
    if exchange.transport is None:
        assert exchange.headers["set-cookie"] == line
        assert "set-cookie" not in ask(engine, f"{POLLING}&sid={session.id}").headers
    else:
        assert f"\r\nSet-Cookie: {line}\r\n".encode() in exchange.transport.take()


# -- requests of a session -----------------------------------------------------------------------------------


def test_get_waits_until_there_is_something(engine: Engine, ask: Ask, polling: Session, loop: FakeLoop) -> None:
    exchange = ask(engine, f"{POLLING}&sid={polling.id}")
    assert exchange.answers == 0
    loop.run(engine.send(polling.id, "a"))
    loop.settle()
    assert exchange.packets == ["4a"]


def test_second_get_of_polling_is_refused_and_ends_the_session(engine: Engine, ask: Ask, polling: Session) -> None:
    first = ask(engine, f"{POLLING}&sid={polling.id}")
    assert ask(engine, f"{POLLING}&sid={polling.id}").error == (400, 3)
    assert first.packets == ["1"]
    assert polling.close_reason == "parse error"


def test_post_is_answered_with_ok_and_delivered(engine: Engine, ask: Ask, polling: Session) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    exchange = ask(engine, f"{POLLING}&sid={polling.id}", "4\u20ac\x1e4b\x1ebAQ==".encode(), method="POST")
    assert (exchange.status, exchange.body) == (200, b"ok")
    assert got == ["\u20ac", "b", b"\x01"]


@pytest.mark.parametrize("body", [b"", b"x", b"4a\x1e", b"\xff", b"b!", b"0", b"2", b"5", b"4a\x1e2probe"])
def test_post_with_a_malformed_body_is_refused_and_ends_the_session(
    engine: Engine, ask: Ask, polling: Session, body: bytes
) -> None:
    assert ask(engine, f"{POLLING}&sid={polling.id}", body, method="POST").error == (400, 3)
    assert polling.close_reason == "parse error"


def test_post_over_the_limit_is_413_and_ends_the_session(make_engine: Callable[..., Engine], ask: Ask) -> None:
    engine = make_engine(max_http_buffer_size=100)
    ask(engine, POLLING)
    [session] = engine.sockets.values()
    assert ask(engine, f"{POLLING}&sid={session.id}", b"4" * 100, method="POST").status == 200
    assert ask(engine, f"{POLLING}&sid={session.id}", b"4" * 101, method="POST").status == 413
    assert session.close_reason == "parse error"


def test_two_posts_at_once_are_refused_and_end_the_session(engine: Engine, ask: Ask, polling: Session) -> None:
    first = ask(engine, f"{POLLING}&sid={polling.id}", None, method="POST")
    assert ask(engine, f"{POLLING}&sid={polling.id}", b"4b", method="POST").error == (400, 3)
    assert polling.closed
    first.arrive(b"4a")
    assert first.answers == 1


def test_post_whose_peer_leaves_makes_room_for_the_next(engine: Engine, ask: Ask, polling: Session) -> None:
    ask(engine, f"{POLLING}&sid={polling.id}", None, method="POST").leave()
    assert ask(engine, f"{POLLING}&sid={polling.id}", b"4b", method="POST").status == 200


def test_close_packet_in_a_post_ends_the_poll_with_noop(engine: Engine, ask: Ask, polling: Session) -> None:
    poll = ask(engine, f"{POLLING}&sid={polling.id}")
    assert ask(engine, f"{POLLING}&sid={polling.id}", b"1", method="POST").status == 200
    assert poll.packets == ["6"]
    assert polling.close_reason == "client disconnect"
    assert ask(engine, f"{POLLING}&sid={polling.id}").error == (400, 1)


def test_request_on_another_transport_than_the_sessions_is_refused(engine: Engine, ask: Ask, polling: Session) -> None:
    assert ask(engine, f"EIO=4&transport=xhr-streaming&sid={polling.id}", b"4a", method="POST").error == (400, 3)
    assert ask(engine, f"EIO=4&transport=websocket&sid={polling.id}", b"4a", method="POST").error == (400, 3)
    assert polling.state is State.OPEN
    ask(engine, "EIO=4&transport=xhr-streaming")
    streaming = list(engine.sockets.values())[-1]
    assert ask(engine, f"{POLLING}&sid={streaming.id}").error == (400, 3)
    assert streaming.state is State.OPEN


def test_request_after_a_missed_pong_is_too_late_whatever_the_wheel_says(
    engine: Engine, ask: Ask, polling: Session, loop: FakeLoop
) -> None:
    loop.advance(25.3)
    loop.block(20)
    assert ask(engine, f"{POLLING}&sid={polling.id}").error == (400, 1)
    assert polling.close_reason == "ping timeout"


def test_jsonp_post_is_a_form(engine: Engine, ask: Ask, polling: Session) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    for data in ("4plain \u20ac", "4line\\nbreak", "4kept\\\\n", "4a\x1e4b"):
        body = b"d=" + quote(data).encode()
        assert ask(engine, f"{POLLING}&sid={polling.id}&j=0", body, method="POST").status == 200
    assert got == ["plain \u20ac", "line\nbreak", "kept\\n", "a", "b"]


@given(st.text(st.sampled_from("\\n\n%x4 +&=\u20ac\U0001f600"), max_size=12))
def test_jsonp_form_says_what_its_escapes_say(data: str) -> None:
    """The reference server's rule, written as it has it: one escape after the other."""
    unescaped = re.sub(r"(\\)?\\n", lambda match: match[0] if match[1] else "\n", data)
    assert _jsonp_body(b"x=1&d=" + quote_plus(data).encode()).decode() == unescaped.replace("\\\\n", "\\n")


@pytest.mark.parametrize(
    "body", [b"", b"x=1", b"d=%ff", b"d", b"4a", b"\xff", b"d=1&" * 9, b"d=4%zz", b"d=4%", b"d=4\xe2\x82\xac"]
)
def test_jsonp_post_that_is_no_such_form_is_refused(engine: Engine, ask: Ask, polling: Session, body: bytes) -> None:
    assert ask(engine, f"{POLLING}&sid={polling.id}&j=0", body, method="POST").error == (400, 3)
    assert polling.closed


# -- upgrades ------------------------------------------------------------------------------------------------


def open_websocket(engine: Engine, ask: Ask, session: Session) -> FakeExchange:
    return ask(engine, f"EIO=4&transport=websocket&sid={session.id}", headers=WEBSOCKET_HEADERS)


def test_upgrade_to_websocket_step_by_step(engine: Engine, ask: Ask, polling: Session, loop: FakeLoop) -> None:
    poll = ask(engine, f"{POLLING}&sid={polling.id}")
    exchange = open_websocket(engine, ask, polling)
    transport = exchange.transport
    assert transport is not None
    assert server_frames(transport.take()) == []
    transport.protocol.data_received(client_frame(TEXT, "2probe"))
    assert server_frames(transport.take()) == [(TEXT, "3probe")]
    assert poll.packets == ["6"]
    loop.run(engine.send(polling.id, "waits"))
    assert ask(engine, f"{POLLING}&sid={polling.id}").packets == ["4waits"]
    assert ask(engine, f"{POLLING}&sid={polling.id}").packets == ["6"]
    loop.run(engine.send(polling.id, "for websocket"))
    loop.settle()
    transport.protocol.data_received(client_frame(TEXT, "5"))
    assert server_frames(transport.take()) == [(TEXT, "4for websocket")]
    assert polling.transport == "websocket"
    assert ask(engine, f"{POLLING}&sid={polling.id}").error == (400, 3)
    assert polling.state is State.OPEN


def test_poll_during_probe_returns_noop(engine: Engine, ask: Ask, polling: Session) -> None:
    transport = open_websocket(engine, ask, polling).transport
    assert transport is not None
    transport.protocol.data_received(client_frame(TEXT, "2probe"))
    assert ask(engine, f"{POLLING}&sid={polling.id}").packets == ["6"]


def test_upgrade_to_xhr_streaming_probes_by_post(engine: Engine, ask: Ask, polling: Session, loop: FakeLoop) -> None:
    query = f"EIO=4&transport=xhr-streaming&sid={polling.id}"
    poll = ask(engine, f"{POLLING}&sid={polling.id}")
    transport = ask(engine, query + "&ack=0").transport
    assert transport is not None
    assert stream_records(transport.take()) == []
    assert ask(engine, query, b"2probe", method="POST").status == 200
    assert stream_records(transport.take()) == ["3probe"]
    assert poll.packets == ["6"]
    assert ask(engine, query, b"5", method="POST").status == 200
    assert polling.transport == "xhr-streaming"
    loop.run(engine.send(polling.id, "a"))
    loop.settle()
    assert stream_records(transport.take()) == ["4a"]


def test_probe_may_be_posted_while_the_old_transport_is_posting(engine: Engine, ask: Ask, polling: Session) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    ask(engine, f"EIO=4&transport=xhr-streaming&sid={polling.id}&ack=0")
    data = ask(engine, f"{POLLING}&sid={polling.id}", None, method="POST")
    probe = ask(engine, f"EIO=4&transport=xhr-streaming&sid={polling.id}", None, method="POST")
    data.arrive(b"4a")
    assert (data.status, got) == (200, ["a"])
    # The end of one is not the end of the other.
    assert ask(engine, f"{POLLING}&sid={polling.id}", b"4b", method="POST").status == 200
    probe.arrive(b"2probe")
    assert (probe.status, polling.is_releasing) == (200, True)


def test_probe_that_finds_its_stream_cut_is_answered_in_the_next(engine: Engine, ask: Ask, polling: Session) -> None:
    query = f"EIO=4&transport=xhr-streaming&sid={polling.id}"
    first = ask(engine, query + "&ack=0").transport
    assert first is not None
    first.lose()
    assert ask(engine, query, b"2probe", method="POST").status == 200
    second = ask(engine, query + "&ack=0").transport
    assert second is not None
    assert stream_records(second.take()) == ["3probe"]
    assert ask(engine, query, b"5", method="POST").status == 200
    assert polling.transport == "xhr-streaming"


def test_upgrade_from_xhr_streaming_to_websocket_ends_the_stream(engine: Engine, ask: Ask, loop: FakeLoop) -> None:
    stream = ask(engine, "EIO=4&transport=xhr-streaming&ack=0").transport
    [session] = engine.sockets.values()
    assert stream is not None
    assert len(stream_records(stream.take())) == 1
    transport = open_websocket(engine, ask, session).transport
    assert transport is not None
    transport.protocol.data_received(client_frame(TEXT, "2probe"))
    assert stream_records(stream.take()) == ["6"]
    assert stream.is_closed
    again = ask(engine, f"EIO=4&transport=xhr-streaming&sid={session.id}&ack=2").transport
    assert again is not None
    assert stream_records(again.take()) == ["6"]
    assert again.is_closed
    transport.protocol.data_received(client_frame(TEXT, "5"))
    assert session.transport == "websocket"
    loop.advance(20)
    assert session.state is State.OPEN


def test_second_upgrade_is_accepted_and_closed_and_the_first_goes_on(
    engine: Engine, ask: Ask, polling: Session
) -> None:
    first = open_websocket(engine, ask, polling).transport
    second = open_websocket(engine, ask, polling).transport
    assert first is not None
    assert second is not None
    [(opcode, body)] = server_frames(second.take())
    assert opcode == CLOSE
    assert isinstance(body, bytes)
    assert int.from_bytes(body[:2], "big") == 1008
    first.protocol.data_received(client_frame(TEXT, "2probe"))
    first.protocol.data_received(client_frame(TEXT, "5"))
    assert polling.transport == "websocket"


def test_websocket_for_a_session_on_websocket_is_accepted_and_closed(engine: Engine, ask: Ask) -> None:
    ask(engine, "EIO=4&transport=websocket", headers=WEBSOCKET_HEADERS)
    [session] = engine.sockets.values()
    transport = open_websocket(engine, ask, session).transport
    assert transport is not None
    assert server_frames(transport.take())[0][0] == CLOSE
    assert session.state is State.OPEN


def test_malformed_upgrade_request_leaves_the_session_alone(engine: Engine, ask: Ask, polling: Session) -> None:
    assert ask(engine, f"EIO=4&transport=websocket&sid={polling.id}").error == (400, 3)
    assert ask(engine, f"EIO=4&transport=xhr-streaming&sid={polling.id}&ack=x").error == (400, 3)
    assert polling.state is State.OPEN
    assert polling.transport == "polling"


def test_upgrade_whose_peer_is_gone_leaves_the_session_alone(engine: Engine, ask: Ask, polling: Session) -> None:
    exchange = FakeExchange(request(f"EIO=4&transport=websocket&sid={polling.id}", headers=WEBSOCKET_HEADERS))
    exchange.is_gone = True
    engine.handle(exchange)
    assert polling.state is State.OPEN
    assert polling.may_upgrade_to("websocket")


def test_messages_on_the_websocket_before_the_upgrade_packet_drop_it(
    engine: Engine, ask: Ask, polling: Session
) -> None:
    got: list[Any] = []
    engine.on("message", lambda sid, data: got.append(data))
    transport = open_websocket(engine, ask, polling).transport
    assert transport is not None
    transport.take()
    transport.protocol.data_received(client_frame(TEXT, "2probe") + client_frame(TEXT, "4too early"))
    assert got == []
    assert [opcode for opcode, _ in server_frames(transport.take())] == [TEXT, CLOSE]
    assert polling.state is State.OPEN
    assert polling.transport == "polling"


def test_refused_upgrades_cannot_pile_up_as_connections(engine: Engine, ask: Ask, polling: Session) -> None:
    """Each waits some seconds for its peer to leave, and no bound on sessions or addresses counts it."""
    target = f"EIO=4&transport=websocket&sid={polling.id}"
    answers = [ask(engine, target, headers=WEBSOCKET_HEADERS) for _ in range(MAX_LINGERING + 10)]
    assert len(engine.lingering) == MAX_LINGERING
    assert {answer.error for answer in answers[MAX_LINGERING + 1 :]} == {(400, 3)}
    assert engine.counters.refused["upgrade_under_way"] == MAX_LINGERING + 9
