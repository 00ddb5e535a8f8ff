"""Requests that no honest client sends: each gets one answer, and nobody else notices.

On aiohttp's own runner its parser answers some of them before the engine sees them; there the status alone is ours
to know. Spec: RFC 9112; Engine.IO v4.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

import pytest

from tests.conformance.conftest import Door
from tests.support.raw import Connection, closing, websocket_headers
from tests.support.waiting import eventually

PATH = b"/socket.io/?EIO=4&transport=polling"
HOST = b"Host: test.example\r\n"


def get(target: bytes = PATH, *lines: bytes, method: bytes = b"GET", version: bytes = b"HTTP/1.1") -> bytes:
    return b"%b %b %b\r\n%b%b\r\n" % (method, target, version, HOST, b"".join(line + b"\r\n" for line in lines))


def query(text: str) -> bytes:
    return get(b"/socket.io/?" + text.encode())


async def check_refusal(door: Door, data: bytes, code: int, status: int = 400, aiohttp_status: int = 400) -> None:
    response = await door.answer(data)
    if door.listener == "aiohttp" and response.headers.get("content-type", "").startswith("text/plain"):
        assert response.status == aiohttp_status, "aiohttp's parser answers otherwise"
        return
    assert (response.status, response.json()["code"]) == (status, code)
    assert response.headers["content-type"] == "application/json"


# -- request lines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "code"),
    [
        (b"get", 3),
        (b"Post", 3),
        (b"BREW", 2),
        (b"PROPFIND", 2),
        (b"TRACE", 2),
        (b"M" * 17, 3),
        (b"M" * 5000, 3),
        (b"G\xc3\x8bT", 3),
    ],
)
async def test_unknown_methods(door: Door, method: bytes, code: int) -> None:
    await check_refusal(door, get(method=method), code)


async def test_head_is_refused_without_a_body(door: Door) -> None:
    async with await Connection.open(door.client.port) as connection:
        await connection.send(get(method=b"HEAD") + get())
        head = await connection.read_head()
        assert head.status == 400
        assert int(head.headers["content-length"]) > 0
        assert (await connection.read_response()).status == 200, "a body would have come in between"


async def test_connect_opens_no_tunnel(door: Door) -> None:
    assert (await door.answer(get(b"test.example:80", method=b"CONNECT"))).status == 404
    response = await door.answer(get(method=b"CONNECT"))
    assert response.status == (400 if door.listener == "fast" else 404)


@pytest.mark.parametrize("version", [b"HTTP/0.9", b"HTTP/1.2", b"HTTP/2.0", b"http/1.1", b"HTTP/1.10", b"HTTPS/1.1"])
async def test_other_versions(door: Door, version: bytes) -> None:
    await check_refusal(door, get(version=version), 3)


@pytest.mark.parametrize(
    "data",
    [
        b"GET %b\r\n\r\n" % PATH,
        b"GET %b HTTP/1.1 x\r\n%b\r\n" % (PATH, HOST),
        b"GET\t%b\tHTTP/1.1\r\n%b\r\n" % (PATH, HOST),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\0\0\0\0\r\n\r\n",
    ],
)
async def test_what_is_no_request(door: Door, data: bytes) -> None:
    assert (await door.answer(data)).status == 400


async def test_http_1_0_closes_unless_it_is_asked_to_stay(door: Door) -> None:
    async with await Connection.open(door.client.port) as connection:
        await connection.send(b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % PATH)
        response = await connection.read_response()
        assert (response.status, response.headers["connection"].lower()) == (200, "keep-alive")
        await connection.send(b"GET %b HTTP/1.0\r\n\r\n" % PATH)
        assert (await connection.read_response()).status == 200
        assert await connection.has_ended()


async def test_absolute_form_is_understood(door: Door) -> None:
    assert (await door.answer(get(b"http://test.example" + PATH))).status == 200


async def test_requests_sent_ahead_are_answered_in_order(door: Door) -> None:
    async with await Connection.open(door.client.port) as connection:
        sent = query("EIO=3&transport=polling") + query("EIO=4") + b"\r\n" + get() + get(PATH + b"&sid=a")
        await connection.send(sent)
        assert (await connection.read_response()).json()["code"] == 5
        assert (await connection.read_response()).json()["code"] == 0
        assert (await connection.read_response()).text.startswith('0{"sid"')
        assert (await connection.read_response()).json()["code"] == 1


# -- heads -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"GET %b HTTP/1.1\nHost: a\n\n" % PATH,
        b"GET %b HTTP/1.1\r\nHost: a\n\n" % PATH,
        b"GET %b HTTP/1.1\r\nHost: a\n\r\n" % PATH,
        b"GET %b HTTP/1.1\r\nHost: a\nX: b\r\n\r\n" % PATH,
        b"GET %b HTTP/1.1\r\nHost: a\r\n\n" % PATH,
        b"GET %b HTTP/1.1\r\n\r\n" % PATH,
        get(PATH, b"Host: other.example"),
        get(PATH, b"X: a\r\n folded"),
        get(PATH, b"X : a"),
        get(PATH, b" X: a"),
        get(PATH, b"X: a\0b"),
        get(PATH, b"X: a\rb"),
        get(PATH, b"no colon"),
        get(PATH, b": no name"),
        get(PATH, b"X(: a"),
    ],
)
async def test_malformed_heads(door: Door, data: bytes) -> None:
    await check_refusal(door, data, 3)


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get(PATH + b"&x=" + b"a" * 8192), 414),
        (get(PATH + b"&x=" + b"a" * 17_000), 414),
        (b"GET " + PATH + b"&x=" + b"a" * 17_000, 414),
        (get(PATH, b"X: " + b"a" * 17_000), 431),
        (get(PATH, *[b"X%d: a" % n for n in range(2000)]), 431),
    ],
)
async def test_heads_over_the_limit(door: Door, data: bytes, status: int) -> None:
    await check_refusal(door, data, 3, status)


async def test_large_heads_below_the_limit_pass(door: Door) -> None:
    lines = [b"X%d: %b" % (n, b"a" * 150) for n in range(90)]
    assert (await door.answer(get(PATH + b"&x=" + b"a" * 1000, *lines))).status == 200


async def test_head_in_one_byte_segments(door: Door) -> None:
    async with await Connection.open(door.client.port) as connection:
        for byte in get():
            await connection.send(bytes([byte]))
        assert (await connection.read_response()).status == 200


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 2", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 2"],
        [b"Content-Length: 2", b"Content-Length: 2"],
        [b"Content-Length: 2", b"Content-Length: 3"],
        [b"Content-Length: 2, 2"],
        [b"Content-Length: +2"],
        [b"Content-Length: -1"],
        [b"Content-Length: 0x2"],
        [b"Content-Length: 1_0"],
        [b"Content-Length: "],
        [b"Content-Length: \xd9\xa2"],
        [b"Content-Length: 99999999999999999999999999"],
        [b"Transfer-Encoding: xchunked"],
        [b"Transfer-Encoding: chunked, chunked"],
        [b"Transfer-Encoding: gzip, chunked"],
        [b"Transfer-Encoding: identity"],
    ],
)
async def test_ambiguous_framing_is_refused_and_the_connection_closed(door: Door, lines: list[bytes]) -> None:
    sid = (await door.client.handshake())["sid"]
    async with await Connection.open(door.client.port) as connection:
        target = PATH + b"&sid=" + sid.encode()
        # Whoever reads a body here other than we do would find a second request in it.
        await connection.send(get(target, *lines, method=b"POST") + b"0\r\n\r\n" + query("EIO=3&transport=polling"))
        assert (await connection.read_response()).status == 400
        if door.listener == "fast":
            assert await connection.read_to_end() == b""


@pytest.mark.parametrize("line", [b"Content-Length: 3", b"Transfer-Encoding: chunked"])
async def test_websocket_handshake_with_a_body_is_refused(door: Door, line: bytes) -> None:
    lines = [f"{name}: {value}".encode() for name, value in websocket_headers().items()]
    body = b"1\r\na\r\n0\r\n\r\n" if b"chunked" in line else b"abc"
    response = await door.answer(get(b"/socket.io/?EIO=4&transport=websocket", *lines, line) + body)
    assert (response.status, response.json()["code"]) == (400, 3)


# -- queries -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("EIO=4&transport=polling&transport=polling", 3),
        ("EIO=4&transport=polling&%74ransport=websocket", 3),
        ("EIO=4&%45IO=4&transport=polling", 3),
        ("EIO=4&transport=polling&sid=a&%73id=b", 3),
        ("EIO=4&transport=polling&%73id=a", 1),
        ("EIO=4&transport=polling&SID=a&sid=a", 1),
        ("EIO=3&transport=polling", 5),
        ("EIO=04&transport=polling", 5),
        ("EIO=4%20&transport=polling", 5),
        ("EIO=%D9%A4&transport=polling", 5),
        ("EIO=\u0664&transport=polling", 3),
        ("EIO=&transport=polling", 5),
        ("eio=4&transport=polling", 5),
        ("EIO=4&transport=polling%00", 0),
        ("EIO=4;transport=polling", 0),
        ("EIO=4&transport=polling&sid=%00%0d%0aX:%20y", 1),
        ("EIO=4&transport=polling&sid=\x01", 3),
        ("EIO=4&transport=polling&sid=" + "a" * 5000, 1),
        ("EIO=4&transport=polling&sid=%FF", 3),
        ("EIO=4&transport=polling&x=%FF", 3),
        ("EIO=4&transport=polling" + "&x=1" * 100, 3),
        ("EIO=4&transport=polling&j=-1", 3),
        ("EIO=4&transport=polling&j=1234567890", 3),
        ("EIO=4&transport=polling&j=%D9%A3", 3),
        ("EIO=4&transport=polling&j=%C2%B2", 3),
        ("EIO=4&transport=polling&j=1&%6A=2", 3),
        ("EIO=4&transport=polling&j=0)%3Balert(1", 3),
        ("EIO=4&transport=xhr-streaming&ack=1", 3),
        ("EIO=4&transport=xhr-streaming&ack=-1", 3),
        ("EIO=4&transport=xhr-streaming&ack=0&ack=0", 3),
        ("EIO=4&transport=xhr-streaming&padding=-1", 3),
        ("EIO=4&transport=xhr-streaming&padding=65537", 3),
        ("EIO=4&transport=xhr-streaming&padding=%D9%A3", 3),
        ("EIO=4&transport=xhr-streaming&padding=1&padding=1", 3),
    ],
)
async def test_hostile_queries(door: Door, text: str, code: int) -> None:
    await check_refusal(door, query(text), code)


async def test_unknown_parameters_and_escaped_names_are_read_as_such(door: Door) -> None:
    response = await door.answer(query("%45IO=%34&%74ransport=p%6Flling&unknown=1&unknown=2&=&&x"))
    assert response.text.startswith('0{"sid"')


# -- sessions ----------------------------------------------------------------------------------------------


async def test_requests_for_another_transport_of_a_session(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    ws = await client.websocket()
    async with closing(ws):
        sid = (await ws.opening())["sid"]
        for transport in ("polling", "xhr-streaming"):
            response = await client.get(sid, transport)
            assert (response.status, response.json()["code"]) == (400, 3)
            response = await client.post(sid, "4no", transport)
            assert (response.status, response.json()["code"]) == (400, 3)
        second = await client.websocket(sid)
        async with closing(second):
            assert await second.close_code() == 1008
        await ws.send("4still here")
        assert await ws.text() == "4still here"


async def test_two_upgrades_at_once(echo_engine: Any) -> None:
    server = await echo_engine()
    client = server.client
    sid = (await client.handshake())["sid"]
    first = await client.websocket(sid)
    async with closing(first):
        await first.send("2probe")
        assert await first.text() == "3probe"
        second = await client.websocket(sid)
        async with closing(second):
            assert await second.close_code() == 1008
        await first.send("5")
        await eventually(lambda: server.engine.sockets[sid].transport == "websocket", "the first upgrade")
        await first.send("4through")
        assert await first.text() == "4through"


async def test_requests_after_the_end(echo_engine: Any) -> None:
    client = (await echo_engine()).client
    sid = (await client.handshake())["sid"]
    assert (await client.post(sid, "1")).text == "ok"
    for _ in range(2):
        response = await client.post(sid, "4late")
        assert (response.status, response.json()["code"]) == (400, 1)
        assert (await client.get(sid)).json()["code"] == 1


# -- what is reflected -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        b"Origin: http://evil.example%0d%0aSet-Cookie:%20a=b",
        b"Origin: http://\xff\xe4",
        b"Origin: <script>alert(1)</script>",
        b"Origin: null",
        b"Origin: ",
        b"Origin: http://test.example, http://evil.example",
    ],
)
async def test_hostile_origins(door: Door, line: bytes) -> None:
    response = await door.answer(get(PATH, line))
    assert (response.status, response.json()["code"]) == (403, 4)
    assert "access-control-allow-origin" not in response.headers
    assert "set-cookie" not in response.headers
    assert response.headers["vary"] == "Origin"
    assert response.body.isascii()


@pytest.mark.parametrize("asked", [b"x-a\x0b", b"a:b", b"<x>", b"a\xffb"])
async def test_preflight_repeats_names_only(door: Door, asked: bytes) -> None:
    origin = b"Origin: http://test.example"
    names = b"Access-Control-Request-Headers: " + asked
    response = await door.answer(get(PATH, origin, names, method=b"OPTIONS"))
    if response.status == 204:
        assert "access-control-allow-headers" not in response.headers
        assert response.headers["access-control-allow-origin"] == "http://test.example"
    else:
        assert (response.status, asked) == (400, b"x-a\x0b"), "only a control character ends a request"


async def test_a_script_answer_cannot_be_taken_for_anything_else(door: Door) -> None:
    response = await door.answer(query("EIO=4&transport=polling&j=007"))
    assert response.headers["content-type"] == "text/javascript; charset=UTF-8"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.body.startswith(b"___eio[7](")
    sid = json.loads(json.loads(response.body[10:-2])[1:])["sid"]
    assert (await door.client.post(sid, "d=40", j=1)).text == "ok"
    await door.client.get(sid, j=1)
    hard = "</script><!--\u2028\u2029"
    form = "d=" + quote_plus(f'421["echo","{hard}"]')
    assert (await door.client.post(sid, form, j=1)).text == "ok"
    script = (await door.client.get(sid, j=1)).body
    assert json.loads(json.loads(script[10:-2])[3:]) == [hard]
    assert script.isascii()
    assert b"<" not in script
