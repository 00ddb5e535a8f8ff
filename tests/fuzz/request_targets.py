"""Everything read from a request's head, and the bodies of JSONP."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any
from urllib.parse import quote_plus

from tests.unit.transports.engine_doubles import FakeExchange, FakePort, running_loop
from transports import catalogue
from transports.cors import AllowedOrigins, CorsPolicy
from transports.engine import Engine
from transports.errors import RemoteProtocolError, RequestRefused
from transports.forwarded import TrustedProxies
from transports.negotiation import refuse
from transports.outbound import OutboundMessage, extend
from transports.polling import jsonp_index, respond_with_payload
from transports.protocol import websocket_handshake
from transports.protocol.http1 import add_header, encode_response_head, parse_head
from transports.protocol.packets import PacketType, decode_payload
from transports.request import HttpRequest

from .choices import Choices

_PROXIES = TrustedProxies(["loopback", "10.0.0.0/8"])
_ORIGINS: tuple[AllowedOrigins, ...] = (
    None,
    "*",
    [],
    "https://a.example",
    ["https://a.example", "http://example.org"],
    lambda origin: origin.startswith("http"),
    lambda origin, environ: environ["REQUEST_METHOD"] == "GET",
)
_PARAMETERS = ("transport", "EIO", "sid", "j", "ack", "padding", "transports", "t")
_SCRIPT = re.compile(rb"___eio\[(\d{1,9})\]\((.*)\);", re.DOTALL)
_CLIENT_HEADERS = ("REQUEST_METHOD", "QUERY_STRING", "PATH_INFO", "REMOTE_ADDR", "RAW_URI", "SERVER_PROTOCOL")
PAYLOAD = '4["</script>","\u2028\u00e9"]\x1eb//+/'.encode()


def read_request(data: bytes) -> HttpRequest | None:
    """As the listener reads it, and where that refuses, as laxly as aiohttp would hand it over."""
    try:
        head = parse_head(data)
        return HttpRequest(
            head.method, head.target, head.headers, http_version=head.http_version, peer="127.0.0.1", proxies=_PROXIES
        )
    except RemoteProtocolError:
        first, *lines = data.decode("latin-1").split("\r\n")
        words = first.split(" ")
        if len(words) != 3:
            return None
        target = words[1].encode("latin-1").decode(errors="surrogateescape")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            if not name.isascii() or re.search("[\r\n\0]", value):
                return None
            add_header(headers, name.lower(), value.strip())
        return HttpRequest(words[0], target, headers, peer="127.0.0.1", proxies=_PROXIES)


def check_request(data: bytes) -> None:
    choices = Choices(data)
    cors = CorsPolicy(choices.pick(_ORIGINS), bool(choices.byte() & 1))
    request = read_request(choices.rest())
    if request is None:
        return
    for name in _PARAMETERS:
        try:
            value = request.parameter(name)
        except RequestRefused as refusal:
            check_refusal(request, refusal)
        else:
            assert value is None or isinstance(value, str)
    check_environ(request)
    exchange = FakeExchange(request)
    try:
        cors.apply(exchange)
    except RequestRefused as refused:
        assert refused.refusal is catalogue.ORIGIN_REFUSED
        check_refusal(request, refused)
    encode_response_head(200, exchange.extra_headers)
    check_answer(request)
    check_websocket(request)


def check_environ(request: HttpRequest) -> None:
    environ = request.environ()
    client = request.client  # whatever a trusted proxy has said of it
    bare = HttpRequest(
        request.method,
        request.target,
        {},
        http_version=request.http_version,
        remote=client.remote,
        scheme=client.scheme,
    ).environ()
    for name in _CLIENT_HEADERS:
        assert environ[name] == bare[name], f"a header has replaced {name}"
    assert all(isinstance(name, str) and "-" not in name for name in environ)


def check_refusal(request: HttpRequest, refusal: RequestRefused) -> None:
    """It can be told to the client."""
    exchange = FakeExchange(request)
    refuse(exchange, refusal)
    assert 400 <= exchange.status < 500
    assert set(json.loads(exchange.body)) >= {"code", "message"}
    encode_response_head(exchange.status, list(exchange.headers.items()))


def check_answer(request: HttpRequest) -> None:
    """JSONP and compression change the form of an answer, never its content."""
    try:
        index = jsonp_index(request)
    except RequestRefused as refusal:
        check_refusal(request, refusal)
        return
    exchange = FakeExchange(request)
    respond_with_payload(exchange, extend(None, OutboundMessage(PAYLOAD)), 1)
    body = exchange.body
    if exchange.headers.get("content-encoding") == "gzip":
        assert "gzip" in request.headers["accept-encoding"].lower()
        body = gzip.decompress(body)
    if index is None:
        assert body == PAYLOAD
        return
    match = _SCRIPT.fullmatch(body)
    assert match is not None, body
    assert int(match[1]) == index
    assert json.loads(match[2]).encode() == PAYLOAD
    assert b"<" not in match[2] and b"/" not in match[2] and match[2].isascii()


def check_websocket(request: HttpRequest) -> None:
    assert isinstance(websocket_handshake.asks_for_websocket(request), bool)
    try:
        key = websocket_handshake.check(request)
    except RequestRefused as refused:
        assert refused.refusal.status in (400, 426)
        check_refusal(request, refused)
        return
    assert websocket_handshake.asks_for_websocket(request)
    answer = websocket_handshake.accept(key)
    assert answer.startswith(b"HTTP/1.1 101 ") and answer.endswith(b"\r\n\r\n")
    assert answer.count(b"\r\n\r\n") == 1 and answer.count(b"\r\n") == 5, answer


def check_negotiation(data: bytes) -> None:
    """One request to an engine with two sessions, ``a`` on long-polling and ``b`` on a WebSocket.

    The body follows an empty line.
    """
    head, _, body = data.partition(b"\r\n\r\n")
    request = read_request(head)
    if request is None:
        return
    with running_loop() as loop:
        engine = Engine(cookie="io", max_http_buffer_size=1000)
        for name, transport in (("a", "polling"), ("b", "websocket")):
            engine.generate_id = lambda name=name: name  # type: ignore[method-assign]
            port: Any = FakePort(transport)
            engine.create_session(HttpRequest("GET", "/engine.io/?", {})).open(port)
        engine.generate_id = lambda: "c"  # type: ignore[method-assign]
        exchange = FakeExchange(request, body)
        engine.handle(exchange)
        loop.settle()
        if exchange.transport is None and exchange.answers:
            assert exchange.status in (200, 204, 400, 401, 403, 413, 426), exchange.status
            encode_response_head(exchange.status, list(exchange.headers.items()))
            if exchange.status >= 400:
                assert set(json.loads(exchange.body)) >= {"code", "message"}
        assert exchange.answers <= 1
        exchange.leave()
        loop.advance(100)
        assert loop.faults == [], loop.faults
        assert engine.sockets == {}, "a session has outlived its client"


def check_jsonp(data: bytes) -> None:
    """A body that a form may send is read as what the page meant; any other is refused."""
    choices = Choices(data)
    is_form = choices.byte() & 1
    rest = choices.rest()
    body = _as_form(rest.decode(errors="replace")) if is_form else rest
    with running_loop() as loop:
        engine = Engine()
        received: list[Any] = []
        engine.on("message", lambda _, message: received.append(message))
        session = engine.create_session(HttpRequest("GET", "/engine.io/?", {}))
        port: Any = FakePort("polling")
        session.open(port)
        target = f"/engine.io/?EIO=4&transport=polling&j=0&sid={session.id}"
        exchange = FakeExchange(HttpRequest("POST", target, {}), body)
        engine.handle(exchange)
        loop.settle()
        assert exchange.answers == 1 and exchange.status in (200, 400, 413), exchange.status
        assert loop.faults == [], loop.faults
        if is_form:
            check_meaning(rest.decode(errors="replace"), exchange.status, received)


def _as_form(payload: str) -> bytes:
    """As the reference client escapes it, and browsers encode it."""
    return b"d=" + quote_plus(payload.replace("\\n", "\\\n").replace("\n", "\\n")).encode()


def check_meaning(payload: str, status: int, received: list[Any]) -> None:
    if "\\\n" in payload:
        return  # the form's escapes cannot tell it from an escaped newline
    try:
        packets = list(decode_payload(payload.encode()))
    except RemoteProtocolError:
        assert status in (400, 413)
        return
    if all(packet.type is PacketType.MESSAGE for packet in packets):
        assert (status, received) == (200, [packet.data for packet in packets])
